"""The sockets of one worker, as one thing that receives in batches and sends.

What arrives is sorted into IKE and ESP and handed over with the path it came by; a NAT-T socket's non-ESP
marker (RFC 3948 section 2.2) is seen here and nowhere else. Nothing that the network does raises: it is
counted.
"""

import errno
import socket
import struct
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Protocol

from cygnet.ike.carriage import UNKNOWN_CLASS
from cygnet.ike.path import Path
from cygnet.net.queues import ReceiveQueue, kernel_drops, receive_queues
from cygnet.net.sockets import IP_PKTINFO, IP_TOS, EspSocket, UdpSocket, ask_for_traffic_class
from cygnet.observe.counters import Count

Batch = list[tuple[bytes, Path]]
"""Datagrams that were received in one turn, in the order in which the kernel had them."""

EspBatch = list[tuple[bytes, Path, int]]
"""ESP packets likewise, with the traffic class of their outer headers: `UNKNOWN_CLASS` unless it was asked for."""

DATAGRAMS_PER_TURN: Final = 128
"""From one socket before the others get their turn: about half a millisecond of receiving."""

_MARKER: Final = bytes(4)
_KEEPALIVE: Final = b"\xff"
_MAX_DATAGRAM_OCTETS: Final = 65535
_ANCILLARY_OCTETS: Final = socket.CMSG_SPACE(20) + socket.CMSG_SPACE(4)
"""Room for one in6_pktinfo and a traffic class; those of IPv4 are smaller."""
_INT: Final = struct.Struct("=i")
_PKTINFO_4: Final = struct.Struct("=i4s4s")
_PKTINFO_6: Final = struct.Struct("=16si")
_LOCAL_ADDRESSES: Final = 1024
_LINK_LOCAL_PEERS: Final = 1024

_FAILURES: Final = {
    errno.EAGAIN: "would_block",
    errno.ENOBUFS: "would_block",
    errno.ECONNREFUSED: "refused",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EADDRNOTAVAIL: "address_gone",
    errno.EPERM: "not_permitted",
    errno.EACCES: "not_permitted",
    errno.EMSGSIZE: "too_big",
}

Ancillary = list[tuple[int, int, bytes]]


class Loop(Protocol):
    """What we need of an event loop: asyncio's and uvloop's have it."""

    def add_reader(self, fd: socket.socket, callback: Callable[..., object], /, *args: object) -> object: ...

    def remove_reader(self, fd: socket.socket, /) -> object: ...


