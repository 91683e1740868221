"""What the core asks of whoever drives it: send this, install that, know that this happened.

The core calls nobody. Every entry point appends effects to a list, in the order in which they are to be carried out;
the daemon and the load tester carry them out with sockets and a data plane, the simulation with a fake network.
"""

import math
from enum import IntEnum
from typing import Final

import msgspec

from cygnet.auth.identity import Identity
from cygnet.crypto.keymat import ChildSuite
from cygnet.ike.carriage import DEFAULT_CARRIAGE, Carriage
from cygnet.ike.path import Path
from cygnet.ike.proposals import ProposalSettings
from cygnet.ike.settings import ChildSettings
from cygnet.ike.tasks import Task
from cygnet.wire.payloads.configuration import ConfigurationAttribute
from cygnet.wire.payloads.security_association import SecurityAssociation
from cygnet.wire.payloads.traffic_selectors import TrafficSelector


class Send(msgspec.Struct, frozen=True, gc=False):
    """Put one IKE datagram on the wire, without the non-ESP marker: the socket knows whether it wants one."""

    datagram: bytes
    path: Path


class SendKeepalive(msgspec.Struct, frozen=True, gc=False):
    """Put a NAT keepalive on the wire: one octet 0xff, and no marker before it (RFC 3948 section 2.3)."""

    path: Path


class InstallChild(msgspec.Struct, frozen=True, gc=False):
    """A CHILD_SA is agreed upon: carry its traffic (RFC 4301 section 4.4.2)."""

    sa: bytes
    """Our SPI of the IKE_SA it belongs to."""
    name: str
    """Name of its `children.<name>` section."""
    spi_in: bytes
    """The SPI that we chose, 4 octets; the peer's packets carry it."""
    spi_out: bytes
    """The SPI that the peer chose, 4 octets."""
    suite: ChildSuite
    keys_in: tuple[bytes, bytes]
    """Encryption key with its salt, and integrity key, of what arrives."""
    keys_out: tuple[bytes, bytes]
    ts_local: tuple[TrafficSelector, ...]
    ts_remote: tuple[TrafficSelector, ...]
    path: Path
    """Where ESP goes; its ports count only when `is_udp_encapsulated`."""
    is_udp_encapsulated: bool
    replay_window: int
    """Packets; 0 switches replay protection off."""
    carriage: Carriage = DEFAULT_CARRIAGE
    is_outbound: bool = True
    """False: receive on it, but send on it only once the peer does, or after a `UseChild`. It is the successor of
    another one, and the peer, who made it, may not know yet that it stands (RFC 7296 section 2.8)."""
    limits: "UsageLimits | None" = None
    yields: bool = False
    """Where an older one is for the same traffic, here or with another worker, let that send, until the peer sends on
    this one, or the older one is gone: the peer, who made this one, may not know yet that it stands."""
    seen_by_peer: tuple[bytes, bytes] | None = None
    """In transport mode through a NAT: our address and the peer's, packed, as the peer has them. The checksums of what
    it sends are about these (RFC 3948 section 3.1.2)."""

    def __repr__(self) -> str:
        return f"InstallChild({self.name!r}, in={self.spi_in.hex()}, out={self.spi_out.hex()}, keys=<redacted>)"


class RemoveChild(msgspec.Struct, frozen=True, gc=False):
    """A CHILD_SA is gone: carry its traffic no longer, in either direction."""

    sa: bytes
    """Our SPI of the IKE_SA that it belonged to: after a rekeying another one than it was installed with."""
    spi_in: bytes
    is_succeeded: bool = False
    """Its traffic goes on in another one, or may do so: what was on the way in this is still to be taken, for a little
    while."""
    connection: str = ""
    """For the log, since its IKE_SA may be gone too."""
    name: str = ""


