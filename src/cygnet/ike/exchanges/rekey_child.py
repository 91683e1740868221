"""Rekeying of CHILD_SAs (RFC 7296 sections 1.3.3 and 2.8), also when both ends do it at once (section 2.8.1).

Whoever made the new one deletes the old one. If both ends made one, the one made with the lowest of the four nonces is
deleted by who made it, and who made the other one deletes the old one.
"""

from cygnet.iana import ExchangeType, NotifyType, ProtocolId
from cygnet.ike import inactivity
from cygnet.ike.connections import Child
from cygnet.ike.effects import ChildFailed, ChildRekeyed
from cygnet.ike.errors import ChildSaNotFound, InvalidSyntax, PeerRefused, TemporaryFailure
from cygnet.ike.exchanges import child as children
from cygnet.ike.exchanges import creation
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.sa import ChildSa, ChildState, Draft, IkeSa, Turn
from cygnet.ike.tasks import CreateChild, DeleteChild, RekeyChild, RekeyIke
from cygnet.wire.payloads.nonce import Nonce
from cygnet.wire.payloads.notify import Notify

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_CHILD_SA_NOT_FOUND = NotifyType.CHILD_SA_NOT_FOUND
_CREATE_CHILD_SA = ExchangeType.CREATE_CHILD_SA
_ESP = ProtocolId.ESP
_INSTALLED = ChildState.INSTALLED
_REKEY_SA = NotifyType.REKEY_SA
_TEMPORARY_FAILURE = NotifyType.TEMPORARY_FAILURE


# As responder; the answer is made in `create_child_sa.py`.


def find(sa: IkeSa, named: Notify) -> ChildSa:
    """The CHILD_SA that a REKEY_SA notify names. Raises ChildSaNotFound, TemporaryFailure (RFC 7296 section 2.25.1)."""
    if named.protocol_id != _ESP or len(named.spi) != children.ESP_SPI_OCTETS:
        raise InvalidSyntax("REKEY_SA names no ESP SA")
    old = sa.child_with(named.spi)
    if old is None:
        if sa.draft is not None and not isinstance(sa.draft.task, RekeyIke):
            # The response that has it may be on the way: the peer uses already what we are just making.
            raise TemporaryFailure("this may be the CHILD_SA that is being made")
        raise ChildSaNotFound(named.spi)
    waiting = sa.message_ids.outstanding
    closing = DeleteChild(old.spi_in)
    if old.state != _INSTALLED or closing in sa.pending or (waiting is not None and waiting.task == closing):
        raise TemporaryFailure("this CHILD_SA is being closed")
    return old


def replaced_by_peer(sa: IkeSa, old: ChildSa, spi_in: bytes, lowest_nonce: bytes, turn: Turn) -> None:
    """The peer's rekeying is answered; if ours of the same CHILD_SA is under way, note what decides between them."""
    children.replace_by_successor(sa, old, turn)
    draft = sa.draft
    if draft is not None and isinstance(draft.task, RekeyChild) and draft.task.spi_in == old.spi_in:
        draft.rival, draft.rival_nonce = spi_in, lowest_nonce
    _note(sa, old, spi_in, turn)


def _note(sa: IkeSa, old: ChildSa, spi_in: bytes, turn: Turn) -> None:
    sa.count("child_sas_rekeyed_total", turn)
    turn.effects.append(ChildRekeyed(sa.spi, old.spi_in, spi_in))
    inactivity.inherit(old, sa, sa.child_in(spi_in), turn)


# As initiator.


def start(sa: IkeSa, task: RekeyChild, turn: Turn) -> None:
    """Ask for the successor, unless it is there, or the CHILD_SA gone."""
    assert sa.connection is not None
    old = sa.child_in(task.spi_in)
    child = sa.connection.child(old.name) if old is not None else None
    if old is None or child is None or old.state != _INSTALLED:
        return
    methods = child.ke_methods
    method = old.ke_method if old.ke_method in methods else methods[0] if methods else 0
    _send(sa, creation.begin(task, turn.table.new_child_spi(sa), method, turn), child, task, turn)


