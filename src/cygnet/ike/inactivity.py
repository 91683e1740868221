"""CHILD_SAs that carry nothing for long are closed: `inactivity =`.

Whoever carries the traffic counts packets anyway. A few times in the span that a CHILD_SA may be idle for, its count is
looked at; so a packet costs nothing more, nor does a CHILD_SA that may be idle for ever. One that takes the place of
another is idle for as long as that was: new keys are no traffic.
"""

from cygnet.ike.exchanges import child as children
from cygnet.ike.sa import ChildSa, ChildState, Idleness, IkeSa, Turn
from cygnet.ike.tasks import CreateChild, DeleteIke

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_INSTALLED = ChildState.INSTALLED


def look(sa: IkeSa, child: ChildSa, turn: Turn) -> None:
    """See whether a CHILD_SA has carried anything since it was looked at last; close it if it did not for too long."""
    idleness, limit_s = child.idleness, _limit_s(sa, child)
    packets = turn.env.packets_carried(child.spi_in)
    if idleness is None or limit_s <= 0 or packets is None:
        # The configuration has changed, or nobody counts what is carried.
        children.change(sa, child, idleness=None)
        return
    since = idleness.since if packets == idleness.packets else turn.now
    if since + limit_s > turn.now:
        children.change(sa, child, idleness=Idleness.of(since, limit_s, turn.now, packets))
        return
    turn.env.count("child_sas_inactive_total")
    if turn.env.settings.inactivity_close_ike and _is_alone(sa, child):
        children.change(sa, child, idleness=None)
        sa.ending = "inactive"
        turn.table.request(sa, DeleteIke(), turn)
    else:
        children.close(sa, child, turn)


def inherit(old: ChildSa, sa: IkeSa, heir: ChildSa | None, turn: Turn) -> None:
    """A CHILD_SA of `sa` has taken the place of another one."""
    if heir is None or heir.idleness is None or old.idleness is None:
        return
    packets = turn.env.packets_carried(old.spi_in)
    if packets == old.idleness.packets:
        since, limit_s = old.idleness.since, _limit_s(sa, heir)
        children.change(sa, heir, idleness=Idleness.of(since, limit_s, turn.now, heir.idleness.packets))


def inherit_all(old: IkeSa, sa: IkeSa, turn: Turn) -> None:
    """The CHILD_SAs of `sa` have taken the place of those of the same names in `old`."""
    for child in old.children:
        heir = next((other for other in sa.children if other.name == child.name and other.state == _INSTALLED), None)
        inherit(child, sa, heir, turn)


def _limit_s(sa: IkeSa, child: ChildSa) -> float:
    settings = sa.connection.child(child.name) if sa.connection is not None else None
    return settings.settings.inactivity_s if settings is not None else 0.0


def _is_alone(sa: IkeSa, child: ChildSa) -> bool:
    """Whether there is no other CHILD_SA, and none to come."""
    others = any(other is not child and other.state == _INSTALLED for other in sa.children)
    return not others and not any(isinstance(task, CreateChild) for task in sa.pending)
