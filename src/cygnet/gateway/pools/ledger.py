"""Who has which virtual addresses: the supervisor's side of the pools.

A pool is cut into blocks of a power of two addresses, aligned, so that each block is one prefix to route. A worker
leases blocks and gives addresses from them without asking anybody; see `pools.py`. Blocks that nobody ever had are a
number to count up from, so a pool of 2^64 addresses costs no more than one of 16.
"""

import ipaddress
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from cygnet.ike.settings import PoolSettings

BLOCKS_PER_WORKER: Final = 16
"""A pool has at least so many blocks for each worker, if it has as many addresses: so that little of it is bound to a
worker that doesn't need it."""
MAX_BLOCK_OCTAVE: Final = 12
"""A block has at most 2^12 addresses, which a worker at 4,000 new peers a second gives away in one second."""
MAX_BLOCKS: Final = 1 << 32
"""Of one pool; what lies beyond in a pool larger than 2^44 addresses is not used."""


NOBODY: Final = -1
"""Who has leased what no worker has and none may have."""


class PoolPlan:
    """How one pool is cut. Blocks are numbered from 0; the first and the last may be partly outside of the pool."""

    __slots__ = ("_base", "blocks", "first", "last", "name", "octave", "octets", "size")

    def __init__(self, pool: PoolSettings, workers: int) -> None:
        self.name = pool.name
        self.octets = len(pool.first)
        self.first = int.from_bytes(pool.first, "big")
        self.last = int.from_bytes(pool.last, "big")
        share = self.capacity // (workers * BLOCKS_PER_WORKER)
        self.octave = min(max(share.bit_length() - 1, 0), MAX_BLOCK_OCTAVE)
        self.size = 1 << self.octave
        self._base = self.first >> self.octave
        self.blocks = min((self.last >> self.octave) - self._base + 1, MAX_BLOCKS)

    @property
    def capacity(self) -> int:
        """Addresses in the pool."""
        return self.last - self.first + 1

    def has(self, address: bytes) -> bool:
        """Whether a packed address belongs to the pool."""
        return len(address) == self.octets and self.first <= int.from_bytes(address, "big") <= self.last

    def block_of(self, address: int) -> int:
        """The block that an address of the pool is in; not a block of the pool for another address."""
        return (address >> self.octave) - self._base

    def start_of(self, block: int) -> int:
        """The first address of a block, as a number."""
        return (self._base + block) << self.octave

    def range_of(self, block: int) -> range:
        """The addresses of a block that belong to the pool."""
        start = self.start_of(block)
        return range(max(start, self.first), min(start + self.size - 1, self.last) + 1)

    def prefix_of(self, block: int, number: int = 1) -> str:
        """A block, or a run of so many, as a prefix, such as `10.3.4.0/22`."""
        address = ipaddress.ip_address(self.start_of(block).to_bytes(self.octets, "big"))
        return f"{address}/{8 * self.octets - self.octave - number.bit_length() + 1}"

    def runs_of(self, blocks: Iterable[int]) -> Iterator[range]:
        """Blocks in as few runs as there can be that are prefixes each."""
        waiting = sorted(blocks)
        at = 0
        while at < len(waiting):
            first = waiting[at]
            number = 1
            # Twice as many, if they begin where that may begin and are all there.
            while (self._base + first) % (2 * number) == 0 and waiting[at + number : at + 2 * number] == list(
                range(first + number, first + 2 * number)
            ):
                number *= 2
            yield range(first, first + number)
            at += number


class _Shelf:
    """The blocks of one pool: free, or leased to a worker."""

    __slots__ = ("fresh", "leases", "plan", "returned", "urgent", "waiting")

    def __init__(self, plan: PoolPlan) -> None:
        self.plan = plan
        self.fresh = 0
        """Blocks from this number on have never been leased."""
        self.returned: deque[int] = deque()
        self.leases: dict[int, set[int]] = {}
        """By worker."""
        self.waiting: dict[int, int] = {}
        """Workers that asked for more than there was, with how many blocks they still want, in the order they asked."""
        self.urgent: dict[int, None] = {}
        """Those of them that have a peer who waits: they come first, and of them the one that asked last. A peer waits
        for a second or two, so that of others it is less certain."""

    def take(self) -> int | None:
        if self.fresh < self.plan.blocks:
            self.fresh += 1
            return self.fresh - 1
        return self.returned.popleft() if self.returned else None


