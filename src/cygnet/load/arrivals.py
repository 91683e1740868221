"""When attempts are to start: schedules that depend on nothing but a rate and a seed, and the two ways to follow them.

In an open loop attempts arrive as peers do, whatever the responder makes of those before: an overloaded responder is
measured as its users would see it. In a closed loop a new attempt waits for an earlier one, as in strongSwan's
load-tester: it finds the highest rate, but a responder that stalls is asked less (coordinated omission).
"""

import itertools
import random
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from cygnet.load.options import Arrivals, LoadOptions
from cygnet.load.plan import share_of


def constant_arrivals(rate: float) -> Iterator[float]:
    """Seconds from the start of the run at which attempts 0, 1, 2, ... arrive: `rate` a second, at even distances."""
    return (number / rate for number in itertools.count())


def poisson_arrivals(rate: float, seed: int) -> Iterator[float]:
    """The same for a Poisson process: distances are exponential, and the same for the same seed."""
    draw = random.Random(seed).expovariate
    at = 0.0
    while True:
        at += draw(rate)
        yield at


def of_process(arrivals: Iterator[float], process: int, processes: int) -> Iterator[float]:
    """The arrivals of those attempts that belong to `process`; see `cygnet.load.plan`."""
    return itertools.islice(arrivals, process, None, processes)


class Pacing(Protocol):
    """Says when the next attempt is intended to start."""

    def due(self) -> float | None:
        """When the next one is to start, on the clock of the run; None until an attempt ends."""

    def take(self) -> None:
        """The next one has been started."""

    def ended(self, now: float) -> None:
        """An attempt has ended."""


class OpenLoop:
    """Starts attempts at the times of a schedule."""

    __slots__ = ("_arrivals", "_next", "_start")

    def __init__(self, arrivals: Iterator[float], start: float) -> None:
        """`arrivals` are seconds after `start`, without end."""
        self._arrivals = arrivals
        self._start = start
        self._next = start + next(arrivals)

    def due(self) -> float | None:
        """The time of the schedule, which may have passed."""
        return self._next

    def take(self) -> None:
        """Go on in the schedule."""
        self._next = self._start + next(self._arrivals)

    def ended(self, now: float) -> None:
        """Do nothing: arrivals don't depend on it."""


class ClosedLoop:
    """Keeps a number of attempts under way: one is due from the moment at which its place became free."""

    __slots__ = ("_free",)

    def __init__(self, concurrency: int, start: float) -> None:
        self._free: deque[float] = deque(itertools.repeat(start, concurrency))

    def due(self) -> float | None:
        """Since when the place has been free that was free first; None if all are taken."""
        return self._free[0] if self._free else None

    def take(self) -> None:
        """Take that place."""
        self._free.popleft()

    def ended(self, now: float) -> None:
        """A place is free."""
        self._free.append(now)


def pacing_of(options: LoadOptions, process: int, start: float) -> Pacing:
    """What the options ask of one process, from `start` on."""
    if options.arrivals is Arrivals.CLOSED:
        return ClosedLoop(share_of(options.concurrency, process, options.processes), start)
    if options.arrivals is Arrivals.POISSON:
        arrivals = poisson_arrivals(options.rate, options.seed)
    else:
        arrivals = constant_arrivals(options.rate)
    return OpenLoop(of_process(arrivals, process, options.processes), start)
