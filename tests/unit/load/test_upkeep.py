from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.load.loops import FakeLoop

from cygnet.auth.identity import ANY_IDENTITY
from cygnet.ike.effects import ChildFailed, ChildRekeyed, RekeyFailed, SaRekeyed, TaskDone
from cygnet.ike.path import Path
from cygnet.ike.sa import ChildState
from cygnet.ike.tasks import CreateChild, DeleteIke, MoveAddresses, Probe, RekeyChild, RekeyIke, Task
from cygnet.load.plan import Source
from cygnet.load.samples import Samples
from cygnet.load.upkeep import (
    ADDED_PER_TURN,
    BEGUN_PER_TURN,
    Answers,
    ChildRekeyings,
    IkeRekeyings,
    LivenessChecks,
    Moves,
    Routine,
)


class Rig:
    """Also the driver."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.ordered: list[tuple[float, bytes]] = []
        self.checks = LivenessChecks(1.0, cast(Any, self), loop=cast(Any, self.loop), clock=self.loop.time)

    def order(self, spi: bytes, task: Task) -> None:
        assert task == Probe()
        self.ordered.append((round(self.loop.now - 100.0, 3), spi))

    def answer(self, spi: bytes) -> None:
        self.checks.on_event(TaskDone(spi, Probe()))

    def delays_ms(self) -> dict[str, float | None]:
        samples = Samples()
        samples.extend(self.checks.measure().delays)
        return samples.percentiles_ms()


def test_each_tunnel_asks_at_its_own_times() -> None:
    rig = Rig()
    rig.checks.add(b"a", rig.loop.now)
    rig.loop.run(0.25)
    rig.checks.add(b"b", rig.loop.now)
    for _ in range(8):
        rig.loop.run(0.25)
        rig.answer(b"a")
        rig.answer(b"b")
    assert rig.ordered == [(1.0, b"a"), (1.25, b"b"), (2.0, b"a"), (2.25, b"b")]
    assert rig.checks.measure().asked == 4


def test_a_delay_counts_from_when_the_question_was_due() -> None:
    rig = Rig()
    rig.checks.add(b"a", rig.loop.now)
    rig.loop.now += 1.5  # the tester stands still
    rig.loop.run(0.0)
    assert rig.ordered == [(1.5, b"a")]
    rig.loop.run(0.1)
    rig.answer(b"a")
    assert rig.delays_ms()["max"] == pytest.approx(600)


def test_no_question_while_one_is_unanswered() -> None:
    rig = Rig()
    rig.checks.add(b"a", rig.loop.now)
    rig.loop.run(3.5)
    found = rig.checks.measure()
    assert (found.asked, found.overdue, found.delays) == (1, 2, b"")
    rig.answer(b"a")
    rig.loop.run(1.0)
    assert rig.checks.measure().asked == 2


def test_who_is_gone_is_not_asked() -> None:
    rig = Rig()
    rig.checks.add(b"a", rig.loop.now)
    rig.checks.add(b"b", rig.loop.now)
    rig.checks.forget(b"a")
    rig.loop.run(1.5)
    assert rig.ordered == [(1.0, b"b")]
    rig.checks.stop()
    rig.loop.run(5.0)
    assert len(rig.ordered) == 1


def test_other_answers_are_no_answers() -> None:
    rig = Rig()
    rig.checks.add(b"a", rig.loop.now)
    rig.loop.run(1.0)
    rig.checks.on_event(TaskDone(b"a", DeleteIke()))
    rig.checks.on_event(TaskDone(b"z", Probe()))
    assert rig.checks.measure().delays == b""


def test_many_at_once_are_asked_in_portions() -> None:
    rig = Rig()
    for number in range(3 * BEGUN_PER_TURN):
        rig.checks.add(bytes((number,)), rig.loop.now)
    rig.loop.run(1.0)
    assert len({spi for _, spi in rig.ordered}) == 3 * BEGUN_PER_TURN


class Tunnels:
    """A driver, the table of its IKE_SAs, and their state, as far as routines look at it."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.table = self
        self.sas: dict[bytes, Any] = {}
        self.ordered: list[tuple[float, bytes, Any]] = []

    def add(self, spi: bytes, *, local: str = "10.0.0.1", port: int = 4500) -> Any:
        child = SimpleNamespace(spi_in=b"c" + spi, state=ChildState.INSTALLED)
        self.sas[spi] = SimpleNamespace(
            children=(child,),
            path=Path(local, port, "192.0.2.1", 4500),
            message_ids=SimpleNamespace(outstanding=None),
            pending=(),
        )
        return self.sas[spi]

    def sa(self, spi: bytes) -> Any:
        return self.sas.get(spi)

    def order(self, spi: bytes, task: Task) -> None:
        self.ordered.append((round(self.loop.now - 100.0, 3), spi, task))

    def move(self, spi: bytes, path: Path) -> None:
        self.ordered.append((round(self.loop.now - 100.0, 3), spi, (path.local, path.local_port)))

    def routine(self, kind: type[Routine], *arguments: Any, **options: Any) -> Routine:
        return kind(4.0, cast(Any, self), *arguments, **options, loop=cast(Any, self.loop), clock=self.loop.time)


