"""One IKE_SA and what it holds. The exchanges work on it; the table owns it."""

from collections.abc import Iterator
from enum import IntEnum
from typing import Protocol

import msgspec

from cygnet.auth.identity import ANY_IDENTITY, Identity
from cygnet.crypto.ke import KeyPair
from cygnet.crypto.keymat import IkeKeys, IkeSuite, derive_ike_keys
from cygnet.crypto.protection import PacketProtection, make_protection
from cygnet.ike.connections import Child, Connection
from cygnet.ike.effects import Effect, Send
from cygnet.ike.environment import Environment
from cygnet.ike.handshake import MALFORMED_PER_OPEN, MAX_FAILED_OPENS, Handshake
from cygnet.ike.lifetimes import NEVER
from cygnet.ike.message_id import MessageIds
from cygnet.ike.path import Path
from cygnet.ike.protected import datagrams_of, is_fragmented, seal_message
from cygnet.ike.puzzles import Solver
from cygnet.ike.states import SaState
from cygnet.ike.tally import REQUEST_OUT, RESPONSE_OUT
from cygnet.ike.tasks import DeleteIke, Task
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, NO_SPI
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.configuration import ConfigurationAttribute

_LIVENESS_SPREAD = 0.5
"""Part of `dpd_delay` over which liveness checks that would come together are spread: over half of it, so that there
are never more than half as many again as on average, even when all peers fell silent in the same moment."""


_IDLENESS_LOOKS = 8
"""At a CHILD_SA in the time for which it may be idle: it is closed up to an eighth of that later."""


class MobikeRole(IntEnum):
    """Which end chooses the path, if both support MOBIKE: the one that set up the first of a series of rekeyed IKE_SAs,
    whoever is the original initiator of this one (RFC 4555 section 2.1)."""

    NONE = 0
    """The peer does not support it, or our configuration does not allow it."""
    INITIATOR = 1
    """We choose."""
    RESPONDER = 2
    """The peer chooses."""


class Registry(Protocol):
    """What an exchange needs of the table of SAs."""

    claims: set[bytes]
    """Our SPIs of IKE_SAs that have asked something of those on other workers, while what those ask came before that:
    see `uniqueness.py`."""

    def new_ike_spi(self) -> bytes:
        """A fresh SPI of ours for an IKE_SA, 8 octets."""

    def new_child_spi(self, sa: "IkeSa") -> bytes:
        """A fresh inbound SPI for a CHILD_SA of `sa`, 4 octets, reserved until the SA is closed."""

    def release_child_spi(self, spi_in: bytes) -> None:
        """Give an inbound SPI back."""

    def request(self, sa: "IkeSa", task: Task, turn: "Turn") -> None:
        """Have `sa` do that as soon as what it is doing, and what waits already, is done."""

    def sa(self, spi: bytes) -> "IkeSa | None":
        """The IKE_SA with that SPI of ours."""

    def adopt(self, sa: "IkeSa") -> None:
        """Keep an IKE_SA that was made to take the place of another."""

    def schedule(self, sa: "IkeSa") -> None:
        """See to it that `sa`, which is not the one that is served, is woken in time for what it waits for now."""

    def inherit(self, old: "IkeSa", heir: "IkeSa", turn: "Turn") -> None:
        """Note that the CHILD_SAs of `old` are those of `heir` now, and begin what it has to do."""

    def established(self, sa: "IkeSa", turn: "Turn", told: tuple[ConfigurationAttribute, ...] = ()) -> None:
        """Both ends of `sa` are authenticated, and the peer has `told` us what goes with our addresses."""

    def close(self, sa: "IkeSa", reason: str, turn: "Turn", *, is_answered: bool = False) -> None:
        """Forget `sa` and all that it holds, telling the peer nothing but, if `is_answered`, its last answer again."""

    def solve(self, sa: "IkeSa", solver: Solver) -> None:
        """Work at the puzzle that `sa` waits for; it goes on when that is solved."""

    def begin(self, connection: Connection, path: Path, turn: "Turn", child: Child | None) -> "IkeSa":
        """Begin an IKE_SA with that child, or the first of the connection."""

    def with_peer(self, identity: Identity) -> Iterator["IkeSa"]:
        """The IKE_SAs that stand with that peer on this worker."""

    def has_other(self, identity: Identity) -> bool:
        """Whether an IKE_SA with that peer stands."""

    def rivals(self, sa: "IkeSa") -> list["IkeSa"]:
        """The other IKE_SAs that stand between the same two identities."""


