"""Rekeying of IKE_SAs (RFC 7296 sections 1.3.2 and 2.18), also when both ends do it at once (section 2.8.2).

The new IKE_SA inherits the CHILD_SAs, the virtual addresses and what is still to be asked; the old one is deleted by
whoever made the new one. If both ends made one, the one made with the lowest of the four nonces is deleted by who made
it, and the other one inherits. Until that is known the peer's one is the `rival` of ours.

Whoever made the heir keeps the old one until the peer has deleted its own: that says that it has got the answer, for
which it can ask in the old one alone. Without it, it would not know what it is to delete.
"""

import msgspec

from cygnet.crypto.keymat import derive_rekeyed_ike_keys
from cygnet.iana import ExchangeType, NotifyType, ProtocolId
from cygnet.ike import ageing
from cygnet.ike.effects import DELETED_BY_PEER, MoveChild, RekeyFailed, SaRekeyed
from cygnet.ike.errors import InvalidSyntax, NoChildProposalChosen, PeerRefused, TemporaryFailure
from cygnet.ike.exchanges import child as children
from cygnet.ike.exchanges import creation, mobike, reauthentication
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.lifetimes import NEVER
from cygnet.ike.message_id import MessageIds
from cygnet.ike.proposals import ProposalChoice, ike_suite, spi_of, with_spi
from cygnet.ike.sa import Draft, IkeSa, MobikeRole, Turn
from cygnet.ike.states import SaState
from cygnet.ike.tasks import CreateChild, DeleteChild, DeleteIke, RekeyChild, RekeyIke
from cygnet.wire.header import NO_SPI
from cygnet.wire.payloads.nonce import Nonce
from cygnet.wire.payloads.security_association import Proposal, SecurityAssociation

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_CREATE_CHILD_SA = ExchangeType.CREATE_CHILD_SA
_ESTABLISHED = SaState.ESTABLISHED
_IKE = ProtocolId.IKE
_MOBIKE_RESPONDER = MobikeRole.RESPONDER
_REPLACED = SaState.REPLACED
_TEMPORARY_FAILURE = NotifyType.TEMPORARY_FAILURE

_OF_CHILDREN = (CreateChild, RekeyChild, DeleteChild)

IKE_SPI_OCTETS = 8


# As responder.


def respond(sa: IkeSa, datagram: bytes, parts: Parts, turn: Turn) -> None:
    """Answer a request. Raises ProtocolViolation."""
    _refuse_if_busy(sa)
    assert sa.connection is not None
    offer = parts.need(SecurityAssociation)
    nonce_i = parts.need(Nonce).data
    choice = sa.connection.negotiator.choose(offer)
    if choice is None:
        raise NoChildProposalChosen("none of the proposals is acceptable for the IKE_SA")
    spi_i = _checked_spi(spi_of(offer, choice.number))
    shared, public = creation.respond_ke(parts, choice)
    nonce_r = turn.env.entropy(creation.NONCE_OCTETS)
    spi_r = turn.table.new_ike_spi()
    heir = _make_heir(sa, choice, spi_i, spi_r, shared=shared, nonces=(nonce_i, nonce_r), is_initiator=False, turn=turn)
    answer = SecurityAssociation((Proposal(choice.number, _IKE, spi_r, choice.transforms),))
    sa.send_response(datagram, _CREATE_CHILD_SA, (answer, Nonce(nonce_r), *public), turn)
    draft = sa.draft
    if draft is None:
        _replace(sa, heir, turn)
    else:
        draft.rival, draft.rival_nonce = heir.spi, min(nonce_i, nonce_r)


def _refuse_if_busy(sa: IkeSa) -> None:
    """RFC 7296 sections 2.25.1 and 2.25.2; raises TemporaryFailure."""
    if sa.state != _ESTABLISHED or sa.is_ending or sa.predecessor:
        raise TemporaryFailure("the IKE_SA ends, or has only begun")
    waiting = sa.message_ids.outstanding
    if waiting is not None and isinstance(waiting.task, _OF_CHILDREN):
        raise TemporaryFailure("a CHILD_SA is being created, rekeyed or closed")
    if sa.draft is not None and sa.draft.rival:
        raise TemporaryFailure("it is being rekeyed from both ends already")


