"""Transport mode: what is in ESP is the packet without its IP header (RFC 4303 section 3.1.1).

    before      | IP header |            | TCP | data |
    on the way  | IP header | ESP header | TCP | data | ESP trailer | ICV |

Deviation: the outer header is the operating system's, and the inner one is made anew where it comes out, with the
addresses of the selectors. So what is in the first but addresses and traffic class is lost: hop limit and flow label,
which no host looks at, and options, with which a packet is not sent. Destination options go along, inside ESP.
"""

import struct
from typing import Final

from cygnet.dataplane.inner import IPV4_HEADER_OCTETS, IPV6_HEADER_OCTETS, Flow, checksum
from cygnet.iana import IpProtocol
from cygnet.ike.effects import InstallChild
from cygnet.wire.errors import WireError

_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_U16: Final = struct.Struct("!H")
_HOPS: Final = 64
_DONT_FRAGMENT: Final = 0x4000
_IPV4_ADDRESS_OCTETS: Final = 4
_IPV4_PROTOCOL: Final = 9
_IPV6_NEXT_HEADER: Final = 6
_MAX_PAYLOAD_OCTETS: Final = 65535 - IPV4_HEADER_OCTETS

_NEVER_ZERO: Final = frozenset((int(IpProtocol.UDP), int(IpProtocol.UDPLITE)))
"""Whose checksum of 0 says that there is none (RFC 768, RFC 3828)."""
_HOP_BY_HOP: Final = 0
_BEFORE_ESP: Final = frozenset((_HOP_BY_HOP, int(IpProtocol.IPV6_ROUTE), int(IpProtocol.IPV6_FRAG)))
"""Headers that are for hosts on the way, and so stand outside of ESP."""

_CHECKSUM_OFFSETS: Final = {
    int(IpProtocol.TCP): 16,
    int(IpProtocol.UDP): 6,
    int(IpProtocol.UDPLITE): 6,
    int(IpProtocol.DCCP): 6,
    int(IpProtocol.ICMPV6): 2,
}
"""Where the checksums stand that are also about the addresses in the IP header."""


def take_header_off(packet: bytes, flow: Flow) -> tuple[int, bytes]:
    """The Next Header and the payload of ESP, for a sound packet that is to be sent.

    Raises WireError for a fragment, which ESP is not for in this mode (RFC 4303 section 3.3.4), and for one with IPv4
    options, or with IPv6 extension headers that stand before ESP.
    """
    if flow.is_fragment:
        raise WireError("inner_fragment")
    if len(flow.source) == _IPV4_ADDRESS_OCTETS:
        if flow.payload_offset != IPV4_HEADER_OCTETS:
            raise WireError("inner_options")
        return packet[_IPV4_PROTOCOL], packet[IPV4_HEADER_OCTETS:]
    next_header = packet[_IPV6_NEXT_HEADER]
    if next_header in _BEFORE_ESP:
        raise WireError("inner_options")
    return next_header, packet[IPV6_HEADER_OCTETS:]


def put_header_on(child: InstallChild, next_header: int, payload: bytes, traffic_class: int) -> bytes:
    """The packet that came in on a CHILD_SA, with the traffic class that it had outside. Raises WireError."""
    source, destination = child.ts_remote[0].start, child.ts_local[0].start
    size = len(payload)
    if size > _MAX_PAYLOAD_OCTETS:
        raise WireError("inner_malformed")
    if child.seen_by_peer is not None:
        destination_there, source_there = child.seen_by_peer
        payload = mend_checksum(next_header, payload, source_there + destination_there, source + destination)
    if len(source) == _IPV4_ADDRESS_OCTETS:
        # Never to be fragmented, so that its identification may be 0 (RFC 6864 section 4.1).
        fields = (0x45, traffic_class, IPV4_HEADER_OCTETS + size, 0, _DONT_FRAGMENT, _HOPS, next_header)
        blank = _IPV4.pack(*fields, 0, source, destination)
        return _IPV4.pack(*fields, checksum(blank), source, destination) + payload
    if next_header in _BEFORE_ESP:
        raise WireError("esp_next_header")
    return _IPV6.pack(6 << 28 | traffic_class << 20, size, next_header, _HOPS, source, destination) + payload


def mend_checksum(protocol: int, payload: bytes, before: bytes, after: bytes) -> bytes:
    """A segment or datagram whose checksum is about other addresses from now on (RFC 3948 section 3.1.2, RFC 1624).

    `before` and `after` are source and destination, packed. One that has no checksum is left as it is: IPv4 allows UDP
    without.
    """
    offset = _CHECKSUM_OFFSETS.get(protocol)
    if offset is None or len(payload) < offset + 2:
        return payload
    found = _U16.unpack_from(payload, offset)[0]
    if not found and protocol in _NEVER_ZERO:
        return payload
    # RFC 1624: HC' = ~(~HC + ~m + m'). Modulo 0xffff is the one's complement sum, but for the two forms of 0.
    total = (0xFFFF - found) - int.from_bytes(before, "big") % 0xFFFF + int.from_bytes(after, "big") % 0xFFFF
    mended = 0xFFFF - (total % 0xFFFF)
    # 0xffff and 0 are one number, of which all but these have the latter.
    if mended == 0xFFFF and protocol not in _NEVER_ZERO:
        mended = 0
    return payload[:offset] + _U16.pack(mended) + payload[offset + 2 :]
