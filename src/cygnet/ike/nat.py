"""NAT detection, and what keeps a NAT's mapping alive (RFC 7296 section 2.23, RFC 3948 section 2.3)."""

import hashlib
import socket
from functools import lru_cache
from typing import Final

from cygnet.ike.effects import SendKeepalive
from cygnet.ike.sa import IkeSa, Turn

DIGEST_OCTETS = 20
"""Length of a detection digest. Random octets of that length match no address: so encapsulation is forced."""


_SPREAD: Final = 512
"""Makes the first keepalive up to half an interval early, by one octet of the SPI."""


@lru_cache(maxsize=4096)
def pack_address(address: str) -> bytes:
    """The octets of an IP address in text form."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def detection_digest(spi_i: bytes, spi_r: bytes, address: str, port: int) -> bytes:
    """The data of a NAT_DETECTION_*_IP notify: SHA-1 over both SPIs, the address and the port.

    SHA-1 is what the RFC fixes; nothing secret depends on it.
    """
    octets = spi_i + spi_r + pack_address(address) + port.to_bytes(2, "big")
    return hashlib.sha1(octets, usedforsecurity=False).digest()


def begin_keepalives(sa: IkeSa, turn: Turn) -> None:
    """See to it that the NAT in front of us, if there is one, keeps its mapping for this SA."""
    interval = turn.env.settings.keep_alive_s
    if not sa.is_behind_nat or not interval:
        sa.keepalive_due = 0.0
        return
    # The first comes early, by a different while for each SA: those that began together don't go on together.
    sa.keepalive_due = turn.now + interval * (1 - sa.spi[-1] / _SPREAD)


def keep_alive(sa: IkeSa, turn: Turn) -> None:
    """It is time for a keepalive, unless ESP has gone out on the path meanwhile; IKE puts it off by itself."""
    interval = turn.env.settings.keep_alive_s
    sent = max((turn.env.last_sent(child.spi_in) for child in sa.children), default=0.0)
    if sent + interval <= turn.now:
        turn.env.count("keepalives_sent_total")
        turn.effects.append(SendKeepalive(sa.path))
        sent = turn.now
    sa.keepalive_due = sent + interval
