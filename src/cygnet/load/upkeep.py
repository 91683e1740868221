"""Asks, as clients do, whether the gateway lives: each tunnel every so many seconds from its own beginning (`--dpd`).

The questions are at their times also when the gateway is slow, as the attempts of an open loop are: a delay counts from
the time at which the question was due.
"""

import asyncio
import heapq
from collections.abc import Callable

import msgspec

from cygnet.ike.effects import TaskDone
from cygnet.ike.tasks import Probe
from cygnet.load.samples import Samples
from cygnet.net.driver import Driver

PROBES_PER_TURN = 16
"""Before the sockets are looked at again: some two milliseconds."""


class Answers(msgspec.Struct, frozen=True):
    """What came of the questions."""

    asked: int = 0
    delays: bytes = b""
    """Octets of `Samples`, one for each answer."""
    overdue: int = 0
    """Times at which a tunnel's question before had no answer yet, so that no other could be asked (RFC 7296 section
    2.3)."""


class LivenessChecks:
    """Asks, for each tunnel, whether the gateway lives."""

    def __init__(
        self, interval_s: float, driver: Driver, *, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self._interval_s = interval_s
        self._driver = driver
        self._loop = loop
        self._clock = clock
        self._due: list[tuple[float, bytes]] = []
        """A heap."""
        self._asked: dict[bytes, float] = {}
        """The questions without an answer, and when they were due."""
        self._handle: asyncio.Handle | None = None
        self._delays = Samples()
        self._asked_in_all = 0
        self._overdue = 0
        self._up: set[bytes] = set()

    def add(self, spi: bytes, now: float) -> None:
        """A tunnel is up."""
        self._up.add(spi)
        heapq.heappush(self._due, (now + self._interval_s, spi))
        self._schedule()

    def forget(self, spi: bytes) -> None:
        """A tunnel is no more."""
        self._up.discard(spi)
        self._asked.pop(spi, None)

    def on_done(self, done: TaskDone) -> None:
        """A question was answered."""
        due = self._asked.pop(done.sa, None) if type(done.task) is Probe else None
        if due is not None:
            self._delays.add(self._clock() - due)

    def stop(self) -> None:
        """Ask no more."""
        self._up.clear()
        self._due.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def measure(self) -> Answers:
        """What came of it so far."""
        return Answers(self._asked_in_all, self._delays.to_octets(), self._overdue)

    def _schedule(self) -> None:
        if self._handle is None and self._due:
            self._handle = self._loop.call_later(max(0.0, self._due[0][0] - self._clock()), self._ask_due)

    def _ask_due(self) -> None:
        self._handle = None
        now = self._clock()
        for _ in range(PROBES_PER_TURN):
            if not self._due or self._due[0][0] > now:
                break
            due, spi = self._due[0]
            if spi in self._up:
                heapq.heapreplace(self._due, (due + self._interval_s, spi))
                self._ask(spi, due)
            else:
                heapq.heappop(self._due)
        self._schedule()

    def _ask(self, spi: bytes, due: float) -> None:
        if spi in self._asked:
            self._overdue += 1
            return
        self._asked[spi] = due
        self._asked_in_all += 1
        self._driver.order(spi, Probe())
