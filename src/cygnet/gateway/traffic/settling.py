"""Inner packets that come in before the host's network has a way back for what answers them.

Routes, addresses and diversions are made by the supervisor, some time after a worker has asked for them, but a peer may
send as soon as its CHILD_SA stands. What the host answered meanwhile would go out by another way, and unprotected. So
such packets are held until the supervisor has done what it was asked for.
"""

from collections.abc import Callable
from typing import Final

from cygnet.dataplane.base import Count
from cygnet.gateway.control import AnyMessage, Settled

MAX_HELD: Final = 512
"""Packets that are held, all in all."""
MAX_HELD_PER_SPI: Final = 64


class Settling:
    """Holds packets for the CHILD_SAs of a worker. Bounded in number; and in time, since the supervisor answers."""

    __slots__ = ("_count_event", "_deliver", "_last", "_number_held", "_send", "held")

    def __init__(
        self, send: Callable[[AnyMessage], bool], deliver: Callable[[bytes, bytes], object], count_event: Count
    ) -> None:
        """`send` takes messages to the supervisor, and says whether it has; `deliver` hands packets to the kernel."""
        self._send = send
        self._deliver = deliver
        self._count_event = count_event
        self._last = 0
        self._number_held = 0
        self.held: dict[bytes, tuple[int, list[bytes]]] = {}
        """By our SPI: the question that is to be answered first, and the packets."""

    def begin(self, spi_in: bytes) -> None:
        """Something was asked for that a CHILD_SA needs: from now on its packets are held."""
        self._last += 1
        if self._send(Settled(self._last)):
            _, packets = self.held.pop(spi_in, (0, []))
            self.held[spi_in] = self._last, packets

    def hold(self, packet: bytes, spi_in: bytes) -> bool:
        """Take a packet that came in on that SPI; False if there is nothing to wait for. Too many are dropped."""
        entry = self.held.get(spi_in)
        if entry is None:
            return False
        packets = entry[1]
        if self._number_held >= MAX_HELD or len(packets) >= MAX_HELD_PER_SPI:
            self._count_event("inner_unsettled")
        else:
            packets.append(packet)
            self._number_held += 1
        return True

    def settled(self, number: int) -> None:
        """The supervisor has done all that was asked for before that question: let the packets go on."""
        # The question that was asked first stands first.
        while self.held:
            spi_in, (asked, packets) = next(iter(self.held.items()))
            if asked > number:
                break
            del self.held[spi_in]
            self._number_held -= len(packets)
            for packet in packets:
                self._deliver(packet, spi_in)
