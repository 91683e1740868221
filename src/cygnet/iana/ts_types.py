"""IANA "IKEv2 Traffic Selector Types"."""

from enum import IntEnum


class TsType(IntEnum):
    """How a traffic selector is laid out (RFC 7296 section 3.13.1)."""

    IPV4_ADDR_RANGE = 7  # RFC 7296
    IPV6_ADDR_RANGE = 8  # RFC 7296
    FC_ADDR_RANGE = 9  # RFC 4595
    SECLABEL = 10  # RFC 9478
