"""Ping inside the tunnel without a TUN device: who answers, and who asks.

ICMP (RFC 792) and ICMPv6 (RFC 4443 section 4) echo messages

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|     Type      |     Code      |          Checksum             |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|           Identifier          |        Sequence Number        |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|     Data ...
+-+-+-+-+-
"""

import struct
from collections.abc import Callable, Iterable

import msgspec

from cygnet.dataplane.base import Count
from cygnet.dataplane.inner import IPV4_HEADER_OCTETS, Flow, checksum, parse_flow
from cygnet.iana import IpProtocol
from cygnet.wire.errors import WireError

_ECHO = struct.Struct("!BBHHH")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_PSEUDO_IPV6 = struct.Struct("!16s16sII")

_ICMP = int(IpProtocol.ICMP)
_ICMPV6 = int(IpProtocol.ICMPV6)
_ICMP_REQUEST, _ICMP_REPLY = 8, 0
_ICMPV6_REQUEST, _ICMPV6_REPLY = 128, 129
_HOPS = 64
_DONT_FRAGMENT = 0x4000
_IPV4_ADDRESS_OCTETS = 4


class EchoReply(msgspec.Struct, frozen=True, gc=False):
    """An answer to one of our echo requests; addresses are packed."""

    source: bytes
    destination: bytes
    identifier: int
    sequence: int
    payload: bytes


class InnerEcho:
    """Answers echo requests to our inner addresses, and nothing else: a sink for inner packets."""

    __slots__ = ("_addresses", "_count", "_send_inner")

    def __init__(self, addresses: Iterable[bytes], count: Count) -> None:
        """Answer for these packed addresses, of either family, once `connect` has said where answers go."""
        self._addresses = frozenset(addresses)
        self._count = count
        self._send_inner: Callable[[bytes], bool] | None = None

    def connect(self, send_inner: Callable[[bytes], bool]) -> None:
        """Send answers with `send_inner`: the data plane's, whose sink this is."""
        self._send_inner = send_inner

    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        """Answer an inner packet if it is an echo request to us."""
        reply = self.answer(packet)
        if reply is not None and self._send_inner is not None and self._send_inner(reply):
            self._count("echo_answered")

    def answer(self, packet: bytes) -> bytes | None:
        """The answer to an inner packet; None, counted, if it is malformed or asks for none."""
        try:
            flow = parse_flow(packet)
            if flow.destination not in self._addresses:
                self._count("echo_ignored")
                return None
            message = _parse_echo(packet, flow, _ICMP_REQUEST, _ICMPV6_REQUEST)
        except WireError as exc:
            self._count(exc.reason)
            return None
        if message is None:
            self._count("echo_ignored")
            return None
        identifier, sequence, payload = message
        kind = _ICMP_REPLY if len(flow.source) == _IPV4_ADDRESS_OCTETS else _ICMPV6_REPLY
        return _build_echo(kind, flow.destination, flow.source, identifier, sequence, payload)


def build_echo_request(source: bytes, destination: bytes, *, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An inner packet that asks `destination` for an echo. Addresses are packed, of one family; numbers are 16 bits."""
    kind = _ICMP_REQUEST if len(source) == _IPV4_ADDRESS_OCTETS else _ICMPV6_REQUEST
    return _build_echo(kind, source, destination, identifier, sequence, payload)


def parse_echo_reply(packet: bytes) -> EchoReply | None:
    """Read an inner packet as an echo reply; None if it is something else, or malformed."""
    try:
        flow = parse_flow(packet)
        message = _parse_echo(packet, flow, _ICMP_REPLY, _ICMPV6_REPLY)
    except WireError:
        return None
    if message is None:
        return None
    identifier, sequence, payload = message
    return EchoReply(flow.source, flow.destination, identifier, sequence, payload)


def _parse_echo(packet: bytes, flow: Flow, icmp_type: int, icmpv6_type: int) -> tuple[int, int, bytes] | None:
    """Identifier, sequence and data of an echo message; None if it is another message. Raises WireError."""
    if flow.is_fragment:
        return None
    message = packet[flow.payload_offset :]
    if len(flow.source) == _IPV4_ADDRESS_OCTETS:
        protocol, wanted, covered = _ICMP, icmp_type, message
        if checksum(packet[: flow.payload_offset]):
            raise WireError("inner_malformed")
    else:
        protocol, wanted = _ICMPV6, icmpv6_type
        covered = _pseudo_header(flow.source, flow.destination, len(message)) + message
    if flow.protocol != protocol:
        return None
    if len(message) < _ECHO.size or checksum(covered):
        raise WireError("inner_malformed")
    kind, code, _, identifier, sequence = _ECHO.unpack_from(message)
    if kind != wanted or code:
        return None
    return identifier, sequence, message[_ECHO.size :]


def _build_echo(kind: int, source: bytes, destination: bytes, identifier: int, sequence: int, payload: bytes) -> bytes:
    size = _ECHO.size + len(payload)
    blank = _ECHO.pack(kind, 0, 0, identifier, sequence) + payload
    if len(source) == _IPV4_ADDRESS_OCTETS:
        message = _ECHO.pack(kind, 0, checksum(blank), identifier, sequence) + payload
        return _ipv4_header(source, destination, size) + message
    covered = _pseudo_header(source, destination, size) + blank
    message = _ECHO.pack(kind, 0, checksum(covered), identifier, sequence) + payload
    return _IPV6.pack(6 << 28, size, _ICMPV6, _HOPS, source, destination) + message


def _ipv4_header(source: bytes, destination: bytes, payload_octets: int) -> bytes:
    # Never to be fragmented, so that its identification may be 0 (RFC 6864 section 4.1).
    size = IPV4_HEADER_OCTETS + payload_octets
    fields = (0x45, 0, size, 0, _DONT_FRAGMENT, _HOPS, _ICMP)
    blank = _IPV4.pack(*fields, 0, source, destination)
    return _IPV4.pack(*fields, checksum(blank), source, destination)


def _pseudo_header(source: bytes, destination: bytes, size: int) -> bytes:
    """What the checksum covers besides the message (RFC 8200 section 8.1)."""
    return _PSEUDO_IPV6.pack(source, destination, size, _ICMPV6)
