"""Where new peers wait, and how many of them there may be.

Under more load than a worker can take most new peers fail, whatever it does. What it can choose is which, and what
the others cost it. So:

* What is in the queue already is not queued again: a peer that repeats its request keeps its place, or is the newest
  if those are served first.
* While the first in line waits but shortly, and there is room for all, peers are served in the order in which they
  came. Above that the newest is served first: a queue that never empties makes everybody wait for as long as it is, and
  answers come when their peers have lost patience. The newest has just sent.
* What comes beyond the queue's room pushes out the oldest.
* Of what it could not serve anyway, the kernel is told to let only a share in (`cygnet.net.shedding`): taking a
  datagram from a socket only to drop it costs a fortieth of a handshake, and at ten times the load that is a quarter
  of the processor.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from cygnet.ike.path import Path
from cygnet.net.shedding import is_notable
from cygnet.observe.counters import Count

Entry = tuple[bytes, Path]

LINE_S: Final = 1.0
"""Up to this wait of the first in line, peers are served in their order: a burst that is over so soon is none, and who
repeats a request sooner keeps its place. With a quarter of it the first of each burst had to try three times, where
peers came in bursts of a second and were nine tenths of what a worker can take."""
OVERFLOW_S: Final = 1.0
"""For how long it is overload that the queue had no room: with many times the load nobody gets to wait for LINE_S."""
REVIEW_S: Final = 0.2
"""How often the share that the kernel lets in is set anew."""
BACKLOG_S: Final = 1.0
"""New peers that can be served within this time may come; only above it the kernel is asked to turn some away."""
MARGIN: Final = 1.25
"""So many times what is served is let in, so that there is always somebody to serve."""
MEMORY_S: Final = 2.0
"""How far back it counts how many came and were served: several times what peers take between their two requests."""
FORGOTTEN_S: Final = 5 * MEMORY_S
"""After such a pause, in which the queue was empty again and again, the last storm says nothing of the next."""
_DOUBLINGS_TO_ALL: Final = 10
SMALLEST_SHARE: Final = 1 / 2**_DOUBLINGS_TO_ALL

_NOTABLE_CHANGE: Final = 1.1

_QUEUE_FULL: Final = 'datagrams_dropped_total{reason="queue_full"}'
_TOO_LATE: Final = 'datagrams_dropped_total{reason="too_late"}'
_WAITS_ALREADY: Final = 'datagrams_dropped_total{reason="waits_already"}'


class Pace(msgspec.Struct, gc=False):
    """How fast new peers came and were served lately, while some of them always waited.

    Handshakes under way come first, and come in bursts: what their peers or the network held up for a second arrives
    together. Then nobody new is served for a while, and many are in the next. A share that follows each interval swings
    between none and all, and leaves a worker idle that could serve many times those that it lets in.
    """

    served: float = 0.0
    offered: float = 0.0
    """Those that came to the kernel, whatever share it let in."""
    elapsed_s: float = 0.0

    def note(self, *, served: int, offered: float, elapsed_s: float) -> None:
        """Another interval has passed, in which the queue was never empty."""
        kept = math.exp(-elapsed_s / MEMORY_S)
        self.served = kept * self.served + served
        self.offered = kept * self.offered + offered
        self.elapsed_s = kept * self.elapsed_s + elapsed_s


def next_share(share: float, pace: Pace, *, waiting: int, is_overload: bool, elapsed_s: float) -> float:
    """The share of new peers that the kernel is to let in from now on, 1 for all of them.

    It let in `share` of them for `elapsed_s` seconds, and now `waiting` wait. MARGIN times as many are to come as are
    served. Once there is no overload, the share doubles in each REVIEW_S.
    """
    if not is_overload or waiting * pace.elapsed_s <= BACKLOG_S * pace.served:
        # By time, since nobody looks but once a second when nobody comes.
        return min(1.0, share * 2 ** min(elapsed_s / REVIEW_S, _DOUBLINGS_TO_ALL))
    if not pace.served or not pace.offered:
        # We have been busy with finishing: it is not known how many can be served.
        return share
    return min(1.0, max(SMALLEST_SHARE, MARGIN * pace.served / pace.offered))


class Newcomers:
    """The first requests of new peers."""

    __slots__ = (
        "_arrived",
        "_capacity",
        "_count",
        "_limit_share",
        "_noted",
        "_overflowed",
        "_pace",
        "_patience_s",
        "_reviewed",
        "_served",
        "_waiting",
        "share",
    )

    def __init__(
        self,
        *,
        capacity: int,
        patience_s: float,
        count: Count,
        limit_share: Callable[[float], object],
        now: float,
    ) -> None:
        """`limit_share` tells the kernel which share of new peers to let in."""
        self._capacity = capacity
        self._patience_s = patience_s
        self._count = count
        self._limit_share = limit_share
        self._waiting: OrderedDict[Entry, float] = OrderedDict()
        """When each came, or came last; in that order."""
        self._arrived = 0
        self._served = 0
        self._pace = Pace()
        self._noted = now
        self._reviewed = now
        self._overflowed = now - OVERFLOW_S
        """When the queue last had no room."""
        self.share = 1.0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, entry: Entry, now: float) -> None:
        """Let one wait."""
        self._arrived += 1
        waiting = self._waiting
        if entry in waiting:
            self._count(_WAITS_ALREADY)
            if not self._is_overload(now):
                return
            waiting.move_to_end(entry)
        elif len(waiting) >= self._capacity:
            _, came = waiting.popitem(last=False)
            self._overflowed = now
            self._count(_TOO_LATE if now - came > self._patience_s else _QUEUE_FULL)
        waiting[entry] = now

    def take(self, now: float, wanted: int) -> list[Entry]:
        """The next to be served, at most `wanted`; those that their senders have given up are dropped."""
        waiting = self._waiting
        taken: list[Entry] = []
        is_overload = self._is_overload(now)
        oldest = now - self._patience_s
        while waiting and len(taken) < wanted:
            entry, came = waiting.popitem(last=is_overload)
            if came >= oldest:
                taken.append(entry)
                continue
            self._count(_TOO_LATE)
            if is_overload and waiting:
                # It was the newest of them.
                self._count(_TOO_LATE, len(waiting))
                waiting.clear()
        self._served += len(taken)
        return taken

    def review(self, now: float) -> None:
        """Set the share anew, if it is time for that."""
        elapsed_s = now - self._reviewed
        if elapsed_s < REVIEW_S:
            return
        if now - self._noted > FORGOTTEN_S:
            self._pace = Pace()
        # Who has just come says nothing of how fast we serve: after a pause nobody was served, since nobody was there.
        if self._longest_wait_s(now) >= elapsed_s or self._overflowed >= self._reviewed:
            self._noted = now
            self._pace.note(served=self._served, offered=self._arrived / self.share, elapsed_s=elapsed_s)
        is_overload, waiting = self._is_overload(now), len(self._waiting)
        share = next_share(self.share, self._pace, waiting=waiting, is_overload=is_overload, elapsed_s=elapsed_s)
        self._reviewed = now
        self._arrived = self._served = 0
        if is_notable(share, self.share, _NOTABLE_CHANGE):
            self.share = share
            self._limit_share(share)

    def _is_overload(self, now: float) -> bool:
        """Whether more have come than can be served soon."""
        return self._longest_wait_s(now) > LINE_S or now - self._overflowed < OVERFLOW_S

    def _longest_wait_s(self, now: float) -> float:
        return now - next(iter(self._waiting.values()), now)
