"""IANA "Assigned Internet Protocol Numbers", as far as traffic selectors and ESP meet them."""

from enum import IntEnum


class IpProtocol(IntEnum):
    """An IP protocol or next header."""

    ANY = 0  # RFC 7296 section 3.13.1: a selector that leaves the protocol open
    ICMP = 1  # RFC 792
    IGMP = 2  # RFC 1112
    IPV4 = 4  # RFC 2003
    TCP = 6  # RFC 9293
    UDP = 17  # RFC 768
    DCCP = 33  # RFC 4340
    IPV6 = 41  # RFC 2473
    IPV6_ROUTE = 43  # RFC 8200
    IPV6_FRAG = 44  # RFC 8200
    GRE = 47  # RFC 2784
    ESP = 50  # RFC 4303
    AH = 51  # RFC 4302
    ICMPV6 = 58  # RFC 4443
    NO_NEXT_HEADER = 59  # RFC 8200; a dummy packet in ESP, RFC 4303 section 2.6
    IPV6_OPTS = 60  # RFC 8200
    EIGRP = 88  # RFC 7868
    OSPF = 89  # RFC 2328
    PIM = 103  # RFC 7761
    IPCOMP = 108  # RFC 3173
    VRRP = 112  # RFC 9568
    L2TP = 115  # RFC 3931
    SCTP = 132  # RFC 9260
    MOBILITY_HEADER = 135  # RFC 6275
    UDPLITE = 136  # RFC 3828
    AGGFRAG = 144  # RFC 9347
