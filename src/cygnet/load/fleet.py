"""The initiators of one process: starts attempts when they are due, follows each to its end, and measures.

All of them share one event loop, one table of IKE_SAs and one endpoint. The protocol is that of `cygnet.ike`; here
is only what a tester adds to it: pacing, deadlines, echoes and the books.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final

from cygnet.crypto.ke import KeyExchangeMethod
from cygnet.dataplane.base import Dataplane
from cygnet.dataplane.null import NullDataplane
from cygnet.dataplane.userspace import UserspaceDataplane
from cygnet.ike.connections import Connection
from cygnet.ike.effects import (
    ChildFailed,
    ChildRekeyed,
    Effect,
    InstallChild,
    PhaseDone,
    RekeyFailed,
    Retransmitted,
    SaClosed,
    SaEstablished,
    SaReauthenticated,
    SaRekeyed,
    TaskDone,
)
from cygnet.ike.environment import Environment
from cygnet.ike.nat import pack_address
from cygnet.ike.path import Path
from cygnet.ike.sharded_map import ShardedMap
from cygnet.ike.table import IkeTable
from cygnet.load.arrivals import ClosedLoop, Pacing, pacing_of
from cygnet.load.attempts import Attempt, Tally
from cygnet.load.books import Books
from cygnet.load.churn import Churn
from cygnet.load.echoes import Echoes
from cygnet.load.options import Arrivals, LoadOptions
from cygnet.load.plan import attempt_number, share_of
from cygnet.load.results import LATE_START_S, Measured
from cygnet.load.sources import SourceSockets
from cygnet.load.standing import StandingTunnels
from cygnet.load.takedown import Takedown
from cygnet.load.upkeep import Upkeep
from cygnet.net.driver import Driver
from cygnet.net.endpoint import Batch, Endpoint

STARTS_PER_TURN: Final = 16
"""Attempts that start before the sockets are looked at again: some milliseconds of key generation."""
_TICK_S: Final = 0.1
"""How often deadlines, echoes and idle tunnels are looked after."""
_RESTS_PER_TICK: Final = 256
_REFUSED_AFTER_S: Final = 1.0
"""When a target that has refused datagrams, and answered none, is given up."""

# The news that nobody listens comes with whatever is done next: receiving or sending.
_REFUSED_COUNTERS: Final = ('receive_failures_total{reason="refused"}', 'send_failures_total{reason="refused"}')

REFUSED: Final = "connection_refused"
INTERRUPTED: Final = "interrupted"
TESTER_FULL: Final = "tester_full"
"""The tester has as many attempts under way as it may, and makes no more of this one."""


class Fleet:
    """The attempts of one process, from the first to the report."""

    def __init__(
        self,
        options: LoadOptions,
        sockets: SourceSockets,
        *,
        process: int,
        loop: asyncio.AbstractEventLoop,
        on_tick: Callable[[Tally], None] = lambda tally: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = Tally()
        self._options = options
        self._sources = sockets
        self._process = process
        self._loop = loop
        self._on_tick = on_tick
        self._clock = clock
        self._is_open = options.arrivals is not Arrivals.CLOSED
        self._max_pending = share_of(options.max_pending, process, options.processes)
        self._share = share_of(options.count, process, options.processes)
        self._attempts = ShardedMap[bytes, Attempt]()
        self._up = StandingTunnels(keeps_order=bool(options.churn_rate))
        self._refused: dict[bytes, str] = {}
        """Why an IKE_SA that is about to be established has no CHILD_SA."""
        self._deadlines: deque[tuple[float, bytes]] = deque()
        self._pacing: Pacing = ClosedLoop(0, 0.0)
        self._pump_handle: asyncio.Handle | None = None
        self._tick_handle: asyncio.Handle | None = None
        self._start = 0.0
        self._is_starting = True
        self._is_interrupted = False
        self._is_answered = False
        """Whether the target has sent anything."""
        self._over = asyncio.Event()
        """All attempts have ended, and all echoes."""
        self._interrupt = asyncio.Event()
        self._books = Books()
        self._build(options)

    def _build(self, options: LoadOptions) -> None:
        count = self._books.count
        environment = Environment(
            options.settings(),
            entropy=os.urandom,
            count=count,
            natt_ports=self._sources.natt_ports,
            sends_initial_contact=False,
            new_key_pair=cache(KeyExchangeMethod.generate) if options.is_ke_reused else KeyExchangeMethod.generate,
            worker=self._process,
        )
        self._template = Connection(options.connection())
        self._echoes: Echoes | None = None
        self._carrier: UserspaceDataplane | None = None
        dataplane: Dataplane
        if options.ping is not None:
            self._echoes = Echoes(options.ping, on_answer=self._on_answer, clock=self._clock)
            carrier = UserspaceDataplane(self._echoes, self._send_esp, count)
            self._echoes.connect(carrier.send_through)
            self._carrier = carrier
            dataplane = carrier
        else:
            dataplane = NullDataplane(count)
        self._endpoint = Endpoint(
            self._sources.udp,
            self._sources.esp,
            on_ike=self._on_ike,
            on_esp=lambda batch, now: self._driver.receive_esp(batch, now),
            count=count,
            clock=self._clock,
        )
        self._driver = Driver(
            IkeTable(environment),
            dataplane,
            self._endpoint.send_ike,
            send_keepalive=self._endpoint.send_keepalive,
            on_event=self._on_event,
            loop=self._loop,
            clock=self._clock,
        )
        self._upkeep = Upkeep(
            options, self._driver, self._sources.sources, process=self._process, loop=self._loop, clock=self._clock
        )
        self._handler_of = self._handlers()
        self._takedown = Takedown(
            self._up,
            self._driver.delete,
            is_settled=lambda: self._churn is None or self._churn.is_settled,
            loop=self._loop,
        )
        self._churn: Churn | None = None
        if options.churn_rate:
            self._churn = Churn(
                options.churn_rate,
                process=self._process,
                processes=options.processes,
                leave=self._leave,
                come=self._come,
                loop=self._loop,
                clock=self._clock,
            )
        self._came = 0
        self._paths = [
            Path(source.address, source.port, options.target, options.port) for source in self._sources.sources
        ]

    # The run.

    async def run(self, start: float, proceed: Callable[[], Awaitable[None]]) -> Measured:
        """Make all attempts, the first at `start`; then `proceed` is awaited, and the tunnels are held and deleted.

        Both only if asked for. So all processes of a run hold their tunnels at the same time.
        """
        options = self._options
        self._start = start
        self._pacing = pacing_of(options, self._process, start)
        self._endpoint.attach(self._loop)
        try:
            await asyncio.sleep(start - self._clock())
            self._books.begin(start)
            self._tick()
            self._pump()
            await self._over.wait()
            self._on_tick(self.tally)
            echo_failures = self._echoes.failed if self._echoes is not None else 0
            measured = self._books.measure(
                attempted=self.tally.attempted, echo_failures=echo_failures, ended=self._clock()
            )
            await proceed()
            if options.hold_s and not self._is_interrupted:
                await self._hold(options.hold_s)
            if self._churn is not None:
                self._churn.stop()
                measured.changes = self._churn.measure()
            measured.checks, measured.rekeyings, measured.moves = self._upkeep.end()
            if options.delete:
                await self._takedown.run()
                self._books.delete_failures += len(self._up)
            self._books.deleted = self.tally.deleted
            self._books.complete(
                measured, kernel_drops=self._endpoint.kernel_drops(), is_interrupted=self._is_interrupted
            )
            self._on_tick(self.tally)
            return measured
        finally:
            self._close()

    def stop(self) -> None:
        """Start no more attempts, give up those under way, end the hold, and break off a deletion that has begun."""
        self._is_interrupted = True
        self._is_starting = False
        self._interrupt.set()
        self._takedown.break_off()
        self._give_up_all(INTERRUPTED)

    def _close(self) -> None:
        for handle in (self._pump_handle, self._tick_handle):
            if handle is not None:
                handle.cancel()
        self._driver.close()
        self._endpoint.close()

    # Starting.

    def _pump(self) -> None:
        """Start what is due, and see to it that this is called again when more is."""
        self._pump_handle = None
        now = self._clock()
        for _ in range(STARTS_PER_TURN):
            due = self._due(now)
            if due is None:
                return
            if due > now:
                self._pump_handle = self._loop.call_later(due - now, self._pump)
                return
            self._pacing.take()
            self._begin(due, now)
            now = self._clock()
        self._pump_handle = self._loop.call_soon(self._pump)

    def _due(self, now: float) -> float | None:
        """When the next attempt is due; None if none is, or there will be no more."""
        due = self._pacing.due()
        limit = self._options.max_duration_s
        if self._is_starting and limit and max(now, due or 0.0) > self._start + limit:
            self._is_starting = False
        if self._is_starting and self.tally.attempted == self._share:
            self._is_starting = False
        if not self._is_starting:
            self._check_over()
            return None
        return due

    def _begin(self, intended: float, now: float) -> None:
        tally = self.tally
        if self._is_open and now - intended > LATE_START_S:
            self._books.late_starts += 1
        index = tally.attempted
        self._books.last_start = now
        tally.attempted = index + 1
        if index - tally.established - tally.failed >= self._max_pending:
            # It has arrived all the same: to wait with it would hide the delay that the responder causes.
            self._fail(TESTER_FULL)
            self._pacing.ended(now)
            return
        spi, number = self._initiate(index)
        self._attempts[spi] = Attempt(number, intended)
        if self._options.timeout_s:
            self._deadlines.append((now + self._options.timeout_s, spi))

    def _initiate(self, index: int) -> tuple[bytes, int]:
        number = attempt_number(index, self._process, self._options.processes)
        connection = self._template.with_local_id(self._options.identities.identity(number))
        return self._driver.initiate(connection, self._paths[index % len(self._paths)]), number

    def _leave(self) -> bytes | None:
        """Delete the tunnel that has stood longest."""
        spi = self._up.take_oldest()
        if spi is not None:
            self._upkeep.forget(spi)
            self._driver.delete(spi)
        return spi

    def _come(self) -> bytes:
        """Begin one more, of a peer that has not been here."""
        self._came += 1
        return self._initiate(self.tally.attempted + self._came - 1)[0]

    # Following.

    def _on_ike(self, batch: Batch, now: float) -> None:
        self._is_answered = True
        self._driver.receive_ike(batch, now)

    def _handlers(self) -> dict[type, Callable[[Any], object]]:
        """What each effect means here; the others mean nothing."""
        return {
            PhaseDone: self._on_phase,
            InstallChild: self._on_child,
            SaEstablished: self._on_established,
            SaClosed: self._on_closed,
            SaRekeyed: self._on_rekeyed,
            SaReauthenticated: self._on_rekeyed,
            Retransmitted: self._on_retransmitted,
            ChildFailed: self._on_child_failed,
            TaskDone: self._upkeep.on_event,
            ChildRekeyed: self._upkeep.on_event,
            RekeyFailed: self._upkeep.on_event,
        }

    def _on_event(self, effect: Effect) -> None:
        handle = self._handler_of.get(type(effect))
        if handle is not None:
            handle(effect)

    def _on_child(self, child: InstallChild) -> None:
        attempt = self._attempts.get(child.sa)
        if attempt is not None:
            attempt.child = child

    def _on_child_failed(self, effect: ChildFailed) -> None:
        if effect.sa in self._attempts or (self._churn and self._churn.is_coming(effect.sa)):
            self._refused[effect.sa] = effect.reason
        else:
            self._upkeep.on_event(effect)

    def _on_phase(self, done: PhaseDone) -> None:
        attempt = self._attempts.get(done.sa)
        if attempt is not None and done.phase == "ike_sa_init":
            attempt.init_done = self._clock()
            self._books.phases["ike_sa_init"].add(attempt.init_done - attempt.intended)

    def _on_retransmitted(self, effect: Retransmitted) -> None:
        attempt = self._attempts.get(effect.sa)
        if attempt is None:
            self._books.retransmits["informational"] += 1
        else:
            self._books.retransmits["ike_auth" if attempt.init_done else "ike_sa_init"] += 1

    def _on_refused(self, spi: bytes, reason: str) -> None:
        """An IKE_SA without its CHILD_SA: no tunnel, and of no use to us."""
        if self._attempts.pop(spi, None) is not None:
            self._fail(reason)
            self._ended(self._clock())
        elif self._churn is not None and self._churn.closed(spi, reason):
            self._takedown.note_end()
        # Not at once: the core's effects of its being established are yet to be carried out.
        self._loop.call_soon(self._driver.delete, spi)

    def _on_established(self, established: SaEstablished) -> None:
        refusal = self._refused.pop(established.sa, None) if self._refused else None
        if refusal is not None:
            self._on_refused(established.sa, refusal)
            return
        attempt = self._attempts.pop(established.sa, None)
        if attempt is None:
            if self._churn is not None and self._churn.established(established.sa):
                self._up.add(established.sa, b"")
                if self._takedown.has_begun:
                    self._takedown.add(established.sa)
                else:
                    self._upkeep.add(established.sa, self._clock())
            return
        now = self._clock()
        self.tally.established += 1
        self._books.established(attempt.intended, attempt.init_done, now)
        child = attempt.child
        self._up.add(established.sa, child.spi_in if child is not None else b"")
        self._books.note_suite(self._driver.table.sas.get(established.sa), child)
        self._upkeep.add(established.sa, now)
        if self._echoes is not None and child is not None and self._options.ping is not None:
            size = len(self._options.ping.target)
            inner = (vip for vip in established.virtual_ips if len(vip) == size)
            source = next(inner, None) or pack_address(child.path.local)
            self._echoes.start(child.spi_in, number=attempt.number, source=source, intended=attempt.intended)
        self._ended(now)

    def _on_rekeyed(self, rekeyed: SaRekeyed | SaReauthenticated) -> None:
        """The target, or the core, has put another IKE_SA in the place of one: the tunnel is the same."""
        if self._churn is not None:
            self._churn.rekeyed(rekeyed.old, rekeyed.sa)
        spi_in = self._up.take(rekeyed.old)
        if spi_in is None:
            return
        self._up.add(rekeyed.sa, spi_in)
        self._upkeep.rekeyed(rekeyed)
        if self._takedown.has_begun:
            self._takedown.add(rekeyed.sa)

    def _on_closed(self, closed: SaClosed) -> None:
        attempt = self._attempts.pop(closed.sa, None)
        if attempt is not None:
            self._fail(closed.reason)
            self._ended(self._clock())
            return
        if self._churn is not None and self._churn.closed(closed.sa, closed.reason):
            self._takedown.note_end()
            return
        spi_in = self._up.take(closed.sa)
        if spi_in is None:
            return
        if self._echoes is not None:
            self._echoes.forget(spi_in)
        self._upkeep.forget(closed.sa, closed.reason)
        if not self._takedown.has_begun:
            self._books.lost[closed.reason] += 1
            return
        if closed.reason == "deleted":
            self.tally.deleted += 1
        else:
            self._books.delete_failures += 1
        self._takedown.closed()

    def _on_answer(self, spi_in: bytes, delay_s: float) -> None:
        self._books.first_packets.add(delay_s)
        self._check_over()

    def _send_esp(self, packet: bytes, path: Path, is_udp_encapsulated: bool, traffic_class: int) -> None:
        self._endpoint.send_esp(packet, path, is_udp_encapsulated, traffic_class)

    def _fail(self, reason: str) -> None:
        self.tally.failed += 1
        self._books.failures[reason] += 1

    def _ended(self, now: float) -> None:
        """An attempt has come to its end: perhaps the next is due, perhaps it was the last."""
        self._pacing.ended(now)
        if self._is_starting:
            if self._pump_handle is None:
                # Not at once: we are in the midst of what the core wants carried out.
                self._pump_handle = self._loop.call_soon(self._pump)
        else:
            self._check_over()

    def _check_over(self) -> None:
        is_idle = self._echoes is None or self._echoes.is_idle
        if not self._is_starting and not self._attempts and is_idle:
            self._over.set()

    # Time.

    def _tick(self) -> None:
        now = self._clock()
        self._tick_handle = self._loop.call_later(_TICK_S, self._tick)
        while self._deadlines and self._deadlines[0][0] <= now:
            spi = self._deadlines.popleft()[1]
            attempt = self._attempts.get(spi)
            if attempt is not None:
                self._give_up(spi, "timeout_ike_auth" if attempt.init_done else "timeout_ike_sa_init")
        if self._echoes is not None:
            self._echoes.handle_timers(now)
        if self._carrier is not None:
            self._carrier.rest(now, _RESTS_PER_TICK)
        is_refused = not self._is_answered and any(map(self._books.counters.get, _REFUSED_COUNTERS))
        if is_refused and now > self._start + _REFUSED_AFTER_S and not self._over.is_set():
            self._is_starting = False
            self._give_up_all(REFUSED)
        self._books.tick(self.tally.established, now)
        self._due(now)
        self._check_over()
        self._on_tick(self.tally)

    def _give_up(self, spi: bytes, reason: str) -> None:
        if self._attempts.pop(spi, None) is not None:
            self._fail(reason)
            self._driver.delete(spi)
            self._ended(self._clock())

    def _give_up_all(self, reason: str) -> None:
        for spi in tuple(self._attempts):
            self._give_up(spi, reason)
        if self._echoes is not None:
            self._echoes.forget_all()
        self._check_over()

    # After the attempts.

    async def _hold(self, seconds: float) -> None:
        """Keep the tunnels up, or as many of them; the core answers whoever asks whether we live."""
        if self._churn is not None:
            self._churn.start()
        self._upkeep.hold(tuple(self._up), self._clock())
        try:
            await asyncio.wait_for(self._interrupt.wait(), seconds)
        except TimeoutError:
            pass
