"""The daemon as commands see it."""

import asyncio
import math
import threading
from collections.abc import Sequence

import pytest

from cygnet.config.errors import ConfigError, Problem
from cygnet.config.gateway_settings import GatewaySettings
from cygnet.config.load import Configuration, ConfigurationFile
from cygnet.config.store import Store
from cygnet.gateway.commands import vici_backend
from cygnet.gateway.commands.changes import Secrets, decode_piece
from cygnet.gateway.commands.vici_backend import APPLIED_AT_ONCE, GatewayBackend
from cygnet.gateway.commands.worker_calls import WorkerCalls
from cygnet.gateway.commands.worker_requests import (
    Configure,
    Done,
    Failed,
    Initiate,
    KeepPools,
    PoolsInUse,
    Reply,
    Request,
    RetirePools,
    SaPage,
    decode_request,
    encode_body,
)
from cygnet.gateway.control import Answer, AnyMessage, Ask
from cygnet.ike.settings import ChildSettings, ConnectionSettings, PoolSettings, Settings, SharedSecret
from cygnet.observe.counters import Counters
from cygnet.vici.commands import command_table
from cygnet.vici.message import Section, decode, encode
from cygnet.vici.server import Call, CommandError
from cygnet.vici.views import SaFilter


def backend_of(
    calls: WorkerCalls,
    store: Store | None = None,
    *,
    counters: Counters | None = None,
    ready: Sequence[int] = (0,),
    file: ConfigurationFile | None = None,
) -> GatewayBackend:
    """The backend of a gateway with one worker, or those that are ready."""
    return GatewayBackend(
        store or Store(Settings()),
        calls,
        counters or Counters.create(writers=2),
        workers=lambda: list(ready),
        file=file,
        in_force=lambda settings: None,
        listening=lambda: ("192.0.2.1[500]", "192.0.2.1[4500]"),
        started_with=GatewaySettings(),
    )


