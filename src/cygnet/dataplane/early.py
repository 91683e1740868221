"""ESP packets that come before the answer by which their SA stands.

A peer may send on a CHILD_SA as soon as it has answered, and its packets may overtake the answer, or be sent before it
by a daemon that is busy. They are for an SPI that we have offered, which nobody else knows: so they are held for a
moment, unread, and taken as they came when the SA is installed.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from cygnet.ike.path import Path

MAX_HELD: Final = 512
"""Packets that are held, all in all."""
MAX_HELD_PER_SPI: Final = 64
HOLD_S: Final = 2.0
"""For which the packets of an SPI are held, from the first one on."""


class EarlyPacket(NamedTuple):
    """What `receive_esp` takes."""

    datagram: bytes
    path: Path
    now: float
    traffic_class: int


class EarlyPackets:
    """Holds packets for CHILD_SAs that are being set up. Bounded in number and time."""

    __slots__ = ("_count", "_held", "_is_awaited")

    def __init__(self, is_awaited: Callable[[bytes], bool]) -> None:
        """`is_awaited` says whether a CHILD_SA with that SPI of ours is being set up."""
        self._is_awaited = is_awaited
        self._held: dict[bytes, list[EarlyPacket]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def hold(self, spi_in: bytes, packet: EarlyPacket) -> bool:
        """Hold a packet; False if it is for nothing that is awaited, or if too many are held."""
        if self._count >= MAX_HELD or not self._is_awaited(spi_in):
            return False
        packets = self._held.setdefault(spi_in, [])
        if len(packets) >= MAX_HELD_PER_SPI:
            return False
        packets.append(packet)
        self._count += 1
        return True

    def take(self, spi_in: bytes) -> list[EarlyPacket]:
        """What is held for that SPI, in the order in which it came, and is no longer."""
        packets = self._held.pop(spi_in, [])
        self._count -= len(packets)
        return packets

    def expire(self, now: float) -> int:
        """Drop what has been held for too long; how many packets that was."""
        before = self._count
        # The one that was held first stands first.
        while self._held:
            spi_in, packets = next(iter(self._held.items()))
            if now < packets[0].now + HOLD_S:
                break
            self.take(spi_in)
        return before - self._count
