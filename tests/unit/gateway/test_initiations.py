import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
import pytest

from cygnet.auth.identity import Identity, parse_identity
from cygnet.gateway.initiations import FIRST_PAUSE_S, LAST_PAUSE_S, Initiations, initiating_worker, path_to_peer
from cygnet.ike.connections import Child, Connection
from cygnet.ike.effects import ChildFailed, Effect, Revive, SaClosed, SaEstablished
from cygnet.ike.environment import Environment
from cygnet.ike.errors import LocalError
from cygnet.ike.path import Path
from cygnet.ike.sa import ChildSa
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import ChildSettings, ConnectionSettings, Settings, StartAction
from cygnet.ike.spi import new_ike_spi
from cygnet.ike.tasks import CreateChild, Task


def source(remote: str, port: int) -> str:
    return "::9" if ":" in remote else "192.0.2.9"


def connection(name: str = "out", tries: int = 1, action: StartAction = StartAction.START) -> ConnectionSettings:
    children = (ChildSettings(name="first"), ChildSettings(name="net", start_action=action))
    return ConnectionSettings(name=name, remote_addrs=("127.0.0.1",), children=children, keyingtries=tries)


class TestPath:
    @pytest.mark.parametrize(
        ("local", "remote", "path"),
        [
            ((), ("192.0.2.1",), "192.0.2.9[15500]...192.0.2.1[500]"),
            ((), ("10.0.0.0/8", "10.0.0.1-10.0.0.9", "192.0.2.1"), "192.0.2.9[15500]...192.0.2.1[500]"),
            (("192.0.2.7",), ("192.0.2.1",), "192.0.2.7[15500]...192.0.2.1[500]"),
            (("fd00::7", "192.0.2.0/24"), ("192.0.2.1",), "192.0.2.9[15500]...192.0.2.1[500]"),
            (("192.0.2.7",), ("::1",), "::9[15500]...::1[500]"),
        ],
    )
    def test_goes_to_the_first_single_address(self, local: tuple[str, ...], remote: tuple[str, ...], path: str) -> None:
        settings = ConnectionSettings(name="out", local_addrs=local, remote_addrs=remote)
        assert str(path_to_peer(settings, 15500, source)) == path

    def test_there_must_be_one(self) -> None:
        with pytest.raises(LocalError, match="connection out has no single address"):
            path_to_peer(ConnectionSettings(name="out", remote_addrs=("10.0.0.0/8",)), 500, source)


class Standing(NamedTuple):
    spi: bytes
    children: list[ChildSa]


class FakeTable:
    def __init__(self, settings: Settings) -> None:
        self.env = Environment(settings, entropy=bytes, count=lambda name, n=1: None)
        self.initiated: list[tuple[bytes, str, Path]] = []
        self.children: list[str] = []
        self.standing: set[str] = set()
        self.standing_children: list[ChildSa] = []
        self.ordered: list[tuple[bytes, Task]] = []

    def established_as(self, name: str, identity: Identity) -> "Standing | None":
        return Standing(b"standing", self.standing_children) if name in self.standing else None

    def initiate(
        self,
        each: Connection,
        path: Path,
        now: float,
        *,
        child: Child | None = None,
        further: Iterable[str] = (),
    ) -> tuple[bytes, list[Effect]]:
        spi = new_ike_spi(1, 0, lambda octets: len(self.initiated).to_bytes(octets, "big"))
        self.initiated.append((spi, each.settings.name, path))
        self.children += [child.settings.name if child is not None else "", *further]
        return spi, []


class FakeDriver:
    def __init__(self, settings: Settings) -> None:
        self.table = FakeTable(settings)

    def clock(self) -> float:
        return 0.0

    def carry_out(self, effects: list[Effect]) -> None:
        assert effects == []

    def order(self, spi: bytes, task: Task) -> None:
        self.table.ordered.append((spi, task))


