"""The table of IKE_SAs: finds the SA of each datagram, runs the exchange, and returns what is to be done.

This is the core's whole surface: a datagram in (`receive`), a command in (`initiate`, `delete`), time passing
(`handle_timers`), effects out. It never blocks and never reads a clock. Only `IkeError` is raised inside, and none
of it leaves: errors become answers, closed SAs and counters.
"""

import math
from collections.abc import Iterable, Iterator

from cygnet.auth.identity import Identity
from cygnet.iana import ExchangeType, NotifyType
from cygnet.ike import ageing, nat, reception, requests, revival, uniqueness, waking
from cygnet.ike.admission import Admission
from cygnet.ike.agenda import Agenda
from cygnet.ike.answers import plain_notify, stateless_answer
from cygnet.ike.connections import Child, Connection
from cygnet.ike.effects import (
    DELETED_BY_PEER,
    Demand,
    Effect,
    RemoveChild,
    SaClosed,
    SaEstablished,
    Send,
)
from cygnet.ike.environment import Environment, InForce
from cygnet.ike.exchanges import ike_sa_init, mobike, virtual_ip
from cygnet.ike.first_requests import FirstRequests
from cygnet.ike.fragments import Fragments
from cygnet.ike.path import Path
from cygnet.ike.peers import PeerIndex
from cygnet.ike.puzzles import Solver, Solvers
from cygnet.ike.record import SaStore
from cygnet.ike.resting import IDLE_S
from cygnet.ike.sa import IkeSa, MobikeRole, Turn
from cygnet.ike.selectors import FlowSelectors
from cygnet.ike.settings import Settings
from cygnet.ike.sharded_map import ShardedMap
from cygnet.ike.spi import new_esp_spi, new_ike_spi
from cygnet.ike.states import SaState
from cygnet.ike.strays import Strays
from cygnet.ike.tasks import CreateChild, DeleteIke, Task
from cygnet.wire.errors import WireError
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, NO_SPI, Header, decode_header
from cygnet.wire.payloads.configuration import ConfigurationAttribute

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_DELETING = SaState.DELETING
_ESTABLISHED = SaState.ESTABLISHED
_HALF_OPEN = SaState.HALF_OPEN
_IKE_SA_INIT = ExchangeType.IKE_SA_INIT
_INVALID_MAJOR_VERSION = NotifyType.INVALID_MAJOR_VERSION
_MOBIKE_INITIATOR = MobikeRole.INITIATOR

_MAJOR_VERSION = 2


def _drop(reason: str) -> str:
    return f'datagrams_dropped_total{{reason="{reason}"}}'


