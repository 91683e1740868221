from typing import Any, cast

import pytest
from tests.unit.load.loops import FakeLoop

from cygnet.load.churn import Churn
from cygnet.load.samples import Samples


class Rig:
    def __init__(self, rate: float = 10.0, *, up: int = 5, process: int = 0, processes: int = 1) -> None:
        self.loop = FakeLoop()
        self.up = [f"old{n}".encode() for n in range(up)]
        self.left: list[bytes] = []
        self.came: list[bytes] = []
        self.churn = Churn(
            rate,
            process=process,
            processes=processes,
            leave=self.leave,
            come=self.come,
            loop=cast(Any, self.loop),
            clock=self.loop.time,
        )

    def leave(self) -> bytes | None:
        if not self.up:
            return None
        self.left.append(self.up.pop(0))
        return self.left[-1]

    def come(self) -> bytes:
        self.came.append(f"new{len(self.came)}".encode())
        return self.came[-1]


def milliseconds(octets: bytes) -> dict[str, float | None]:
    samples = Samples()
    samples.extend(octets)
    return samples.percentiles_ms()


def test_the_oldest_leave_and_others_come_at_even_distances() -> None:
    rig = Rig()
    rig.churn.start()
    rig.loop.run(0.25)
    assert rig.left == [b"old0", b"old1", b"old2"]
    assert rig.came == [b"new0", b"new1", b"new2"]
    rig.churn.stop()
    rig.loop.run(1.0)
    assert len(rig.came) == 3


def test_processes_share_the_rate() -> None:
    rigs = [Rig(process=process, processes=2) for process in range(2)]
    for rig in rigs:
        rig.churn.start()
        rig.loop.run(0.95)
    assert [len(rig.came) for rig in rigs] == [5, 5]


def test_delays_count_from_when_the_change_was_due() -> None:
    rig = Rig()
    rig.churn.start()
    # The tester stands still for a second: ten changes are made up for, with the delays that they have by then.
    rig.loop.now += 0.9
    rig.loop.run(0.0)
    assert len(rig.came) == 10
    assert rig.churn.established(b"new0")
    assert rig.churn.closed(b"old1", "deleted")
    changes = rig.churn.measure()
    assert milliseconds(changes.delays)["max"] == pytest.approx(900)
    assert milliseconds(changes.closed)["max"] == pytest.approx(800)
    assert changes.begun == 10


def test_failures_are_told_and_others_are_not_its_own() -> None:
    rig = Rig()
    rig.churn.start()
    rig.loop.run(0.15)
    assert rig.churn.closed(b"new0", "timeout_ike_auth")
    assert rig.churn.closed(b"old0", "timeout_informational")
    assert not rig.churn.closed(b"old0", "deleted")
    assert not rig.churn.closed(b"old4", "deleted_by_peer")
    assert not rig.churn.established(b"old4")
    changes = rig.churn.measure()
    assert (changes.failures, changes.close_failures) == ({"timeout_ike_auth": 1}, 1)


def test_where_nobody_can_leave_somebody_comes_all_the_same_and_one_leaves_then() -> None:
    rig = Rig(up=1)
    rig.churn.start()
    rig.loop.run(0.25)
    assert (len(rig.left), len(rig.came)) == (1, 3)
    for spi in rig.came:
        assert rig.churn.established(spi)
        rig.up.append(spi)
    rig.loop.run(0.0)
    assert rig.left == [b"old0", b"new0", b"new1"] and rig.up == [b"new2"]
    assert rig.churn.closed(b"new0", "deleted")
    assert milliseconds(rig.churn.measure().closed)["max"] == pytest.approx(150), "from when it was due"
    rig.churn.stop()
    rig.loop.run(1.0)
    assert rig.up == [b"new2"]


def test_who_does_not_come_owes_nobody_s_leaving() -> None:
    rig = Rig(up=0)
    rig.churn.start()
    rig.loop.run(0.15)
    first, second = rig.came
    assert rig.churn.closed(first, "timeout_ike_auth") and rig.churn.established(second)
    rig.up.append(second)
    rig.loop.run(0.0)
    assert rig.left == [second]


def test_whoever_is_up_at_the_end_makes_room_before_it() -> None:
    rig = Rig(up=0)
    rig.churn.start()
    assert rig.churn.established(rig.came[0])
    rig.up.append(rig.came[0])
    rig.churn.stop()
    assert rig.left == rig.came
