"""Reauthentication (RFC 7296 section 2.8.3), and how the responder asks for it (RFC 4478).

There is no exchange for it: the end that began sets up another IKE_SA from scratch, with CHILD_SAs for the same traffic
and the same virtual addresses, and ends the old one when that is done. So nothing is interrupted; and if it can't be
done, the old one stands until the proof that it was made with counts no longer.
"""

from typing import Final

import msgspec

from cygnet.iana import NotifyType, ProtocolId
from cygnet.ike import inactivity
from cygnet.ike.effects import SaReauthenticated
from cygnet.ike.exchanges import creation
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.lifetimes import NEVER, REAUTH_OF_MANY, fraction
from cygnet.ike.path import Path
from cygnet.ike.sa import ChildState, IkeSa, Proof, Turn
from cygnet.ike.states import SaState
from cygnet.ike.tasks import CreateChild, DeleteIke, Reauthenticate, TakeOver
from cygnet.wire.payloads.notify import Notify

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_AUTH_LIFETIME = NotifyType.AUTH_LIFETIME
_ESTABLISHED = SaState.ESTABLISHED
_INSTALLED = ChildState.INSTALLED
_NO_PROTOCOL = ProtocolId.NONE

_LIFETIME_OCTETS = 4
LONGEST_MARGIN_S: Final = 300.0
"""So long, and by chance up to twice as long, before the peer's AUTH_LIFETIME is over we begin; or by a tenth of it."""
GRACE: Final = 0.1
"""Of the peer's AUTH_LIFETIME: so much later the IKE_SA is closed if the peer has not done that."""
SHORTEST_WAIT_S: Final = 1.0
"""Before another attempt at least; a quarter of the time that is left, if that is not too long."""


# Time.


def begin(sa: IkeSa, turn: Turn) -> None:
    """Both ends have just proven who they are: draw for how long that counts, if the configuration sets a limit."""
    assert sa.connection is not None
    lifetimes = sa.connection.lifetimes
    if lifetimes.reauth.is_limited:
        due, _ = lifetimes.reauth.draw(turn.env.entropy, earliest=0.0 if sa.is_line_ours else REAUTH_OF_MANY)
        ends = turn.now + due + lifetimes.over_s
        sa.proof = Proof(turn.now + due if sa.is_line_ours else NEVER, ends)


def limit(sa: IkeSa) -> None:
    """No IKE_SA outlives the proof that the first of its line was made with."""
    if sa.proof is not None and sa.proof.ends < sa.dies:
        sa.dies = sa.proof.ends


def put_off(sa: IkeSa, turn: Turn) -> None:
    """An attempt begins: say when the next one is due, should it fail."""
    proof = sa.proof
    if proof is not None and proof.reauth_due != NEVER:
        again = min(creation.again_at(turn), turn.now + max(SHORTEST_WAIT_S, (proof.ends - turn.now) / 4))
        sa.proof = msgspec.structs.replace(proof, reauth_due=again)


# As the end that was begun with.


def announce(sa: IkeSa, turn: Turn) -> tuple[Notify, ...]:
    """For our IKE_AUTH response: by when the peer is to authenticate itself anew, if it is (RFC 4478 section 3)."""
    if sa.proof is None or sa.connection is None:
        return ()
    seconds = max(1, round(sa.proof.ends - sa.connection.lifetimes.over_s - turn.now))
    return (Notify(_NO_PROTOCOL, b"", _AUTH_LIFETIME, min(seconds, 0xFFFFFFFF).to_bytes(_LIFETIME_OCTETS, "big")),)


# As the end that began.


def obey(sa: IkeSa, parts: Parts, turn: Turn) -> None:
    """The peer may have said for how long its proof of who we are counts: begin another IKE_SA before that is over."""
    given = parts.notify_data(_AUTH_LIFETIME)
    if not given or len(given[0]) != _LIFETIME_OCTETS or not sa.is_line_ours or sa.state != _ESTABLISHED:
        return
    seconds = max(SHORTEST_WAIT_S, float(int.from_bytes(given[0], "big")))
    early = min(seconds / 10, LONGEST_MARGIN_S) * (1 + fraction(turn.env.entropy))
    proof = sa.proof or Proof()
    due, ends = turn.now + seconds - early, turn.now + seconds * (1 + GRACE)
    sa.proof = msgspec.structs.replace(proof, reauth_due=min(due, proof.reauth_due), ends=min(ends, proof.ends))
    limit(sa)


