"""The daemon as commands see it."""

import asyncio

from cygnet.config.gateway_settings import GatewaySettings
from cygnet.config.store import Store
from cygnet.gateway.vici_backend import GatewayBackend
from cygnet.gateway.worker_calls import WorkerCalls
from cygnet.ike.settings import Settings
from cygnet.observe.counters import Counters
from cygnet.vici.commands import command_table
from cygnet.vici.message import Section, decode, encode
from cygnet.vici.server import Call


def stats(counters: Counters, ready: list[int]) -> Section:
    """What `stats` answers."""

    async def run() -> Section:
        backend = GatewayBackend(
            Store(Settings()),
            WorkerCalls(lambda worker, message: False),
            counters,
            workers=lambda: ready,
            reread=None,
            in_force=lambda settings: None,
            listening=lambda: ("192.0.2.1[500]", "192.0.2.1[4500]"),
            started_with=GatewaySettings(),
        )

        async def emit(event: str, message: object) -> None:
            raise AssertionError("stats has no events")

        return decode(encode(await command_table(backend, counters)["stats"].run(Call({}, emit, emit))))

    return asyncio.run(run())


def test_stats_tell_what_waits_and_who_is_busy_by_strongswans_priorities() -> None:
    counters = Counters.create(writers=5)
    for worker, queues in enumerate(((3, 5, 7, 1), (0, 2, 0, 0), (0, 0, 0, 0), (0, 0, 9, 9))):
        for standing, waiting in zip(("established", "under_way", "new", "stray"), queues, strict=True):
            counters.writer(worker).set(f'datagrams_waiting{{standing="{standing}"}}', waiting)
        counters.writer(worker).set("timers", 1000)
        counters.writer(worker).set("memory_octets", 1 << 20)
    # The last one is just being started again.
    shown = stats(counters, [0, 1, 2])
    assert shown["queues"] == {"critical": b"3", "high": b"7", "medium": b"16", "low": b"10"}
    assert shown["workers"] == {
        "total": b"4",
        "idle": b"1",
        "active": {"critical": b"1", "high": b"1", "medium": b"0", "low": b"0"},
    }
    assert shown["scheduled"] == b"4000"
    assert shown["memory"] == {"workers": str(4 << 20).encode()}
    assert shown["listening"] == b"192.0.2.1[500] 192.0.2.1[4500]"


def test_stats_of_a_gateway_that_has_nothing_to_do() -> None:
    shown = stats(Counters.create(writers=2), [0])
    assert shown["ikesas"] == {"total": b"0", "half-open": b"0"}
    assert shown["workers"] == {
        "total": b"1",
        "idle": b"1",
        "active": dict.fromkeys(("critical", "high", "medium", "low"), b"0"),
    }
