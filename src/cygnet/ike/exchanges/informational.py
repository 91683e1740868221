"""INFORMATIONAL (RFC 7296 section 1.4): liveness checks, deletion, notifications."""

from cygnet.iana import ExchangeType, NotifyType, ProtocolId
from cygnet.ike import revival, uniqueness
from cygnet.ike.exchanges import child as children
from cygnet.ike.exchanges import mobike, reauthentication, rekey_ike
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.states import SaState
from cygnet.ike.tasks import DeleteChild, DeleteIke, Probe
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.delete import Delete

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_AUTHENTICATION_FAILED = NotifyType.AUTHENTICATION_FAILED
_DELETING = SaState.DELETING
_ESP = ProtocolId.ESP
_IKE = ProtocolId.IKE
_INFORMATIONAL = ExchangeType.INFORMATIONAL
_INITIAL_CONTACT = NotifyType.INITIAL_CONTACT


def respond(sa: IkeSa, datagram: bytes, parts: Parts, turn: Turn) -> None:
    """Answer a request: delete what it deletes, note what it notes. An empty one gets an empty answer."""
    if parts.is_empty:
        # The peer asks whether we live (RFC 7296 section 1.4).
        sa.send_response(datagram, _INFORMATIONAL, (), turn)
        return
    is_ike_deleted = False
    ours: list[bytes] = []
    for delete in parts.deletes:
        if delete.protocol_id == _IKE:
            is_ike_deleted = True
        elif delete.protocol_id == _ESP:
            ours += _remove_children(sa, delete, turn)
    # An initiator that does not accept our AUTH may say so, and nothing else (RFC 7296 section 2.21.2).
    is_rejected = parts.notifies and parts.has_notify(_AUTHENTICATION_FAILED)
    if is_ike_deleted or is_rejected:
        # The CHILD_SAs go with it, unnamed (RFC 7296 section 1.4.1).
        sa.send_response(datagram, _INFORMATIONAL, (), turn)
        if is_ike_deleted:
            rekey_ike.deleted(sa, turn)
        reason = "authentication_failed" if is_rejected else rekey_ike.reason_of_delete(sa)
        turn.table.close(sa, reason, turn, is_answered=True)
        return
    answer: tuple[Payload, ...] = ()
    if ours:
        answer = (Delete(protocol_id=_ESP, spis=tuple(ours)),)
    if parts.notifies:
        answer += mobike.respond(sa, parts, turn)
        reauthentication.obey(sa, parts, turn)
    sa.send_response(datagram, _INFORMATIONAL, answer, turn)
    if parts.has_notify(_INITIAL_CONTACT):
        uniqueness.initial_contact(sa, turn)


_MAX_GONE = 8
"""What an exchange of ours makes is one CHILD_SA: the last few of what the peer names are more than enough."""


def _remove_children(sa: IkeSa, delete: Delete, turn: Turn) -> list[bytes]:
    """Remove the CHILD_SAs that the peer names by its inbound SPIs; returns our SPIs of them, for the answer."""
    ours = []
    waiting = sa.message_ids.outstanding
    requested = waiting.task if waiting is not None else None
    rekey_ike.inherit_early(sa, turn)
    for spi in delete.spis:
        child = sa.child_with(spi)
        # One that we don't know is gone already: both sides deleted it at once (RFC 7296 section 1.4.1). Or it is just
        # being made, and the response that has it is late.
        if child is None and sa.draft is not None:
            sa.draft.gone = (*sa.draft.gone, spi)[-_MAX_GONE:]
        if child is not None:
            is_ours = requested is not None and requested == DeleteChild(child.spi_in)
            if not is_ours:
                revival.child_closed(sa, child, turn)
            children.end(sa, child, turn)
            # That we are trying to close it ourselves is said by our own Delete (RFC 7296 section 1.4.1).
            if not is_ours:
                ours.append(child.spi_in)
    return ours


def start_delete(sa: IkeSa, task: DeleteIke, turn: Turn) -> None:
    """Tell the peer that this IKE_SA ends."""
    sa.state = _DELETING
    sa.send_request(_INFORMATIONAL, (Delete(protocol_id=_IKE, spis=()),), turn, task)


def finish_delete(sa: IkeSa, task: DeleteIke, parts: Parts, turn: Turn) -> None:
    """The peer knows, whatever its answer says."""
    turn.table.close(sa, sa.ending or "deleted", turn)


def start_probe(sa: IkeSa, task: Probe, turn: Turn) -> None:
    """Ask the peer whether it lives (RFC 7296 section 2.4)."""
    turn.env.count("liveness_checks_total")
    sa.send_request(_INFORMATIONAL, mobike.probe_notifies(sa, turn), turn, task)


def finish_probe(sa: IkeSa, task: Probe, parts: Parts, turn: Turn) -> None:
    """It does. With MOBIKE it may also say where it sees us."""
    mobike.note_mapping(sa, parts, turn)


def start_delete_child(sa: IkeSa, task: DeleteChild, turn: Turn) -> None:
    """Tell the peer that a CHILD_SA ends, if it has not ended already."""
    if sa.child_in(task.spi_in) is not None:
        sa.send_request(_INFORMATIONAL, (Delete(protocol_id=_ESP, spis=(task.spi_in,)),), turn, task)


def finish_delete_child(sa: IkeSa, task: DeleteChild, parts: Parts, turn: Turn) -> None:
    """The peer knows. Its answer names the other half of the pair, or nothing if it deleted it at the same time."""
    child = sa.child_in(task.spi_in)
    if child is not None:
        children.end(sa, child, turn)