class Endpoint:
    """Receives on, and sends from, the sockets of one worker.

    `on_ike(batch, now)` and `on_esp(batch, now)` get what arrived, `now` being `clock()` when the turn began.
    IKE comes without its marker; ESP begins at its SPI. Packets from raw ESP sockets have paths with the
    ports 0.
    """

    def __init__(
        self,
        udp: Sequence[UdpSocket],
        esp: Sequence[EspSocket] = (),
        *,
        on_ike: Callable[[Batch, float], object],
        on_esp: Callable[[EspBatch, float], object],
        count: Count,
        clock: Callable[[], float] = time.monotonic,
        datagrams_per_turn: int = DATAGRAMS_PER_TURN,
    ) -> None:
        self._udp = tuple(udp)
        self._esp = tuple(esp)
        self._on_ike = on_ike
        self._on_esp = on_esp
        self._count = count
        self._clock = clock
        self._datagrams_per_turn = datagrams_per_turn
        self._by_address = {(s.address, s.port): s for s in self._udp if not s.is_wildcard}
        self._wildcards = {(s.is_ipv6, s.port): s for s in self._udp if s.is_wildcard}
        self._raw = {s.is_ipv6: s for s in self._esp}
        self._scopes: dict[str, int] = {}
        self._loop: Loop | None = None

    @property
    def sockets(self) -> tuple[UdpSocket | EspSocket, ...]:
        """All sockets, for whoever waits for them without a loop."""
        return (*self._udp, *self._esp)

    def attach(self, loop: Loop) -> None:
        """Receive whenever the loop finds a socket readable."""
        self._loop = loop
        for udp in self._udp:
            loop.add_reader(udp.socket, self._drain_udp, udp)
        for esp in self._esp:
            loop.add_reader(esp.socket, self._drain_esp, esp)

    def detach(self) -> None:
        """Leave the loop; what arrives waits in the kernel."""
        if self._loop is not None:
            for each in self.sockets:
                self._loop.remove_reader(each.socket)
            self._loop = None

    def drain(self) -> int:
        """Take one turn at every socket without waiting; how many datagrams came."""
        return sum(map(self._drain_udp, self._udp)) + sum(map(self._drain_esp, self._esp))

    def close(self) -> None:
        """Leave the loop and close the sockets of this process."""
        self.detach()
        for each in self.sockets:
            each.close()

    def kernel_drops(self) -> int:
        """Datagrams that found the queue of one of our sockets full, since they were opened."""
        return kernel_drops(self.sockets)

    def receive_queues(self) -> dict[str, ReceiveQueue]:
        """What waits in the kernel for us, and what was lost there, by the kind of socket."""
        return receive_queues(self.sockets)

    def send_ike(self, datagram: bytes, path: Path) -> bool:
        """Send an IKE datagram, with the non-ESP marker where the local port wants it; whether it left."""
        sender = self._by_address.get((path.local, path.local_port)) or self._sender(path)
        if sender is None:
            return False
        return self._send(sender, _MARKER + datagram if sender.is_natt else datagram, path, path.remote_port)

    def send_keepalive(self, path: Path) -> bool:
        """Send a NAT keepalive; whether it left."""
        sender = self._sender(path)
        return sender is not None and self._send(sender, _KEEPALIVE, path, path.remote_port)

    def ask_for_traffic_class(self) -> None:
        """Have the kernel tell the outer traffic class of each ESP packet: what a tunnel needs for ECN and DSCP.

        Sockets that have IKE alone, since ESP has others, are not asked: a handshake costs no more for it.
        """
        natt = [each for each in self._udp if each.is_natt]
        carriers = [udp.socket for udp in natt if udp.is_for_esp] or [udp.socket for udp in natt]
        for carrier in (*carriers, *(raw.socket for raw in self._esp)):
            ask_for_traffic_class(carrier)

    def send_esp(self, packet: bytes, path: Path, is_udp_encapsulated: bool, traffic_class: int = 0) -> bool:
        """Send an ESP packet, in UDP from the path's local port or as IP protocol 50; whether it left."""
        if is_udp_encapsulated:
            sender = self._sender(path)
            return sender is not None and self._send(sender, packet, path, path.remote_port, traffic_class)
        raw = self._raw.get(path.is_ipv6)
        if raw is None:
            self._count('send_failures_total{reason="no_socket"}')
            return False
        return self._send(raw, packet, path, 0, traffic_class)

    def _sender(self, path: Path) -> UdpSocket | None:
        local, port = path.local, path.local_port
        sender = self._by_address.get((local, port)) or self._wildcards.get((":" in path.remote, port))
        if sender is None:
            self._count('send_failures_total{reason="no_socket"}')
        elif local and len(self._by_address) < _LOCAL_ADDRESSES:
            # An address of the one family: the next time it is found at once.
            self._by_address[local, port] = sender
        return sender

    def _send(
        self, sender: UdpSocket | EspSocket, packet: bytes, path: Path, port: int, traffic_class: int = 0
    ) -> bool:
        remote = path.remote
        address: tuple[str, int] | tuple[str, int, int, int] = (remote, port)
        if remote in self._scopes:
            address = (remote, port, 0, self._scopes[remote])
        try:
            if traffic_class:
                sender.socket.sendmsg((packet,), _ancillary(path.local, ":" in remote, traffic_class), 0, address)
            elif sender.is_wildcard:
                sender.socket.sendmsg((packet,), _source(path.local), 0, address)
            else:
                sender.socket.sendto(packet, address)
        except OSError as exc:
            self._count_failure("send_failures_total", exc)
            return False
        self._count("datagrams_sent_total")
        return True

    def _drain_udp(self, receiver: UdpSocket) -> int:
        """One turn at a UDP socket; how many datagrams it had."""
        now = self._clock()
        recvmsg = receiver.socket.recvmsg
        port = receiver.port
        is_natt = receiver.is_natt
        is_ipv6 = receiver.is_ipv6
        ike: Batch = []
        esp: EspBatch = []
        received = 0
        for _ in range(self._datagrams_per_turn):
            try:
                datagram, ancillary, _, remote = recvmsg(_MAX_DATAGRAM_OCTETS, _ANCILLARY_OCTETS)
            except BlockingIOError:
                break
            except OSError as exc:
                # An ICMP error that was waiting for us. It is gone now, and uses up a place in this turn.
                self._count_failure("receive_failures_total", exc)
                continue
            received += 1
            local = _local_address(ancillary[0][2]) if ancillary else receiver.address
            path = Path(local, port, remote[0], remote[1])
            if is_ipv6 and remote[3]:
                self._remember_scope(remote[0], remote[3])
            if not is_natt:
                ike.append((datagram, path))
            elif datagram[:4] == _MARKER:
                ike.append((datagram[4:], path))
            elif len(datagram) > 4:
                esp.append((datagram, path, _traffic_class(ancillary) if len(ancillary) > 1 else UNKNOWN_CLASS))
            elif datagram == _KEEPALIVE:
                self._count("keepalives_received_total")
            else:
                self._count('datagrams_dropped_total{reason="too_short"}')
        self._hand_over(received, ike, esp, now)
        return received

    def _drain_esp(self, receiver: EspSocket) -> int:
        """One turn at a raw socket; how many packets it had."""
        now = self._clock()
        recvmsg = receiver.socket.recvmsg
        esp: EspBatch = []
        received = 0
        for _ in range(self._datagrams_per_turn):
            try:
                packet, ancillary, _, remote = recvmsg(_MAX_DATAGRAM_OCTETS, _ANCILLARY_OCTETS)
            except BlockingIOError:
                break
            except OSError as exc:
                self._count_failure("receive_failures_total", exc)
                continue
            received += 1
            if not receiver.is_ipv6:
                # raw(7): an IPv4 packet comes with its header, whose length in words is in the low half of
                # octet 0.
                packet = packet[4 * (packet[0] & 0x0F) :]
            elif remote[3]:
                self._remember_scope(remote[0], remote[3])
            local = _local_address(ancillary[0][2]) if ancillary else ""
            traffic_class = _traffic_class(ancillary) if len(ancillary) > 1 else UNKNOWN_CLASS
            esp.append((packet, Path(local, 0, remote[0], 0), traffic_class))
        self._hand_over(received, [], esp, now)
        return received

    def _hand_over(self, received: int, ike: Batch, esp: EspBatch, now: float) -> None:
        if received:
            self._count("datagrams_received_total", received)
        if ike:
            self._on_ike(ike, now)
        if esp:
            self._on_esp(esp, now)

    def _remember_scope(self, remote: str, scope: int) -> None:
        """Note the interface of a link-local peer: the answer needs it, and a Path has no place for it."""
        if remote not in self._scopes and len(self._scopes) >= _LINK_LOCAL_PEERS:
            self._scopes.pop(next(iter(self._scopes)))
        self._scopes[remote] = scope

    def _count_failure(self, family: str, exc: OSError) -> None:
        self._count(f'{family}{{reason="{_FAILURES.get(exc.errno or 0, "other")}"}}')