def inherit_early(sa: IkeSa, turn: Turn) -> None:
    """The peer uses this IKE_SA, which it made while we are rekeying the one before: for the peer it has inherited."""
    if sa.predecessor and sa.state == _ESTABLISHED:
        old = turn.table.sa(sa.predecessor)
        if old is not None and _rival_of(old, turn) is sa:
            _replace(old, sa, turn)


def deleted(sa: IkeSa, turn: Turn) -> None:
    """The peer deletes an IKE_SA. If we are rekeying it, forget that, and let the peer's own heir have what it has.

    RFC 7296 section 2.8.2: it has rekeyed it without noticing that we do too.
    """
    rival = _rival_of(sa, turn)
    if rival is not None:
        _replace(sa, rival, turn)
    old = turn.table.sa(sa.predecessor) if sa.is_replaced and sa.predecessor else None
    if old is not None:
        # It was the redundant one: nothing more is to be said in the one that both had rekeyed.
        turn.table.request(old, DeleteIke(), turn)


def reason_of_delete(sa: IkeSa) -> str:
    """Why the peer deletes an IKE_SA: the label of its end."""
    if sa.is_replaced:
        return sa.ending or "rekeyed"
    return "redundant" if sa.predecessor else DELETED_BY_PEER


# As initiator.


def start(sa: IkeSa, task: RekeyIke, turn: Turn) -> None:
    """Ask for the successor."""
    if sa.state != _ESTABLISHED or sa.predecessor or sa.connection is None or sa.suite is None:
        return
    methods = sa.connection.ke_methods
    method = sa.suite.ke.id if sa.suite.ke.id in methods else methods[0]
    _send(sa, creation.begin(task, turn.table.new_ike_spi(), method, turn), task, turn)


def _send(sa: IkeSa, draft: Draft, task: RekeyIke, turn: Turn) -> None:
    assert sa.connection is not None
    offer = with_spi(sa.connection.ike_offer, draft.spi)
    public = creation.own_public(draft.ke_method, draft.key_pair)
    sa.draft = draft
    sa.send_request(_CREATE_CHILD_SA, (offer, Nonce(draft.nonce), *public), turn, task)


def finish(sa: IkeSa, task: RekeyIke, parts: Parts, turn: Turn) -> None:
    """Take the response. Raises IkeError, which ends the IKE_SA, if it is none to what was asked."""
    refusal = parts.error()
    if refusal is not None:
        _refused(sa, task, refusal, parts, turn)
        return
    assert sa.connection is not None and sa.draft is not None
    answer = parts.need(SecurityAssociation)
    choice = sa.connection.negotiator.accept(answer)
    spi_r = _checked_spi(answer.proposals[0].spi)
    draft = sa.draft
    shared = creation.finish_ke(draft, parts, choice)
    nonces = (draft.nonce, parts.need(Nonce).data)
    is_ending, rival = sa.is_ending, _rival_of(sa, turn)
    sa.draft = None
    heir = _make_heir(sa, choice, draft.spi, spi_r, shared=shared, nonces=nonces, is_initiator=True, turn=turn)
    if sa.is_replaced or (rival is not None and min(nonces) < draft.rival_nonce):
        # RFC 7296 section 2.8.2: ours is deleted by us, and the old one by the peer.
        if rival is not None:
            _replace(sa, rival, turn)
        heir.ending = "redundant"
        turn.table.request(heir, DeleteIke(), turn)
        return
    _replace(sa, heir, turn)
    sa.ending = "rekeyed"
    if rival is None:
        turn.table.request(sa, DeleteIke(), turn)
    else:
        rival.state, rival.dies = _REPLACED, turn.now + children.PATIENCE_S
        rival.ending = "redundant"
        turn.table.schedule(rival)
    if is_ending:
        turn.table.request(heir, DeleteIke(), turn)


