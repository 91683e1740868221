"""DSCP and ECN between inner and outer IP headers (RFC 4301 section 5.1.2, RFC 6040).

On the way in (encapsulation) the outer header takes over bits of the inner one: a mask. On the way out the inner header
keeps its ECN, but for what the path has marked outside:

    |  inner   |                 arriving outer header             |
    |          | Not-ECT    | ECT(0)     | ECT(1)     |    CE      |
    |----------|------------|------------|------------|------------|
    | Not-ECT  | Not-ECT    | Not-ECT    | Not-ECT    | drop       |
    | ECT(0)   | ECT(0)     | ECT(0)     | ECT(1)     | CE         |
    | ECT(1)   | ECT(1)     | ECT(1)     | ECT(1)     | CE         |
    | CE       | CE         | CE         | CE         | CE         |
"""

from typing import Final

from cygnet.ike.carriage import DSCP_BITS, ECN_BITS

NOT_ECT: Final = 0
ECT_1: Final = 1
ECT_0: Final = 2
CE: Final = 3

_DROP: Final = -1
_ARRIVING: Final = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT_0: NOT_ECT, ECT_1: NOT_ECT, CE: _DROP},
    ECT_0: {NOT_ECT: ECT_0, ECT_0: ECT_0, ECT_1: ECT_1, CE: CE},
    ECT_1: {NOT_ECT: ECT_1, ECT_0: ECT_1, ECT_1: ECT_1, CE: CE},
    CE: {NOT_ECT: CE, ECT_0: CE, ECT_1: CE, CE: CE},
}
"""The ECN of the packet that leaves a tunnel, by what was inside and outside (RFC 6040 section 4.2, figure 4)."""

_IPV4_CHECKSUM: Final = 10


class CongestionLost(Exception):
    """The packet must be dropped: that is the only sign of congestion that its sender understands."""


def traffic_class_of(packet: bytes) -> int:
    """DSCP and ECN of an IP packet that has a whole header."""
    first = packet[0]
    if first >> 4 == 4:
        return packet[1]
    return (first << 4 | packet[1] >> 4) & 0xFF


def take_over(packet: bytes, outer: int, mask: int) -> bytes:
    """An inner packet as it leaves the tunnel, with what it takes over of the outer traffic class.

    `mask` says which of DSCP and ECN that are. Raises CongestionLost.
    """
    inner = traffic_class_of(packet)
    result = inner
    if mask & DSCP_BITS:
        result = outer & DSCP_BITS | inner & ECN_BITS
    if mask & ECN_BITS:
        ecn = _ARRIVING[inner & ECN_BITS][outer & ECN_BITS]
        if ecn == _DROP:
            raise CongestionLost
        result = result & DSCP_BITS | ecn
    return packet if result == inner else _with_traffic_class(packet, inner, result)


def _with_traffic_class(packet: bytes, old: int, new: int) -> bytes:
    changed = bytearray(packet)
    if packet[0] >> 4 == 4:
        changed[1] = new
        # RFC 1624: the new checksum is the complement of ~old checksum + ~old field + new field.
        total = (~int.from_bytes(packet[_IPV4_CHECKSUM : _IPV4_CHECKSUM + 2], "big") & 0xFFFF) + (0xFFFF - old) + new
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        changed[_IPV4_CHECKSUM : _IPV4_CHECKSUM + 2] = (~total & 0xFFFF).to_bytes(2, "big")
    else:
        changed[0] = packet[0] & 0xF0 | new >> 4
        changed[1] = packet[1] & 0x0F | (new & 0x0F) << 4
    return bytes(changed)
