"""Closes tunnels and opens others in their place while the rest is held (`--churn`), as users come and go.

At even distances in time, whatever became of those before, the tunnel that has stood longest is deleted and a new peer
begins. Where no tunnel stands that could go, because many changes were due at once, one goes when the peer is there:
so there are never more than in the beginning. Delays count from the time at which a change was due.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from cygnet.load.arrivals import OpenLoop, constant_arrivals, of_process
from cygnet.load.samples import Samples

CHANGES_PER_TURN = 8
"""Before the sockets are looked at again: some milliseconds of key generation."""


class Changes(msgspec.Struct, frozen=True):
    """What came of it; durations are octets of `Samples`."""

    begun: int = 0
    """Peers that came; `begun` is those with a delay, those that failed, and those still under way at the end."""
    delays: bytes = b""
    failures: dict[str, int] = {}
    closed: bytes = b""
    """How long each deletion took that the responder confirmed."""
    close_failures: int = 0


class Churn:
    """The coming and going of one process."""

    def __init__(
        self,
        rate: float,
        *,
        process: int,
        processes: int,
        leave: Callable[[], bytes | None],
        come: Callable[[], bytes],
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
    ) -> None:
        """`rate` is that of all processes. `leave` begins to delete a tunnel and returns its SPI, or None if there is
        none; `come` begins one.
        """
        self._rate = rate
        self._process = process
        self._processes = processes
        self._leave = leave
        self._come = come
        self._loop = loop
        self._clock = clock
        self._pacing: OpenLoop | None = None
        self._handle: asyncio.Handle | None = None
        self._coming: dict[bytes, float] = {}
        self._leaving: dict[bytes, float] = {}
        self._owed: deque[float] = deque()
        """When those were due to go for whom there was no tunnel yet."""
        self._room: list[float] = []
        """The same of those that are to go now."""
        self._begun = 0
        self._delays = Samples()
        self._failures: Counter[str] = Counter()
        self._closed = Samples()
        self._close_failures = 0

    def start(self) -> None:
        """Begin, from now on."""
        arrivals = of_process(constant_arrivals(self._rate), self._process, self._processes)
        self._pacing = OpenLoop(arrivals, self._clock())
        self._change_due()

    def stop(self) -> None:
        """Let nobody come or go any more."""
        self._make_room()
        self._pacing = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    @property
    def is_settled(self) -> bool:
        """Whether all that came are up or have failed, and all that went are gone."""
        return not self._coming and not self._leaving

    def is_coming(self, spi: bytes) -> bool:
        """Whether an IKE_SA is one that is being set up."""
        return spi in self._coming

    def established(self, spi: bytes) -> bool:
        """A tunnel is up; whether it was one of those that came."""
        due = self._coming.pop(spi, None)
        if due is None:
            return False
        self._delays.add(self._clock() - due)
        if self._owed:
            self._room.append(self._owed.popleft())
            # Not at once: the one that is up is yet to be counted among those that may go.
            self._loop.call_soon(self._make_room)
        return True

    def closed(self, spi: bytes, reason: str) -> bool:
        """An IKE_SA is closed; whether it was one that came and failed, or one that went."""
        if self._coming.pop(spi, None) is not None:
            self._failures[reason] += 1
            if self._owed:
                self._owed.popleft()
            return True
        due = self._leaving.pop(spi, None)
        if due is None:
            return False
        if reason == "deleted":
            self._closed.add(self._clock() - due)
        else:
            self._close_failures += 1
        return True

    def rekeyed(self, old: bytes, new: bytes) -> None:
        """An IKE_SA that is to go has another in its place, which is to go then."""
        due = self._leaving.pop(old, None)
        if due is not None:
            self._leaving[new] = due

    def measure(self) -> Changes:
        """What came of it."""
        return Changes(
            begun=self._begun,
            delays=self._delays.to_octets(),
            failures=dict(self._failures),
            closed=self._closed.to_octets(),
            close_failures=self._close_failures,
        )

    def _make_room(self) -> None:
        for due in self._room:
            self._let_go(due)
        self._room.clear()

    def _let_go(self, due: float) -> bool:
        left = self._leave()
        if left is not None:
            self._leaving[left] = due
        return left is not None

    def _change_due(self) -> None:
        self._handle = None
        for _ in range(CHANGES_PER_TURN):
            due = self._pacing.due() if self._pacing is not None else None
            if self._pacing is None or due is None:
                return
            now = self._clock()
            if due > now:
                self._handle = self._loop.call_later(due - now, self._change_due)
                return
            self._pacing.take()
            if not self._let_go(due):
                self._owed.append(due)
            self._begun += 1
            self._coming[self._come()] = due
        self._handle = self._loop.call_soon(self._change_due)
