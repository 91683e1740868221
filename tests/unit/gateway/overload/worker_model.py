"""A worker in a simulation of its time: what it does moves the clock on, and what happens meanwhile waits for it."""

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

from cygnet.gateway.overload.intake import Intake
from cygnet.gateway.overload.newcomers import Entry


class WorkerModel:
    """A clock, a socket's queue, and the turns of an event loop; who inherits from it gives it an `intake`."""

    intake: Intake

    def __init__(self, *, receive_s: float, datagrams_per_turn: int) -> None:
        """`receive_s` is what it takes to take a datagram from the socket."""
        self.now = 0.0
        self.idle_s = 0.0
        """For how long the worker had nothing to do so far."""
        self.kernel: deque[Entry] = deque()
        self.scheduled: list[Callable[[], None]] = []
        """For the next turn."""
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._receive_s = receive_s
        self._datagrams_per_turn = datagrams_per_turn

    def at(self, when: float, event: Callable[[], object]) -> None:
        """Have something happen then."""
        heapq.heappush(self._events, (when, next(self._order), event))

    def run_until(self, end_s: float) -> None:
        """Let the worker have its turns."""
        while self.now < end_s:
            while self._events and self._events[0][0] <= self.now:
                # What happens while the worker computes happens in its order and at its own time.
                when, _, event = heapq.heappop(self._events)
                later, self.now = self.now, when
                event()
                self.now = later
            batch = [self.kernel.popleft() for _ in range(min(self._datagrams_per_turn, len(self.kernel)))]
            if batch:
                came = self.now
                self.now += self._receive_s * len(batch)
                self.intake.put(batch, came)
            todo, self.scheduled[:] = list(self.scheduled), []
            for run in todo:
                run()
            if not batch and not todo:
                self.idle_s += max(0.0, self._events[0][0] - self.now)
                self.now = max(self.now, self._events[0][0])
