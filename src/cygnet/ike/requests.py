"""Our own requests in an IKE_SA that stands: one at a time, each for a task.

A new kind of request is a class in `tasks.py`, a function that begins it, one that takes its response, and a row here.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from cygnet.iana import ExchangeType, NotifyType
from cygnet.ike.effects import TaskDone
from cygnet.ike.exchanges import create_child_sa, informational, mobike, reauthentication, rekey_child, rekey_ike
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.states import SaState
from cygnet.ike.tasks import (
    CheckPath,
    CreateChild,
    DeleteChild,
    DeleteIke,
    MoveAddresses,
    Probe,
    Reauthenticate,
    RekeyChild,
    RekeyIke,
    TakeOver,
    Task,
    TellAddresses,
)

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_CREATE_CHILD_SA = ExchangeType.CREATE_CHILD_SA
_DELETING = SaState.DELETING
_INFORMATIONAL = ExchangeType.INFORMATIONAL
_INIT_SENT = SaState.INIT_SENT
_INVALID_SYNTAX = NotifyType.INVALID_SYNTAX


class Way(NamedTuple):
    """How a task is carried out."""

    exchange_type: ExchangeType
    start: Callable[[IkeSa, Any, Turn], None]
    """Sends the request (by `IkeSa.send_request`, naming the task); or nothing, if there is no need for it any more."""
    finish: Callable[[IkeSa, Any, Parts, Turn], None]
    """Takes the response. What it raises ends the IKE_SA."""


WAYS: Final[dict[type, Way]] = {
    Probe: Way(_INFORMATIONAL, informational.start_probe, informational.finish_probe),
    DeleteIke: Way(_INFORMATIONAL, informational.start_delete, informational.finish_delete),
    DeleteChild: Way(_INFORMATIONAL, informational.start_delete_child, informational.finish_delete_child),
    MoveAddresses: Way(_INFORMATIONAL, mobike.start_move, mobike.finish_move),
    CheckPath: Way(_INFORMATIONAL, mobike.start_check, mobike.finish_check),
    TellAddresses: Way(_INFORMATIONAL, mobike.start_tell, mobike.finish_tell),
    CreateChild: Way(_CREATE_CHILD_SA, create_child_sa.start, create_child_sa.finish),
    RekeyChild: Way(_CREATE_CHILD_SA, rekey_child.start, rekey_child.finish),
    RekeyIke: Way(_CREATE_CHILD_SA, rekey_ike.start, rekey_ike.finish),
    # These two only have others send requests.
    Reauthenticate: Way(_INFORMATIONAL, reauthentication.start, reauthentication.finish),
    TakeOver: Way(_CREATE_CHILD_SA, reauthentication.start_taking_over, reauthentication.finish),
}


def add(sa: IkeSa, task: Task) -> None:
    """Put a task at the end of what the SA has to do, once; the end of the SA goes before all, and instead of it."""
    if isinstance(task, DeleteIke):
        sa.pending = (task,) if sa.state != _DELETING else ()
    elif task not in sa.pending and not sa.is_ending:
        sa.pending = (*sa.pending, task)


def start_next(sa: IkeSa, turn: Turn) -> None:
    """Begin the next task, if nothing is outstanding and there are keys for it."""
    if sa.state == _INIT_SENT:
        # Nothing is outstanding there while the peer's puzzle is being solved.
        return
    is_quiet = sa.quiet_until is not None and turn.now < sa.quiet_until
    if not is_quiet:
        sa.quiet_until = None
    while sa.message_ids.outstanding is None:
        for task in sa.pending:
            way = WAYS[type(task)]
            if not is_quiet or way.exchange_type != _CREATE_CHILD_SA:
                break
        else:
            return
        sa.pending = tuple(other for other in sa.pending if other is not task)
        way.start(sa, task, turn)


def finish(sa: IkeSa, parts: Parts, turn: Turn) -> None:
    """Take the response to the outstanding request, which a task began."""
    waiting = sa.message_ids.outstanding
    assert waiting is not None and waiting.task is not None
    sa.message_ids.response_received()
    if parts.has_notify(_INVALID_SYNTAX):
        # Fatal at both ends, without a Delete (RFC 7296 section 2.21.3).
        turn.table.close(sa, "invalid_syntax", turn)
    else:
        turn.effects.append(TaskDone(sa.spi, waiting.task))
        WAYS[type(waiting.task)].finish(sa, waiting.task, parts, turn)
