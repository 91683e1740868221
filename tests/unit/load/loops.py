"""An event loop that is nothing but a clock and what is due."""

import heapq
from collections.abc import Callable
from itertools import count


class _Handle:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeLoop:
    """`call_later`, `call_soon` and `time` as asyncio has them; time passes in `run`."""

    def __init__(self) -> None:
        self.now = 100.0
        self._order = count()
        self._due: list[tuple[float, int, _Handle, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> _Handle:
        handle = _Handle()
        heapq.heappush(self._due, (self.now + delay, next(self._order), handle, callback))
        return handle

    def call_soon(self, callback: Callable[[], object]) -> _Handle:
        return self.call_later(0.0, callback)

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            due, _, handle, callback = heapq.heappop(self._due)
            self.now = max(self.now, due)
            if not handle.is_cancelled:
                callback()
        self.now = end