def test_what_begins_with_the_hold_is_spread_over_the_interval_and_the_processes() -> None:
    found = []
    for process in range(2):
        tunnels = Tunnels()
        rekeyings = tunnels.routine(IkeRekeyings)
        rekeyings.spread((b"a", b"b"), tunnels.loop.now, process=process, processes=2)
        tunnels.loop.run(6.5)
        assert all(task == RekeyIke() for _, _, task in tunnels.ordered)
        # One without an answer is not begun again.
        assert rekeyings.measure().asked == 2
        found.append([(when, spi) for when, spi, _ in tunnels.ordered])
    assert found == [[(1.0, b"a"), (3.0, b"b")], [(2.0, b"a"), (4.0, b"b")]]


def test_very_many_are_spread_in_turns() -> None:
    """What becomes of one before its turn is not forgotten."""
    tunnels = Tunnels()
    rekeyings = tunnels.routine(IkeRekeyings)
    spis = [number.to_bytes(2, "big") for number in range(2 * ADDED_PER_TURN)]
    rekeyings.spread(spis, tunnels.loop.now)
    assert len(rekeyings._up) == ADDED_PER_TURN, "the loop has its turn before the others"
    first, second, third = spis[-3:]
    rekeyings.rekeyed(first, b"new")
    rekeyings.rekeyed(b"new", b"newer")
    rekeyings.forget(second)
    rekeyings.rekeyed(third, b"gone")
    rekeyings.forget(b"gone")
    tunnels.loop.run(4.5)
    assert [spi for _, spi, _ in tunnels.ordered] == [*spis[:-3], b"newer"]
    times = [when for when, _, _ in tunnels.ordered]
    assert times == sorted(times) and times[0] < 0.01 and times[-1] == pytest.approx(4.0, abs=0.02)


def test_a_rekeyed_ike_sa_is_rekeyed_again_under_its_new_spi() -> None:
    tunnels = Tunnels()
    rekeyings = tunnels.routine(IkeRekeyings)
    rekeyings.spread((b"a",), tunnels.loop.now)
    tunnels.loop.run(4.25)
    effect = SaRekeyed(b"a", b"b", "load", ANY_IDENTITY)
    rekeyings.on_event(effect)
    rekeyings.rekeyed(b"a", b"b")
    tunnels.loop.run(4.0)
    assert [(when, spi) for when, spi, _ in tunnels.ordered] == [(4.0, b"a"), (8.0, b"b")]
    rekeyings.on_event(RekeyFailed(b"b", "no_proposal_chosen"))
    found = rekeyings.measure()
    assert milliseconds(found) == pytest.approx(250)
    assert (found.asked, found.failures, found.overdue) == (2, {"no_proposal_chosen": 1}, 0)