class UsageLimits(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How much a CHILD_SA may carry in either direction; whoever carries it says when it has."""

    soft_octets: float
    """When it is to be rekeyed; infinite for no limit, as all of these."""
    hard_octets: float
    """When it is to be closed."""
    soft_packets: float
    hard_packets: float


class UseChild(msgspec.Struct, frozen=True, gc=False):
    """Send on a CHILD_SA from now on that was installed without: its predecessor is gone."""

    spi_in: bytes


class RetireChild(msgspec.Struct, frozen=True, gc=False):
    """Send on a CHILD_SA no longer. What the peer has sent before it knew is still to be taken."""

    spi_in: bytes


class ChildRekeyed(msgspec.Struct, frozen=True, gc=False):
    """A CHILD_SA has a successor, by an `InstallChild` before this."""

    sa: bytes
    old: bytes
    """Our inbound SPI, 4 octets."""
    spi_in: bytes
    """Of the successor."""


class ChildFailed(msgspec.Struct, frozen=True, gc=False):
    """A CHILD_SA could not be set up, or not be rekeyed. The IKE_SA stands; if it was to be its first, it is said to be
    established right after this."""

    sa: bytes
    name: str
    reason: str
    """The peer's error notify, in lower case."""


class ChildRefused(msgspec.Struct, frozen=True, gc=False):
    """The peer asked for a CHILD_SA that we will not have. The IKE_SA stands, or is about to."""

    sa: bytes
    reason: str
    """Our error notify, in lower case."""
    offer: SecurityAssociation | None = None
    """What it asked for: proposals, and the traffic of its end and of ours."""
    ts_remote: tuple[TrafficSelector, ...] = ()
    ts_local: tuple[TrafficSelector, ...] = ()
    children: tuple[ChildSettings, ...] = ()
    """What it might have."""


class OfferRefused(msgspec.Struct, frozen=True, gc=False):
    """A new peer gets no IKE_SA: none of the connections for its address and ours accepts one of its proposals."""

    path: Path
    offer: SecurityAssociation
    proposals: tuple[ProposalSettings, ...]
    """That these connections accept; empty if there are none."""


class AuthenticationRefused(msgspec.Struct, frozen=True, gc=False):
    """A peer has not proven to be one that we let in, or have set the IKE_SA up with. `SaClosed` follows."""

    sa: bytes
    connection: str
    """Empty where we are the responder: it has none yet."""
    path: Path
    why: str
    """A label of `authentication_failures_total`."""
    remote_id: Identity | None = None
    """Who it says it is."""
    local_id: Identity | None = None
    """Who we are to it, or are asked to be."""


class ChildStands(msgspec.Struct, frozen=True, gc=False):
    """A further CHILD_SA was to be set up, and there is one of that name already."""

    sa: bytes
    name: str


class RekeyFailed(msgspec.Struct, frozen=True, gc=False):
    """The peer will not have an IKE_SA rekeyed; it stands as before."""

    sa: bytes
    reason: str
    """The peer's error notify, in lower case."""


class SaRekeyed(msgspec.Struct, frozen=True, gc=False):
    """An IKE_SA has a successor, which has its CHILD_SAs and addresses; the old one will be closed."""

    old: bytes
    """Our SPI, 8 octets."""
    sa: bytes
    """Our SPI of the successor."""
    connection: str
    remote_id: Identity


class SaReauthenticated(msgspec.Struct, frozen=True, gc=False):
    """An IKE_SA that was set up to take the place of another has its CHILD_SAs; the old one will be closed."""

    old: bytes
    """Our SPI, 8 octets."""
    sa: bytes
    """Our SPI of the new one."""


class MoveChild(msgspec.Struct, frozen=True, gc=False):
    """The peer of a CHILD_SA is to be reached on another path now."""

    spi_in: bytes
    path: Path
    is_udp_encapsulated: bool


class SaEstablished(msgspec.Struct, frozen=True, gc=False):
    """Both ends are authenticated, and the first CHILD_SA is up, unless a `ChildFailed` before this says otherwise."""

    sa: bytes
    connection: str
    remote_id: Identity
    virtual_ips: tuple[bytes, ...]
    """Packed virtual addresses: ours as initiator, the peer's as responder."""
    took_s: float
    """Seconds since its first message came or went."""
    is_initiator: bool = False
    """Whether we have set it up, and not the peer."""
    attributes: tuple[ConfigurationAttribute, ...] = ()
    """As initiator: what else the peer has told us with our virtual addresses, DNS servers and so on, as it was
    sent."""
    where: Path | None = None
    """Its path, for the log."""


class SaMoved(msgspec.Struct, frozen=True, gc=False):
    """An IKE_SA has another path now: a NAT has changed its mapping, or one of the ends its address."""

    sa: bytes
    connection: str
    remote_id: Identity
    path: Path


class Demand(IntEnum):
    """What an IKE_SA asks of the others with the same peer."""

    FORGET = 0
    """To be closed without a word: the peer knows of none (INITIAL_CONTACT)."""
    DELETE = 1
    """To be deleted: this one takes their place (`unique = replace`)."""
    YIELD = 2
    """To say so if there is one, which then stands in place of this one (`unique = keep`)."""
    CONFIRM = 3
    """To be deleted, since we have told the peer that it is not there; asked for, if that may have crossed with it."""
    REFUSE = 4
    """Of the IKE_SA that is named, and no other: to be deleted. It had asked by YIELD, and an older one stands."""


class InitialContact(msgspec.Struct, frozen=True, gc=False):
    """An IKE_SA should be the only one with its peer: other workers are to see to theirs.

    It speaks of a pair of identities (RFC 7296 section 2.4): SAs with another identity of ours stand.
    """

    sa: bytes
    """The one that stands; or by REFUSE, that does not."""
    local_id: Identity
    remote_id: Identity
    demand: Demand = Demand.FORGET
    remote: str = ""
    """The peer's address: one that comes from the same may be authenticating itself anew."""
    begun: float = math.inf
    """When it began that IKE_SA, as the clock of all workers has it: what was set up later it may have besides."""


DELETED_BY_PEER: Final = "deleted_by_peer"


class SaClosed(msgspec.Struct, frozen=True, gc=False):
    """An IKE_SA has ended, or never came to be. Its CHILD_SAs were removed by effects before this one."""

    sa: bytes
    connection: str
    """Empty where the peer was never matched to a connection."""
    reason: str
    """A counter's label: `authentication_failed`, `timeout`, `deleted_by_peer`, ..."""
    was_established: bool
    final: object = None
    """The `IkeSa` as it was at its end."""


class Revive(msgspec.Struct, frozen=True, gc=False):
    """An IKE_SA was lost, and by the settings of its children some of them are to be set up again."""

    connection: str
    path: Path
    """Where the peer was."""
    start: tuple[str, ...]
    """Names of those children."""
    trap: tuple[str, ...] = ()
    """Names of those that are to be set up again when there is a packet for them."""


class PhaseDone(msgspec.Struct, frozen=True, gc=False):
    """As initiator: the response to a request of the set-up has come and was accepted."""

    sa: bytes
    phase: str
    """`ike_sa_init` or `ike_auth`."""


class HeldBack(msgspec.Struct, frozen=True, gc=False):
    """A request can't be answered yet: hand the datagram in again in a moment. Nothing has come of it so far.

    Of a request in fragments it is the last, which completes it again.
    """

    sa: bytes
    """Our SPI of its IKE_SA, which has one such request at a time."""
    datagram: bytes
    path: Path


class Retransmitted(msgspec.Struct, frozen=True, gc=False):
    """A request of ours went unanswered and was sent again (by the `Send` before this)."""

    sa: bytes


class TaskDone(msgspec.Struct, frozen=True, gc=False):
    """The response to a request of ours has come, in an IKE_SA that stood when it was sent."""

    sa: bytes
    task: Task


Effect = (
    Send
    | SendKeepalive
    | InstallChild
    | RemoveChild
    | MoveChild
    | UseChild
    | RetireChild
    | ChildRekeyed
    | ChildFailed
    | ChildRefused
    | OfferRefused
    | AuthenticationRefused
    | ChildStands
    | RekeyFailed
    | SaRekeyed
    | SaReauthenticated
    | SaEstablished
    | SaMoved
    | InitialContact
    | SaClosed
    | Revive
    | PhaseDone
    | HeldBack
    | Retransmitted
    | TaskDone
)