class Asked:
    """What a worker is asked, which answers nothing by itself."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.requests: list[Request] = []
        self.calls = WorkerCalls(self._send)

    def _send(self, worker: int, message: AnyMessage) -> bool:
        assert isinstance(message, Ask)
        self.numbers.append(message.number)
        self.requests.append(decode_request(message.body))
        return True

    def answer(self, index: int, reply: Reply, *, is_last: bool = True) -> None:
        """Answer one of the requests, by its place."""
        self.calls.on_answer(0, Answer(self.numbers[index], encode_body(reply), is_last=is_last))


def stats(counters: Counters, ready: list[int]) -> Section:
    """What `stats` answers."""

    async def run() -> Section:
        backend = backend_of(WorkerCalls(lambda worker, message: False), counters=counters, ready=ready)

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


def test_who_initiates_what_is_under_way_waits_for_the_same_and_no_worker_is_asked_again() -> None:
    async def run() -> None:
        asked = Asked()
        store = Store(Settings(connections=(ConnectionSettings(name="rw", children=(ChildSettings(name="net"),)),)))
        backend = backend_of(asked.calls, store)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await backend.initiate("", "net", waits=True)
        await backend.initiate("", "net", waits=False)
        # Neither does it tell the worker to forget it: for whoever asks again it is under way.
        assert asked.requests == [Initiate("", "net")]
        two = [asyncio.ensure_future(backend.initiate("", "net", waits=True)) for _ in range(2)]
        await asyncio.sleep(0)
        asked.answer(0, Failed("it is not there"))
        for outcome in await asyncio.gather(*two, return_exceptions=True):
            assert isinstance(outcome, CommandError) and str(outcome) == "it is not there"
        # The next one is another one, and so is one by other settings.
        again = asyncio.ensure_future(backend.initiate("", "net", waits=True))
        await asyncio.sleep(0)
        store.clear_secrets()
        other = asyncio.ensure_future(backend.initiate("", "net", waits=True))
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(asked.requests) == 3
        for index in (1, 2):
            asked.answer(index, Done())
        await asyncio.gather(again, other)

    asyncio.run(run())


def test_of_a_worker_that_ends_in_the_middle_of_a_packet_no_part_of_it_is_told() -> None:
    async def run() -> list[bytes]:
        asked = Asked()
        backend = backend_of(asked.calls)
        told: list[bytes] = []

        async def listen() -> None:
            async for packets in backend.sas(SaFilter()):
                told.extend((packets,))

        task = asyncio.ensure_future(listen())
        await asyncio.sleep(0)
        for page in (SaPage(b"one two"), SaPage(b"thr", is_whole=False), SaPage(b"ee four"), SaPage(b"fi", False)):
            asked.answer(0, page, is_last=False)
        asked.calls.on_gone(0)
        with pytest.raises(CommandError, match="ended before it answered"):
            await task
        return told

    assert asyncio.run(run()) == [b"one two", b"three four"]


class SlowWorker:
    """Takes what it is handed when it is told to."""

    def __init__(self, file: ConfigurationFile | None = None) -> None:
        self.taken: list[int] = []
        """How many secrets each configuration had."""
        self.calls = WorkerCalls(self._send)
        self._secrets = 0
        self._numbers: list[int] = []
        self.store = Store(Settings())
        self.backend = backend_of(self.calls, self.store, file=file)

    def _send(self, worker: int, message: AnyMessage) -> bool:
        assert isinstance(message, Ask)
        request = decode_request(message.body)
        assert isinstance(request, Configure)
        assert request.ends_piece
        piece = decode_piece(request.octets)
        if isinstance(piece, Secrets):
            self._secrets += len(piece.items)
        if request.is_last:
            self.taken.append(self._secrets)
            self._secrets = 0
            self._numbers.append(message.number)
        return True

    async def load(self) -> None:
        """One more secret."""
        self.store.load_secret("", str(self.store.generation).encode(), ())
        await self.backend.take_effect()

    async def load_and_take(self) -> None:
        """One more, which the worker takes before the command is answered."""
        command = asyncio.ensure_future(self.load())
        await _turns()
        assert not command.done()
        self.answer()
        await command

    def answer(self) -> None:
        """It has what it was handed last."""
        self.calls.on_answer(0, Answer(self._numbers.pop(), encode_body(Done()), is_last=True))


async def _turns(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_a_piece_is_in_force_when_its_command_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vici_backend, "AT_ONCE_S", math.inf)

    async def run() -> list[int]:
        worker = SlowWorker()
        for _ in range(APPLIED_AT_ONCE):
            await worker.load_and_take()
        return worker.taken

    assert asyncio.run(run()) == list(range(1, APPLIED_AT_ONCE + 1))


def test_where_each_piece_takes_long_more_are_waited_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with thousands of connections, of which each piece hands all to the workers."""
    monkeypatch.setattr(vici_backend, "APPLY_AFTER_S", 0.001)
    monkeypatch.setattr(vici_backend, "AT_ONCE_S", 0.0)

    async def run() -> list[int]:
        worker = SlowWorker()
        for _ in range(100):
            await worker.load()
        while not worker.taken:
            await asyncio.sleep(0.001)
        worker.answer()
        return worker.taken

    assert asyncio.run(run()) == [100]


def test_many_pieces_are_handed_to_workers_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vici_backend, "AT_ONCE_S", math.inf)
    monkeypatch.setattr(vici_backend, "APPLY_AFTER_S", 0.001)

    async def run() -> list[int]:
        worker = SlowWorker()
        for _ in range(APPLIED_AT_ONCE):
            await worker.load_and_take()
        for _ in range(100):
            await worker.load()
        while len(worker.taken) == APPLIED_AT_ONCE:
            await asyncio.sleep(0.001)
        worker.answer()
        # After the pause it is as in the beginning.
        while worker.backend.is_loading_many:
            await asyncio.sleep(0.001)
        await worker.load_and_take()
        return worker.taken[APPLIED_AT_ONCE:]

    assert asyncio.run(run()) == [APPLIED_AT_ONCE + 100, APPLIED_AT_ONCE + 101]


