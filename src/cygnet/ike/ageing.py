"""What is done to SAs that grow old: rekey them in time, or end them."""

from cygnet.ike import inactivity
from cygnet.ike.exchanges import child as children
from cygnet.ike.exchanges import reauthentication
from cygnet.ike.lifetimes import FIRST_OF_MANY, NEVER
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.tasks import DeleteIke, Reauthenticate, RekeyChild, RekeyIke


def authenticated(sa: IkeSa, turn: Turn) -> None:
    """Both ends have just proven who they are: draw how long that counts, and how long the IKE_SA lives."""
    reauthentication.begin(sa, turn)
    begin(sa, turn, is_first=True)


def begin(sa: IkeSa, turn: Turn, *, is_first: bool = False) -> None:
    """The IKE_SA stands as of now: draw how long it lives. `is_first` if it does not take the place of another."""
    assert sa.connection is not None
    lifetimes = sa.connection.lifetimes
    soft, _ = lifetimes.rekey.draw(turn.env.entropy, earliest=FIRST_OF_MANY if is_first and not sa.is_line_ours else 0)
    sa.rekey_due = turn.now + soft
    sa.dies = sa.rekey_due + lifetimes.over_s
    reauthentication.limit(sa)


def see_to(sa: IkeSa, turn: Turn) -> None:
    """A limit in time is reached, of the IKE_SA or of one of its CHILD_SAs: rekey or end what has reached it."""
    now = turn.now
    if sa.dies <= now:
        sa.dies = sa.rekey_due = NEVER
        sa.proof = None
        sa.ending = sa.ending or ("rekeyed" if sa.is_replaced else "expired")
        turn.table.request(sa, DeleteIke(), turn)
    elif sa.proof is not None and sa.proof.reauth_due <= now:
        reauthentication.put_off(sa, turn)
        turn.table.request(sa, Reauthenticate(), turn)
    elif sa.rekey_due <= now:
        sa.rekey_due = NEVER
        turn.table.request(sa, RekeyIke(), turn)
    for child in sa.children:
        if child.dies <= now:
            children.close(sa, child, turn)
        elif child.rekey_due <= now:
            children.change(sa, child, rekey_due=NEVER)
            turn.table.request(sa, RekeyChild(child.spi_in), turn)
        elif child.idleness is not None and child.idleness.due <= now:
            inactivity.look(sa, child, turn)


def limit_reached(sa: IkeSa, spi_in: bytes, turn: Turn, *, is_hard: bool) -> None:
    """A CHILD_SA has carried as much as it may before it is to be rekeyed, or at all."""
    child = sa.child_in(spi_in)
    if child is not None and is_hard:
        children.close(sa, child, turn)
    elif child is not None:
        turn.table.request(sa, RekeyChild(spi_in), turn)
