import time

import pytest

from cygnet.gateway.overload import spare_time
from cygnet.gateway.overload.spare_time import SpareTime


class Clocks:
    """What the kernel says of a worker and its cores."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.wanted_s, self.idle_s = 100.0, 20.0, 3000.0
        monkeypatch.setattr(spare_time, "wanted_seconds", lambda: self.wanted_s)
        monkeypatch.setattr(spare_time, "idle_seconds", lambda cores: self.idle_s)
        self.spare = SpareTime()

    def after(self, elapsed_s: float, *, wanted_s: float, idle_s: float) -> float:
        self.now += elapsed_s
        self.wanted_s += wanted_s
        self.idle_s += idle_s
        return self.spare.take(self.now)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    found = Clocks(monkeypatch)
    assert found.spare.take(found.now) == 0.0, "nothing is known at first"
    return found


@pytest.mark.parametrize(
    ("wanted_s", "idle_s", "spare"),
    [
        (0.1, 0.4, 0.8),
        (0.0, 0.5, 1.0),
        (0.5, 0.0, 0.0),
        # The kernel has the core, or other programs have; or other cores are idle, of which this worker has nothing.
        (0.1, 0.05, 0.1),
        (0.45, 0.5, 0.1),
        # Ticks of a hundredth of a second are not exact.
        (0.51, 0.51, 0.0),
        (0.0, 0.51, 1.0),
    ],
)
def test_the_lesser_of_both_counts(clocks: Clocks, wanted_s: float, idle_s: float, spare: float) -> None:
    assert clocks.after(0.5, wanted_s=wanted_s, idle_s=idle_s) == pytest.approx(spare)


def test_each_interval_counts_for_itself_and_a_long_one_for_nothing(clocks: Clocks) -> None:
    assert clocks.after(0.5, wanted_s=0.5, idle_s=0.0) == 0.0
    assert clocks.after(0.5, wanted_s=0.0, idle_s=0.5) == 1.0
    assert clocks.after(60.0, wanted_s=0.0, idle_s=60.0) == 0.0
    assert clocks.after(0.5, wanted_s=0.25, idle_s=0.25) == pytest.approx(0.5)


@pytest.mark.parametrize("error", [FileNotFoundError, ValueError])
def test_where_it_cannot_be_measured_there_is_none(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unknown() -> float:
        raise error

    monkeypatch.setattr(spare_time, "wanted_seconds", unknown)
    assert clocks.after(0.5, wanted_s=0.0, idle_s=0.5) == 0.0


def test_this_kernel_tells_it() -> None:
    spare = SpareTime()
    spare.take(time.monotonic())
    time.sleep(0.05)
    assert 0.0 <= spare.take(time.monotonic()) <= 1.0
