"""What is set up again when the peer is gone, or has ended the IKE_SA: `dpd_action` and `close_action`."""

from cygnet.ike.effects import DELETED_BY_PEER, Revive
from cygnet.ike.sa import ChildSa, ChildState, IkeSa, Turn
from cygnet.ike.settings import EndAction
from cygnet.ike.tasks import CreateChild, DeleteChild

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_INSTALLED = ChildState.INSTALLED
_NONE = EndAction.NONE
_START = EndAction.START
_TRAP = EndAction.TRAP

_DEAD = "timeout_informational", "timeout_create_child_sa"


def sa_closed(sa: IkeSa, reason: str, turn: Turn) -> None:
    """An IKE_SA that stood has ended. If not by our wish, ask for the children that are to be started again."""
    is_dead = reason in _DEAD
    connection = sa.connection
    if connection is None or not (is_dead or reason == DELETED_BY_PEER) or sa.is_ending or sa.is_replaced:
        return
    # A peer that has its virtual address from us comes to us for the next one.
    if sa.has_leases:
        return
    names = {child.name for child in sa.children} | _asked_for(sa)
    settings = [child.settings for child in connection.children if child.settings.name in names]
    actions = [(c.name, c.dpd_action if is_dead else c.close_action) for c in settings]
    start, trap = (tuple(name for name, action in actions if action is wanted) for wanted in (_START, _TRAP))
    if start or trap:
        turn.effects.append(Revive(sa.name, sa.path, start, trap))


def child_closed(sa: IkeSa, child: ChildSa, turn: Turn) -> None:
    """The peer ends a CHILD_SA alone: ask for it again in the same IKE_SA, unless there is a successor or no wish."""
    if child.state != _INSTALLED or sa.connection is None or sa.has_leases:
        return
    if DeleteChild(child.spi_in) in sa.pending:
        return
    settings = sa.connection.child(child.name)
    action = settings.settings.close_action if settings is not None else _NONE
    if action is _START:
        turn.table.request(sa, CreateChild(child.name), turn)
    elif action is _TRAP:
        turn.effects.append(Revive(sa.name, sa.path, (), (child.name,)))


def _asked_for(sa: IkeSa) -> set[str]:
    """The names of the children that were still to be set up."""
    waiting = sa.message_ids.outstanding
    under_way = (waiting.task,) if waiting is not None else ()
    return {task.name for task in (*under_way, *sa.pending) if isinstance(task, CreateChild)}
