"""What a packet inside a tunnel says of itself: what traffic selectors speak of (RFC 4301 section 4.4.1.1)."""

import struct

import msgspec

from cygnet.iana import IpProtocol
from cygnet.wire.errors import WireError

IPV4_HEADER_OCTETS = 20
IPV6_HEADER_OCTETS = 40

NO_PORT = -1
"""The port of a packet that shows none: fragments but the first, and protocols without ports."""
SENDERS_PORT = -2
"""The destination port of a message that has a type instead of ports (ICMP, Mobility Header).

The type is one number, which the selectors of the sender's side are about: so a policy can let one type out and another
one in, or none (RFC 4301 section 4.4.1.3).
"""

_IPV4 = struct.Struct("!BxHxxHxBxx4s4s")
_IPV6 = struct.Struct("!B3xHBx16s16s")
_PORTS = struct.Struct("!HH")
_U16 = struct.Struct("!H")

_MORE_FRAGMENTS = 0x2000
_FRAGMENT_OFFSET = 0x1FFF
_IPV6_FRAGMENT_OFFSET = 0xFFF8
_IPV6_MORE_FRAGMENTS = 0x0001

_PORT_PROTOCOLS = frozenset(
    int(p) for p in (IpProtocol.TCP, IpProtocol.UDP, IpProtocol.DCCP, IpProtocol.SCTP, IpProtocol.UDPLITE)
)
_ICMP_PROTOCOLS = frozenset((int(IpProtocol.ICMP), int(IpProtocol.ICMPV6)))
_MOBILITY_HEADER = int(IpProtocol.MOBILITY_HEADER)
_MOBILITY_TYPE_OFFSET = 2
_FRAGMENT_HEADER = int(IpProtocol.IPV6_FRAG)
_HOP_BY_HOP = 0
_EXTENSION_HEADERS = frozenset((_HOP_BY_HOP, int(IpProtocol.IPV6_ROUTE), int(IpProtocol.IPV6_OPTS), _FRAGMENT_HEADER))
"""Headers that lie between the IPv6 header and what selectors call the next layer protocol (RFC 8200 section 4)."""


class Flow(msgspec.Struct, frozen=True, gc=False):
    """Where an inner packet comes from and goes to."""

    source: bytes
    """Packed address."""
    destination: bytes
    protocol: int
    source_port: int
    """For ICMP, type and code in one number (RFC 7296 section 3.13.1); NO_PORT if unknown."""
    destination_port: int
    """SENDERS_PORT for ICMP; NO_PORT if unknown."""
    payload_offset: int
    """Where the next layer protocol begins."""
    is_fragment: bool


def parse_flow(packet: bytes) -> Flow:
    """Read the headers of an inner packet, which must be exactly as long as they say. Raises WireError."""
    if len(packet) >= IPV4_HEADER_OCTETS and packet[0] >> 4 == 4:
        return _parse_ipv4(packet)
    if len(packet) >= IPV6_HEADER_OCTETS and packet[0] >> 4 == 6:
        return _parse_ipv6(packet)
    raise WireError("inner_malformed")


def _parse_ipv4(packet: bytes) -> Flow:
    version_ihl, size, fragment, protocol, source, destination = _IPV4.unpack_from(packet)
    offset = (version_ihl & 15) << 2
    if offset < IPV4_HEADER_OCTETS or not offset <= size == len(packet):
        raise WireError("inner_malformed")
    if fragment & _FRAGMENT_OFFSET:
        return Flow(source, destination, protocol, NO_PORT, NO_PORT, offset, True)
    source_port, destination_port = _parse_ports(packet, protocol, offset)
    is_fragment = fragment & _MORE_FRAGMENTS != 0
    return Flow(source, destination, protocol, source_port, destination_port, offset, is_fragment)


def _parse_ipv6(packet: bytes) -> Flow:
    _, size, header, source, destination = _IPV6.unpack_from(packet)
    end = len(packet)
    offset = IPV6_HEADER_OCTETS
    if size + offset != end:
        raise WireError("inner_malformed")
    is_fragment = False
    while header in _EXTENSION_HEADERS:
        if offset + 8 > end:
            raise WireError("inner_malformed")
        if header == _FRAGMENT_HEADER:
            place = _U16.unpack_from(packet, offset + 2)[0]
            is_fragment = is_fragment or place & (_IPV6_FRAGMENT_OFFSET | _IPV6_MORE_FRAGMENTS) != 0
            step = 8
            if place & _IPV6_FRAGMENT_OFFSET:
                # The header named here stands in the first fragment; what follows is the middle of something.
                return Flow(source, destination, packet[offset], NO_PORT, NO_PORT, offset + step, True)
        else:
            step = (packet[offset + 1] + 1) << 3
        header = packet[offset]
        offset += step
    if offset > end:
        raise WireError("inner_malformed")
    source_port, destination_port = _parse_ports(packet, header, offset)
    return Flow(source, destination, header, source_port, destination_port, offset, is_fragment)


def _parse_ports(packet: bytes, protocol: int, offset: int) -> tuple[int, int]:
    if protocol in _PORT_PROTOCOLS:
        if len(packet) < offset + 4:
            return NO_PORT, NO_PORT
        ports: tuple[int, int] = _PORTS.unpack_from(packet, offset)
        return ports
    if protocol in _ICMP_PROTOCOLS and len(packet) >= offset + 2:
        return _U16.unpack_from(packet, offset)[0], SENDERS_PORT
    if protocol == _MOBILITY_HEADER and len(packet) >= offset + 3:
        # RFC 4301 section 4.4.1.1: the type stands where ICMP's does.
        return packet[offset + _MOBILITY_TYPE_OFFSET] << 8, SENDERS_PORT
    return NO_PORT, NO_PORT


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071). Over octets that contain a right one it is 0."""
    if len(octets) & 1:
        octets += b"\0"
    # 2**16 is 1 modulo 0xffff: the remainder is the one's complement sum, but for 0, which has two forms there.
    number = int.from_bytes(octets, "big")
    total = number % 0xFFFF
    return 0xFFFF - total if total or not number else 0
