"""What a worker does with inner packets: its own addresses answer pings, all else goes to the kernel, if it may."""

from collections.abc import Callable, Iterable
from typing import Final

from cygnet.dataplane.base import Count
from cygnet.dataplane.echo import InnerEcho
from cygnet.dataplane.too_big import SenderNotices
from cygnet.dataplane.tun import TunSink
from cygnet.gateway.control import AnyMessage
from cygnet.gateway.traffic.settling import Settling
from cygnet.observe.counters import Count as CountMany

_PACKETS_PER_TURN: Final = 64
"""From the TUN device before the sockets get their turn."""

_PACKETS_IN: Final = 'esp_packets_total{direction="in"}'
_PACKETS_OUT: Final = 'esp_packets_total{direction="out"}'
_OCTETS_IN: Final = 'esp_octets_total{direction="in"}'
_OCTETS_OUT: Final = 'esp_octets_total{direction="out"}'


class InnerTraffic:
    """The sink of a worker's userspace data plane, and the source of what it sends.

    With a TUN device, only packets for the echo's addresses are kept from the kernel; without one, nothing else is
    there to take them.
    """

    __slots__ = ("_count", "_echo", "_echo_addresses", "_notices", "_send", "_tun", "settling")

    def __init__(
        self,
        echo: Iterable[bytes],
        tun: int | None,
        *,
        count: CountMany,
        count_event: Count,
        ask: Callable[[AnyMessage], bool] = lambda message: False,
    ) -> None:
        """`echo` are packed addresses; `tun` is a descriptor of `open_tun`; `ask` takes messages to the supervisor, and
        says whether it has."""
        self._echo_addresses = frozenset(echo)
        self._echo = InnerEcho(self._echo_addresses, count_event)
        self._tun = TunSink(tun, count_event) if tun is not None else None
        self.settling = Settling(ask, self._deliver_to_kernel, count_event)
        """What is not for the kernel yet."""
        self._count = count
        self._notices = SenderNotices(lambda message: self._deliver_to_kernel(message, b""))
        self._send: Callable[[bytes], bool] | None = None

    def connect(self, send_inner: Callable[[bytes], bool]) -> None:
        """Send through the data plane whose sink this is."""
        self._send = send_inner
        self._echo.connect(self.send)

    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        """Take a decrypted packet, which is sound IPv4 or IPv6: the data plane has read its header."""
        self._count(_PACKETS_IN)
        self._count(_OCTETS_IN, len(packet))
        destination = packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]
        if self._tun is None or destination in self._echo_addresses:
            self._echo.deliver(packet, spi_in)
        elif not self.settling.held or not self.settling.hold(packet, spi_in):
            self._tun.deliver(packet, spi_in)

    def send(self, packet: bytes) -> bool:
        """Send a packet through the tunnel that it is for; False if there is none."""
        if self._send is None or not self._send(packet):
            return False
        self._count(_PACKETS_OUT)
        self._count(_OCTETS_OUT, len(packet))
        return True

    def too_big(self, packet: bytes, room: int) -> None:
        """Tell the sender of a packet from the kernel that no more than `room` octets fit the path."""
        self._notices.too_big(packet, room)

    def _deliver_to_kernel(self, packet: bytes, spi_in: bytes) -> None:
        if self._tun is not None:
            self._tun.deliver(packet, spi_in)

    def drain_tun(self) -> None:
        """Take one turn at the TUN device."""
        if self._tun is not None:
            self._tun.drain(self.send, _PACKETS_PER_TURN)
