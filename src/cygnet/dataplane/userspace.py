"""ESP in this process: between the sockets of a worker and a sink for inner packets, which is a TUN device or an echo.

An inner packet that the path does not take whole, as an ESP packet, is not sent if it must not be fragmented: its
sender is told what fits (RFC 4301 section 8.2). Others are sent, and the operating system fragments the ESP packet.

Deviation: whether the outer IPv4 header has DF is not the inner packet's choice (RFC 4301 section 8.1) but the
operating system's, which sets it on what fits the path as it knows it, and so goes on learning.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from cygnet.crypto.errors import CryptoError, IntegrityError
from cygnet.dataplane.base import (
    Awaited,
    Carried,
    Count,
    InnerSink,
    LimitReached,
    Moved,
    PathMtu,
    SendEsp,
    TooBig,
    Unsent,
    Usage,
    Used,
)
from cygnet.dataplane.early import EarlyPacket, EarlyPackets
from cygnet.dataplane.inner import Flow, parse_flow
from cygnet.dataplane.record import TunnelRecords
from cygnet.dataplane.selection import TunnelTable, permits_inbound, permits_outbound
from cygnet.dataplane.too_big import ALWAYS_FITS, may_be_cut
from cygnet.dataplane.traffic_class import CongestionLost, take_over, traffic_class_of
from cygnet.dataplane.transport import put_header_on, take_header_off
from cygnet.dataplane.tunnel import Tunnel
from cygnet.esp.errors import ReplayError, SequenceExhausted
from cygnet.iana import IpProtocol
from cygnet.ike.carriage import UNKNOWN_CLASS
from cygnet.ike.effects import InstallChild
from cygnet.ike.path import Path
from cygnet.ike.resting import PACKED_PER_CALL, RestingMap
from cygnet.wire.errors import WireError

_IPV4 = int(IpProtocol.IPV4)
_IPV6 = int(IpProtocol.IPV6)
_DUMMY = int(IpProtocol.NO_NEXT_HEADER)

ETHERNET_MTU = 1500
"""Of paths that nobody has measured."""

YIELD_S: Final = 10.0
"""For which an SA that yields lets the older one send, if the peer sends nothing on it. The answer that tells the peer
of it may be lost, and asked for again; but the peer may also have forgotten the older one."""

LINGER_S: Final = 5.0
"""For which an SA that was succeeded and removed still receives: what was on the way, or comes in another order."""
MIN_LINGERING: Final = 64
"""No more linger than stand, but so many may: peers may rekey as often as they like."""

_SPI_OCTETS = 4
_IPV4_ADDRESS_OCTETS = 4


class UserspaceDataplane:
    """Encrypts inner packets for the tunnels of one worker, and decrypts the ESP packets that come for them.

    Nothing that a peer sends raises: what is dropped is counted under a name of `COUNTERS`.
    """

    def __init__(
        self,
        sink: InnerSink,
        send: SendEsp,
        count: Count,
        *,
        moved: Moved | None = None,
        path_mtu: PathMtu = lambda path: ETHERNET_MTU,
        too_big: TooBig | None = None,
        limit_reached: LimitReached | None = None,
        unsent: Unsent | None = None,
        used: Used | None = None,
        is_awaited: Awaited = lambda spi_in: False,
        soon: Callable[[Callable[[], None]], object] = lambda call: call(),
        entropy: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Join a sink and a sender.

        `moved` is told of packets from another path than a UDP-encapsulated SA's own, so that IKE can decide whether to
        follow the peer (RFC 7296 section 2.23); the path itself is changed by `update_path` alone. `too_big`
        is told of inner packets that the path does not take and that must not be fragmented; without it, they are sent.
        `unsent` is given what no SA is for, and `used` told when one that yielded does no longer. Packets for one that
        `is_awaited` are held until it is installed, and all is done that hangs on it: `soon` calls what it is given
        when that is so.
        """
        self._sink = sink
        self._send = send
        self._count = count
        self._moved = moved
        self._path_mtu = path_mtu
        self._too_big = too_big
        self._limit_reached = limit_reached
        self._unsent = unsent
        self._used = used
        self._entropy = entropy
        self._clock = clock
        self._soon = soon
        self._records = TunnelRecords(entropy)
        self._by_spi = RestingMap[Tunnel](self._records)
        self._table = TunnelTable(self._by_spi.__getitem__)
        self._yielding: deque[tuple[float, bytes]] = deque()
        """What lets an older one send, with when it does no longer."""

        self._early = EarlyPackets(is_awaited)
        self._lingering: dict[bytes, Tunnel] = {}
        """What is removed, and receives yet."""
        self._left = TunnelTable(self._lingering.__getitem__)
        """Of what it was the tunnel."""
        self._leaving: deque[tuple[float, bytes, Tunnel]] = deque()
        """The same with when each does no longer."""

    def __len__(self) -> int:
        """How many CHILD_SAs are installed."""
        return len(self._by_spi)

    def install(self, child: InstallChild) -> None:
        """Carry a CHILD_SA's traffic from now on. Where an older one has the same selectors, this one sends.

        One that is not `is_outbound` sends only once something came in on it, or after `use`. One that `yields` lets
        the older one send until then, for YIELD_S at most.
        """
        spi_in = child.spi_in
        self._stop_lingering(spi_in)
        if spi_in in self._by_spi:
            self.remove(spi_in)
        tunnel = self._by_spi[spi_in] = Tunnel(child)
        if child.yields:
            self._table.add(child, is_last=True)
            self._yielding.append((self._clock() + YIELD_S, spi_in))
        elif not tunnel.is_waiting:
            self._table.add(child)
        if self._early:
            self._soon(partial(self._take_early, spi_in))

    def use(self, spi_in: bytes) -> None:
        """Send on it from now on, though it was installed not to; nothing happens if the SA isn't there."""
        tunnel = self._by_spi.get(spi_in)
        if tunnel is not None and tunnel.is_waiting:
            yielded = tunnel.child.yields
            if yielded:
                # It is in the table, behind the others. One that was not to send at all is not.
                self._table.discard(tunnel.child)
            tunnel.send_from_now_on()
            self._table.add(tunnel.child)
            if yielded and self._used is not None:
                self._used(spi_in)

    def retire(self, spi_in: bytes) -> None:
        """Send on it no longer, but receive still; nothing happens if the SA isn't there."""
        tunnel = self._by_spi.get(spi_in)
        if tunnel is not None:
            if tunnel.is_waiting:
                tunnel.send_from_now_on()
            tunnel.is_retired = True
            self._table.discard(tunnel.child)

    def remove(self, spi_in: bytes, *, is_succeeded: bool = False) -> None:
        """Carry it no longer; nothing happens if it isn't there.

        With `is_succeeded` its traffic goes on in another one, and this one receives for LINGER_S yet.
        """
        tunnel = self._by_spi.pop(spi_in, None)
        if tunnel is None:
            return
        self._table.discard(tunnel.child)
        if is_succeeded:
            self._stop_lingering(spi_in)
            self._lingering[spi_in] = tunnel
            self._left.add(tunnel.child)
            self._leaving.append((self._clock() + LINGER_S, spi_in, tunnel))
            if len(self._leaving) > max(MIN_LINGERING, len(self._by_spi)):
                self._forget_oldest()

    def update_path(self, spi_in: bytes, path: Path, is_udp_encapsulated: bool) -> None:
        """Send to the peer on another path from now on; nothing happens if the SA isn't there."""
        tunnel = self._by_spi.get(spi_in)
        if tunnel is not None:
            tunnel.path = path
            tunnel.is_udp_encapsulated = is_udp_encapsulated

    def rest(self, now: float, limit: int = PACKED_PER_CALL) -> bool:
        """Let tunnels without traffic sleep, which makes them small; to be called some times a second.

        At most `limit` are looked at. Whether more are to be, as soon as others have had their turn.
        """
        self._by_spi.rest(now, limit)
        while self._yielding and self._yielding[0][0] <= now:
            self.use(self._yielding.popleft()[1])
        while self._leaving and self._leaving[0][0] <= now:
            self._forget_oldest()
        for _ in range(self._early.expire(now)):
            self._count("esp_unknown_spi")
        return self._by_spi.has_tired

    def carried(self, spi_in: bytes) -> Carried | None:
        """The SA and what it has carried so far; None if it isn't there. One that is asleep stays so."""
        tunnel = self._by_spi.look(spi_in)
        if isinstance(tunnel, bytes):
            return self._records.carried(spi_in, tunnel)
        return None if tunnel is None else Carried(tunnel.child, tunnel.usage())

    def usage(self, spi_in: bytes) -> Usage | None:
        """What the SA has carried so far; None if it isn't there."""
        carried = self.carried(spi_in)
        return None if carried is None else carried.usage

    def child(self, spi_in: bytes) -> InstallChild | None:
        """The SA as it was installed; None if it isn't there."""
        carried = self.carried(spi_in)
        return None if carried is None else carried.child

    def left(self, flow: Flow) -> InstallChild | None:
        """The SA that was succeeded and removed a moment ago, and that such packets were for; None if there is none."""
        tunnel = self._left.find(flow) if self._lingering else None
        return None if tunnel is None else tunnel.child

    def close(self) -> None:
        """Drop all SAs, with their keys."""
        self._records = TunnelRecords(self._entropy)
        self._by_spi = RestingMap[Tunnel](self._records)
        self._table = TunnelTable(self._by_spi.__getitem__)
        self._yielding.clear()
        self._lingering.clear()
        self._left = TunnelTable(self._lingering.__getitem__)
        self._leaving.clear()

    def receive_esp(self, datagram: bytes, path: Path, now: float, traffic_class: int = UNKNOWN_CLASS, /) -> None:
        """Take an ESP packet, from its SPI on: decrypt it, check it against its SA's selectors, and deliver it."""
        spi_in = datagram[:_SPI_OCTETS]
        tunnel = self._by_spi.get(spi_in) or self._lingering.get(spi_in)
        if tunnel is None:
            self._receive_unknown(spi_in, EarlyPacket(datagram, path, now, traffic_class))
            return
        sa = tunnel.inbound(self._entropy)
        newest = sa.window.highest
        try:
            next_header, packet = sa.decapsulate(datagram)
        except IntegrityError:
            self._count("esp_integrity")
            return
        except ReplayError as exc:
            self._count("esp_" + exc.reason)
            return
        except WireError as exc:
            self._count(exc.reason)
            return
        tunnel.last_received = now
        if tunnel.is_waiting:
            # The peer sends on it, so it receives on it too (RFC 7296 section 2.8).
            self.use(tunnel.child.spi_in)
        if sa.packets >= tunnel.packet_limit or sa.octets >= tunnel.octet_limit:
            self._pass_limit(tunnel, sa.packets, sa.octets)
        if path is not tunnel.path and sa.window.highest > newest:
            self._follow(tunnel, path)
        self._admit(tunnel, next_header, packet, traffic_class)

    def _take_early(self, spi_in: bytes) -> None:
        for packet in self._early.take(spi_in):
            self.receive_esp(*packet)

    def _receive_unknown(self, spi_in: bytes, packet: EarlyPacket) -> None:
        if len(spi_in) < _SPI_OCTETS:
            self._count("esp_short")
        else:
            self._count("esp_early" if self._early.hold(spi_in, packet) else "esp_unknown_spi")

    def send_inner(self, packet: bytes) -> bool:
        """Send an inner packet through the tunnel whose selectors cover it; False, counted, if it was not sent."""
        try:
            flow = parse_flow(packet)
        except WireError as exc:
            self._count(exc.reason)
            return False
        tunnel = self._table.find(flow)
        if tunnel is None:
            if self._unsent is None or not self._unsent(packet, flow):
                self._count("inner_no_tunnel")
            return False
        return self._transmit(tunnel, packet, flow)

    def send_through(self, spi_in: bytes, packet: bytes) -> bool:
        """Send an inner packet through one tunnel, if its selectors cover it; False, counted, if it was not sent."""
        tunnel = self._by_spi.get(spi_in)
        try:
            flow = parse_flow(packet)
        except WireError as exc:
            self._count(exc.reason)
            return False
        if tunnel is None or not permits_outbound(tunnel.child, flow):
            self._count("inner_no_tunnel")
            return False
        return self._transmit(tunnel, packet, flow)

    def _forget_oldest(self) -> None:
        _, spi_in, tunnel = self._leaving.popleft()
        # Another one may have its SPI by now.
        if self._lingering.get(spi_in) is tunnel:
            self._stop_lingering(spi_in)

    def _stop_lingering(self, spi_in: bytes) -> None:
        if self._lingering:
            tunnel = self._lingering.pop(spi_in, None)
            if tunnel is not None:
                self._left.discard(tunnel.child)

    def _admit(self, tunnel: Tunnel, next_header: int, packet: bytes, traffic_class: int) -> None:
        if next_header == _DUMMY:
            self._count("esp_dummy")
            return
        if tunnel.child.carriage.is_transport:
            self._admit_transport(tunnel, next_header, packet, traffic_class)
            return
        if next_header != _IPV4 and next_header != _IPV6:
            self._count("esp_next_header")
            return
        try:
            flow = parse_flow(packet)
        except WireError as exc:
            self._count(exc.reason)
            return
        if (len(flow.source) == _IPV4_ADDRESS_OCTETS) != (next_header == _IPV4):
            self._count("inner_malformed")
            return
        if not permits_inbound(tunnel.child, flow):
            self._count("esp_selectors")
            return
        taken = tunnel.child.carriage.traffic_class_in
        if traffic_class != UNKNOWN_CLASS and (traffic_class ^ traffic_class_of(packet)) & taken:
            try:
                packet = take_over(packet, traffic_class, taken)
            except CongestionLost:
                self._count("esp_ecn")
                return
        self._sink.deliver(packet, tunnel.child.spi_in)

    def _admit_transport(self, tunnel: Tunnel, next_header: int, payload: bytes, traffic_class: int) -> None:
        outer = traffic_class if traffic_class != UNKNOWN_CLASS else 0
        try:
            packet = put_header_on(tunnel.child, next_header, payload, outer)
            flow = parse_flow(packet)
        except WireError as exc:
            self._count(exc.reason)
            return
        if not permits_inbound(tunnel.child, flow):
            self._count("esp_selectors")
            return
        self._sink.deliver(packet, tunnel.child.spi_in)

    def _transmit(self, tunnel: Tunnel, packet: bytes, flow: Flow) -> bool:
        carriage = tunnel.child.carriage
        traffic_class = traffic_class_of(packet)
        if carriage.is_transport:
            # What does not fit is fragmented outside, whatever its header says (RFC 4303 section 3.3.4).
            try:
                next_header, payload = take_header_off(packet, flow)
            except WireError as exc:
                self._count(exc.reason)
                return False
            return self._encapsulate(tunnel, payload, next_header, 0, traffic_class)
        sa = tunnel.outbound(self._entropy)
        padding = carriage.tfc_padding
        if padding or (len(packet) > ALWAYS_FITS and self._too_big is not None):
            room = tunnel.room(self._path_mtu(tunnel.path), sa)
            if len(packet) > room and self._too_big is not None and not may_be_cut(packet, carriage):
                self._count("inner_too_big")
                self._too_big(packet, room)
                return False
            padding = min(padding, room)
        next_header = _IPV4 if len(flow.source) == _IPV4_ADDRESS_OCTETS else _IPV6
        return self._encapsulate(tunnel, packet, next_header, padding, traffic_class & carriage.traffic_class_out)

    def _encapsulate(self, tunnel: Tunnel, payload: bytes, next_header: int, padding: int, traffic_class: int) -> bool:
        sa = tunnel.outbound(self._entropy)
        try:
            esp = sa.encapsulate(payload, next_header, padding)
        except SequenceExhausted:
            self._count("esp_sequence_exhausted")
            return False
        except CryptoError:
            self._count("esp_nonce_exhausted")
            return False
        tunnel.last_sent = self._clock()
        self._send(esp, tunnel.path, tunnel.is_udp_encapsulated, traffic_class)
        if sa.sequence >= tunnel.packet_limit or sa.octets >= tunnel.octet_limit:
            self._pass_limit(tunnel, sa.sequence, sa.octets)
        return True

    def _pass_limit(self, tunnel: Tunnel, packets: int, octets: int) -> None:
        is_hard = tunnel.pass_limit(packets, octets)
        if self._limit_reached is not None:
            self._limit_reached(tunnel.child.spi_in, is_hard)

    def _follow(self, tunnel: Tunnel, path: Path) -> None:
        if self._moved is not None and tunnel.is_udp_encapsulated and path != tunnel.path:
            self._moved(tunnel.child.spi_in, path)
