"""CREATE_CHILD_SA (RFC 7296 section 1.3): further CHILD_SAs here; rekeying is in `rekey_child.py`, `rekey_ike.py`."""

from cygnet.iana import ExchangeType, NotifyType, ProtocolId
from cygnet.ike import transport_mode
from cygnet.ike.effects import ChildFailed, ChildStands
from cygnet.ike.errors import NoAdditionalSas, ProtocolViolation, Scope, TransportUnavailable
from cygnet.ike.exchanges import child as children
from cygnet.ike.exchanges import creation, rekey_child, rekey_ike
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.sa import ChildSa, ChildState, Draft, IkeSa, Turn
from cygnet.ike.tasks import CreateChild
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.nonce import Nonce
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.security_association import SecurityAssociation

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_CREATE_CHILD_SA = ExchangeType.CREATE_CHILD_SA
_ESP = ProtocolId.ESP
_IKE = ProtocolId.IKE
_INSTALLED = ChildState.INSTALLED
_REKEY_SA = NotifyType.REKEY_SA
_TEMPORARY_FAILURE = NotifyType.TEMPORARY_FAILURE

# As responder.


def respond(sa: IkeSa, datagram: bytes, parts: Parts, turn: Turn) -> None:
    """Answer a request. Raises ProtocolViolation; most of them cost the peer its request, and nothing else."""
    offer = parts.need(SecurityAssociation)
    if _IKE in [proposal.protocol_id for proposal in offer.proposals]:
        rekey_ike.respond(sa, datagram, parts, turn)
        return
    rekey_ike.inherit_early(sa, turn)
    creation.refuse_if_busy(sa)
    named = next((notify for notify in parts.notifies if notify.notify_type == _REKEY_SA), None)
    try:
        payloads = _answer(sa, parts, named, turn)
    except ProtocolViolation as error:
        if error.scope is Scope.CHILD:
            children.refuse(sa, parts, error, turn)
        raise
    sa.send_response(datagram, _CREATE_CHILD_SA, payloads, turn)


def _answer(sa: IkeSa, parts: Parts, named: Notify | None, turn: Turn) -> tuple[Payload, ...]:
    """Make the CHILD_SA, in place of another if one is named; returns the payloads of the response."""
    old = rekey_child.find(sa, named) if named is not None else None
    _refuse_if_full(sa, old, turn)
    nonce_i = parts.need(Nonce).data
    name = old.name if old is not None else ""
    agreed = children.choose(sa, parts, name=name, takes_transport=turn.env.takes_transport)
    shared, public = creation.respond_ke(parts, agreed.choice)
    nonce_r = turn.env.entropy(creation.NONCE_OCTETS)
    spi_in = turn.table.new_child_spi(sa)
    children.install(
        sa,
        agreed,
        spi_in,
        turn,
        nonce_i=nonce_i,
        nonce_r=nonce_r,
        shared=shared,
        is_initiator=False,
        replaces=old.spi_in if old is not None else b"",
        # RFC 7296 section 2.8: the initiator of a rekeying may not yet know that it can receive on the new one.
        is_outbound=old is None,
        # Nor may it know of a further one, while it has an older one for the same traffic by another IKE_SA perhaps.
        yields=old is None,
    )
    if old is not None:
        rekey_child.replaced_by_peer(sa, old, spi_in, min(nonce_i, nonce_r), turn)
    security_association, *selectors = children.answer(agreed, spi_in)
    return (security_association, Nonce(nonce_r), *public, *selectors)


def _refuse_if_full(sa: IkeSa, old: ChildSa | None, turn: Turn) -> None:
    """An authenticated peer may want many CHILD_SAs, not any number. Raises NoAdditionalSas.

    One that takes the place of another is none more, as long as fewer that were replaced await their Delete than there
    stand.
    """
    standing = [child.state for child in sa.children].count(_INSTALLED)
    limit = turn.env.settings.child_sa_limit
    is_full = standing >= limit if old is None else len(sa.children) - standing >= max(standing, limit)
    if is_full:
        raise NoAdditionalSas("this IKE_SA has as many CHILD_SAs as it may")


# As initiator.


def start(sa: IkeSa, task: CreateChild, turn: Turn) -> None:
    """Ask for the CHILD_SA, unless there is one of that name already that will do."""
    assert sa.connection is not None
    child = sa.connection.child(task.name)
    if child is None:
        turn.effects.append(ChildFailed(sa.spi, task.name, "no_connection"))
        return
    if task.flow is None and any(c.name == task.name and c.state == _INSTALLED for c in sa.children):
        turn.effects.append(ChildStands(sa.spi, task.name))
        return
    try:
        transport_mode.check(sa, child, turn.env)
    except TransportUnavailable as error:
        turn.effects.append(ChildFailed(sa.spi, task.name, error.reason))
        return
    method = child.ke_methods[0] if child.ke_methods else 0
    _send(sa, creation.begin(task, turn.table.new_child_spi(sa), method, turn), task, turn)


def _send(sa: IkeSa, draft: Draft, task: CreateChild, turn: Turn) -> None:
    assert sa.connection is not None
    child = sa.connection.child(task.name)
    assert child is not None
    draft.is_transport = transport_mode.is_wanted(child)
    security_association, *selectors = children.offer(
        sa, child, draft.spi, is_transport=draft.is_transport, flow=task.flow
    )
    public = creation.own_public(draft.ke_method, draft.key_pair)
    sa.draft = draft
    sa.send_request(_CREATE_CHILD_SA, (security_association, Nonce(draft.nonce), *public, *selectors), turn, task)


def finish(sa: IkeSa, task: CreateChild, parts: Parts, turn: Turn) -> None:
    """Take the response. Raises IkeError, which ends the IKE_SA, if it is none to what was asked."""
    assert sa.connection is not None
    draft = creation.take_draft(sa)
    child = sa.connection.child(task.name)
    refusal = parts.error()
    if refusal is not None or child is None:
        method = creation.other_method(draft, child.ke_methods, refusal, parts) if child and refusal else 0
        if method:
            creation.with_method(draft, method)
            _send(sa, draft, task, turn)
            return
        turn.table.release_child_spi(draft.spi)
        if refusal is not None and refusal.notify_type == _TEMPORARY_FAILURE:
            creation.ask_later(sa, task, turn)
        else:
            turn.effects.append(ChildFailed(sa.spi, task.name, refusal.reason if refusal else "no_connection"))
        return
    sa.draft = draft  # So that its SPI is given back if what follows fails.
    agreed = children.accept(sa, child, parts, is_transport=draft.is_transport)
    shared = creation.finish_ke(draft, parts, agreed.choice)
    nonce_r = parts.need(Nonce).data
    sa.draft = None
    is_declined = children.note_declined(sa, agreed, turn, is_transport=draft.is_transport)
    children.install(
        sa,
        agreed,
        draft.spi,
        turn,
        nonce_i=draft.nonce,
        nonce_r=nonce_r,
        shared=shared,
        is_initiator=True,
        is_outbound=not is_declined,
    )
    if not children.is_gone(sa, draft.spi, draft.gone, turn) and is_declined:
        children.close_new(sa, draft.spi, turn)
