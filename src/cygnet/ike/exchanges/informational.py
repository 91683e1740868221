"""INFORMATIONAL (RFC 7296 section 1.4): liveness checks, deletion, notifications."""

from cygnet.iana import ExchangeType, NotifyType, ProtocolId
from cygnet.ike.effects import RemoveChild
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.states import SaState
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.delete import Delete

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_AUTHENTICATION_FAILED = NotifyType.AUTHENTICATION_FAILED
_DELETING = SaState.DELETING
_ESP = ProtocolId.ESP
_IKE = ProtocolId.IKE
_INFORMATIONAL = ExchangeType.INFORMATIONAL
_INITIAL_CONTACT = NotifyType.INITIAL_CONTACT
_INVALID_SYNTAX = NotifyType.INVALID_SYNTAX


def respond(sa: IkeSa, datagram: bytes, parts: Parts, turn: Turn) -> None:
    """Answer a request: delete what it deletes, note what it notes. An empty one gets an empty answer."""
    is_ike_deleted = False
    ours: list[bytes] = []
    for delete in parts.deletes:
        if delete.protocol_id == _IKE:
            is_ike_deleted = True
        elif delete.protocol_id == _ESP:
            ours += _remove_children(sa, delete, turn)
    # An initiator that does not accept our AUTH may say so, and nothing else (RFC 7296 section 2.21.2).
    is_rejected = parts.has_notify(_AUTHENTICATION_FAILED)
    if is_ike_deleted or is_rejected:
        # The CHILD_SAs go with it, unnamed (RFC 7296 section 1.4.1).
        sa.send_response(datagram, _INFORMATIONAL, (), turn)
        reason = "authentication_failed" if is_rejected else "deleted_by_peer"
        turn.table.close(sa, reason, turn, is_answered=True)
        return
    answer: tuple[Payload, ...] = ()
    if ours:
        answer = (Delete(protocol_id=_ESP, spis=tuple(ours)),)
    sa.send_response(datagram, _INFORMATIONAL, answer, turn)
    if parts.has_notify(_INITIAL_CONTACT):
        turn.table.initial_contact(sa, turn)


def _remove_children(sa: IkeSa, delete: Delete, turn: Turn) -> list[bytes]:
    """Remove the CHILD_SAs that the peer names by its inbound SPIs; returns our SPIs of them, for the answer."""
    ours = []
    for spi in delete.spis:
        child = sa.child_with(spi)
        # One that we don't know is gone already: both sides deleted it at once (RFC 7296 section 1.4.1).
        if child is not None:
            sa.children = tuple(c for c in sa.children if c is not child)
            turn.table.release_child_spi(child.spi_in)
            turn.effects.append(RemoveChild(child.spi_in))
            ours.append(child.spi_in)
    return ours


def delete(sa: IkeSa, turn: Turn) -> None:
    """Tell the peer that this IKE_SA ends; at once, or after the outstanding request."""
    if sa.message_ids.outstanding is not None:
        sa.wants_delete = True
        return
    sa.wants_delete = False
    sa.state = _DELETING
    sa.send_request(_INFORMATIONAL, (Delete(protocol_id=_IKE, spis=()),), turn)


def probe(sa: IkeSa, turn: Turn) -> None:
    """Ask the peer whether it lives (RFC 7296 section 2.4)."""
    turn.env.count("liveness_checks_total")
    sa.send_request(_INFORMATIONAL, (), turn)


def finish(sa: IkeSa, parts: Parts, turn: Turn) -> None:
    """Take the response to our request: that the peer lives, or that it could not read us."""
    sa.message_ids.response_received()
    if parts.has_notify(_INVALID_SYNTAX):
        # Fatal at both ends, without a Delete (RFC 7296 section 2.21.3).
        turn.table.close(sa, "invalid_syntax", turn)
    elif sa.state == _DELETING:
        turn.table.close(sa, sa.ending or "deleted", turn)
    elif sa.wants_delete:
        delete(sa, turn)
