"""NAT detection, and what keeps a NAT's mapping alive (RFC 7296 section 2.23, RFC 3948 section 2.3)."""

import hashlib
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

from cygnet.iana import NotifyType
from cygnet.ike.answers import plain_notify
from cygnet.ike.effects import MoveChild, SaMoved, SendKeepalive
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa, MobikeRole, Turn
from cygnet.ike.states import SaState
from cygnet.wire.payloads.notify import Notify

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_HALF_OPEN = SaState.HALF_OPEN
_NAT_DETECTION_DESTINATION_IP = NotifyType.NAT_DETECTION_DESTINATION_IP
_NAT_DETECTION_SOURCE_IP = NotifyType.NAT_DETECTION_SOURCE_IP

DIGEST_OCTETS = 20
"""Length of a detection digest. Random octets of that length match no address: so encapsulation is forced."""


_SPREAD: Final = 256
"""Makes the first keepalive up to an interval early, by one octet of the SPI: then as many are due at any time."""


def pack_once(address: str) -> bytes:
    """The octets of an IP address in text form, of one that may never be seen again.

    What is forged would cost more in a cache, and drive out those that are in use.
    """
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


pack_address = lru_cache(maxsize=4096)(pack_once)
"""The same, of a peer's address."""


def unpack_address(octets: bytes) -> str:
    """The text form of a packed IP address."""
    return inet_ntop(AF_INET if len(octets) == 4 else AF_INET6, octets)


def detection_digest(spi_i: bytes, spi_r: bytes, address: str, port: int) -> bytes:
    """The data of a NAT_DETECTION_*_IP notify: SHA-1 over both SPIs, the address and the port.

    SHA-1 is what the RFC fixes; nothing secret depends on it.
    """
    return hashlib.sha1(spi_i + spi_r + _pack_end(address, port), usedforsecurity=False).digest()


@lru_cache(maxsize=4096)
def _pack_end(address: str, port: int) -> bytes:
    """The octets of an address and a port; in a handshake those of both ends are asked for twice."""
    return pack_address(address) + port.to_bytes(2, "big")


def detection_notifies(sa: IkeSa, path: Path, turn: Turn, *, is_forced: bool) -> tuple[Notify, Notify]:
    """The two notifies by which the peer can see a NAT on the path."""
    source = (
        turn.env.entropy(DIGEST_OCTETS)
        if is_forced
        else detection_digest(sa.spi_i, sa.spi_r, path.local, path.local_port)
    )
    destination = detection_digest(sa.spi_i, sa.spi_r, path.remote, path.remote_port)
    return (
        plain_notify(_NAT_DETECTION_SOURCE_IP, source),
        plain_notify(_NAT_DETECTION_DESTINATION_IP, destination),
    )


def detect_nat(sa: IkeSa, parts: Parts, path: Path, spi_i: bytes, spi_r: bytes, *, is_forced: bool) -> bool:
    """See from the peer's notifies whether it or we are behind a NAT; returns whether there are any.

    The SPIs are those of the header of the message that they came in, which came on `path`.
    """
    sources = parts.notify_data(_NAT_DETECTION_SOURCE_IP)
    destinations = parts.notify_data(_NAT_DETECTION_DESTINATION_IP)
    if sources:
        theirs = detection_digest(spi_i, spi_r, path.remote, path.remote_port)
        sa.is_peer_behind_nat = theirs not in sources
    if destinations:
        ours = detection_digest(spi_i, spi_r, path.local, path.local_port)
        sa.is_behind_nat = ours not in destinations
    # A peer without these notifies does no NAT traversal, and can't be forced to.
    can_encapsulate = bool(sources or destinations)
    sa.is_udp_encapsulated = can_encapsulate and (sa.is_peer_behind_nat or sa.is_behind_nat or is_forced)
    return can_encapsulate


def follow(sa: IkeSa, path: Path, turn: Turn) -> None:
    """An authentic packet, the newest of all, has come on another path: go there too, if a NAT may be the cause."""
    # Before it is established an initiator floats to the NAT traversal port; later only a NAT moves a peer. An
    # initiator behind a NAT itself stays where it is: anybody on the way could redirect it.
    is_movable = sa.is_peer_behind_nat and not (sa.is_behind_nat and sa.is_original_initiator)
    if sa.mobike is MobikeRole.INITIATOR:
        # It has chosen its path, and what comes on another is what its peer has sent before it knew.
        return
    if sa.state == _HALF_OPEN:
        sa.path = path
    elif is_movable:
        sa.path = path
        move_children(sa, turn)
        turn.effects.append(SaMoved(sa.spi, sa.name, sa.remote_id, path))


def move_children(sa: IkeSa, turn: Turn) -> None:
    """Have the traffic of all CHILD_SAs take the path of their IKE_SA."""
    for child in sa.children:
        turn.effects.append(MoveChild(child.spi_in, sa.path, sa.is_udp_encapsulated))


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
