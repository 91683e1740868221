"""What the control socket's commands ask for, done by the supervisor with its workers."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from cygnet.config.effect import differences, waiting_keys
from cygnet.config.errors import ConfigError
from cygnet.config.gateway_settings import GatewaySettings
from cygnet.config.load import Configuration, ConfigurationFile
from cygnet.config.log_settings import LogSettings
from cygnet.config.store import Store
from cygnet.gateway.commands.worker_calls import WorkerCalls
from cygnet.gateway.commands.worker_requests import (
    Counted,
    Done,
    Initiate,
    KeepPools,
    ListSas,
    ListTallies,
    ListTraps,
    PoolPage,
    PoolsInUse,
    Rekey,
    Reply,
    Request,
    RetirePools,
    SaPage,
    TallyPage,
    Terminate,
    TrapPage,
    UsePools,
)
from cygnet.gateway.initiations import initiating_worker
from cygnet.gateway.overload.intake import WAITING
from cygnet.gateway.pools.ledger import PoolPlan
from cygnet.ike.errors import LocalError
from cygnet.ike.settings import ConnectionSettings, PoolSettings, Settings
from cygnet.observe.counters import Counters
from cygnet.observe.log_groups import about, group_logger
from cygnet.vici.backend import Lease, Outcome, PoolUse, Reloaded, Stats
from cygnet.vici.server import CommandError
from cygnet.vici.views import SaFilter

_log = group_logger("cfg")

_R = TypeVar("_R", bound=Reply)
_T = TypeVar("_T")

_PART_OCTETS: Final = 16384
"""Of names that one message to a worker has."""
_NUMBER_OCTETS: Final = 16
"""What is told of each of them beside its name has no more."""
APPLIED_AT_ONCE: Final = 50
"""Pieces of configuration, loaded one after the other as swanctl does it, that are in force before their command is
answered. Each time every worker is handed all there is, so the next ones, of a client that loads many, wait for more.
"""
AT_ONCE_S: Final = 0.5
"""Spent on that altogether: with a thousand connections there already, each time costs a tenth of a second."""
APPLY_AFTER_S: Final = 0.02
"""For which they wait, when no more come."""
APPLY_WITHIN_S: Final = 0.5
"""For which they wait, though more come."""


class GatewayBackend:
    """The daemon, as commands see it."""

    def __init__(
        self,
        store: Store,
        calls: WorkerCalls,
        counters: Counters,
        *,
        workers: Callable[[], Sequence[int]],
        file: ConfigurationFile | None,
        in_force: Callable[[Settings], object],
        listening: Callable[[], tuple[str, ...]],
        started_with: GatewaySettings,
        log: Callable[[LogSettings], bool] = lambda settings: False,
    ) -> None:
        """`workers` are the numbers of those that serve.

        `file` is the configuration file, if there is one; `in_force` is told of new settings before the workers are.
        `started_with` is what it said of the daemon itself when that was started. `log` has the log follow its
        settings, and says whether they are others than before; it raises LocalError.
        """
        self.store = store
        self._calls = calls
        self._counters = counters
        self._workers = workers
        self._file = file
        self._in_force = in_force
        self._listening = listening
        self._started_with = started_with
        self._follow_log = log
        self._started = time.time()
        self._applied = store.generation
        self._newest: Settings | None = None
        """What the workers were handed last."""
        self._catching_up: set[asyncio.Task[None]] = set()
        self._applying: asyncio.Task[None] | None = None
        self._loading = 0
        """Commands that load something, and are not answered yet."""
        self._loaded = 0
        """How many have loaded something since there was a pause."""
        self._waited_s = 0.0
        """How long those of them took that were in force at once."""
        self._lock = asyncio.Lock()
        self._reloading = asyncio.Lock()
        """Held while pools may go, for as long as that takes."""
        self._changes: set[asyncio.Task[Any]] = set()
        """Under way, whether or not anybody still waits for them."""
        self._initiations: dict[tuple[str, str, int], asyncio.Future[Done]] = {}
        """Under way, by the connection, the child and the configuration."""

    # Configuration.

    async def take_effect(self) -> None:
        """Put what was loaded into force: before this returns if it is one of the first pieces of many, else in a
        moment, and before any command that could depend on it. Raises CommandError if a worker does not take it."""
        if self._applying is None or self._applying.done():
            self._applying = asyncio.get_running_loop().create_task(self._apply_later())
        if self.is_loading_many:
            self._loaded += 1
            return
        self._loaded += 1
        self._loading += 1
        began = time.monotonic()
        try:
            await self.apply()
        finally:
            self._loading -= 1
            self._waited_s += time.monotonic() - began

    @property
    def is_loading_many(self) -> bool:
        """Whether what is loaded now waits for more."""
        return self._loaded >= APPLIED_AT_ONCE or self._waited_s >= AT_ONCE_S

    async def _apply_later(self) -> None:
        is_calm = False
        # What is loaded while the workers take what was loaded before comes into force after that.
        while not is_calm or self._applied != self.store.generation:
            is_calm = await self._calm()
            try:
                await self.apply()
            except CommandError as exc:
                _log.error("what was loaded is not in force everywhere: %s", exc)
                break
        self._loaded, self._waited_s = 0, 0.0

    async def _calm(self) -> bool:
        """Until nothing more is loaded, for a while; False if that does not end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(APPLY_WITHIN_S):
                loaded = None
                while loaded != self._loaded or self._loading:
                    loaded = self._loaded
                    await asyncio.sleep(APPLY_AFTER_S)
                return True
        return False

    async def apply(self) -> None:
        """Put what the store holds into force; returns when every worker has it."""
        if self._applied == self.store.generation:
            return
        async with self._lock:
            if self._applied == self.store.generation:
                return
            generation, settings = self.store.generation, self.store.settings
            self._newest = settings
            self._in_force(settings)
            await self._calls.configure(self._workers(), settings)
            self._applied = generation

    def on_ready(self, worker: int) -> None:
        """A worker serves now. Something may have come into force since it was started, when it did not yet."""
        if self._newest is not None and not self._calls.has(worker, self._newest):
            task = asyncio.get_running_loop().create_task(self._catch_up(worker, self._newest))
            self._catching_up.add(task)
            task.add_done_callback(self._catching_up.discard)

    async def _catch_up(self, worker: int, settings: Settings) -> None:
        async with self._lock:
            try:
                await self._calls.configure([worker], settings)
            except CommandError as exc:
                _log.error("%s", exc)

    async def reload(self) -> Reloaded:
        """Read the file again, and put it into force as a whole; the log has the outcome."""
        return await self._see_through(self._reload())

    async def _reload(self) -> Reloaded:
        # One after the other, or an older file could come after a newer one.
        async with self._reloading:
            try:
                configuration = await self._read_again()
                pools = {pool.name: pool for pool in configuration.settings.pools}
                retired = [p.name for p in self.store.pools.values() if not _is_same_range(p, pools.get(p.name))]
                await self._retire(retired)
                try:
                    is_log_new = self._log_as(configuration)
                except CommandError:
                    await self._keep(retired)
                    raise
            except CommandError as exc:
                _log_unchanged(exc)
                raise
            before = self.store.settings
            self.store.replace(configuration.settings, configuration.files)
            await self.apply()
            return self._say_reloaded(before, configuration, is_log_new=is_log_new)

    async def reload_settings(self) -> Reloaded:
        """Read the file again for what it says of the daemon itself; the log has the outcome."""
        return await self._see_through(self._reload_settings())

    async def _reload_settings(self) -> Reloaded:
        if self._file is None:
            return Reloaded((), ())
        async with self._reloading:
            try:
                configuration = await self._read_again()
                is_log_new = self._log_as(configuration)
            except CommandError as exc:
                _log_unchanged(exc)
                raise
            before = self.store.settings
            self.store.replace_base(configuration.settings)
            await self.apply()
            return self._say_reloaded(before, configuration, is_log_new=is_log_new)

    def _log_as(self, configuration: Configuration) -> bool:
        """Have the log follow; whether it is another one. Raises CommandError."""
        try:
            return self._follow_log(configuration.gateway.log)
        except LocalError as exc:
            raise CommandError(str(exc)) from None

    def _say_reloaded(self, before: Settings, configuration: Configuration, *, is_log_new: bool) -> Reloaded:
        changed = differences(before, self.store.settings)
        if is_log_new:
            changed += ("gateway: log changed",)
        warnings = [str(warning) for warning in configuration.warnings]
        waiting = waiting_keys(self._started_with, configuration.gateway)
        if waiting:
            warnings.append(f"gateway: {', '.join(waiting)} will take effect at the next start")
        _log.info("the configuration was read again: %s", "; ".join(changed) or "nothing has changed")
        for warning in warnings:
            _log.warning("%s", warning)
        return Reloaded(changed, tuple(warnings))

    async def _read_again(self) -> Configuration:
        if self._file is None:
            raise CommandError("this gateway has no configuration file")
        try:
            # Of ten thousand connections it takes seconds, in which workers want addresses, and clients answers.
            return await asyncio.to_thread(self._file.read)
        except ConfigError as exc:
            raise CommandError(str(exc)) from None

    async def put_pool(self, pool: PoolSettings) -> None:
        """Add or replace a pool."""
        await self._see_through(self._put_pool(pool))
        await self.take_effect()

    async def _put_pool(self, pool: PoolSettings) -> None:
        # Two that are loaded at once must not overlap either.
        async with self._reloading:
            self.store.check_pool(pool)
            old = self.store.pools.get(pool.name)
            if old is not None and not _is_same_range(old, pool):
                await self._retire([pool.name])
            self.store.put_pool(pool)

    async def remove_pool(self, name: str) -> None:
        """Remove a pool."""
        await self._see_through(self._remove_pool(name))

    async def _remove_pool(self, name: str) -> None:
        async with self._reloading:
            if name not in self.store.pools:
                raise CommandError(f"{name} not found")
            await self._retire([name])
            self.store.remove_pool(name)
            await self.apply()

    async def _see_through(self, change: Coroutine[Any, Any, _T]) -> _T:
        """Make a change to its end, even if whoever asked for it goes away: half of it would leave pools of which
        nothing is given."""
        task = asyncio.ensure_future(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        # Nobody may be left to hear that it failed.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _retire(self, names: Sequence[str]) -> None:
        """Have no more addresses of these pools given; if any is in use, have all of them given again, and fail."""
        await self.apply()
        for part in _in_parts(names):
            replies = await self._ask_all(RetirePools(part), PoolsInUse)
            in_use = sum((Counter(reply.in_use) for reply in replies), Counter[str]())
            for name, number in in_use.items():
                await self._keep(names)
                raise CommandError(f"pool '{name}' has {number} online leases, unable to replace or unload it")

    async def _keep(self, names: Sequence[str]) -> None:
        """Have addresses of these pools given again."""
        for part in _in_parts(names):
            await self._ask_all(KeepPools(part), Done)

    async def pools(self, name: str, *, with_leases: bool) -> list[PoolUse]:
        """All pools, or one."""
        uses: list[PoolUse] = []
        for pool in list(self.store.pools.values()):
            if name not in ("", pool.name):
                continue
            online = 0
            leases: list[Lease] = []
            for worker in self._workers():
                in_use = 0
                request = UsePools(pool.name, with_leases)
                async for page in self._calls.pages(worker, request, PoolPage):
                    in_use = page.in_use
                    leases += page.leases
                online += in_use
            uses.append(PoolUse(pool, PoolPlan(pool, 1).capacity, online, tuple(leases)))
        return uses

    # SAs.

    async def sas(self, chosen: SaFilter) -> AsyncIterator[bytes]:
        """The SAs that are meant, worker by worker."""
        for worker in self._workers():
            # Of a worker that ends in the middle of a packet, no part of that packet may reach the client.
            parts: list[bytes] = []
            async for page in self._calls.pages(worker, ListSas(chosen), SaPage):
                parts.append(page.packets)
                if page.is_whole:
                    yield b"".join(parts)
                    parts.clear()

    async def traps(self) -> set[tuple[str, str]]:
        """What packets set up, by the names of the connection and the child."""
        await self.apply()
        found: set[tuple[str, str]] = set()
        for worker in self._workers():
            async for page in self._calls.pages(worker, ListTraps(), TrapPage):
                found.update(page.traps)
        return found

    async def tallies(self, name: str) -> dict[str, Counter[str]]:
        """What the workers have counted for each connection, or for the one of that name."""
        found: dict[str, Counter[str]] = {}
        for worker in self._workers():
            async for page in self._calls.pages(worker, ListTallies(name), TallyPage):
                for each, tally in page.tallies.items():
                    found.setdefault(each, Counter()).update(tally)
        return found

    async def initiate(self, ike: str, child: str, *, waits: bool) -> None:
        """Have the connection's worker set it up.

        Whoever asks for what is under way waits for the same, and nothing more is asked of the worker. Who gives up
        waiting leaves it under way, for others and for when it asks again.
        """
        which = (ike, child, self.store.generation)
        under_way = self._initiations.get(which)
        if under_way is None:
            call = self._calls.ask(self._worker_for(ike, child), Initiate(ike, child), Done, within_s=None)
            under_way = self._initiations[which] = asyncio.ensure_future(call)
            under_way.add_done_callback(partial(self._initiated, which, self.store.find(ike, child)))
        if waits:
            await asyncio.shield(under_way)

    async def terminate(self, chosen: SaFilter, *, is_forced: bool) -> Outcome:
        """Have all workers end what is meant."""
        return await self._count(Terminate(chosen, is_forced))

    async def rekey(self, chosen: SaFilter, *, is_reauthentication: bool) -> Outcome:
        """Have all workers begin to rekey what is meant."""
        return await self._count(Rekey(chosen, is_reauthentication))

    async def stats(self) -> Stats:
        """The daemon at a glance, from the counters: the workers are not asked."""
        value = self._counters.value
        half_open = value('ike_sas{state="half_open"}')
        ready = self._workers()
        waiting = [[self._counters.value_of(worker, series) for series in WAITING] for worker in ready]
        first = [next((level for level, number in enumerate(queues) if number), None) for queues in waiting]
        return Stats(
            started=self._started,
            workers=self._counters.writers - 1,
            workers_ready=len(ready),
            ike_sas=value('ike_sas{state="established"}') + half_open,
            half_open=half_open,
            queued=tuple(map(value, WAITING)),
            busy=tuple(map(first.count, range(len(WAITING)))),
            timers=value("timers"),
            listening=self._listening(),
            memory_octets=value("memory_octets"),
        )

    async def _count(self, request: Terminate | Rekey) -> Outcome:
        replies = await asyncio.gather(
            *(self._calls.ask(worker, request, Counted, within_s=None) for worker in self._workers())
        )
        return Outcome(sum(reply.matches for reply in replies), sum(reply.done for reply in replies))

    async def _ask_all(self, request: Request, kind: type[_R]) -> list[_R]:
        return await asyncio.gather(*(self._calls.ask(worker, request, kind) for worker in self._workers()))

    def _worker_for(self, ike: str, child: str) -> int:
        """The worker that sets a connection up. Raises CommandError if there is none such."""
        connection = self.store.find(ike, child)
        if connection is None:
            raise CommandError("its configuration was unloaded just now")
        worker = initiating_worker(connection, self._counters.writers - 1)
        if worker not in self._workers():
            raise CommandError(f"worker {worker} is not there just now")
        return worker

    def _initiated(
        self, which: tuple[str, str, int], connection: ConnectionSettings | None, task: "asyncio.Future[Done]"
    ) -> None:
        del self._initiations[which]
        if not task.cancelled() and task.exception() is not None:
            what = f"CHILD_SA {which[1]}" if which[1] else "the IKE_SA"
            about_it = about(connection.name) if connection is not None else None
            _log.info("%s was not set up: %s", what, task.exception(), extra=about_it)


def _log_unchanged(exc: CommandError) -> None:
    for line in str(exc).splitlines():
        _log.error("the configuration stays as it was: %s", line)


def _in_parts(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Names in parts that each fit into a message, and its answer too."""
    parts: list[list[str]] = []
    octets = _PART_OCTETS
    for name in names:
        octets += len(name.encode()) + _NUMBER_OCTETS
        if octets > _PART_OCTETS:
            parts.append([])
            octets = 0
        parts[-1].append(name)
    return [tuple(part) for part in parts]


def _is_same_range(old: PoolSettings, new: PoolSettings | None) -> bool:
    return new is not None and (old.first, old.last) == (new.first, new.last)
