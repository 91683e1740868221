"""What each tunnel does again and again: asks if the gateway lives (`--dpd`), rekeys (`--rekey`), moves (`--roam`).

Things are done at their times also when the gateway is slow, as the attempts of an open loop are: a delay counts from
the time at which one was due.
"""

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Final

import msgspec

from cygnet.ike.effects import ChildFailed, ChildRekeyed, Effect, RekeyFailed, SaReauthenticated, SaRekeyed, TaskDone
from cygnet.ike.path import Path
from cygnet.ike.sa import ChildState
from cygnet.ike.sharded_map import ShardedMap
from cygnet.ike.tasks import CreateChild, MoveAddresses, Probe, RekeyChild, RekeyIke
from cygnet.load.options import LoadOptions, Rekeyed
from cygnet.load.plan import Source
from cygnet.load.samples import Samples
from cygnet.net.driver import Driver

BEGUN_PER_TURN: Final = 16
"""Before the sockets are looked at again: of liveness checks some two milliseconds, of rekeyings some ten."""

ADDED_PER_TURN: Final = 512

NO_MOBIKE: Final = "no_mobike"
"""The gateway does not do what the move was to be made with."""


class Answers(msgspec.Struct, frozen=True):
    """What came of it."""

    asked: int = 0
    delays: bytes = b""
    """Octets of `Samples`, one for each answer."""
    overdue: int = 0
    """Times at which a tunnel still waited for an answer, so that it could not ask again (RFC 7296 section 2.3)."""
    failures: dict[str, int] = {}
    """By reason. The rest of `asked` was under way at the end."""


