"""How a CHILD_SA's packets are put into ESP and taken out of it, apart from keys and selectors.

Of the outer header's second octet (Traffic Class, once TOS), six bits are the DSCP and two are ECN. Which of them cross
between inner and outer header is a mask for each direction, so that a packet costs one operation (RFC 4301 section
5.1.2, RFC 6040 section 4).
"""

from functools import lru_cache
from typing import Final

import msgspec

from cygnet.ike.settings import ChildSettings, CopyDscp

DSCP_BITS: Final = 0xFC
ECN_BITS: Final = 0x03
UNKNOWN_CLASS: Final = -1
"""The traffic class of an outer header that nobody has looked at."""


class Carriage(msgspec.Struct, frozen=True, gc=False):
    """One for all CHILD_SAs of a `children` section."""

    traffic_class_out: int = DSCP_BITS | ECN_BITS
    """What the outer header takes over of the inner one's traffic class."""
    traffic_class_in: int = ECN_BITS
    """What the inner header takes over of the outer one's."""
    copy_df: bool = True
    """Whether the sender of an IPv4 packet that must not be fragmented is told when it is too big for the path."""
    tfc_padding: int = 0
    """Octets that each inner packet is filled up to, as far as the path takes them (RFC 4303 section 2.7)."""
    is_transport: bool = False
    """Whether packets go without their IP header, which is the outer one then (RFC 4303 section 3.1.1)."""

    def in_transport_mode(self) -> "Carriage":
        """The same in transport mode, where packets do not tell their length, and so are not padded."""
        return msgspec.structs.replace(self, tfc_padding=0, is_transport=True)

    def without_padding(self) -> "Carriage":
        """The same for a peer that does not take padding (ESP_TFC_PADDING_NOT_SUPPORTED, RFC 7296 section 1.3.1)."""
        return msgspec.structs.replace(self, tfc_padding=0) if self.tfc_padding else self


DEFAULT_CARRIAGE: Final = Carriage()
"""What strongSwan's defaults come to."""


def carriage_of(settings: ChildSettings) -> Carriage:
    """What a `children` section asks for."""
    return _carriage(settings.copy_ecn, settings.copy_dscp, settings.copy_df, settings.tfc_padding)


@lru_cache(maxsize=1024)
def _carriage(copy_ecn: bool, copy_dscp: CopyDscp, copy_df: bool, tfc_padding: int) -> Carriage:
    ecn = ECN_BITS if copy_ecn else 0
    return Carriage(
        traffic_class_out=ecn | (DSCP_BITS if copy_dscp in (CopyDscp.OUT, CopyDscp.YES) else 0),
        traffic_class_in=ecn | (DSCP_BITS if copy_dscp in (CopyDscp.IN, CopyDscp.YES) else 0),
        copy_df=copy_df,
        tfc_padding=tfc_padding,
    )