class Turn(msgspec.Struct, gc=False, eq=False):
    """One entry into the core: the time, the world, and the effects gathered so far."""

    env: Environment
    table: Registry
    now: float
    path: Path | None = None
    """Where the datagram came from that is being handled; None if it isn't a datagram."""
    effects: list[Effect] = []

    def send(self, flight: bytes, path: Path) -> None:
        """Put a message on the wire: its datagram, or one for each of its fragments."""
        if is_fragmented(flight):
            self.effects += [Send(datagram, path) for datagram in datagrams_of(flight)]
        else:
            self.effects.append(Send(flight, path))


class ChildState(IntEnum):
    """What becomes of a CHILD_SA."""

    INSTALLED = 0
    REPLACED = 1
    """Another one has taken its place; its Delete is to come, from whoever made the other one."""


# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_AUTH_SENT = SaState.AUTH_SENT
_DELETING = SaState.DELETING
_ESTABLISHED = SaState.ESTABLISHED
_HALF_OPEN = SaState.HALF_OPEN
_INIT_SENT = SaState.INIT_SENT
_REPLACED = SaState.REPLACED


class Idleness(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is known of how long a CHILD_SA has carried nothing, where that is limited (`inactivity.py`)."""

    due: float
    """When it is to be looked at, in seconds of the driver's clock."""
    since: float
    """It may have carried something until then, and has carried nothing after."""
    packets: int = 0
    """What it had carried when it was looked at last, in both directions."""

    @classmethod
    def of(cls, since: float, limit_s: float, now: float, packets: int = 0) -> "Idleness":
        """To be looked at again when the limit is reached, or some part of it has gone by."""
        return cls(min(since + limit_s, now + limit_s / _IDLENESS_LOOKS), since, packets)


class ChildSa(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A CHILD_SA, as its IKE_SA knows it; the data plane has the keys."""

    name: str
    spi_in: bytes
    spi_out: bytes
    installed: float = 0.0
    """When it was installed, in seconds of the driver's clock."""
    rekey_due: float = NEVER
    """When it is to be rekeyed, in seconds of the driver's clock."""
    dies: float = NEVER
    """When it is to be closed at the latest."""
    state: ChildState = ChildState.INSTALLED
    replaces: bytes = b""
    """Our inbound SPI of the one whose place it took, while the peer may not have seen to that."""
    ke_method: int = 0
    """Of the key exchange that it was made with; KeId.NONE if without."""
    idleness: Idleness | None = None
    """None where it may carry nothing for as long as it stands."""
    is_transport: bool = False
    """Whether it is in transport mode; its successor is too."""


class Proof(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How long the ends' proof of who they are counts (RFC 7296 section 2.8.3), in seconds of the driver's clock."""

    reauth_due: float = NEVER
    """When we are to begin another IKE_SA for a new proof; NEVER if that is the peer's to do."""
    ends: float = NEVER
    """When the IKE_SA is closed for want of one. It does not live longer by being rekeyed."""
    successor: bytes = b""
    """Our SPI of the IKE_SA that was begun last to take the place of this one."""


class Draft(msgspec.Struct, gc=False, eq=False):
    """Our CREATE_CHILD_SA exchange that is under way; dropped with its end, and the ephemeral key in it."""

    task: Task
    spi: bytes
    """Of the SA that is being made: 4 octets for a CHILD_SA, 8 for an IKE_SA."""
    nonce: bytes
    ke_method: int
    key_pair: KeyPair | None
    ke_methods_tried: tuple[int, ...] = ()
    rival: bytes = b""
    """Our SPI of the SA that the peer made meanwhile in place of the same one (RFC 7296 sections 2.8.1 and 2.8.2)."""
    rival_nonce: bytes = b""
    """The lower one of the two nonces that it was made with."""
    name: str = ""
    """Of the CHILD_SA whose place is to be taken, which may be deleted before the response arrives."""
    gone: tuple[bytes, ...] = ()
    """SPIs of the peer's CHILD_SAs that it has deleted meanwhile and we don't know: one may be what is being made."""
    is_transport: bool = False
    """Whether transport mode was asked for."""

    def __repr__(self) -> str:
        return f"<Draft for {self.task}, keys redacted>"


class IkeSa(msgspec.Struct, gc=False, eq=False, array_like=True):
    """One IKE_SA. Nothing in it refers back to it, so the cyclic garbage collector need not know of it.

    While it is idle it is the octets that `record.py` makes of its fields.
    """

    spi: bytes
    """Our SPI, by which the table knows it."""
    spi_i: bytes
    spi_r: bytes
    is_original_initiator: bool
    state: SaState
    path: Path
    last_inbound: float
    """When the peer last proved that it lives, in seconds of the driver's clock."""
    message_ids: MessageIds
    handshake: Handshake | None
    connection: Connection | None = None
    suite: IkeSuite | None = None
    outgoing: PacketProtection | None = None
    incoming: PacketProtection | None = None
    sk_d: bytes = b""
    """Key from which the keys of CHILD_SAs are derived."""
    children: tuple[ChildSa, ...] = ()
    local_id: Identity = ANY_IDENTITY
    """The identity that we have proven; ANY_IDENTITY until then."""
    remote_id: Identity = ANY_IDENTITY
    """The peer's identity; ANY_IDENTITY until it has proven it."""
    virtual_ips: tuple[bytes, ...] = ()
    """Those that we were given, or gave."""
    established: float = 0.0
    """When both ends were authenticated, in seconds of the driver's clock."""
    has_leases: bool = False
    """Whether we gave them: they go back to our pools with the SA. The end that began the first IKE_SA of a line was
    given its addresses; which end is the original initiator changes when the other one rekeys."""
    is_line_ours: bool = False
    """Whether we began the first IKE_SA of its line, and so can authenticate ourselves anew as its initiator."""
    is_udp_encapsulated: bool = False
    is_behind_nat: bool = False
    is_peer_behind_nat: bool = False
    mobike: MobikeRole = MobikeRole.NONE
    peer_addresses: tuple[str, ...] = ()
    """As MOBIKE's initiator: where else the peer may be reached, the address it told us this from included."""
    nat_mapping: bytes = b""
    """As MOBIKE's initiator behind a NAT: the digest of the address and port that the peer last saw us at."""
    keepalive_due: float = 0.0
    """When the NAT in front of us is to be reminded of us; 0.0 for never."""
    pending: tuple[Task, ...] = ()
    """What is to be asked of the peer, after the outstanding request is answered: see `requests.py`."""
    quiet_until: float | None = None
    """The peer could not make an SA just now: until then it is not asked again (RFC 7296 section 2.25)."""
    draft: Draft | None = None
    """What the outstanding CREATE_CHILD_SA is to make."""
    predecessor: bytes = b""
    """Our SPI of the IKE_SA that this one is to replace; empty once it has inherited, and for others."""
    rekey_due: float = NEVER
    """When it is to be rekeyed, in seconds of the driver's clock."""
    dies: float = NEVER
    """When it is to be closed at the latest."""
    proof: Proof | None = None
    """None where the authentication counts for as long as the IKE_SA stands."""
    largest_octets: int = 0
    """The longest datagram that we send under protection, longer messages go in fragments; 0 while the peers have not
    agreed upon that (RFC 7383 section 2.3)."""
    ending: str = ""
    """Why it is being deleted, where that is no wish of ours: the label of its end."""
    wheel_slot: int = 0
    """Number of the earliest slot of the timer wheel that this SA is in; 0 for none."""

    @classmethod
    def as_initiator(cls, spi_i: bytes, path: Path, now: float) -> "IkeSa":
        """A new SA that we begin."""
        state = _INIT_SENT
        return cls(spi_i, spi_i, NO_SPI, True, state, path, now, MessageIds(), Handshake(now), is_line_ours=True)

    @classmethod
    def as_responder(cls, spi_i: bytes, spi_r: bytes, path: Path, now: float) -> "IkeSa":
        """A new SA that the peer begins."""
        return cls(spi_r, spi_i, spi_r, False, _HALF_OPEN, path, now, MessageIds(), Handshake(now))

    def __repr__(self) -> str:
        role = "initiator" if self.is_original_initiator else "responder"
        return f"<IkeSa {self.spi_i.hex()}_i {self.spi_r.hex()}_r {self.state.name} as {role}, {self.path}>"

    @property
    def name(self) -> str:
        """Name of its connection; empty while that isn't known."""
        return self.connection.settings.name if self.connection is not None else ""

    def count(self, series: str, turn: Turn) -> None:
        """Count one more, for its connection too if that is known."""
        turn.env.count(series)
        if self.connection is not None:
            tally = self.connection.tally
            tally[series] = tally.get(series, 0) + 1

    def set_keys(self, keys: IkeKeys, env: Environment) -> None:
        """Protect what follows with these keys (RFC 7296 section 2.14)."""
        suite = self.suite
        assert suite is not None
        encr, key_bits, integ, entropy = suite.encr, suite.encr_key_bits, suite.integ, env.entropy
        from_initiator = make_protection(
            encr, key_bits, integ, encr_key=keys.sk_ei, integ_key=keys.sk_ai, entropy=entropy
        )
        from_responder = make_protection(
            encr, key_bits, integ, encr_key=keys.sk_er, integ_key=keys.sk_ar, entropy=entropy
        )
        if self.is_original_initiator:
            self.outgoing, self.incoming = from_initiator, from_responder
        else:
            self.outgoing, self.incoming = from_responder, from_initiator
        self.sk_d = keys.sk_d

    def derive_keys(self, env: Environment) -> IkeKeys:
        """The keys of the handshake, computed when first needed.

        A responder that computed them in IKE_SA_INIT would pay the key exchange for peers that never come back.
        Raises InvalidKeyExchange if the peer's public value is none.
        """
        handshake, suite = self.handshake, self.suite
        assert handshake is not None and suite is not None
        if handshake.keys is None:
            assert handshake.key_pair is not None
            shared = handshake.key_pair.shared(handshake.peer_public)
            handshake.keys = derive_ike_keys(
                suite,
                shared=shared,
                nonce_i=handshake.nonce_i,
                nonce_r=handshake.nonce_r,
                spi_i=self.spi_i,
                spi_r=self.spi_r,
            )
            handshake.key_pair = None
            self.set_keys(handshake.keys, env)
        return handshake.keys

    def opening(self, env: Environment) -> PacketProtection:
        """What verifies and decrypts the peer's messages; see `derive_keys`."""
        if self.incoming is None:
            self.derive_keys(env)
        assert self.incoming is not None
        return self.incoming

    def seal(self, exchange_type: int, message_id: int, payloads: tuple[Payload, ...], *, is_response: bool) -> bytes:
        """A protected message of this SA: a datagram, or its fragments, one behind the other."""
        assert self.outgoing is not None
        flags = (FLAG_INITIATOR if self.is_original_initiator else 0) | (FLAG_RESPONSE if is_response else 0)
        return seal_message(
            self.outgoing,
            spi_i=self.spi_i,
            spi_r=self.spi_r,
            exchange_type=exchange_type,
            flags=flags,
            message_id=message_id,
            payloads=payloads,
            largest_octets=self.largest_octets,
        )

    @property
    def is_past_trying(self) -> bool:
        """Whether requests to it are dropped unseen, after too many that were not its peer's."""
        return self.handshake is not None and self.handshake.failures >= MAX_FAILED_OPENS * MALFORMED_PER_OPEN

    @property
    def is_being_set_up(self) -> bool:
        """Whether we have begun it, and the peer has not proven who it is yet."""
        return self.state == _INIT_SENT or self.state == _AUTH_SENT

    @property
    def is_replaced(self) -> bool:
        """Whether another IKE_SA has taken its place."""
        return self.state == _REPLACED

    @property
    def is_ending(self) -> bool:
        """Whether it is to be deleted, as soon as the outstanding request is answered if not before."""
        return self.state == _DELETING or (bool(self.pending) and isinstance(self.pending[0], DeleteIke))

    def send_request(
        self, exchange_type: int, payloads: tuple[Payload, ...], turn: Turn, task: Task | None = None
    ) -> None:
        """Send a protected request, and again until it is answered; for a task, unless it is to set the SA up."""
        self._send(
            exchange_type,
            self.seal(exchange_type, self.message_ids.next_id, payloads, is_response=False),
            turn,
            task,
        )

    def send_first_request(self, exchange_type: int, datagram: bytes, turn: Turn) -> None:
        """The same for a request in the clear, which its exchange has encoded itself."""
        self._send(exchange_type, datagram, turn)

    def _send(self, exchange_type: int, datagram: bytes, turn: Turn, task: Task | None = None) -> None:
        self.message_ids.sent(exchange_type, datagram, turn.env.settings.retransmit, turn.now, task)
        if self.keepalive_due:
            self.keepalive_due = turn.now + turn.env.settings.keep_alive_s
        self.count(REQUEST_OUT[exchange_type], turn)
        turn.send(datagram, self.path)

    def send_response(self, request: bytes, exchange_type: int, payloads: tuple[Payload, ...], turn: Turn) -> None:
        """Answer the peer's request, and keep the answer for a repetition; `request` is the datagram that is known by,
        of one in fragments the first."""
        response = self.seal(exchange_type, self.message_ids.expected_id, payloads, is_response=True)
        self.message_ids.answered(request, response)
        self.message_ids.answered_at = turn.now
        self.count(RESPONSE_OUT[exchange_type], turn)
        # RFC 7296 section 2.11: to where the request came from, whatever the path of the SA is.
        turn.send(response, turn.path or self.path)

    def child_with(self, spi_out: bytes) -> ChildSa | None:
        """The CHILD_SA whose outbound SPI this is: the one by which the peer names it (RFC 7296 section 1.4.1)."""
        for child in self.children:
            if child.spi_out == spi_out:
                return child
        return None

    def child_in(self, spi_in: bytes) -> ChildSa | None:
        """The CHILD_SA with that inbound SPI of ours."""
        for child in self.children:
            if child.spi_in == spi_in:
                return child
        return None

    @property
    def lifetime_due(self) -> float:
        """When the next limit in time is reached, here or in one of the CHILD_SAs; NEVER if there is none."""
        due = self.rekey_due if self.rekey_due < self.dies else self.dies
        if self.proof is not None and self.proof.reauth_due < due:
            due = self.proof.reauth_due
        for child in self.children:
            if child.rekey_due < due:
                due = child.rekey_due
            if child.dies < due:
                due = child.dies
            if child.idleness is not None and child.idleness.due < due:
                due = child.idleness.due
        return due

    @property
    def is_at_rest(self) -> bool:
        """Whether it is established and waits for nothing, so that it may be packed until something comes."""
        return (
            self.state == _ESTABLISHED
            and self.handshake is None
            and self.message_ids.outstanding is None
            and not self.pending
        )

    def liveness_due(self) -> float | None:
        """When the peer is to be asked whether it lives; None for never."""
        if self.state != _ESTABLISHED or self.connection is None:
            return None
        delay = self.connection.settings.dpd_delay_s
        if delay <= 0:
            return None
        # Early, each SA and each time by another share: those that came up together, as after an outage, would
        # else ask together for ever.
        share = (self.spi[-1] + 97 * self.message_ids.next_id & 0xFF) / 256
        return self.last_inbound + delay * (1.0 - _LIVENESS_SPREAD * share)

    def next_timer(self) -> float | None:
        """When this SA wants to be woken: to retransmit, to ask whether the peer lives, to remind a NAT,
        or because something ages.
        """
        waiting = self.message_ids.outstanding
        due = waiting.due if waiting is not None else self.liveness_due()
        lifetime_due = self.lifetime_due
        if due is None or lifetime_due < due:
            due = lifetime_due
        if self.quiet_until is not None and self.pending and waiting is None and self.quiet_until < due:
            due = self.quiet_until
        if self.keepalive_due and self.keepalive_due < due:
            due = self.keepalive_due
        return due if due != NEVER else None