class Ledger:
    """Every block has at most one holder. Workers are numbers."""

    def __init__(self, plans: Iterable[PoolPlan]) -> None:
        self._shelves = {plan.name: _Shelf(plan) for plan in plans}

    def configure(self, plans: Iterable[PoolPlan]) -> None:
        """Have these pools from now on; one with the addresses that it had keeps its leases."""
        before = self._shelves
        self._shelves = {}
        for plan in plans:
            shelf = before.get(plan.name)
            is_same = shelf is not None and (shelf.plan.first, shelf.plan.last) == (plan.first, plan.last)
            self._shelves[plan.name] = shelf if shelf is not None and is_same else _Shelf(plan)

    @property
    def plans(self) -> list[PoolPlan]:
        """How the pools are cut."""
        return [shelf.plan for shelf in self._shelves.values()]

    def plan(self, pool: str) -> PoolPlan:
        """How one is cut; KeyError if there is none of that name."""
        return self._shelves[pool].plan

    def lease(self, pool: str, worker: int, blocks: int, *, is_urgent: bool = False) -> tuple[int, ...]:
        """Up to `blocks` free blocks for a worker. For what is missing it waits: `settle` will tell."""
        shelf = self._shelves[pool]
        leased = self._grant(shelf, worker, blocks)
        if len(leased) < blocks:
            shelf.waiting[worker] = blocks - len(leased)
            if is_urgent:
                shelf.urgent.pop(worker, None)
                shelf.urgent[worker] = None
        else:
            shelf.waiting.pop(worker, None)
        return leased

    def give_back(self, pool: str, worker: int, blocks: Iterable[int]) -> tuple[int, ...]:
        """Take blocks back from a worker that has no address of them in use; returns those that were its own."""
        shelf = self._shelves[pool]
        held = shelf.leases.get(worker, set())
        returned = tuple(block for block in blocks if block in held)
        held.difference_update(returned)
        # It has given them to one that needs them more, which may not lose them to what it asked for before.
        shelf.waiting.pop(worker, None)
        shelf.urgent.pop(worker, None)
        shelf.returned.extend(returned)
        return returned

    def owner(self, pool: str, address: bytes) -> int:
        """The worker that has leased an address; NOBODY if none has. KeyError, ValueError if it isn't of the pool."""
        shelf = self._shelves[pool]
        if not shelf.plan.has(address):
            raise ValueError(f"{pool} has no address {address.hex()}")
        block = shelf.plan.block_of(int.from_bytes(address, "big"))
        return next((worker for worker, blocks in shelf.leases.items() if block in blocks), NOBODY)

    def withdraw(self, pool: str, worker: int, block: int) -> None:
        """A worker is about to be dead, and a block of its is not to be leased again before NOBODY gives it back."""
        leases = self._shelves[pool].leases
        leases[worker].discard(block)
        leases.setdefault(NOBODY, set()).add(block)

    def reclaim(self, worker: int) -> None:
        """A worker is dead: nobody has its addresses any more."""
        for shelf in self._shelves.values():
            shelf.returned.extend(sorted(shelf.leases.pop(worker, ())))
            shelf.waiting.pop(worker, None)
            shelf.urgent.pop(worker, None)

    def settle(self, pool: str) -> list[tuple[int, tuple[int, ...]]]:
        """Lease what is free now to those that wait for it; returns who got which blocks."""
        shelf = self._shelves[pool]
        settled: list[tuple[int, tuple[int, ...]]] = []
        for worker in dict.fromkeys((*reversed(shelf.urgent), *shelf.waiting)):
            leased = self._grant(shelf, worker, shelf.waiting[worker])
            if not leased:
                break
            settled.append((worker, leased))
            # What it doesn't get now it asks for again when it needs it; the next in line comes first.
            del shelf.waiting[worker]
        return settled

    def holders(self, pool: str) -> list[int]:
        """The workers that have blocks of a pool."""
        return [worker for worker, blocks in self._shelves[pool].leases.items() if blocks and worker != NOBODY]

    def blocks_of(self, pool: str, worker: int) -> tuple[int, ...]:
        """The blocks of a pool that a worker has."""
        return tuple(sorted(self._shelves[pool].leases.get(worker, ())))

    @staticmethod
    def _grant(shelf: _Shelf, worker: int, blocks: int) -> tuple[int, ...]:
        leased: list[int] = []
        while len(leased) < blocks and (block := shelf.take()) is not None:
            leased.append(block)
        if leased:
            shelf.urgent.pop(worker, None)
            shelf.leases.setdefault(worker, set()).update(leased)
        return tuple(leased)
