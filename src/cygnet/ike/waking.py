"""What an SA does when its timer has come up: retransmit, give a peer up, ask whether it lives, remind a NAT, age."""

from cygnet.iana import ExchangeType
from cygnet.ike import ageing, nat
from cygnet.ike.effects import Retransmitted
from cygnet.ike.exchanges import mobike
from cygnet.ike.fragments import Fragments
from cygnet.ike.message_id import Outstanding
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.tasks import Probe


def wake(sa: IkeSa, turn: Turn, fragments: Fragments) -> None:
    """Do what is due by now; nothing, if what was due has been put off since its timer was set."""
    if 0.0 < sa.keepalive_due <= turn.now:
        nat.keep_alive(sa, turn)
    due = sa.next_timer()
    if due is None or due > turn.now:
        return
    if sa.lifetime_due <= turn.now:
        ageing.see_to(sa, turn)
    waiting = sa.message_ids.outstanding
    if waiting is None:
        _look_for_life(sa, turn)
    elif waiting.due <= turn.now:
        _send_again(sa, waiting, turn, fragments)


def can_wait_until(sa: IkeSa, lag: float) -> float:
    """Until when an SA can be left alone, if all that it would begin can wait; NEVER if there is nothing else to do.

    New keys can wait, and the question whether a silent peer lives. A request is not sent again before all is served
    that had arrived when it was to be: what is served now came `lag` seconds ago, and the answer may be next.
    """
    waiting = sa.message_ids.outstanding
    until = sa.dies if waiting is None else min(sa.dies, waiting.due + lag)
    for child in sa.children:
        until = min(until, child.dies)
        if child.idleness is not None:
            until = min(until, child.idleness.due)
    if sa.quiet_until is not None and sa.pending:
        until = min(until, sa.quiet_until)
    return min(until, sa.keepalive_due) if sa.keepalive_due else until


def _look_for_life(sa: IkeSa, turn: Turn) -> None:
    """Ask whether the peer lives, if it is time for that, unless its ESP says so."""
    due = sa.liveness_due()
    if due is None or due > turn.now:
        return
    heard = max((turn.env.last_traffic(child.spi_in) for child in sa.children), default=0.0)
    sa.last_inbound = max(sa.last_inbound, heard)
    due = sa.liveness_due()
    if due is not None and due <= turn.now:
        turn.table.request(sa, Probe(), turn)


def _send_again(sa: IkeSa, waiting: Outstanding, turn: Turn, fragments: Fragments) -> None:
    """The outstanding request has gone unanswered: send it again, or give the peer up."""
    fragments.back_off(sa, turn)
    datagram = sa.message_ids.retransmit(turn.env.settings.retransmit, turn.now)
    if datagram is None:
        phase = ExchangeType(waiting.exchange_type).name.lower()
        turn.table.close(sa, sa.ending or f"timeout_{phase}", turn)
        return
    turn.env.count("retransmissions_total")
    mobike.send_again(sa, datagram, turn)
    turn.effects.append(Retransmitted(sa.spi))