class Routine:
    """Something that each tunnel does every so many seconds."""

    def __init__(
        self, interval_s: float, driver: Driver, *, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self._interval_s = interval_s
        self._driver = driver
        self._loop = loop
        self._clock = clock
        self._numbers = count()
        self._due: list[tuple[float, int]] = []
        """A heap of times and tunnels, each with a number of its own: its SPI changes with a rekeying."""
        self._spis = ShardedMap[int, bytes]()
        self._up = ShardedMap[bytes, int]()
        self._spreading: Iterator[tuple[bytes, float]] | None = None
        """Those that are to be added yet, with their first times."""
        self._fates: dict[bytes, bytes | None] = {}
        """What has become of them meanwhile: another IKE_SA, or None."""
        self._asked: dict[bytes, float] = {}
        """What has no answer yet, and when it was due."""
        self._handle: asyncio.Handle | None = None
        self._delays = Samples()
        self._asked_in_all = 0
        self._overdue = 0
        self._failures: Counter[str] = Counter()

    def add(self, spi: bytes, now: float) -> None:
        """A tunnel is up: its first time is an interval from now."""
        self._add(spi, now + self._interval_s)
        self._schedule()

    def spread(self, spis: Sequence[bytes], now: float, *, process: int = 0, processes: int = 1) -> None:
        """These tunnels are up: their first times are at even distances over the interval that begins now.

        Other processes have as many, and their times lie between these.
        """
        phase = (process + 1) / processes
        step = self._interval_s / max(len(spis), 1)
        self._spreading = ((spi, now + step * (index + phase)) for index, spi in enumerate(spis))
        self._add_some()

    def forget(self, spi: bytes, reason: str = "") -> None:
        """A tunnel is no more; with a reason, that is also why what it waited for has failed."""
        number = self._up.pop(spi, None)
        if number is not None:
            del self._spis[number]
        elif self._spreading is not None:
            self._fates[spi] = None
        if self._asked.pop(spi, None) is not None and reason:
            self._failures[reason] += 1

    def rekeyed(self, old: bytes, new: bytes) -> None:
        """An IKE_SA has another in its place: the tunnel is the same."""
        number = self._up.pop(old, None)
        if number is not None:
            self._spis[number] = new
            self._up[new] = number
        elif self._spreading is not None:
            self._fates[old] = new
        due = self._asked.pop(old, None)
        if due is not None:
            self._asked[new] = due

    def on_event(self, effect: Effect) -> None:
        """The core has told of something that may be an answer."""

    def stop(self) -> None:
        """Begin no more, and take no more answers."""
        self._up, self._spis = ShardedMap(), ShardedMap()
        self._spreading = None
        self._due.clear()
        self._asked.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def measure(self) -> Answers:
        """What came of it so far."""
        return Answers(self._asked_in_all, self._delays.to_octets(), self._overdue, dict(self._failures))

    def _begin(self, spi: bytes) -> bool:
        """Do it in this tunnel; False if that is not possible now."""
        raise NotImplementedError

    def _answered(self, spi: bytes) -> None:
        due = self._asked.pop(spi, None)
        if due is not None:
            self._delays.add(self._clock() - due)

    def _failed(self, spi: bytes, reason: str) -> None:
        if self._asked.pop(spi, None) is not None:
            self._failures[reason] += 1

    def _add(self, spi: bytes, due: float) -> None:
        number = next(self._numbers)
        self._up[spi] = number
        self._spis[number] = spi
        heapq.heappush(self._due, (due, number))

    def _add_some(self) -> None:
        """Of very many: a turn takes a millisecond, and those that are due first come first."""
        spi: bytes | None
        added = 0
        for spi, due in islice(self._spreading or (), ADDED_PER_TURN):
            added += 1
            while spi is not None and spi in self._fates:
                spi = self._fates.pop(spi)
            if spi is not None:
                self._add(spi, due)
        self._schedule()
        if added == ADDED_PER_TURN:
            self._loop.call_soon(self._add_some)
        else:
            self._spreading = None
            self._fates.clear()

    def _schedule(self) -> None:
        if self._handle is None and self._due:
            self._handle = self._loop.call_later(max(0.0, self._due[0][0] - self._clock()), self._begin_due)

    def _begin_due(self) -> None:
        self._handle = None
        now = self._clock()
        for _ in range(BEGUN_PER_TURN):
            if not self._due or self._due[0][0] > now:
                break
            due, number = self._due[0]
            spi = self._spis.get(number)
            if spi is None:
                heapq.heappop(self._due)
                continue
            heapq.heapreplace(self._due, (due + self._interval_s, number))
            if spi in self._asked:
                self._overdue += 1
                continue
            self._asked[spi] = due
            if self._begin(spi):
                self._asked_in_all += 1
            else:
                del self._asked[spi]
                self._overdue += 1
        self._schedule()


class LivenessChecks(Routine):
    """Asks whether the gateway lives."""

    def on_event(self, effect: Effect) -> None:
        """Answered, if it is the response."""
        if type(effect) is TaskDone and type(effect.task) is Probe:
            self._answered(effect.sa)

    def _begin(self, spi: bytes) -> bool:
        self._driver.order(spi, Probe())
        return True


class ChildRekeyings(Routine):
    """Replaces the CHILD_SA by one with new keys."""

    def on_event(self, effect: Effect) -> None:
        """Done when the successor stands; whose request that was is all the same."""
        if type(effect) is ChildRekeyed:
            self._answered(effect.sa)
        elif type(effect) is ChildFailed:
            self._failed(effect.sa, effect.reason)
        elif type(effect) is TaskDone and type(effect.task) is CreateChild:
            # A tester has no other reason to create one (RFC 7296 section 2.25).
            self._failed(effect.sa, "child_sa_not_found")

    def _begin(self, spi: bytes) -> bool:
        sa = self._driver.table.sa(spi)
        children = sa.children if sa is not None else ()
        spi_in = next((child.spi_in for child in children if child.state == ChildState.INSTALLED), None)
        if spi_in is None:
            return False
        self._driver.order(spi, RekeyChild(spi_in))
        return True


class IkeRekeyings(Routine):
    """Replaces the IKE_SA by one with new keys."""

    def on_event(self, effect: Effect) -> None:
        """Done when the successor has taken over; whose request that was is all the same."""
        if type(effect) is SaRekeyed:
            self._answered(effect.old)
        elif type(effect) is RekeyFailed:
            self._failed(effect.sa, effect.reason)

    def _begin(self, spi: bytes) -> bool:
        self._driver.order(spi, RekeyIke())
        return True


class Moves(Routine):
    """Goes on from the next source: by MOBIKE, or else as if a NAT had forgotten its mapping."""

    def __init__(
        self,
        interval_s: float,
        driver: Driver,
        sources: Sequence[Source],
        *,
        is_mobike: bool,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(interval_s, driver, loop=loop, clock=clock)
        self._is_mobike = is_mobike
        self._next: dict[tuple[str, int], tuple[str, int]] = {}
        for source, other in zip(sources, (*sources[1:], *sources[:1]), strict=True):
            self._next[source.address, source.port] = (other.address, other.port)
            self._next[source.address, source.natt_port] = (other.address, other.natt_port)

    def on_event(self, effect: Effect) -> None:
        """Answered, if it is the response to what went out from the new source."""
        if type(effect) is TaskDone and type(effect.task) in (Probe, MoveAddresses):
            self._answered(effect.sa)

    def _begin(self, spi: bytes) -> bool:
        sa = self._driver.table.sa(spi)
        # Otherwise an answer on the old path could be taken for one on the new.
        if sa is None or sa.message_ids.outstanding is not None or sa.pending:
            return False
        if self._is_mobike and not sa.mobike:
            self._failed(spi, NO_MOBIKE)
            return True
        address, port = self._next[sa.path.local, sa.path.local_port]
        self._driver.move(spi, Path(address, port, sa.path.remote, sa.path.remote_port))
        return True


class Upkeep:
    """All that the tunnels of one process do again and again."""

    def __init__(
        self,
        options: LoadOptions,
        driver: Driver,
        sources: Sequence[Source],
        *,
        process: int,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
    ) -> None:
        self._process = process
        self._processes = options.processes
        self._checks: Routine | None = None
        self._rekeyings: Routine | None = None
        self._moves: Routine | None = None
        if options.dpd_s:
            self._checks = LivenessChecks(options.dpd_s, driver, loop=loop, clock=clock)
        if options.rekey_s:
            kind = IkeRekeyings if options.rekeyed is Rekeyed.IKE else ChildRekeyings
            self._rekeyings = kind(options.rekey_s, driver, loop=loop, clock=clock)
        if options.roam_s:
            self._moves = Moves(options.roam_s, driver, sources, is_mobike=options.mobike, loop=loop, clock=clock)
        self._all: tuple[Routine, ...] = tuple(
            each for each in (self._checks, self._rekeyings, self._moves) if each is not None
        )
        self._running: tuple[Routine, ...] = () if self._checks is None else (self._checks,)
        """The others begin with the hold."""

    def add(self, spi: bytes, now: float) -> None:
        """A tunnel is up."""
        for routine in self._running:
            routine.add(spi, now)

    def hold(self, spis: Sequence[bytes], now: float) -> None:
        """No attempt is under way any more; these tunnels are up."""
        for routine in self._all:
            if routine not in self._running:
                routine.spread(spis, now, process=self._process, processes=self._processes)
        self._running = self._all

    def forget(self, spi: bytes, reason: str = "") -> None:
        """A tunnel is no more; without a reason it has gone on purpose."""
        for routine in self._running:
            routine.forget(spi, reason)

    def rekeyed(self, effect: SaRekeyed | SaReauthenticated) -> None:
        """An IKE_SA has another in its place: the tunnel is the same."""
        for routine in self._running:
            routine.on_event(effect)
            routine.rekeyed(effect.old, effect.sa)

    def on_event(self, effect: Effect) -> None:
        """The core has told of something."""
        for routine in self._running:
            routine.on_event(effect)

    def end(self) -> tuple[Answers, Answers, Answers]:
        """Do no more; returns what came of the liveness checks, the rekeyings and the moves."""
        self._running = ()
        for routine in self._all:
            routine.stop()
        checks, rekeyings, moves = (
            each.measure() if each is not None else Answers() for each in (self._checks, self._rekeyings, self._moves)
        )
        return checks, rekeyings, moves