def test_a_liveness_check_under_way_is_answered_under_the_new_spi() -> None:
    rig = Rig()
    rig.checks.add(b"a", rig.loop.now)
    rig.loop.run(1.25)
    rig.checks.rekeyed(b"a", b"b")
    rig.answer(b"b")
    assert rig.delays_ms()["max"] == pytest.approx(250)
    rig.loop.run(1.0)
    assert rig.ordered == [(1.0, b"a"), (2.0, b"b")]


def test_a_child_sa_is_rekeyed_when_its_successor_stands_and_fails_by_reason() -> None:
    tunnels = Tunnels()
    rekeyings = tunnels.routine(ChildRekeyings)
    for spi in (b"a", b"b", b"d", b"e", b"f"):
        tunnels.add(spi)
    tunnels.sas[b"f"].children = ()
    rekeyings.spread(tuple(tunnels.sas), tunnels.loop.now)
    tunnels.loop.run(4.0)
    assert [task for _, _, task in tunnels.ordered] == [RekeyChild(b"c" + spi) for spi in (b"a", b"b", b"d", b"e")]
    # That the peer has answered says nothing yet of what.
    rekeyings.on_event(TaskDone(b"a", RekeyChild(b"ca")))
    assert not rekeyings.measure().delays
    rekeyings.on_event(ChildRekeyed(b"a", b"ca", b"new"))
    rekeyings.on_event(ChildFailed(b"b", "load", "no_additional_sas"))
    rekeyings.on_event(TaskDone(b"d", CreateChild("load")))
    rekeyings.forget(b"e", "timeout_create_child_sa")
    found = rekeyings.measure()
    assert milliseconds(found) == pytest.approx(3200)
    assert found.failures == {"no_additional_sas": 1, "child_sa_not_found": 1, "timeout_create_child_sa": 1}
    assert (found.asked, found.overdue) == (4, 1)


def test_a_tunnel_moves_to_the_next_source_in_a_ring_and_only_when_it_waits_for_nothing() -> None:
    tunnels = Tunnels()
    sources = [Source("10.0.0.1", 5000, 5001), Source("10.0.0.2", 6000, 6001)]
    moves = tunnels.routine(Moves, sources, is_mobike=False)
    tunnels.add(b"a", port=5001)
    tunnels.add(b"b", local="10.0.0.2", port=6000)
    tunnels.add(b"d", port=5001).message_ids.outstanding = object()
    tunnels.add(b"e", port=5001).pending = (Probe(),)
    moves.spread(tuple(tunnels.sas), tunnels.loop.now)
    tunnels.loop.run(4.0)
    assert tunnels.ordered == [(1.0, b"a", ("10.0.0.2", 6001)), (2.0, b"b", ("10.0.0.1", 5000))]
    moves.on_event(TaskDone(b"a", Probe()))
    moves.on_event(TaskDone(b"b", MoveAddresses()))
    moves.on_event(TaskDone(b"d", Probe()))
    found = moves.measure()
    assert (found.asked, found.overdue, len(found.delays)) == (2, 2, 2 * 8)


def test_nothing_is_begun_or_counted_after_the_end() -> None:
    tunnels = Tunnels()
    rekeyings = tunnels.routine(IkeRekeyings)
    rekeyings.spread((b"a", b"b"), tunnels.loop.now)
    tunnels.loop.run(2.0)
    rekeyings.stop()
    rekeyings.on_event(SaRekeyed(b"a", b"z", "load", ANY_IDENTITY))
    rekeyings.rekeyed(b"a", b"z")
    tunnels.loop.run(20.0)
    assert len(tunnels.ordered) == 1
    assert not rekeyings.measure().delays


def milliseconds(answers: Answers) -> float | None:
    samples = Samples()
    samples.extend(answers.delays)
    return samples.percentiles_ms()["max"]