def start(sa: IkeSa, task: Reauthenticate, turn: Turn) -> None:
    """Begin the IKE_SA that is to take the place of this one, unless one is under way."""
    proof = sa.proof or Proof()
    # One that is still to inherit has no CHILD_SAs, and its proof comes with them.
    if sa.state != _ESTABLISHED or sa.predecessor or sa.connection is None or not sa.is_line_ours:
        return
    if _taking_over(sa) or (proof.successor and _is_under_way(sa, proof.successor, turn)):
        return
    names = _standing(sa)
    child = sa.connection.child(names[0]) if names else None
    successor = turn.table.begin(sa.connection, _first_path(sa, turn), turn, child)
    if successor.handshake is not None:
        successor.handshake.vips = sa.virtual_ips
    successor.pending = (TakeOver(successor.spi, names),)
    sa.proof = msgspec.structs.replace(proof, successor=successor.spi)
    turn.env.count("reauthentications_total")


def _is_under_way(sa: IkeSa, successor: bytes, turn: Turn) -> bool:
    """Whether the IKE_SA that was begun to take the place of this one is there, or an heir that is still to do so."""
    heirs = turn.table.with_peer(sa.remote_id)
    return turn.table.sa(successor) is not None or any(_taking_over(heir) == successor for heir in heirs)


def _taking_over(sa: IkeSa) -> bytes:
    """What the SPI of the IKE_SA was at first, if it is to take the place of another and has not yet; else empty.

    Were it replaced itself meanwhile, nobody would end that other one.
    """
    return next((task.successor for task in sa.pending if isinstance(task, TakeOver)), b"")


def start_taking_over(sa: IkeSa, task: TakeOver, turn: Turn) -> None:
    """Ask for the CHILD_SAs that are missing; or, when that is done, end the IKE_SA before this."""
    if any(isinstance(other, CreateChild) for other in sa.pending):
        # The peer could not do it just then.
        turn.table.request(sa, task, turn)
        return
    others = turn.table.with_peer(sa.remote_id)
    old = next((other for other in others if other.proof and other.proof.successor == task.successor), None)
    present = {child.name for child in sa.children}
    wanted = dict.fromkeys((*task.names, *(_standing(old) if old is not None else ())))
    missing = tuple(name for name in wanted if name not in present and name not in task.asked)
    if missing:
        for name in missing:
            turn.table.request(sa, CreateChild(name), turn)
        turn.table.request(sa, TakeOver(task.successor, task.names, (*task.asked, *missing)), turn)
    elif old is not None:
        old.ending = "reauthenticated"
        inactivity.inherit_all(old, sa, turn)
        turn.effects.append(SaReauthenticated(old.spi, sa.spi))
        turn.table.request(old, DeleteIke(), turn)


def finish(sa: IkeSa, task: Reauthenticate | TakeOver, parts: Parts, turn: Turn) -> None:
    """No request is sent for these tasks themselves."""


def _standing(sa: IkeSa) -> tuple[str, ...]:
    """The names of its CHILD_SAs."""
    return tuple(dict.fromkeys(child.name for child in sa.children if child.state == _INSTALLED))


def _first_path(sa: IkeSa, turn: Turn) -> Path:
    """Where the ends are now, on the ports where IKE begins (RFC 7296 section 2.23)."""
    assert sa.connection is not None
    path, settings = sa.path, sa.connection.settings
    ports = {natt: ike for ike, natt in turn.env.natt_ports.items()}
    local_port = ports.get(path.local_port, path.local_port)
    is_floated = local_port != path.local_port
    return Path(path.local, local_port, path.remote, settings.remote_port if is_floated else path.remote_port)
