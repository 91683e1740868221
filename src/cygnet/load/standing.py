"""The tunnels of one process that stand."""

from collections import deque
from collections.abc import Iterator
from typing import Final

from cygnet.ike.sharded_map import ShardedMap

SLACK: Final = 1024
"""Of those that have gone so many may be remembered, and as many as stand."""


class StandingTunnels:
    """By our SPI of the IKE_SA: our ESP SPI, or nothing for one that was not asked for it."""

    __slots__ = ("_bound", "_order", "_spis")

    def __init__(self, *, keeps_order: bool) -> None:
        """`keeps_order` if it is to be known which one has stood longest."""
        self._spis = ShardedMap[bytes, bytes]()
        self._order: deque[bytes] | None = deque() if keeps_order else None
        """As they came, with some that have gone."""
        self._bound = SLACK
        """At so many they are looked through."""

    def __len__(self) -> int:
        return len(self._spis)

    def __bool__(self) -> bool:
        return bool(self._spis)

    def __contains__(self, spi: object, /) -> bool:
        return spi in self._spis

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._spis)

    def add(self, spi: bytes, spi_in: bytes) -> None:
        """One is up."""
        self._spis[spi] = spi_in
        if self._order is not None:
            self._order.append(spi)
            if len(self._order) > self._bound:
                # Perhaps many were rekeyed, while the oldest was not.
                self._order = deque(each for each in self._order if each in self._spis)
                self._bound = 2 * len(self._order) + SLACK

    def take(self, spi: bytes) -> bytes | None:
        """Its ESP SPI; it stands no longer. None if it did not."""
        return self._spis.pop(spi, None)

    def take_oldest(self) -> bytes | None:
        """Our SPI of the one that has stood longest, and does no longer; None if there is none."""
        order = self._order
        while order:
            spi = order.popleft()
            if self._spis.pop(spi, None) is not None:
                return spi
        return None
