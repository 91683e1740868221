"""In which order a worker serves: finish before start.

IKE datagrams are sorted by their header alone into four queues: exchanges of established SAs, handshakes under way,
new peers, and strays, which belong to no SA. A peer that returns our cookie counts as under way: it has done its part
of a handshake, as a flood from forged addresses can't. The queues are served in that order, for a slice of time;
then the sockets get their turn, so that what arrives meanwhile is sorted too and not lost in the kernel, where nobody
can tell the one from the other. Under more load than it can take, a worker thus completes what it has begun and lets
new peers wait or fail: its goodput stays where it was. What has waited for longer than its sender has patience is
dropped, because the sender has sent it again by then, and will do so with what it gets for an answer to the first.
How new peers wait is told in `cygnet.gateway.overload.newcomers`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Final

from cygnet.gateway.overload.newcomers import Entry, Newcomers
from cygnet.iana import ExchangeType, PayloadType
from cygnet.ike.path import Path
from cygnet.observe.counters import Count
from cygnet.observe.metrics import STANDINGS
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, HEADER_OCTETS, NO_SPI


class Standing(IntEnum):
    """What an IKE datagram belongs to: in the order of service."""

    ESTABLISHED = 0
    UNDER_WAY = 1
    """A handshake of which we have seen the first message, or which the peer has begun anew with our cookie."""
    NEW = 2
    """A request for a new SA."""
    STRAY = 3
    """For no SA of ours: good for nothing but an answer that says so."""
    PAST_TRYING = 4
    """For a half-open SA that too much has come for which was not its peer's: it is dropped."""


# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_ESTABLISHED: Final = Standing.ESTABLISHED
_NEW: Final = Standing.NEW
_PAST_TRYING: Final = Standing.PAST_TRYING
_STRAY: Final = Standing.STRAY
_UNDER_WAY: Final = Standing.UNDER_WAY

WAITING: Final = tuple(f'datagrams_waiting{{standing="{standing}"}}' for standing in STANDINGS)
"""The gauges of the four queues, in the order of service."""

StandingOf = Callable[[bytes], Standing]
"""The standing of the SA with that SPI of ours; STRAY if there is none."""
HasCookie = Callable[[bytes, Path, float], bool]
"""Whether a request for a new SA brings a cookie that is good, at that time."""
AskCookies = Callable[[list[Entry], float], list[Entry]]
"""Answers those requests of new peers that get nothing but a cookie, at that time; returns the others."""
Serve = Callable[[Sequence[Entry], float], object]

SLICE_S: Final = 0.005
"""How long the queues are served before the sockets get their turn: 10 to 20 handshakes. The kernel's queues hold what
comes in a thousand times that."""
COOKIE_WAIT_S: Final = 0.25
"""Nobody is asked for a cookie while the first of those who have returned theirs has waited for longer."""
PATIENCE_S: Final = 4.0
"""After which a sender repeats a request (strongSwan's default; others take 0.5 to 10 seconds)."""
CAPACITY: Final = (8192, 8192, 4096, 64)
"""Datagrams that each queue holds. The third is what a worker can serve of new peers in some two seconds."""
MORE_RESPONSES: Final = 0.25
"""So much of its capacity more a queue holds of responses: each is to a request of ours, which was work already."""
_CHUNK: Final = 16
"""Datagrams served between two looks at the clock, at most: as many as the driver takes together."""
_CHUNK_SLICES: Final = 3
"""And for how long at most, by what those before took: 16 key exchanges of a large group are 40 ms, for which all
others wait, and in which a flood sends more than the sockets' next turn takes."""

_NEXT_PAYLOAD_OFFSET: Final = 16
_EXCHANGE_TYPE_OFFSET: Final = 18
_FLAGS_OFFSET: Final = 19
_IKE_SA_INIT: Final = int(ExchangeType.IKE_SA_INIT)
_NOTIFY: Final = int(PayloadType.NOTIFY)

_QUEUE_FULL: Final = 'datagrams_dropped_total{reason="queue_full"}'
_UNKNOWN_SPI: Final = 'datagrams_dropped_total{reason="unknown_spi"}'
_TOO_LATE: Final = 'datagrams_dropped_total{reason="too_late"}'
_TOO_MANY_FAILURES: Final = 'datagrams_dropped_total{reason="too_many_failures"}'
_STOPPING: Final = 'datagrams_dropped_total{reason="stopping"}'


def standing_of(datagram: bytes, standing_of_sa: StandingOf) -> Standing:
    """Place a datagram by its header. One too short to have a header is STRAY, to be refused when there is time."""
    if len(datagram) < HEADER_OCTETS:
        return _STRAY
    if not datagram[_FLAGS_OFFSET] & FLAG_INITIATOR:
        return standing_of_sa(datagram[:8])
    spi_r = datagram[8:16]
    if datagram[_EXCHANGE_TYPE_OFFSET] == _IKE_SA_INIT and spi_r == NO_SPI:
        return _NEW
    return standing_of_sa(spi_r)


def _next_chunk(served: int, took_s: float, longest_s: float) -> int:
    """How many are to be served next at most, and for so long, after `served` took so long."""
    if served * longest_s >= _CHUNK * took_s:
        return _CHUNK
    return max(1, int(served * longest_s / took_s))


