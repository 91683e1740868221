"""How many IKE_SAs a peer may have with us: `unique =`, and INITIAL_CONTACT (RFC 7296 section 2.4).

As in strongSwan it is the responder that enforces this, for the two identities of the IKE_SA. What it finds on its own
worker it sees to at once; the other workers are told by an effect.

Two workers may set up IKE_SAs with the same peer in the same moment. What they ask of each other is put in one order by
whoever passes it on, for all of them: an IKE_SA whose own word is still on its way does nothing that it is asked, since
that came before, and who asked will hear of it. So one of the two stands, by `keep` the first and else the last.
"""

import math
from typing import Final

from cygnet.ike.effects import Demand, InitialContact
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.settings import Unique
from cygnet.ike.tasks import DeleteIke, Probe

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_CONFIRM = Demand.CONFIRM
_DELETE = Demand.DELETE
_FORGET = Demand.FORGET
_KEEP = Unique.KEEP
_NEVER = Unique.NEVER
_REFUSE = Demand.REFUSE
_REPLACE = Unique.REPLACE
_YIELD = Demand.YIELD

SUCCEEDED: Final = frozenset({"initial_contact", "replaced"})
"""How an IKE_SA ends whose peer has another one."""

CROSSING_S: Final = 10.0
"""An IKE_SA that is no older may have come while another was set up."""
UNDER_WAY_S: Final = 0.5
"""What we sent the peer so shortly before may have reached it since."""


def _policy(sa: IkeSa) -> Unique:
    assert sa.connection is not None
    return sa.connection.settings.unique


def is_refused(sa: IkeSa, turn: Turn, *, is_alone: bool) -> bool:
    """Whether a peer that has proven its identity is turned away, since it has an IKE_SA with us.

    `is_alone`: it says that it has none. One that comes from the same address may be authenticating itself anew.
    """
    if _policy(sa) is not _KEEP or is_alone:
        return False
    return any(other.path.remote != sa.path.remote for other in turn.table.rivals(sa))


def enforce(sa: IkeSa, turn: Turn, *, is_alone: bool) -> None:
    """The IKE_SA stands: let those go that it takes the place of."""
    policy = _policy(sa)
    if is_alone:
        initial_contact(sa, turn)
    elif policy is _REPLACE:
        _displace_rivals(sa, _DELETE, turn)
    elif policy is _KEEP and not turn.table.rivals(sa):
        # Another worker may have one with that peer: then ours goes.
        _claim(sa, _YIELD, turn)


def initial_contact(sa: IkeSa, turn: Turn) -> None:
    """The peer says that it has no IKE_SA but this: it had none when it put its message together."""
    if _policy(sa) is not _NEVER:
        _displace_rivals(sa, _FORGET, turn, begun=sa.handshake.started if sa.handshake is not None else turn.now)


def said_initial_contact(sa: IkeSa, turn: Turn) -> None:
    """We have said so, and it was so on this worker: what the peer has begun with us went with that word.

    Only what it began in these moments it may have yet, where both ends began at once: so that is asked for.
    """
    _displace_rivals(sa, _CONFIRM, turn)


def answer_demand(
    sa: IkeSa, demand: Demand, turn: Turn, *, asker: bytes = b"", remote: str = "", begun: float = math.inf
) -> None:
    """Another IKE_SA with the same peer stands, here or on another worker, and this one is to do as it demands.

    `asker` is its SPI, `remote` the address that the peer has in it, and `begun` when the peer began it: what came up
    later it may have as well, where both ends began at once, so it is told that this goes.
    """
    if demand is _FORGET and sa.established < begun - UNDER_WAY_S:
        turn.table.close(sa, "initial_contact", turn)
    elif sa.is_ending:
        return
    elif demand is _CONFIRM and turn.now - sa.established < CROSSING_S:
        turn.table.request(sa, Probe(), turn)
    elif demand in (_DELETE, _CONFIRM, _FORGET):
        sa.ending = "initial_contact" if demand is _FORGET else "replaced"
        turn.table.request(sa, DeleteIke(), turn)
    elif sa.path.remote != remote:
        turn.effects.append(InitialContact(asker, sa.local_id, sa.remote_id, _REFUSE))


def refused(sa: IkeSa | None, turn: Turn) -> None:
    """An older IKE_SA with the same peer stands on another worker, which is to be kept."""
    if sa is not None and not sa.is_ending:
        sa.ending = "not_unique"
        turn.table.request(sa, DeleteIke(), turn)


def _displace_rivals(sa: IkeSa, demand: Demand, turn: Turn, *, begun: float = math.inf) -> None:
    for other in turn.table.rivals(sa):
        answer_demand(other, demand, turn, begun=begun)
    _claim(sa, demand, turn, begun=begun)


def _claim(sa: IkeSa, demand: Demand, turn: Turn, *, begun: float = math.inf) -> None:
    """Ask it of the other workers too."""
    if turn.env.workers > 1:
        turn.table.claims.add(sa.spi)
    turn.effects.append(InitialContact(sa.spi, sa.local_id, sa.remote_id, demand, sa.path.remote, begun))