def _refused(sa: IkeSa, task: RekeyIke, refusal: PeerRefused, parts: Parts, turn: Turn) -> None:
    assert sa.connection is not None
    rival = _rival_of(sa, turn)
    draft = creation.take_draft(sa)
    if rival is not None:
        # It has not noticed that both rekey, and takes the IKE_SA for one that it is closing (RFC 7296 section 2.8.2).
        _replace(sa, rival, turn)
        return
    if sa.state != _ESTABLISHED:
        return
    method = creation.other_method(draft, sa.connection.ke_methods, refusal, parts)
    if method:
        creation.with_method(draft, method)
        _send(sa, draft, task, turn)
    elif refusal.notify_type == _TEMPORARY_FAILURE:
        creation.ask_later(sa, task, turn)
    else:
        turn.env.count(f'rekeyings_refused_total{{reason="{refusal.reason}"}}')
        sa.rekey_due = creation.again_at(turn)
        turn.effects.append(RekeyFailed(sa.spi, refusal.reason))


# Both.


def _checked_spi(spi: bytes) -> bytes:
    if len(spi) != IKE_SPI_OCTETS or spi == NO_SPI:
        raise InvalidSyntax("an IKE SPI has eight octets, and is not zero")
    return spi


def _rival_of(sa: IkeSa, turn: Turn) -> IkeSa | None:
    """The IKE_SA that the peer made in place of `sa` while we are rekeying it too, if it has not inherited yet."""
    if sa.draft is None or not sa.draft.rival or not isinstance(sa.draft.task, RekeyIke):
        return None
    rival = turn.table.sa(sa.draft.rival)
    return rival if rival is not None and rival.predecessor else None


def _make_heir(
    sa: IkeSa,
    choice: ProposalChoice,
    spi_i: bytes,
    spi_r: bytes,
    *,
    shared: bytes,
    nonces: tuple[bytes, bytes],
    is_initiator: bool,
    turn: Turn,
) -> IkeSa:
    """An IKE_SA between the same ends with new keys (RFC 7296 section 2.18), which has not inherited anything yet.

    Whoever begins the exchange is its original initiator (section 2.18); its message IDs begin at 0.
    """
    assert sa.suite is not None
    suite = ike_suite(choice.transforms)
    keys = derive_rekeyed_ike_keys(
        suite,
        old_prf=sa.suite.prf,
        old_sk_d=sa.sk_d,
        shared=shared,
        nonce_i=nonces[0],
        nonce_r=nonces[1],
        spi_i=spi_i,
        spi_r=spi_r,
    )
    heir = msgspec.structs.replace(
        sa,
        spi=spi_i if is_initiator else spi_r,
        spi_i=spi_i,
        spi_r=spi_r,
        is_original_initiator=is_initiator,
        state=_ESTABLISHED,
        message_ids=MessageIds(),
        suite=suite,
        last_inbound=turn.now,
        established=turn.now,
        children=(),
        virtual_ips=(),
        has_leases=False,
        pending=(),
        quiet_until=None,
        draft=None,
        predecessor=sa.spi,
        proof=None,
        ending="",
        wheel_slot=0,
    )
    heir.set_keys(keys, turn.env)
    ageing.begin(heir, turn)
    turn.table.adopt(heir)
    return heir


def _replace(old: IkeSa, heir: IkeSa, turn: Turn) -> None:
    """Let `heir` have all that `old` has; that waits for its Delete then."""
    old.count("ike_sas_rekeyed_total", turn)
    if heir.is_original_initiator:
        old.count("ike_sas_rekeyed_by_us_total", turn)
    heir.predecessor = b""
    heir.virtual_ips, heir.has_leases = old.virtual_ips, old.has_leases
    heir.children = old.children
    heir.proof, old.proof = old.proof, None
    reauthentication.limit(heir)
    heir.pending = (*mobike.unanswered(old), *[task for task in old.pending if not isinstance(task, RekeyIke)])
    # RFC 4555 section 3.5: what moves the peer may have come in the heir, and the old one's Delete after that.
    is_moved = heir.mobike is _MOBIKE_RESPONDER and heir.message_ids.expected_id > 0
    if (is_moved or heir.last_inbound > old.last_inbound) and heir.path != old.path:
        for child in heir.children:
            turn.effects.append(MoveChild(child.spi_in, heir.path, heir.is_udp_encapsulated))
    elif heir.path != old.path:
        heir.path = old.path
    old.virtual_ips, old.has_leases, old.children, old.pending = (), False, (), ()
    old.state, old.rekey_due, old.dies = _REPLACED, NEVER, turn.now + children.PATIENCE_S
    turn.effects.append(SaRekeyed(old.spi, heir.spi, heir.name, heir.remote_id))
    turn.table.inherit(old, heir, turn)