class Intake:
    """The four queues."""

    def __init__(
        self,
        *,
        standing_of_sa: StandingOf,
        has_cookie: HasCookie,
        ask_cookies: AskCookies,
        serve: Serve,
        count: Count,
        again: Callable[[Callable[[], None]], object],
        limit_share: Callable[[float], object] = lambda share: None,
        clock: Callable[[], float] = time.monotonic,
        capacity: tuple[int, int, int, int] = CAPACITY,
        slice_s: float = SLICE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`serve(batch, now)` handles datagrams; `again(run)` has `run` called after the sockets' next turn.

        `limit_share` is told which share of new peers to let in, between 0 and 1, where that can be done for less.
        """
        self._standing_of_sa = standing_of_sa
        self._has_cookie = has_cookie
        self._ask_cookies = ask_cookies
        self._serve = serve
        self._count = count
        self._again = again
        self._clock = clock
        self._capacity = capacity
        self._for_responses = (*(int(each * (1 + MORE_RESPONSES)) for each in capacity[:_NEW]), *capacity[_NEW:])
        self._slice_s = slice_s
        self._patience_s = patience_s
        self._established: deque[tuple[float, Entry]] = deque()
        self._under_way: deque[tuple[float, Entry]] = deque()
        self._newcomers = Newcomers(
            capacity=capacity[_NEW], patience_s=patience_s, count=count, limit_share=limit_share, now=clock()
        )
        self._strays: deque[tuple[float, Entry]] = deque()
        self._queues: tuple[deque[tuple[float, Entry]] | Newcomers, ...] = (
            self._established,
            self._under_way,
            self._newcomers,
            self._strays,
        )
        self._simple = {_ESTABLISHED: self._established, _UNDER_WAY: self._under_way, _STRAY: self._strays}
        self._chunks = [_CHUNK] * len(self._queues)
        """How many of each queue are to be served next at most."""
        self._is_scheduled = False
        self.is_closed_to_new = False
        """Whether new peers are turned away: the worker is about to end."""

    def __len__(self) -> int:
        """How many datagrams wait."""
        return sum(map(len, self._queues))

    def lengths(self) -> tuple[int, int, int, int]:
        """How many datagrams wait in each queue, in the order of service."""
        return len(self._established), len(self._under_way), len(self._newcomers), len(self._strays)

    def waiting_new(self) -> int:
        """How many requests for new SAs wait."""
        return len(self._newcomers)

    def lag(self, now: float) -> float:
        """For how long the first datagram of SAs that stand has waited, in seconds."""
        return self._wait_s(self._established, now)

    def put(self, batch: Iterable[Entry], now: float) -> None:
        """Sort what has arrived at `now`, and see to it that it is served."""
        queues = self._simple
        capacity, for_responses = self._capacity, self._for_responses
        standing_of_sa = self._standing_of_sa
        new: list[Entry] = []
        for entry in batch:
            datagram = entry[0]
            standing = standing_of(datagram, standing_of_sa)
            if standing is _NEW:
                if self.is_closed_to_new:
                    self._count(_STOPPING)
                    continue
                # A cookie stands first (RFC 7296 section 2.6), a notify; in hardly any other first message does one.
                if datagram[_NEXT_PAYLOAD_OFFSET] != _NOTIFY or not self._has_cookie(datagram, entry[1], now):
                    new.append(entry)
                    continue
                standing = _UNDER_WAY
            if standing is _PAST_TRYING:
                self._count(_TOO_MANY_FAILURES)
                continue
            queue = queues[standing]
            if len(queue) < capacity[standing] or (
                len(queue) < for_responses[standing] and datagram[_FLAGS_OFFSET] & FLAG_RESPONSE
            ):
                queue.append((now, entry))
            else:
                self._count(_UNKNOWN_SPI if standing is _STRAY else _QUEUE_FULL)
        # A cookie asks them to come back, and then they stand before those who haven't one: so nobody is asked while
        # those who have come back must wait. What a flood sends from forged addresses never comes back.
        if new and self._wait_s(self._under_way, now) <= COOKIE_WAIT_S:
            new = self._ask_cookies(new, now)
        for entry in new:
            self._newcomers.put(entry, now)
        self._newcomers.review(now)
        self._schedule()

    def tick(self) -> None:
        """Some time has passed, perhaps without a datagram: what was decided under load may no longer be right."""
        self._newcomers.review(self._clock())

    def run(self) -> None:
        """Serve for one slice of time, in the order of standing."""
        self._is_scheduled = False
        now = self._clock()
        end = now + self._slice_s
        for standing, queue in enumerate(self._queues):
            while queue and now < end:
                wanted = self._chunks[standing]
                chunk = queue.take(now, wanted) if isinstance(queue, Newcomers) else self._take(queue, now, wanted)
                if chunk:
                    self._serve(chunk, now)
                begun, now = now, self._clock()
                self._chunks[standing] = _next_chunk(len(chunk), now - begun, _CHUNK_SLICES * self._slice_s)
        self._schedule()

    def _take(self, queue: deque[tuple[float, Entry]], now: float, wanted: int) -> list[Entry]:
        """The next chunk, without requests that come too late. A response has no such time: nobody repeats it for
        us, and the core knows by itself whether it still waits for it."""
        oldest = now - self._patience_s
        if queue[0][0] >= oldest:
            # Nor are those behind it.
            return [queue.popleft()[1] for _ in range(min(len(queue), wanted))]
        chunk: list[Entry] = []
        while queue and len(chunk) < wanted:
            arrived, entry = queue.popleft()
            if arrived < oldest and len(entry[0]) >= HEADER_OCTETS and not entry[0][_FLAGS_OFFSET] & FLAG_RESPONSE:
                self._count(_TOO_LATE)
            else:
                chunk.append(entry)
        return chunk

    @staticmethod
    def _wait_s(queue: deque[tuple[float, Entry]], now: float) -> float:
        """How long the first in line has waited."""
        return now - queue[0][0] if queue else 0.0

    def _schedule(self) -> None:
        if not self._is_scheduled and any(self._queues):
            self._is_scheduled = True
            self._again(self.run)
