from typing import Any, cast

import pytest
from tests.unit.load.loops import FakeLoop

from cygnet.ike.effects import TaskDone
from cygnet.ike.tasks import DeleteIke, Probe, Task
from cygnet.load.samples import Samples
from cygnet.load.upkeep import PROBES_PER_TURN, LivenessChecks


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
        self.checks.on_done(TaskDone(spi, Probe()))

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
    rig.checks.on_done(TaskDone(b"a", DeleteIke()))
    rig.checks.on_done(TaskDone(b"z", Probe()))
    assert rig.checks.measure().delays == b""


def test_many_at_once_are_asked_in_portions() -> None:
    rig = Rig()
    for number in range(3 * PROBES_PER_TURN):
        rig.checks.add(bytes((number,)), rig.loop.now)
    rig.loop.run(1.0)
    assert len({spi for _, spi in rig.ordered}) == 3 * PROBES_PER_TURN
