"""A CHILD_SA: what both ends agree on for it, how it is put to use, and how it goes.

The first one is negotiated in IKE_AUTH (RFC 7296 section 1.2), further ones in CREATE_CHILD_SA (section 1.3).
"""

import msgspec

from cygnet.crypto.keymat import ChildSuite, derive_child_keys
from cygnet.iana import NotifyType, ProtocolId
from cygnet.ike import transport_mode
from cygnet.ike.carriage import Carriage
from cygnet.ike.connections import Child
from cygnet.ike.effects import ChildFailed, ChildRefused, InstallChild, RemoveChild, RetireChild, UsageLimits, UseChild
from cygnet.ike.errors import (
    FailedCpRequired,
    InvalidSyntax,
    NoChildProposalChosen,
    ProtocolViolation,
    TsUnacceptable,
)
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.lifetimes import FIRST_OF_MANY, NEVER
from cygnet.ike.nat import pack_address
from cygnet.ike.proposals import ProposalChoice, child_suite, spi_of, with_spi
from cygnet.ike.sa import ChildSa, ChildState, Idleness, IkeSa, Turn
from cygnet.ike.selectors import FlowSelectors, is_within, preceded
from cygnet.ike.tasks import DeleteChild
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.security_association import Proposal, SecurityAssociation
from cygnet.wire.payloads.traffic_selectors import (
    TrafficSelector,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_ESP = ProtocolId.ESP
_ESP_TFC_PADDING_NOT_SUPPORTED = NotifyType.ESP_TFC_PADDING_NOT_SUPPORTED
_INSTALLED = ChildState.INSTALLED
_REPLACED = ChildState.REPLACED

ESP_SPI_OCTETS = 4

PATIENCE_S = 60.0
"""For which an SA that the peer is to delete, having made its successor, waits for that before we do."""


class Agreed(msgspec.Struct, frozen=True, gc=False):
    """What both sides settled on for a CHILD_SA."""

    child: Child
    choice: ProposalChoice
    suite: ChildSuite
    spi_out: bytes
    ts_i: tuple[TrafficSelector, ...]
    ts_r: tuple[TrafficSelector, ...]
    carriage: Carriage
    seen_by_peer: tuple[bytes, bytes] | None = None
    """As `InstallChild` has it."""


def ends(sa: IkeSa) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The packed addresses that `dynamic` stands for: at our end, and at the peer's."""
    ours, theirs = (pack_address(sa.path.local),), (pack_address(sa.path.remote),)
    if not sa.virtual_ips:
        return ours, theirs
    return (ours, sa.virtual_ips) if sa.has_leases else (sa.virtual_ips, theirs)


def choose(sa: IkeSa, parts: Parts, *, name: str = "", is_first: bool = False, takes_transport: bool = False) -> Agreed:
    """As responder: choose a child of the connection for the offer; with a `name`, only that one.

    Transport mode is for a peer that asks for it, if we take it, and the child is to be in it; else there is a tunnel.
    Raises TsUnacceptable or NoChildProposalChosen, whichever says better why none fits; FailedCpRequired for a peer
    that has none of the addresses that it was to ask for.
    """
    assert sa.connection is not None
    if sa.connection.settings.pools and not (sa.has_leases or sa.is_line_ours or name):
        raise FailedCpRequired("the peer has not asked for a virtual address")
    offer = parts.need(SecurityAssociation)
    offered_i = parts.need(TrafficSelectorsInitiator).selectors
    offered_r = parts.need(TrafficSelectorsResponder).selectors
    local, remote = ends(sa)
    asked: transport_mode.Ends | None = None
    if takes_transport and transport_mode.is_named(parts):
        asked = transport_mode.ends_of(sa, offered_r, offered_i)
    has_traffic = False
    best: Agreed | None = None
    best_score = -1
    for child in sa.connection.children:
        if name and child.settings.name != name:
            continue
        seen = transport_mode.narrowed(sa, child, asked) if asked is not None else None
        ts_i = child.remote.narrow(remote, offered_i) if seen is None else seen.remote
        ts_r = child.local.narrow(local, offered_r) if seen is None else seen.local
        if not ts_i or not ts_r:
            continue
        has_traffic = True
        choice = (child.negotiator if is_first else child.further_negotiator).choose(offer)
        if choice is None:
            continue
        spi_out = _checked_spi(spi_of(offer, choice.number))
        carriage = _carriage(child, parts, is_transport=seen is not None)
        addresses = seen.seen_by_peer if seen is not None else None
        agreed = Agreed(child, choice, child_suite(choice.transforms), spi_out, ts_i, ts_r, carriage, addresses)
        if len(sa.connection.children) == 1:
            return agreed
        # RFC 7296 section 2.9: if it may be, what includes the initiator's first choices, which may be a packet's.
        score = is_within(offered_i[:1], ts_i) + is_within(offered_r[:1], ts_r)
        if score > best_score:
            best, best_score = agreed, score
    if best is not None:
        return best
    if has_traffic:
        raise NoChildProposalChosen("no child with this traffic accepts one of the proposals")
    raise TsUnacceptable("no child covers any of the traffic asked for")


def refuse(sa: IkeSa, parts: Parts, error: ProtocolViolation, turn: Turn) -> None:
    """As responder: note that the peer gets that error in place of the CHILD_SA that it asks for."""
    reason = error.notify.name.lower()
    turn.env.count(f'child_sas_refused_total{{reason="{reason}"}}')
    ts_i, ts_r = parts.find(TrafficSelectorsInitiator), parts.find(TrafficSelectorsResponder)
    children = tuple(child.settings for child in sa.connection.children) if sa.connection is not None else ()
    turn.effects.append(
        ChildRefused(
            sa.spi,
            reason,
            parts.find(SecurityAssociation),
            ts_i.selectors if ts_i is not None else (),
            ts_r.selectors if ts_r is not None else (),
            children,
        )
    )


def answer(agreed: Agreed, spi_in: bytes) -> tuple[Payload, ...]:
    """As responder: SA, TSi and TSr, and what agrees to transport mode."""
    choice = agreed.choice
    return (
        SecurityAssociation((Proposal(choice.number, _ESP, spi_in, choice.transforms),)),
        TrafficSelectorsInitiator(agreed.ts_i),
        TrafficSelectorsResponder(agreed.ts_r),
        *transport_mode.notifies(agreed.carriage.is_transport),
    )


def offer(
    sa: IkeSa,
    child: Child,
    spi_in: bytes,
    *,
    is_transport: bool = False,
    is_first: bool = False,
    flow: FlowSelectors | None = None,
) -> tuple[Payload, ...]:
    """As initiator: SA, TSi and TSr, and what asks for transport mode.

    The packet that the CHILD_SA is wanted for goes before our policy.
    """
    ours, theirs = _own_policy(sa, child, is_transport=is_transport, is_first=is_first)
    if flow is not None:
        has_address = not is_first or sa.connection is None or not sa.connection.settings.vips
        # The packet does not have the virtual address yet that is asked for.
        ours = preceded(ours, flow[0]) if has_address else ours
        theirs = preceded(theirs, flow[1])
    return (
        with_spi(child.offer if is_first else child.further_offer, spi_in),
        TrafficSelectorsInitiator(selectors=ours),
        TrafficSelectorsResponder(selectors=theirs),
        *transport_mode.notifies(is_transport),
    )


def _own_policy(
    sa: IkeSa, child: Child, *, is_transport: bool, is_first: bool
) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
    """What we offer as initiator: our end and the peer's.

    When rekeying too it is the whole of our policy, which is no narrower than what is in use (RFC 7296 section 2.9.2).
    """
    assert sa.connection is not None
    if is_transport:
        return transport_mode.policy(sa, child)
    local, remote = ends(sa)
    wanted = sa.connection.settings.vips if is_first else ()
    ours = child.local.before_assignment(wanted) if wanted else child.local.resolve(local)
    return ours, child.remote.resolve(remote)


def accept(sa: IkeSa, child: Child, parts: Parts, *, is_transport: bool, is_first: bool = False) -> Agreed:
    """As initiator: check the responder's answer. Raises InvalidSyntax or TsUnacceptable.

    If transport mode was asked for, it is in that or in tunnel mode, as the responder says.
    """
    chosen = parts.need(SecurityAssociation)
    choice = (child.negotiator if is_first else child.further_negotiator).accept(chosen)
    ts_i = parts.need(TrafficSelectorsInitiator).selectors
    ts_r = parts.need(TrafficSelectorsResponder).selectors
    ours, theirs = _own_policy(sa, child, is_transport=is_transport, is_first=is_first)
    seen: transport_mode.Ends | None = None
    if is_transport and transport_mode.is_named(parts):
        seen = transport_mode.ends_of(sa, ts_i, ts_r)
        ts_i, ts_r = (seen.local, seen.remote) if seen is not None else ((), ())
    if not ts_i or not ts_r or not is_within(ts_i, ours) or not is_within(ts_r, theirs):
        raise TsUnacceptable("the responder's traffic selectors are not within those we offered")
    spi_out = _checked_spi(chosen.proposals[0].spi)
    carriage = _carriage(child, parts, is_transport=seen is not None)
    addresses = seen.seen_by_peer if seen is not None else None
    return Agreed(child, choice, child_suite(choice.transforms), spi_out, ts_i, ts_r, carriage, addresses)


def note_declined(sa: IkeSa, agreed: Agreed, turn: Turn, *, is_transport: bool) -> bool:
    """As initiator: whether transport mode was asked for and there is a tunnel, which is to be closed at once.

    To be called before it is installed: it is nothing that anybody waits for.
    """
    if not is_transport or agreed.carriage.is_transport:
        return False
    turn.effects.append(ChildFailed(sa.spi, agreed.child.settings.name, transport_mode.DECLINED))
    return True


def install(
    sa: IkeSa,
    agreed: Agreed,
    spi_in: bytes,
    turn: Turn,
    *,
    nonce_i: bytes,
    nonce_r: bytes,
    is_initiator: bool,
    shared: bytes = b"",
    replaces: bytes = b"",
    is_outbound: bool = True,
    yields: bool = False,
) -> None:
    """Derive the keys, and hand the CHILD_SA to the data plane.

    The nonces, and `shared` if there was a key exchange, are those of the exchange that made it, and `is_initiator` is
    our part in that.
    """
    assert sa.suite is not None
    keys = derive_child_keys(agreed.suite, sa.suite.prf, sa.sk_d, nonce_i=nonce_i, nonce_r=nonce_r, shared=shared)
    keys_i, keys_r = (keys.encr_i, keys.integ_i), (keys.encr_r, keys.integ_r)
    settings, lifetimes = agreed.child.settings, agreed.child.lifetimes
    is_of_many = not is_initiator and not replaces and not sa.is_line_ours
    soft, hard = lifetimes.time.draw(turn.env.entropy, earliest=FIRST_OF_MANY if is_of_many else 0.0)
    child = ChildSa(
        name=settings.name,
        spi_in=spi_in,
        spi_out=agreed.spi_out,
        installed=turn.now,
        rekey_due=turn.now + soft,
        dies=turn.now + hard,
        replaces=replaces,
        ke_method=agreed.choice.ke_method,
        idleness=Idleness.of(turn.now, settings.inactivity_s, turn.now) if settings.inactivity_s else None,
        is_transport=agreed.carriage.is_transport,
    )
    sa.children = (*sa.children, child)
    turn.effects.append(
        InstallChild(
            sa=sa.spi,
            name=settings.name,
            spi_in=spi_in,
            spi_out=agreed.spi_out,
            suite=agreed.suite,
            keys_in=keys_r if is_initiator else keys_i,
            keys_out=keys_i if is_initiator else keys_r,
            ts_local=agreed.ts_i if is_initiator else agreed.ts_r,
            ts_remote=agreed.ts_r if is_initiator else agreed.ts_i,
            path=sa.path,
            is_udp_encapsulated=sa.is_udp_encapsulated,
            replay_window=settings.replay_window,
            carriage=agreed.carriage,
            is_outbound=is_outbound,
            limits=_usage_limits(agreed.child, turn),
            yields=yields,
            seen_by_peer=agreed.seen_by_peer,
        )
    )


def _usage_limits(child: Child, turn: Turn) -> UsageLimits | None:
    octets, packets = child.lifetimes.octets, child.lifetimes.packets
    if not octets.is_limited and not packets.is_limited:
        return None
    return UsageLimits(*octets.draw(turn.env.entropy), *packets.draw(turn.env.entropy))


def change(sa: IkeSa, child: ChildSa, **changes: object) -> ChildSa:
    """Put other values into a CHILD_SA of `sa`."""
    changed = msgspec.structs.replace(child, **changes)
    sa.children = tuple([changed if other is child else other for other in sa.children])
    return changed


def replace_by_successor(sa: IkeSa, child: ChildSa, turn: Turn) -> None:
    """Another one has taken its place: await its Delete, and see to that ourselves if it does not come."""
    change(sa, child, state=_REPLACED, rekey_due=NEVER, dies=min(child.dies, turn.now + PATIENCE_S), idleness=None)


def end(sa: IkeSa, child: ChildSa, turn: Turn) -> None:
    """Both ends know that it is deleted: stop using it, and let its successor take over where that has not happened."""
    for other in sa.children:
        if other.replaces == child.spi_in:
            if other.state == _INSTALLED:
                turn.effects.append(UseChild(other.spi_in))
            change(sa, other, replaces=b"")
    remove(sa, child, turn)


def close(sa: IkeSa, child: ChildSa, turn: Turn) -> None:
    """End it by a wish of ours. It sends no longer, whatever the peer answers, or when."""
    change(sa, child, dies=NEVER, rekey_due=NEVER, idleness=None)
    turn.effects.append(RetireChild(child.spi_in))
    turn.table.request(sa, DeleteChild(child.spi_in), turn)


def close_new(sa: IkeSa, spi_in: bytes, turn: Turn) -> None:
    """The same of one that was installed just now."""
    child = sa.child_in(spi_in)
    if child is not None:
        close(sa, child, turn)


def is_gone(sa: IkeSa, spi_in: bytes, gone: tuple[bytes, ...], turn: Turn) -> bool:
    """Whether the peer has deleted what we have just made, before its response arrived; then it is removed here too."""
    child = sa.child_in(spi_in)
    if child is None or child.spi_out not in gone:
        return False
    remove(sa, child, turn)
    return True


def remove(sa: IkeSa, child: ChildSa, turn: Turn) -> None:
    """Forget it."""
    sa.children = tuple([other for other in sa.children if other is not child])
    turn.table.release_child_spi(child.spi_in)
    turn.effects.append(RemoveChild(sa.spi, child.spi_in, child.state == _REPLACED, sa.name, child.name))


def _carriage(child: Child, parts: Parts, *, is_transport: bool) -> Carriage:
    """How packets are carried to a peer that has said this: padded only if it takes padding."""
    if is_transport:
        return child.transport_carriage
    if child.carriage.tfc_padding and parts.has_notify(_ESP_TFC_PADDING_NOT_SUPPORTED):
        return child.carriage.without_padding()
    return child.carriage


def _checked_spi(spi: bytes) -> bytes:
    if len(spi) != ESP_SPI_OCTETS or spi == bytes(ESP_SPI_OCTETS):
        raise InvalidSyntax("an ESP SPI has four octets, and is not zero")
    return spi