@lru_cache(maxsize=_LOCAL_ADDRESSES)
def _local_address(pktinfo: bytes) -> str:
    """The address that a datagram was sent to, from struct in_pktinfo or in6_pktinfo."""
    if len(pktinfo) == _PKTINFO_4.size:
        return socket.inet_ntop(socket.AF_INET, _PKTINFO_4.unpack(pktinfo)[1])
    return socket.inet_ntop(socket.AF_INET6, _PKTINFO_6.unpack(pktinfo)[0])


def _traffic_class(ancillary: Ancillary) -> int:
    """The traffic class that a packet came with: an octet for IPv4, an int for IPv6 (RFC 3542 section 6.5)."""
    for level, kind, value in ancillary:
        if kind == IP_TOS and level == socket.IPPROTO_IP:
            return value[0]
        if kind == socket.IPV6_TCLASS and level == socket.IPPROTO_IPV6:
            number: int = _INT.unpack(value)[0]
            return number & 0xFF
    return UNKNOWN_CLASS


@lru_cache(maxsize=_LOCAL_ADDRESSES)
def _ancillary(local: str, is_ipv6: bool, traffic_class: int) -> Ancillary:
    """Ancillary data that sets the source, as `_source` does, and the traffic class."""
    level, kind = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if is_ipv6 else (socket.IPPROTO_IP, IP_TOS)
    return [*_source(local), (level, kind, _INT.pack(traffic_class))]


@lru_cache(maxsize=_LOCAL_ADDRESSES)
def _source(local: str) -> Ancillary:
    """Ancillary data that makes `local` the source; none or a wildcard leaves it to the route."""
    if not local:
        return []
    if ":" in local:
        packed = socket.inet_pton(socket.AF_INET6, local)
        if packed == bytes(16):
            return []
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO_6.pack(packed, 0))]
    packed = socket.inet_pton(socket.AF_INET, local)
    if packed == bytes(4):
        return []
    return [(socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO_4.pack(0, packed, bytes(4)))]
