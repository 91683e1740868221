"""Keeps a worker within its share of the memory: when that is used up, the peers it has are kept and new ones wait.

Without such a bound a gateway that many peers come to grows until the kernel ends one of its processes, with every
tunnel of that worker.
"""

import gc
from typing import Final, Protocol

from cygnet.observe.counters import CounterWriter
from cygnet.observe.log_groups import group_logger
from cygnet.observe.memory import MemoryBound, OwnMemory, address_space_limit, memory_bound

_log = group_logger("mgr")

SHARE: Final = 0.8
"""Of what there is, unless `memory_limit` says otherwise: the rest is for the kernel's own part of each tunnel, for
other programs, and for what comes within the second between two looks."""
LOW_WATER: Final = 0.9
"""Of a worker's budget, or of the SAs at which it was used up: below either new peers are taken again."""
LEAST_BUDGET_OCTETS: Final = 8 << 20
"""A worker takes some peers however small the limit is."""


class Measure(Protocol):
    """Tells what memory a process has; `OwnMemory` is one."""

    def private_octets(self) -> int: ...

    def address_space_octets(self) -> int: ...


def memory_limit(configured: int, bound: MemoryBound) -> int:
    """Octets that the gateway may use, all its processes together. `configured` is 0 for `auto`."""
    return configured or int(SHARE * bound.octets)


class MemoryGuard:
    """Decides for one worker. What it had when it began is shared with the other processes and counts once."""

    __slots__ = ("_budget", "_counters", "_has_room_for", "_is_full", "_measure", "_peak", "_start")

    def __init__(
        self,
        counters: CounterWriter,
        limit_octets: int,
        *,
        workers: int,
        measure: Measure,
        address_space: int | None = None,
    ) -> None:
        """`address_space` is the limit of this process's virtual memory."""
        self._counters = counters
        self._measure = measure
        self._start = measure.private_octets()
        budget = (limit_octets - self._start) // workers
        if address_space is not None:
            budget = min(budget, int(SHARE * (address_space - measure.address_space_octets())))
        self._budget = max(budget, LEAST_BUDGET_OCTETS)
        self._is_full = False
        # The interpreter may keep what ended SAs leave behind, for those that come: the memory doesn't tell that there
        # is room again, but the number of SAs does. As many as these fit into that much.
        self._has_room_for = 0
        self._peak = 0

    def tick(self, sas: int) -> bool:
        """Whether no memory is left for new peers, now that there are so many IKE_SAs."""
        octets = self._measure.private_octets()
        self._counters.set("memory_octets", octets)
        is_full = self._decide(octets - self._start, sas)
        if is_full is not self._is_full:
            self._is_full = is_full
            _log.warning(
                "%d MiB of memory in use with %d IKE_SAs: new peers are %s",
                octets >> 20,
                sas,
                "refused; memory_limit is reached" if is_full else "taken again",
            )
        self._counters.set("workers_full", int(is_full))
        return is_full

    def _decide(self, used: int, sas: int) -> bool:
        if used < LOW_WATER * self._budget:
            self._has_room_for = self._peak = 0
            return False
        if self._is_full:
            self._peak = max(self._peak, used)
            return sas > LOW_WATER * self._has_room_for
        if used < self._budget or (sas < self._has_room_for and used <= self._peak):
            return False
        self._has_room_for, self._peak = sas, used
        return True


def guard_of_this_process(counters: CounterWriter, configured: int, *, workers: int) -> MemoryGuard:
    """The guard of the worker that this process is."""
    limit = memory_limit(configured, memory_bound())
    return MemoryGuard(counters, limit, workers=workers, measure=OwnMemory(), address_space=address_space_limit())


def tame_collector() -> None:
    """Keep the cyclic garbage collector away from IKE_SAs that live for months.

    What exists now, modules and settings, is frozen: never looked at again. Automatic collections are off, since every
    so often one looks at everything, which takes seconds when that is a million SAs. Instead there is `collect_young`.
    """
    gc.collect()
    gc.freeze()
    gc.disable()


def collect_young() -> None:
    """Look at what was made since the last time, and never again at what survives that.

    So cycles which exceptions make are found while they are young. To be called several times a second: in one second a
    busy worker makes ten thousand objects that the collector looks at, and to do so takes ten milliseconds.
    """
    gc.collect(1)