def test_what_is_loaded_while_workers_take_what_came_before_comes_into_force_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vici_backend, "APPLIED_AT_ONCE", 0)
    monkeypatch.setattr(vici_backend, "APPLY_AFTER_S", 0)

    async def run() -> list[int]:
        worker = SlowWorker()
        await worker.load()
        await _turns()
        await worker.load()
        await _turns()
        worker.answer()
        await _turns()
        worker.answer()
        await _turns()
        return worker.taken

    assert asyncio.run(run()) == [1, 2]


def test_what_a_client_never_stops_to_load_comes_into_force_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vici_backend, "APPLIED_AT_ONCE", 0)
    monkeypatch.setattr(vici_backend, "APPLY_AFTER_S", 0)
    monkeypatch.setattr(vici_backend, "APPLY_WITHIN_S", 0)

    async def run() -> None:
        worker = SlowWorker()
        while not worker.taken:
            await worker.load()
            await asyncio.sleep(0)
        worker.answer()

    asyncio.run(run())


def test_while_the_file_is_read_again_all_else_goes_on() -> None:
    """What is read meanwhile comes into force as a whole after that, and what is wrong is an error as ever."""
    goes_on = threading.Event()
    settings = Settings(secrets=(SharedSecret(secret=b"new"),))

    def read() -> Configuration:
        if not goes_on.wait(10):
            raise AssertionError("nobody else has had a turn")
        return Configuration(settings)

    async def run() -> None:
        worker = SlowWorker(ConfigurationFile(read))
        reload = asyncio.ensure_future(worker.backend.reload())
        await _turns()
        assert worker.store.secrets == {} and not worker.taken
        goes_on.set()
        while not worker.taken:
            await asyncio.sleep(0)
        worker.answer()
        await reload
        assert worker.store.settings.secrets == settings.secrets and worker.taken == [1]

    asyncio.run(run())


@pytest.mark.parametrize("in_use", [{}, {"v4": 1}])
def test_a_pool_is_taken_away_or_kept_though_whoever_asked_for_it_hangs_up(in_use: dict[str, int]) -> None:
    async def run() -> None:
        asked = Asked()
        pool = PoolSettings(name="v4", first=bytes((10, 0, 0, 1)), last=bytes((10, 0, 0, 9)))
        store = Store(Settings(pools=(pool,)))
        backend = backend_of(asked.calls, store)
        command = asyncio.ensure_future(backend.remove_pool("v4"))
        await _turns()
        command.cancel()
        await _turns()
        assert command.cancelled() and asked.requests == [RetirePools(("v4",))]
        asked.answer(0, PoolsInUse(in_use))
        await _turns()
        if in_use:
            assert asked.requests[1] == KeepPools(("v4",)) and "v4" in store.pools
        else:
            assert isinstance(asked.requests[1], Configure) and "v4" not in store.pools
        asked.answer(1, Done())
        await _turns()

    asyncio.run(run())


def test_a_file_that_is_wrong_changes_nothing() -> None:
    def read() -> Configuration:
        raise ConfigError([Problem("gw.conf", 3, 5, "no good")])

    async def run() -> None:
        worker = SlowWorker(ConfigurationFile(read))
        before = worker.store.settings
        with pytest.raises(CommandError, match=r"gw\.conf:3:5: no good"):
            await worker.backend.reload()
        assert worker.store.settings is before and not worker.taken

    asyncio.run(run())


def test_a_worker_that_serves_after_others_have_new_settings_gets_them_too() -> None:
    async def run() -> list[int]:
        worker = SlowWorker()
        await worker.load_and_take()
        worker.backend.on_ready(0)
        await _turns()
        assert len(worker.taken) == 1
        # It was started before they came into force, with others.
        worker.calls.on_gone(0)
        worker.calls.began_with(0, Settings())
        worker.backend.on_ready(0)
        await _turns()
        worker.answer()
        await _turns()
        worker.backend.on_ready(0)
        await _turns()
        return worker.taken

    assert asyncio.run(run()) == [1, 1]