class IkeTable:
    """All IKE_SAs of one worker."""

    def __init__(self, env: Environment, *, idle_s: float = IDLE_S) -> None:
        self.env = env
        self.sas = SaStore(env.entropy, idle_s=idle_s)
        """By our SPI. Those that have been idle for `idle_s` are packed, and wake up when they are looked up."""
        self.admission = Admission(env)
        self.serving: IkeSa | None = None
        """The SA whose message or timer is being handled: the one to give up after an internal error."""
        self.claims: set[bytes] = set()
        self._children = ShardedMap[bytes, bytes]()
        self._peers = PeerIndex()
        self._roamers = ShardedMap[bytes, None]()
        """SAs whose path is ours to choose, by our SPIs (RFC 4555)."""
        self._agenda = Agenda(self.sas, env)
        self._first = FirstRequests(env, self.admission)
        self._fragments = Fragments()
        self.strays = Strays(env)
        self._puzzles = Solvers()

    @property
    def half_open(self) -> int:
        """SAs, as original responder, whose peer has not authenticated itself yet."""
        return self.admission.half_open

    def configure(self, new: Settings | InForce) -> None:
        """Go on with other settings. What stands, or has begun, goes on as it was agreed."""
        self.env.configure(new)
        self._first.configure(self.env.settings)

    # What the driver calls.

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Effect]:
        """Handle one IKE datagram, without its non-ESP marker. `now` is in seconds of a monotonic clock."""
        turn = Turn(self.env, self, now, path)
        self.serving = None
        try:
            self._receive(datagram, path, turn)
        except WireError as error:
            self.env.count(_drop(error.reason))
        return turn.effects

    def ask_cookies(
        self, requests: list[tuple[bytes, Path]], now: float
    ) -> tuple[list[tuple[bytes, Path]], list[tuple[bytes, Path]]]:
        """What to send to new peers that get nothing but a cookie now, and those requests that are yet to be received.

        `receive` comes to the same one by one, and takes several times as long.
        """
        return self._first.ask_cookies(requests, len(self.sas), now)

    def initiate(
        self,
        connection: Connection,
        path: Path,
        now: float,
        *,
        child: Child | None = None,
        further: Iterable[str] = (),
        is_childless: bool = False,
        flow: FlowSelectors | None = None,
    ) -> tuple[bytes, list[Effect]]:
        """Begin an IKE_SA with `child`, or the first child of the connection; returns our SPI and the effects.

        `further` are the names of children that are to be set up in it when it stands. With `is_childless` it begins
        with none (RFC 6023), or fails if the peer does not support that. `flow` is the packet that the child is for.
        """
        turn = Turn(self.env, self, now)
        self.serving = None
        sa = self.begin(connection, path, turn, child)
        sa.pending = tuple(map(CreateChild, further))
        if sa.handshake is not None:
            sa.handshake.flow = flow
            if is_childless:
                sa.handshake.child = None
        return sa.spi, turn.effects

    def delete(self, spi: bytes, now: float) -> list[Effect]:
        """End an IKE_SA and tell the peer; one whose peer is not authenticated yet is forgotten."""
        turn = Turn(self.env, self, now)
        sa = self.sas.get(spi)
        self.serving = sa
        if sa is not None and sa.state == _ESTABLISHED:
            self.request(sa, DeleteIke(), turn)
            self._settle(sa, turn)
        elif sa is not None and sa.state != _DELETING:
            self.close(sa, "abandoned", turn)
        return turn.effects

    def order(self, spi: bytes, task: Task, now: float) -> list[Effect]:
        """Have an IKE_SA that stands do something; nothing happens if there is none with that SPI of ours.

        One that we are setting up makes a further CHILD_SA when it stands.
        """
        turn = Turn(self.env, self, now)
        sa = self.sas.get(spi)
        if sa is not None and sa.predecessor:
            # That has all there is yet, also what waits; which of its heirs gets it may not be known.
            sa = self.sas.get(sa.predecessor)
        self.serving = sa
        if sa is not None and (sa.state == _ESTABLISHED or (sa.is_being_set_up and isinstance(task, CreateChild))):
            self.request(sa, task, turn)
            self._settle(sa, turn)
        return turn.effects

    def limit_reached(self, spi_in: bytes, now: float, *, is_hard: bool) -> list[Effect]:
        """A CHILD_SA has carried as much as it may before it is to be rekeyed or, if `is_hard`, at all."""
        turn = Turn(self.env, self, now)
        sa = self.serving = self.sas.get(self._children.get(spi_in, b""))
        if sa is not None:
            ageing.limit_reached(sa, spi_in, turn, is_hard=is_hard)
            self._settle(sa, turn)
        return turn.effects

    def follow(self, spi_in: bytes, path: Path, now: float) -> list[Effect]:
        """Authentic ESP of the CHILD_SA comes on another path: if a NAT may have moved the peer, go there too."""
        turn = Turn(self.env, self, now)
        sa = self.sas.get(self._children.get(spi_in, b""))
        if sa is not None and sa.state == _ESTABLISHED:
            sa.last_inbound = now
            if path != sa.path:
                nat.follow(sa, path, turn)
        return turn.effects

    def roam(self, now: float, *, is_list_new: bool) -> list[Effect]:
        """Our routes, or with `is_list_new` our addresses have changed: where the path is ours to choose, choose."""
        turn = Turn(self.env, self, now)
        for spi in tuple(self._roamers):
            sa = self.serving = self.sas.get(spi)
            if sa is not None and sa.state == _ESTABLISHED:
                mobike.roam(sa, turn, is_list_new=is_list_new)
                self._settle(sa, turn)
        return turn.effects

    def move(self, spi: bytes, path: Path, now: float) -> list[Effect]:
        """Have an IKE_SA that stands go on from another address or port of ours."""
        turn = Turn(self.env, self, now)
        sa = self.serving = self.sas.get(spi)
        if sa is not None and sa.state == _ESTABLISHED:
            mobike.move(sa, path, turn)
            self._settle(sa, turn)
        return turn.effects

    def drop_peer(
        self,
        identity: Identity,
        keep: bytes,
        now: float,
        *,
        local_id: Identity | None = None,
        demand: Demand = Demand.FORGET,
        remote: str = "",
        begun: float = math.inf,
    ) -> list[Effect]:
        """Have every IKE_SA with that peer but `keep`, which it began then, and in which it is at `remote`, do what is
        demanded.

        With `local_id` only those in which that was our identity.
        """
        turn = Turn(self.env, self, now)
        self.serving = None
        if demand is Demand.REFUSE:
            uniqueness.refused(self.sas.get(keep), turn)
            return turn.effects
        for sa in self._of_peer(identity, keep, local_id):
            if sa.spi not in self.claims:
                uniqueness.answer_demand(sa, demand, turn, asker=keep, remote=remote, begun=begun)
        return turn.effects

    def _of_peer(self, identity: Identity, keep: bytes, local_id: Identity | None) -> list[IkeSa]:
        return [sa for sa in self.with_peer(identity) if sa.spi != keep and local_id in (None, sa.local_id)]

    def abort(self, sa: IkeSa, now: float, reason: str = "internal_error") -> list[Effect]:
        """Give up an SA without a word to the peer, such as one that an internal error may have left half done."""
        turn = Turn(self.env, self, now)
        found = self.sas.get(sa.spi)
        if found is not None:
            self.close(found, reason, turn)
        return turn.effects

    def child_spis(self) -> Iterator[list[bytes]]:
        """The inbound SPIs of all CHILD_SAs, also of those that are being set up: some hundreds at a time."""
        return self._children.portions()

    def owner_of(self, spi_in: bytes) -> bytes:
        """Our SPI of the IKE_SA that a CHILD_SA belongs to; empty if there is no such CHILD_SA."""
        return self._children.get(spi_in, b"")

    def established_as(self, name: str, identity: Identity) -> IkeSa | None:
        """The IKE_SA of the connection of that name that stands with that peer; None if there is none here."""
        return next((sa for sa in self.with_peer(identity) if sa.name == name and sa.state == _ESTABLISHED), None)

    @property
    def timers(self) -> int:
        """How many timers of IKE_SAs are set, those included that are found to be needless when they come up."""
        return len(self._agenda)

    @property
    def put_off(self) -> int:
        """How many SAs wait to begin what has come due, until what has arrived for others is served."""
        return self._agenda.put_off

    def next_timer(self) -> float | None:
        """When `handle_timers` wants to be called next; None while nothing waits."""
        if self._puzzles:
            return 0.0
        # Asked for after every few datagrams, so without a list and a generator.
        earliest = None
        for part in (self._agenda, self._first, self.strays, self.sas, self._fragments):
            due = part.next_due()
            if due is not None and (earliest is None or due < earliest):
                earliest = due
        return earliest

    def handle_timers(self, now: float) -> list[Effect]:
        """Do what has come due: retransmit, ask whether peers live, forget. What it leaves is due at once."""
        turn = Turn(self.env, self, now)
        for sa in self._agenda.take_due(now):
            self.serving = sa
            waking.wake(sa, turn, self._fragments)
            self._settle(sa, turn)
        solved = self._puzzles.work(self.sas.__contains__)
        if solved is not None:
            sa = self.serving = self.sas[solved[0]]
            ike_sa_init.solved(sa, solved[1], turn)
            self._settle(sa, turn)
        self._expire(turn)
        self.sas.rest(now)
        return turn.effects

    # What the exchanges call.

    def new_ike_spi(self) -> bytes:
        """A fresh IKE SPI that carries this node and worker."""
        while (spi := new_ike_spi(self.env.node, self.env.worker, self.env.entropy, self.env.spi_seal)) in self.sas:
            pass
        return spi

    def new_child_spi(self, sa: IkeSa) -> bytes:
        """A fresh ESP SPI that carries this worker, reserved for `sa`."""
        while (spi := new_esp_spi(self.env.worker, self.env.entropy)) in self._children:
            pass
        self._children[spi] = sa.spi
        return spi

    def begin(self, connection: Connection, path: Path, turn: Turn, child: Child | None) -> IkeSa:
        """Begin an IKE_SA with that child, or the first of the connection."""
        sa = IkeSa.as_initiator(self.new_ike_spi(), path, turn.now)
        sa.connection = connection
        if sa.handshake is not None and connection.children:
            sa.handshake.child = child or connection.children[0]
        self.sas[sa.spi] = sa
        self.serving = self.serving or sa
        ike_sa_init.start(sa, turn)
        self.schedule(sa)
        return sa

    def release_child_spi(self, spi_in: bytes) -> None:
        """Give an inbound ESP SPI back."""
        self._children.pop(spi_in, None)

    def request(self, sa: IkeSa, task: Task, turn: Turn) -> None:
        """Have an SA do something; the one that is served begins when it has been."""
        requests.add(sa, task)
        if sa is not self.serving:
            self._settle(sa, turn)

    def solve(self, sa: IkeSa, solver: Solver) -> None:
        """Work at the puzzle that an SA waits for, in the time between other things."""
        self._puzzles.add(sa.spi, solver)

    def sa(self, spi: bytes) -> IkeSa | None:
        """The IKE_SA with that SPI of ours."""
        return self.sas.get(spi)

    def adopt(self, sa: IkeSa) -> None:
        """Keep an IKE_SA that is to take the place of another."""
        self.sas[sa.spi] = sa
        self.schedule(sa)

    def schedule(self, sa: IkeSa) -> None:
        """See to it that the SA is woken no later than it wants to be."""
        self._agenda.schedule(sa)

    def inherit(self, old: IkeSa, heir: IkeSa, turn: Turn) -> None:
        """The CHILD_SAs of `old` are those of `heir` now; it begins with what it has to do."""
        self._peers.add(heir.remote_id, heir.spi)
        if heir.mobike is _MOBIKE_INITIATOR:
            self._roamers[heir.spi] = None
        for child in heir.children:
            self._children[child.spi_in] = heir.spi
        if old is not self.serving:
            self.schedule(old)
        self._settle(heir, turn)

    def established(self, sa: IkeSa, turn: Turn, told: tuple[ConfigurationAttribute, ...] = ()) -> None:
        """Note that both ends are authenticated, and drop what only the handshake needed."""
        if sa.state == _HALF_OPEN:
            self.admission.established(sa)
        handshake = sa.handshake
        sa.state = _ESTABLISHED
        sa.handshake = None
        sa.established = sa.last_inbound = turn.now
        self._peers.add(sa.remote_id, sa.spi)
        nat.begin_keepalives(sa, turn)
        ageing.authenticated(sa, turn)
        if sa.mobike is _MOBIKE_INITIATOR:
            self._roamers[sa.spi] = None
        took_s = turn.now - handshake.started if handshake is not None else 0.0
        ours = sa.is_original_initiator
        effect = SaEstablished(sa.spi, sa.name, sa.remote_id, sa.virtual_ips, took_s, ours, told, sa.path)
        turn.effects.append(effect)

    def with_peer(self, identity: Identity) -> Iterator[IkeSa]:
        """The IKE_SAs that stand with that peer on this worker."""
        found = map(self.sas.get, self._peers.of(identity))
        return (sa for sa in found if sa is not None)

    def has_other(self, identity: Identity) -> bool:
        """Whether an IKE_SA with that peer is established on this worker."""
        return self._peers.has(identity)

    def rivals(self, sa: IkeSa) -> list[IkeSa]:
        """The other IKE_SAs that stand between the same two identities, on this worker."""
        return self._of_peer(sa.remote_id, sa.spi, sa.local_id)

    def close(self, sa: IkeSa, reason: str, turn: Turn, *, is_answered: bool = False) -> None:
        """Forget an SA with its CHILD_SAs and addresses.

        With `is_answered` it ends by a request that was just answered: the answer is kept a little while, since it may
        be lost.
        """
        if self.sas.pop(sa.spi, None) is None:
            return
        self._agenda.discard(sa)
        self._roamers.pop(sa.spi, None)
        self.claims.discard(sa.spi)
        # One that was to take the place of another, and did not, never counted as one.
        was_established = sa.handshake is None and not sa.predecessor
        if was_established:
            self._peers.remove(sa.remote_id, sa.spi)
        elif sa.state == _HALF_OPEN:
            self.admission.left(sa)
        # RFC 7296 section 2.8.3: the peer may have put another one in its place, perhaps with another worker.
        is_succeeded = (reason == DELETED_BY_PEER and not sa.is_ending) or reason in uniqueness.SUCCEEDED
        if sa.has_leases:
            # An address that is free may soon be another peer's.
            is_succeeded = virtual_ip.release(sa.remote_id, sa.virtual_ips, turn)
        if sa.children:
            newest = self.sas.view(self._peers.newest(sa.remote_id, sa.spi) or NO_SPI)
            heirs = {child.name for child in newest.children} if newest is not None else frozenset()
        for child in sa.children:
            self._children.pop(child.spi_in, None)
            turn.effects.append(
                RemoveChild(sa.spi, child.spi_in, is_succeeded or child.name in heirs, sa.name, child.name)
            )
        if sa.handshake is not None and sa.handshake.spi_in and not sa.children:
            self._children.pop(sa.handshake.spi_in, None)
        if sa.draft is not None:
            self._children.pop(sa.draft.spi, None)
            rival = self.sas.get(sa.draft.rival)
            if rival is not None and rival.predecessor == sa.spi:
                self.close(rival, reason, turn)
        self._fragments.forget(sa, turn)
        words = sa.message_ids.last_words() if is_answered else None
        if words is not None:
            self.strays.remember(sa.spi, words, turn.now)
        turn.effects.append(SaClosed(sa.spi, sa.name, reason, was_established, sa))
        if was_established:
            revival.sa_closed(sa, reason, turn)
        sa.pending = ()

    # Receiving.

    def _receive(self, datagram: bytes, path: Path, turn: Turn) -> None:
        header = decode_header(datagram)
        if header.version >> 4 != _MAJOR_VERSION:
            self._refuse_version(header, path, turn)
            return
        is_initiator = header.flags & FLAG_INITIATOR != 0
        # The sender's role in the SA is ours reversed (RFC 7296 section 3.1).
        spi = header.spi_r if is_initiator else header.spi_i
        sa = self.sas.get(spi)
        if sa is None or sa.is_original_initiator == is_initiator:
            self._receive_unknown(header, datagram, spi, path, turn)
            return
        self.serving = sa
        if header.flags & FLAG_RESPONSE:
            reception.receive_response(sa, header, datagram, path, turn, self._fragments)
            self._settle(sa, turn)
        elif reception.receive_request(sa, header, datagram, path, turn, self._fragments):
            self._settle(sa, turn)

    def _receive_unknown(self, header: Header, datagram: bytes, spi: bytes, path: Path, turn: Turn) -> None:
        if (
            header.exchange_type == _IKE_SA_INIT
            and header.is_initiator
            and not header.is_response
            and header.spi_r == NO_SPI
        ):
            sa = self._first.receive(header, datagram, path, turn, len(self.sas))
            if sa is not None:
                self.serving = sa
                self.sas[sa.spi] = sa
            return
        self.strays.receive(header, datagram, spi, path, turn)

    def _refuse_version(self, header: Header, path: Path, turn: Turn) -> None:
        """Tell a peer of a later protocol what we speak (RFC 7296 section 2.5); IKEv1 has no such answer."""
        self.env.count(_drop("version"))
        if header.major_version > _MAJOR_VERSION and not header.is_response:
            turn.effects.append(Send(stateless_answer(header, plain_notify(_INVALID_MAJOR_VERSION)), path))

    # Time.

    def _settle(self, sa: IkeSa, turn: Turn) -> None:
        """After an SA was served: begin what it has to do next, and see to its timer."""
        if sa.pending:
            requests.start_next(sa, turn)
        self._agenda.schedule(sa)

    def _expire(self, turn: Turn) -> None:
        for spi in self._first.take_expired(turn.now):
            sa = self.sas.look(spi)  # What is asleep is past that, and sleeps on.
            if isinstance(sa, IkeSa) and sa.state == _HALF_OPEN:
                self.close(sa, "half_open_timeout", turn)
        self.strays.forget(turn.now)
        self._fragments.expire(turn)