class FakeLoop:
    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.callbacks: list[Callable[[], None]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> "FakeLoop":
        self.pauses.append(delay)
        self.callbacks.append(callback)
        return self

    def cancel(self) -> None:
        self.callbacks.clear()


class Rig:
    def __init__(self, *connections: ConnectionSettings, worker: int = 0, workers: int = 1) -> None:
        driver = FakeDriver(Settings(connections=connections))
        self.table = driver.table
        self.initiated = driver.table.initiated
        self.children = driver.table.children
        self.loop = FakeLoop()
        loop: asyncio.AbstractEventLoop = self.loop  # type: ignore[assignment]
        self.initiations = Initiations(driver, loop, port=500, worker=worker, workers=workers, entropy=bytes)  # type: ignore[arg-type]
        self.initiations.start()

    def configure(self, *connections: ConnectionSettings) -> None:
        self.table.env.configure(Settings(connections=connections))
        self.initiations.configure()

    def refuse_child(self, reason: str = "ts_unacceptable") -> None:
        """The IKE_SA stands without its first child."""
        spi = self.initiated[-1][0]
        self.table.standing.add("out")
        self.initiations.on_sa(ChildFailed(spi, "net", reason))
        self.initiations.on_sa(SaEstablished(spi, "out", connection().remote.id, (), 0.1))

    def fail(self, reason: str = "timeout_ike_sa_init") -> None:
        self.initiations.on_sa(SaClosed(self.initiated[-1][0], "out", reason, False))


def test_starts_what_is_to_be_started_on_one_worker_each() -> None:
    connections = [connection(f"out{number}") for number in range(20)]
    connections.append(connection("quiet", action=StartAction.NONE))
    started = [[name for _, name, _ in Rig(*connections, worker=w, workers=3).initiated] for w in range(3)]
    assert sorted(name for names in started for name in names) == sorted(f"out{number}" for number in range(20))
    assert all(started)
    assert all(initiating_worker(connection(name), 3) == worker for worker in range(3) for name in started[worker])


def test_what_leads_to_the_same_network_is_set_up_by_one_worker() -> None:
    """The route to it leads to one: which of several tunnels a packet takes is decided there, by its source."""

    def leading_to(name: str, network: str) -> ConnectionSettings:
        children = (ChildSettings(name="net", remote_ts=(parse_selector(network),)),)
        return ConnectionSettings(name=name, remote_addrs=("127.0.0.1",), children=children)

    same = {initiating_worker(leading_to(f"out{n}", "0.0.0.0/0"), 64) for n in range(20)}
    others = {initiating_worker(leading_to("out", f"10.{n}.0.0/16"), 64) for n in range(200)}
    assert len(same) == 1 and len(others) > 50


def test_tries_as_often_as_it_is_told_with_growing_pauses(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(connection(tries=3))
    for _ in range(2):
        rig.fail()
        rig.loop.callbacks.pop()()
    assert len(rig.initiated) == 3
    rig.fail()
    assert rig.loop.pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S]
    assert "given up after 3 attempts: timeout_ike_sa_init" in caplog.text
    assert all(record.sa == ("out", 0) for record in caplog.records)  # type: ignore[attr-defined]


def test_tries_for_ever_but_not_ever_more_slowly() -> None:
    rig = Rig(connection(tries=0))
    for _ in range(12):
        rig.fail()
        rig.loop.callbacks.pop()()
    assert len(rig.initiated) == 13
    assert rig.loop.pauses[-1] == LAST_PAUSE_S


def test_an_established_connection_is_not_set_up_again() -> None:
    rig = Rig(connection(tries=0))
    spi = rig.initiated[0][0]
    rig.initiations.on_sa(SaEstablished(spi, "out", connection().remote.id, (), 0.1))
    rig.initiations.on_sa(SaClosed(spi, "out", "deleted_by_peer", True))
    assert rig.loop.pauses == []


def test_other_sas_are_not_its_business() -> None:
    rig = Rig(connection(tries=0))
    rig.initiations.on_sa(SaClosed(b"another1", "rw", "timeout_ike_auth", False))
    assert rig.loop.pauses == []


def test_when_stopped_it_begins_nothing_more() -> None:
    rig = Rig(connection(tries=0))
    rig.fail()
    rig.initiations.stop()
    assert rig.loop.callbacks == []


LOST = Revive("out", Path("192.0.2.9", 4500, "198.51.100.7", 40001), ("net",))


def test_begins_with_the_child_that_is_to_be_started() -> None:
    assert Rig(connection()).children == ["net"]


def test_begins_with_every_child_that_is_to_be_started() -> None:
    names = ("net", "lan", "dmz")
    actions = (StartAction.START, StartAction.NONE, StartAction.START)
    children = tuple(ChildSettings(name=n, start_action=a) for n, a in zip(names, actions, strict=True))
    rig = Rig(ConnectionSettings(name="out", remote_addrs=("127.0.0.1",), children=children, keyingtries=2))
    assert len(rig.initiated) == 1 and rig.children == ["net", "dmz"]
    rig.fail()
    rig.loop.callbacks.pop()()
    assert rig.children == ["net", "dmz"] * 2
    rig.initiations.revive(Revive("out", LOST.path, ("lan", "gone", "dmz")))
    rig.loop.callbacks.pop()()
    assert rig.children[4:] == ["lan", "dmz"]


def test_a_lost_connection_is_set_up_again_where_the_peer_was() -> None:
    rig = Rig(connection(action=StartAction.NONE))
    rig.initiations.revive(LOST)
    assert rig.initiated == [], "not at once: others may have lost the same peer"
    rig.loop.callbacks.pop()()
    assert [(name, str(path)) for _, name, path in rig.initiated] == [("out", "192.0.2.9[500]...198.51.100.7[500]")]
    assert rig.children == ["net"]


def test_what_is_lost_twice_is_set_up_once_and_again_when_it_is_lost_again() -> None:
    rig = Rig(connection(action=StartAction.NONE))
    rig.initiations.revive(LOST)
    rig.initiations.revive(LOST)
    assert len(rig.loop.callbacks) == 1
    rig.loop.callbacks.pop()()
    rig.initiations.on_sa(SaEstablished(rig.initiated[0][0], "out", connection().remote.id, (), 0.1))
    rig.initiations.revive(LOST)
    assert len(rig.loop.callbacks) == 1


def test_a_connection_that_is_no_more_or_a_worker_that_ends_revives_nothing() -> None:
    rig = Rig(connection(action=StartAction.NONE))
    rig.initiations.revive(Revive("gone", LOST.path, ("net",)))
    rig.initiations.revive(Revive("out", LOST.path, ("gone",)))
    rig.initiations.stop()
    rig.initiations.revive(LOST)
    assert rig.loop.callbacks == []


def test_pauses_differ() -> None:
    """Many that lost one peer do not come back to it in step."""
    first, second = Rig(connection(tries=0)), Rig(connection(tries=0))
    second.initiations._entropy = lambda octets: b"\xff" * octets
    for rig in (first, second):
        rig.fail()
    assert first.loop.pauses == [FIRST_PAUSE_S]
    assert second.loop.pauses == [pytest.approx(FIRST_PAUSE_S / 2, rel=1e-6)]


def names(rig: Rig) -> list[str]:
    return [name for _, name, _ in rig.initiated]


def test_a_reload_starts_what_is_new_or_different_and_does_not_stand() -> None:
    rig = Rig(connection("a"), connection("b"), connection("c"))
    for spi, name, _ in list(rig.initiated):
        rig.table.standing.add(name)
        rig.initiations.on_sa(SaEstablished(spi, name, parse_identity("gw"), (), 0.1, True))
    rig.configure(
        connection("a"), connection("b", tries=7), connection("new"), connection("still", action=StartAction.NONE)
    )
    assert names(rig) == ["a", "b", "c", "new"]
    rig.table.standing.discard("b")
    rig.configure(connection("a"), connection("b", tries=8), connection("new"), connection("still"))
    assert names(rig) == ["a", "b", "c", "new", "b", "still"]


def test_what_is_being_tried_follows_the_configuration() -> None:
    rig = Rig(connection(tries=0))
    rig.fail()
    changed = msgspec.structs.replace(connection(tries=0), remote_addrs=("127.0.0.2",))
    rig.configure(changed)
    assert len(rig.initiated) == 1
    rig.loop.callbacks.pop()()
    assert rig.initiated[-1][2].remote == "127.0.0.2"


@pytest.mark.parametrize("when", ["pausing", "trying"])
def test_what_is_being_tried_ends_with_its_connection(when: str, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(connection(tries=0))
    if when == "pausing":
        rig.fail()
        rig.configure()
        rig.loop.callbacks.pop()()
    else:
        rig.configure()
        rig.fail()
        assert rig.loop.callbacks == []
    assert len(rig.initiated) == 1
    # It comes back as one that is new.
    rig.configure(connection(tries=0))
    assert len(rig.initiated) == 2


class TestARefusedChild:
    ASKED = (b"standing", CreateChild("net"))

    def test_is_asked_for_again_in_the_ike_sa_that_stands(self, caplog: pytest.LogCaptureFixture) -> None:
        rig = Rig(connection(tries=3))
        rig.refuse_child()
        assert rig.table.ordered == []
        for _ in range(3):
            rig.loop.callbacks.pop()()
        assert rig.table.ordered == 2 * [self.ASKED] and len(rig.initiated) == 1
        assert rig.loop.pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
        assert "given up after 3 attempts: ts_unacceptable" in caplog.text
        assert not rig.loop.callbacks and rig.initiations.attempt_at("out") is None

    def test_is_left_alone_after_the_last_try(self, caplog: pytest.LogCaptureFixture) -> None:
        rig = Rig(connection(tries=1))
        rig.refuse_child()
        assert not rig.loop.pauses and not rig.table.ordered
        assert "given up after 1 attempts: ts_unacceptable" in caplog.text

    def test_that_stands_by_now_is_not_asked_for(self) -> None:
        rig = Rig(connection(tries=0))
        rig.refuse_child()
        rig.table.standing_children.append(ChildSa("net", b"in", b"out"))
        rig.loop.callbacks.pop()()
        assert not rig.table.ordered and not rig.loop.callbacks

    def test_without_an_ike_sa_by_now_begins_anew(self) -> None:
        rig = Rig(connection(tries=0))
        rig.refuse_child()
        rig.table.standing.clear()
        rig.loop.callbacks.pop()()
        assert len(rig.initiated) == 2 and not rig.table.ordered
        rig.fail()
        assert len(rig.loop.pauses) == 2
