"""The first CHILD_SA, negotiated inside IKE_AUTH (RFC 7296 section 1.2)."""

import msgspec

from cygnet.crypto.keymat import ChildSuite, derive_child_keys
from cygnet.iana import NotifyType, ProtocolId
from cygnet.ike.carriage import Carriage
from cygnet.ike.connections import Child
from cygnet.ike.effects import InstallChild
from cygnet.ike.errors import InvalidSyntax, NoChildProposalChosen, TsUnacceptable
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.nat import pack_address
from cygnet.ike.proposals import ProposalChoice, child_suite, spi_of, with_spi
from cygnet.ike.sa import ChildSa, Handshake, IkeSa, Turn
from cygnet.ike.selectors import is_within, narrow
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

ESP_SPI_OCTETS = 4


class Agreed(msgspec.Struct, frozen=True, gc=False):
    """What both sides settled on for a CHILD_SA."""

    child: Child
    choice: ProposalChoice
    suite: ChildSuite
    spi_out: bytes
    ts_i: tuple[TrafficSelector, ...]
    ts_r: tuple[TrafficSelector, ...]
    carriage: Carriage


def choose(sa: IkeSa, parts: Parts, virtual_ips: tuple[bytes, ...]) -> Agreed:
    """As responder: choose a child of the connection for the offer.

    Raises TsUnacceptable or NoChildProposalChosen, whichever says better why none fits.
    """
    assert sa.connection is not None
    offer = parts.need(SecurityAssociation)
    offered_i = parts.need(TrafficSelectorsInitiator).selectors
    offered_r = parts.need(TrafficSelectorsResponder).selectors
    remote = virtual_ips or (pack_address(sa.path.remote),)
    local = (pack_address(sa.path.local),)
    has_traffic = False
    for child in sa.connection.children:
        ts_i = narrow(child.remote.resolve(remote), offered_i)
        ts_r = narrow(child.local.resolve(local), offered_r)
        if not ts_i or not ts_r:
            continue
        has_traffic = True
        choice = child.negotiator.choose(offer)
        if choice is None:
            continue
        spi_out = _checked_spi(spi_of(offer, choice.number))
        return Agreed(child, choice, child_suite(choice.transforms), spi_out, ts_i, ts_r, _carriage(child, parts))
    if has_traffic:
        raise NoChildProposalChosen("no child with this traffic accepts one of the proposals")
    raise TsUnacceptable("no child covers any of the traffic asked for")


def answer(agreed: Agreed, spi_in: bytes) -> tuple[Payload, Payload, Payload]:
    """As responder: SA, TSi and TSr."""
    choice = agreed.choice
    return (
        SecurityAssociation((Proposal(choice.number, _ESP, spi_in, choice.transforms),)),
        TrafficSelectorsInitiator(agreed.ts_i),
        TrafficSelectorsResponder(agreed.ts_r),
    )


def offer(sa: IkeSa, child: Child, spi_in: bytes) -> tuple[Payload, Payload, Payload]:
    """As initiator: SA, TSi and TSr."""
    assert sa.connection is not None
    ours, theirs = _own_policy(sa, child)
    return (
        with_spi(child.offer, spi_in),
        TrafficSelectorsInitiator(selectors=ours),
        TrafficSelectorsResponder(selectors=theirs),
    )


def _own_policy(sa: IkeSa, child: Child) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
    """What we offer as initiator: our end and the peer's."""
    assert sa.connection is not None
    wanted = sa.connection.settings.vips
    ours = child.local.before_assignment(wanted) if wanted else child.local.resolve((pack_address(sa.path.local),))
    return ours, child.remote.resolve((pack_address(sa.path.remote),))


def accept(sa: IkeSa, child: Child, parts: Parts) -> Agreed:
    """As initiator: check the responder's answer. Raises InvalidSyntax or TsUnacceptable."""
    chosen = parts.need(SecurityAssociation)
    choice = child.negotiator.accept(chosen)
    ts_i = parts.need(TrafficSelectorsInitiator).selectors
    ts_r = parts.need(TrafficSelectorsResponder).selectors
    ours, theirs = _own_policy(sa, child)
    if not ts_i or not ts_r or not is_within(ts_i, ours) or not is_within(ts_r, theirs):
        raise TsUnacceptable("the responder's traffic selectors are not within those we offered")
    spi_out = _checked_spi(chosen.proposals[0].spi)
    return Agreed(child, choice, child_suite(choice.transforms), spi_out, ts_i, ts_r, _carriage(child, parts))


def install(sa: IkeSa, handshake: Handshake, agreed: Agreed, spi_in: bytes, turn: Turn) -> None:
    """Derive the keys, and hand the CHILD_SA to the data plane."""
    assert sa.suite is not None
    keys = derive_child_keys(agreed.suite, sa.suite.prf, sa.sk_d, nonce_i=handshake.nonce_i, nonce_r=handshake.nonce_r)
    keys_i, keys_r = (keys.encr_i, keys.integ_i), (keys.encr_r, keys.integ_r)
    is_initiator = sa.is_original_initiator
    settings = agreed.child.settings
    sa.children = (*sa.children, ChildSa(settings.name, spi_in, agreed.spi_out, turn.now))
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
        )
    )


def _carriage(child: Child, parts: Parts) -> Carriage:
    """How packets are carried to a peer that has said this: padded only if it takes padding."""
    if child.carriage.tfc_padding and parts.has_notify(_ESP_TFC_PADDING_NOT_SUPPORTED):
        return child.carriage.without_padding()
    return child.carriage


def _checked_spi(spi: bytes) -> bytes:
    if len(spi) != ESP_SPI_OCTETS or spi == bytes(ESP_SPI_OCTETS):
        raise InvalidSyntax("an ESP SPI has four octets, and is not zero")
    return spi
