"""Inner packets that do not fit the path of their tunnel: which of them are refused, and what their senders are told.

ICMP Destination Unreachable, fragmentation needed (RFC 1191 section 4), and ICMPv6 Packet Too Big (RFC 4443 section
3.2); the latter has an MTU of four octets where the former has two zero octets and one of two octets.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     Type      |     Code      |          Checksum             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |           unused = 0          |         Next-Hop MTU          |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     As much of the packet as fits                             |
"""

import struct
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from cygnet.dataplane.inner import IPV4_HEADER_OCTETS, IPV6_HEADER_OCTETS, checksum, parse_flow
from cygnet.iana import IpProtocol
from cygnet.ike.carriage import Carriage
from cygnet.wire.errors import WireError

ALWAYS_FITS: Final = 440
"""Octets of an inner packet that every path takes: 576 (RFC 791 section 3.2) less 136 for all that is around it."""
IPV6_MINIMUM_MTU: Final = 1280

MESSAGES_PER_SECOND: Final = 100
"""ICMP errors of one worker at most (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4); as many may come at once."""

_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_MESSAGE: Final = struct.Struct("!BBHI")
_PSEUDO_IPV6: Final = struct.Struct("!16s16sII")

_ICMP: Final = int(IpProtocol.ICMP)
_ICMPV6: Final = int(IpProtocol.ICMPV6)
_UNREACHABLE, _FRAGMENTATION_NEEDED = 3, 4
_PACKET_TOO_BIG = 2
_ICMP_ERRORS: Final = frozenset((3, 4, 5, 11, 12))
_FIRST_ICMPV6_INFORMATION: Final = 128
_HOPS: Final = 64
_DONT_FRAGMENT: Final = 0x40
_IPV4_ADDRESS_OCTETS: Final = 4
_IPV4_MESSAGE_OCTETS: Final = 576
"""RFC 1812 section 4.3.2.3: an ICMP error, with its header, is no longer."""


def may_be_cut(packet: bytes, carriage: Carriage) -> bool:
    """Whether an inner packet that does not fit is sent all the same, in fragments of its ESP packet."""
    if packet[0] >> 4 == 4:
        return not packet[6] & _DONT_FRAGMENT or not carriage.copy_df
    # Every IPv6 link takes 1280 octets: a tunnel of less room fragments outside (RFC 2473 section 7.1).
    return len(packet) <= IPV6_MINIMUM_MTU


def build_too_big(packet: bytes, room: int) -> bytes | None:
    """What the sender of a packet is told: it fits in `room` octets. None where RFC 1122 and 4443 want no answer.

    It comes in the name of the packet's destination, since a gateway need not have an address in the inner network.
    Raises WireError if the packet is malformed.
    """
    flow = parse_flow(packet)
    if len(flow.source) == _IPV4_ADDRESS_OCTETS:
        source = IPv4Address(flow.source)
        is_later_fragment = packet[6] & 0x1F or packet[7]
        is_error = flow.protocol == _ICMP and (flow.source_port < 0 or flow.source_port >> 8 in _ICMP_ERRORS)
        is_group = IPv4Address(flow.destination).is_multicast
        if is_later_fragment or is_error or is_group or source.is_unspecified or source.is_multicast:
            return None
        return _build_ipv4(packet, flow.destination, flow.source, room)
    source_6 = IPv6Address(flow.source)
    is_error = flow.protocol == _ICMPV6 and flow.source_port >> 8 < _FIRST_ICMPV6_INFORMATION
    if is_error or source_6.is_unspecified or source_6.is_multicast or IPv6Address(flow.destination).is_multicast:
        return None
    return _build_ipv6(packet, flow.destination, flow.source, max(room, IPV6_MINIMUM_MTU))


def _build_ipv4(packet: bytes, source: bytes, destination: bytes, mtu: int) -> bytes:
    quoted = packet[: _IPV4_MESSAGE_OCTETS - IPV4_HEADER_OCTETS - _MESSAGE.size]
    blank = _MESSAGE.pack(_UNREACHABLE, _FRAGMENTATION_NEEDED, 0, mtu) + quoted
    message = _MESSAGE.pack(_UNREACHABLE, _FRAGMENTATION_NEEDED, checksum(blank), mtu) + quoted
    fields = (0x45, 0, IPV4_HEADER_OCTETS + len(message), 0, _DONT_FRAGMENT << 8, _HOPS, _ICMP)
    header = _IPV4.pack(*fields, 0, source, destination)
    return _IPV4.pack(*fields, checksum(header), source, destination) + message


def _build_ipv6(packet: bytes, source: bytes, destination: bytes, mtu: int) -> bytes:
    quoted = packet[: IPV6_MINIMUM_MTU - IPV6_HEADER_OCTETS - _MESSAGE.size]
    blank = _MESSAGE.pack(_PACKET_TOO_BIG, 0, 0, mtu) + quoted
    covered = _PSEUDO_IPV6.pack(source, destination, len(blank), _ICMPV6) + blank
    message = _MESSAGE.pack(_PACKET_TOO_BIG, 0, checksum(covered), mtu) + quoted
    return _IPV6.pack(6 << 28, len(message), _ICMPV6, _HOPS, source, destination) + message


class SenderNotices:
    """Tells senders of inner packets what fits, so and so often a second and no more."""

    __slots__ = ("_clock", "_credit", "_since", "_tell")

    def __init__(self, tell: Callable[[bytes], object], *, clock: Callable[[], float] = time.monotonic) -> None:
        """`tell` takes the ICMP message to where inner packets come from."""
        self._tell = tell
        self._clock = clock
        self._credit = float(MESSAGES_PER_SECOND)
        self._since = clock()

    def too_big(self, packet: bytes, room: int) -> None:
        """Tell the sender of a packet that it fits in `room` octets, unless too many have just been told."""
        now = self._clock()
        self._credit = min(MESSAGES_PER_SECOND, self._credit + (now - self._since) * MESSAGES_PER_SECOND)
        self._since = now
        if self._credit < 1:
            return
        try:
            message = build_too_big(packet, room)
        except WireError:
            return
        if message is not None:
            self._credit -= 1
            self._tell(message)
