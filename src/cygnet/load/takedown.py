"""The end of a run: every tunnel that stands is deleted."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

UNDER_WAY: Final = 64
"""Tunnels that are deleted at a time."""


class Takedown:
    """Deletes tunnels, some at a time, and knows when each is answered for or given up."""

    def __init__(
        self,
        up: Collection[bytes],
        delete: Callable[[bytes], object],
        *,
        is_settled: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`up` are the tunnels that stand, by our IKE SPI, from one moment to the next. `is_settled` says whether
        nothing else is on its way up or down."""
        self.has_begun = False
        self._up = up
        self._delete = delete
        self._is_settled = is_settled
        self._loop = loop
        self._waiting: deque[bytes] = deque()
        self._all_down = asyncio.Event()

    async def run(self) -> None:
        """Until nothing stands, or it is broken off.

        What is yet on its way up goes as soon as it is there, and what others have begun to end is waited for.
        """
        self.has_begun = True
        self._waiting.extend(self._up)
        for _ in range(UNDER_WAY):
            self._next()
        if not self._is_over():
            await self._all_down.wait()

    def add(self, spi: bytes) -> None:
        """One that has come up late: it is to go with the others."""
        self._waiting.append(spi)
        self._loop.call_soon(self._next)

    def closed(self) -> None:
        """One of them has gone."""
        self._loop.call_soon(self._next)
        self.note_end()

    def note_end(self) -> None:
        """Something has ended, perhaps the last that is waited for."""
        if self.has_begun and self._is_over():
            self._all_down.set()

    def break_off(self) -> None:
        """Wait no longer, if it has begun."""
        if self.has_begun:
            self._all_down.set()

    def _is_over(self) -> bool:
        return not self._up and self._is_settled()

    def _next(self) -> None:
        while self._waiting:
            spi = self._waiting.popleft()
            if spi in self._up:
                self._delete(spi)
                return
