"""Requests that wait for something which another process has: a virtual address, so far.

The peer need not know: it is answered in milliseconds, instead of being refused, or of having to ask again.
"""

from typing import Final

from cygnet.ike.effects import HeldBack
from cygnet.ike.environment import Count
from cygnet.ike.path import Path
from cygnet.net.driver import Driver

MAX_HELD: Final = 256
"""Requests that wait at a time. More are dropped: their peers ask again after some seconds."""


class HeldRequests:
    """Those of one worker; of each IKE_SA the latest."""

    def __init__(self, driver: Driver, count: Count) -> None:
        self._driver = driver
        self._count = count
        self._held: dict[bytes, tuple[bytes, Path]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, effect: HeldBack) -> None:
        """Keep a request, if there is room."""
        if effect.sa not in self._held and len(self._held) >= MAX_HELD:
            self._count('datagrams_dropped_total{reason="held_back"}')
        else:
            self._held[effect.sa] = effect.datagram, effect.path

    def serve_again(self) -> None:
        """What they wait for may be there now. Those for which it is not come back."""
        if self._held:
            held, self._held = list(self._held.values()), {}
            self._driver.receive_ike(held, self._driver.clock())
