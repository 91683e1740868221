"""Which IKE_SAs are to be woken and in which order: what can wait does, while datagrams of SAs that stand wait.

To begin an exchange of ours, for new keys or to ask whether a peer lives, takes as long as to answer one, and brings an
answer that is to be served too. Who begins them as they come due, however much has arrived, gets ever further behind:
answers wait until they have been asked for again, and are lost in the end for want of room. So while we are behind they
wait, but for a few, and begin in their order as soon as we are not.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final

from cygnet.ike import waking
from cygnet.ike.environment import Environment
from cygnet.ike.lifetimes import NEVER
from cygnet.ike.record import SaStore
from cygnet.ike.sa import IkeSa
from cygnet.ike.timer_wheel import TimerWheel

BEHIND_S: Final = 0.05
"""We are behind while what is served next has waited for longer: a few turns of a worker."""
LOOK_S: Final = 0.02
"""Until we look again whether we still are, and begin a few even so."""
PER_CALL: Final = 64
"""SAs that are woken in one call: some milliseconds of work, after which datagrams get their turn."""
AT_ONCE: Final = 16
"""Of those that were put off: as long as datagrams have their turn."""
WHILE_BEHIND: Final = 4
"""Of these, while we are behind, after each `LOOK_S`: a twentieth of a worker's time. Peers that ask without end don't
keep others from new keys."""


class Agenda:
    """The timers of all IKE_SAs."""

    __slots__ = ("_due", "_env", "_look_at", "_put_off", "_sas", "_wheel")

    def __init__(self, sas: SaStore, env: Environment) -> None:
        self._sas = sas
        self._env = env
        self._wheel = TimerWheel()
        self._due: deque[bytes] = deque()
        self._put_off = OrderedDict[bytes, None]()
        """What is due and can wait. In the wheel too is what else is to be done at its time."""
        self._look_at = 0.0

    def __len__(self) -> int:
        """The timers that are set, those included that are found to be needless when they come up."""
        return len(self._wheel)

    @property
    def put_off(self) -> int:
        """How many SAs wait to begin what has come due."""
        return len(self._put_off)

    def next_due(self) -> float | None:
        """When `take_due` wants to be called next; None while nothing waits."""
        if self._due:
            return 0.0
        due = self._wheel.next_due()
        if self._put_off and (due is None or self._look_at < due):
            return self._look_at
        return due

    def schedule(self, sa: IkeSa) -> None:
        """See to it that an SA is woken no later than it wants to be."""
        due = sa.next_timer()
        # Already in a slot that comes up sooner: it will look again then.
        if due is None or (sa.wheel_slot and not TimerWheel.is_before(due, sa.wheel_slot)):
            return
        if self._sas.look(sa.spi) is sa:
            self._wheel.discard(sa.spi, sa.wheel_slot)
            sa.wheel_slot = self._wheel.add(sa.spi, due)

    def discard(self, sa: IkeSa) -> None:
        """An SA is gone."""
        self._wheel.discard(sa.spi, sa.wheel_slot)
        self._put_off.pop(sa.spi, None)

    def take_due(self, now: float) -> Iterator[IkeSa]:
        """The SAs that are to be woken now, each to be scheduled anew; what is left is due at once.

        Should one fail with an internal error, the rest come in the next call.
        """
        due, put_off = self._due, self._put_off
        due.extend(self._wheel.take_due(now))
        lag = self._env.lag(now)
        is_behind = lag > BEHIND_S
        for _ in range(min(len(due), PER_CALL)):
            sa = self._sas.get(due.popleft())
            # In a later slot too: then this is one that it has left behind.
            if sa is None or self._wheel.is_ahead(sa.wheel_slot, now):
                continue
            sa.wheel_slot = 0
            if (is_behind or put_off) and self._is_put_off(sa, lag, now):
                continue
            yield sa
        if not is_behind:
            begun, self._look_at = AT_ONCE, 0.0
        elif now < self._look_at:
            return
        else:
            begun, self._look_at = WHILE_BEHIND, now + LOOK_S
        for _ in range(min(len(put_off), begun)):
            sa = self._sas.get(put_off.popitem(last=False)[0])
            if sa is not None:
                yield sa

    def _is_put_off(self, sa: IkeSa, lag: float, now: float) -> bool:
        """Put off an SA that has come up, if it is due and can wait."""
        due, until = sa.next_timer(), waking.can_wait_until(sa, lag)
        if due is None or due > now or until <= now:
            self._put_off.pop(sa.spi, None)
            return False
        if until != NEVER:
            sa.wheel_slot = self._wheel.add(sa.spi, until)
        # Else it only waits for an answer that may be there.
        if sa.message_ids.outstanding is None:
            self._put_off[sa.spi] = None
        return True