def _send(sa: IkeSa, draft: Draft, child: Child, task: RekeyChild, turn: Turn) -> None:
    old = sa.child_in(task.spi_in)
    draft.is_transport = old is not None and old.is_transport
    security_association, *selectors = children.offer(sa, child, draft.spi, is_transport=draft.is_transport)
    public = creation.own_public(draft.ke_method, draft.key_pair)
    named = Notify(_ESP, task.spi_in, _REKEY_SA, b"")
    draft.name = child.settings.name
    sa.draft = draft
    payloads = (named, security_association, Nonce(draft.nonce), *public, *selectors)
    sa.send_request(_CREATE_CHILD_SA, payloads, turn, task)


def finish(sa: IkeSa, task: RekeyChild, parts: Parts, turn: Turn) -> None:
    """Take the response. Raises IkeError, which ends the IKE_SA, if it is none to what was asked."""
    refusal = parts.error()
    if refusal is not None:
        _refused(sa, task, refusal, parts, turn)
        return
    draft = sa.draft
    assert draft is not None and sa.connection is not None
    # The peer may have deleted the old one since it answered, and its Delete may have come first.
    child = sa.connection.child(draft.name)
    assert child is not None
    agreed = children.accept(sa, child, parts, is_transport=draft.is_transport)
    shared = creation.finish_ke(draft, parts, agreed.choice)
    nonce_r = parts.need(Nonce).data
    sa.draft = None
    rival = sa.child_in(draft.rival)
    is_lost = rival is not None and min(draft.nonce, nonce_r) < draft.rival_nonce
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
        is_outbound=not is_lost and not is_declined,
    )
    if children.is_gone(sa, draft.spi, draft.gone, turn):
        # The peer has ended it, and so what it was to replace.
        if sa.child_in(task.spi_in) is not None and not is_lost:
            _delete(sa, task.spi_in, turn)
        return
    old = sa.child_in(task.spi_in)
    if is_declined and not is_lost:
        children.close_new(sa, draft.spi, turn)
        if old is not None:
            children.change(sa, old, rekey_due=creation.again_at(turn))
        return
    if is_lost:
        # RFC 7296 section 2.8.1: by the endpoint that created it. The old one is the peer's to delete.
        _delete(sa, draft.spi, turn)
        return
    if rival is not None:
        children.replace_by_successor(sa, rival, turn)
    if old is not None:
        _note(sa, old, draft.spi, turn)
        _delete(sa, old.spi_in, turn)


def _delete(sa: IkeSa, spi_in: bytes, turn: Turn) -> None:
    child = sa.child_in(spi_in)
    if child is not None:
        children.replace_by_successor(sa, child, turn)
        turn.table.request(sa, DeleteChild(spi_in), turn)


def _refused(sa: IkeSa, task: RekeyChild, refusal: PeerRefused, parts: Parts, turn: Turn) -> None:
    assert sa.connection is not None
    draft = creation.take_draft(sa)
    old = sa.child_in(task.spi_in)
    child = sa.connection.child(old.name) if old is not None else None
    if old is None or child is None or old.state != _INSTALLED:
        # The peer has replaced or deleted it meanwhile, and has not seen our request before that.
        turn.table.release_child_spi(draft.spi)
        return
    method = creation.other_method(draft, child.ke_methods, refusal, parts)
    if method:
        creation.with_method(draft, method)
        _send(sa, draft, child, task, turn)
        return
    turn.table.release_child_spi(draft.spi)
    if refusal.notify_type == _TEMPORARY_FAILURE:
        creation.ask_later(sa, task, turn)
    elif refusal.notify_type == _CHILD_SA_NOT_FOUND:
        # RFC 7296 section 2.25: delete it without a word, and set up a new one.
        children.remove(sa, old, turn)
        turn.table.request(sa, CreateChild(old.name), turn)
    else:
        children.change(sa, old, rekey_due=creation.again_at(turn))
        turn.effects.append(ChildFailed(sa.spi, old.name, refusal.reason))
