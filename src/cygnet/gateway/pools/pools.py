"""Virtual addresses without locks: a worker's side of the pools.

A worker gives addresses from blocks that it has leased from the supervisor (`ledger.py`), and leases more before
they run out. So no two workers can give the same address, and none waits for another. When the supervisor has no more,
it has workers that have more than the one that asks share with it.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from cygnet.auth.identity import Identity
from cygnet.gateway.control import AnyMessage, LeaseRequest, LeaseReturn
from cygnet.gateway.pools.ledger import PoolPlan
from cygnet.gateway.pools.returned_addresses import ReturnedAddresses
from cygnet.ike.errors import AddressAwaited
from cygnet.ike.settings import PoolSettings
from cygnet.wire.payloads.configuration import ConfigurationAttribute

LOW_WATER: Final = 256
"""Free addresses below which a worker asks for more: what it gives away while the supervisor's answer is on its way."""
PATIENCE_TICKS: Final = 2
"""For so many ticks peers wait for an address of another worker's: a second or two. It takes milliseconds as a rule."""
MAX_SPARED: Final = 4096
"""Blocks that are given back in one message."""


def low_water(plan: PoolPlan, workers: int) -> int:
    """Below how many free addresses a worker asks for more; in a small pool, half of its fair share."""
    return max(1, min(LOW_WATER, plan.capacity // (2 * workers)))


def blocks_at_start(plan: PoolPlan, workers: int) -> int:
    """How many blocks a worker begins with: enough for twice its low-water mark."""
    return -(-2 * low_water(plan, workers) // plan.size)


class _Block:
    """A leased block."""

    __slots__ = ("addresses", "in_use", "next_fresh", "taken_ahead")

    def __init__(self, addresses: range) -> None:
        self.addresses = addresses
        self.next_fresh = addresses.start
        """From here on no address has been given yet, except for those of `taken_ahead`."""
        self.taken_ahead: set[int] = set()
        """Given because a peer asked for them, before their turn; also reserved ones."""
        self.in_use = 0

    def is_fresh(self, address: int) -> bool:
        return address >= self.next_fresh and address not in self.taken_ahead

    def take_fresh(self) -> int | None:
        while self.next_fresh < self.addresses.stop:
            address = self.next_fresh
            self.next_fresh += 1
            if address not in self.taken_ahead:
                return address
            self.taken_ahead.discard(address)
        return None


class _Pool:
    """The leased part of one pool."""

    __slots__ = (
        "asked_at",
        "attributes",
        "blocks",
        "free",
        "freed",
        "fresh",
        "in_use",
        "is_retired",
        "low_water",
        "patience",
        "plan",
        "reserved",
    )

    def __init__(self, plan: PoolPlan, reserved: Collection[int], workers: int) -> None:
        self.plan = plan
        self.attributes: tuple[ConfigurationAttribute, ...] = ()
        """What is told with its addresses."""
        self.reserved = reserved
        self.low_water = low_water(plan, workers)
        self.blocks: dict[int, _Block] = {}
        self.fresh: deque[int] = deque()
        """Numbers of blocks that may have fresh addresses."""
        self.freed = ReturnedAddresses()
        """Addresses that were given and came back."""
        self.free = 0
        self.in_use = 0
        self.asked_at: int | None = None
        """How many addresses were free when we last asked for more; None once we have got some."""
        self.patience: int | None = None
        """For how many ticks more peers wait for an address that other workers may have: 0 if it was in vain; None if
        none waits."""
        self.is_retired = False
        """Whether it is about to go: then no more addresses are given."""

    def add(self, number: int) -> None:
        addresses = self.plan.range_of(number)
        block = self.blocks[number] = _Block(addresses)
        block.taken_ahead = {address for address in self.reserved if address in addresses}
        self.fresh.append(number)
        self.free += len(addresses) - len(block.taken_ahead)

    def take(self, wanted: int) -> int | None:
        """A free address: `wanted` if it is one, else the next."""
        address = self._take_wanted(wanted) if wanted else None
        if address is None:
            address = self._take_next()
        if address is not None:
            self.blocks[self.plan.block_of(address)].in_use += 1
            self.free -= 1
            self.in_use += 1
        return address

    def put(self, address: int) -> bool:
        """Take an address back; False if it was not given."""
        block = self.blocks.get(self.plan.block_of(address))
        if (
            block is None
            or address not in block.addresses
            or address in self.freed
            or address in self.reserved
            or block.is_fresh(address)
        ):
            return False
        self.freed.add(address)
        block.in_use -= 1
        self.free += 1
        self.in_use -= 1
        return True

    def spare(self, free_elsewhere: int, *, is_urgent: bool = False) -> tuple[int, ...]:
        """Give up blocks that nobody has an address of, to share evenly with a worker that has fewer free addresses.

        Returns their numbers. Of two workers that both have too few, neither takes from the other; but where a peer
        waits for an address (`is_urgent`), whoever has one that no peer has gives it.
        """
        spared: list[int] = []
        budget = (self.free - free_elsewhere) // 2
        idle = {number: self._free_of(block) for number, block in self.blocks.items() if not block.in_use}
        for number, free in idle.items():
            if free <= budget and len(spared) < MAX_SPARED:
                budget -= free
                spared.append(number)
        if is_urgent and not any(idle[number] for number in spared):
            spared += [number for number, free in idle.items() if free][:1]
        for number in spared:
            self._give_up(number, idle[number])
        return tuple(spared)

    def _free_of(self, idle: _Block) -> int:
        return len(idle.addresses) - sum(address in idle.addresses for address in self.reserved)

    def _give_up(self, number: int, free: int) -> None:
        self.free -= free
        for address in self.blocks.pop(number).addresses:
            self.freed.discard(address)
        if number in self.fresh:
            self.fresh.remove(number)

    def _take_wanted(self, wanted: int) -> int | None:
        block = self.blocks.get(self.plan.block_of(wanted))
        if block is None or wanted not in block.addresses:
            return None
        if self.freed.discard(wanted):
            return wanted
        if block.is_fresh(wanted):
            block.taken_ahead.add(wanted)
            return wanted
        return None

    def _take_next(self) -> int | None:
        while self.fresh:
            address = self.blocks[self.fresh[0]].take_fresh()
            if address is not None:
                return address
            self.fresh.popleft()
        return self.freed.take_oldest()


_Place = tuple[int, int, str]
"""Of a pool: the octets of its addresses, the first of them, and its name."""


class AddressPools:
    """All pools, as one worker has them: the `VirtualAddresses` of the core."""

    def __init__(
        self,
        pools: Iterable[PoolSettings],
        *,
        workers: int,
        reserved: Iterable[bytes] = (),
        send: Callable[[AnyMessage], object],
    ) -> None:
        """`reserved` are packed addresses that no peer gets; `send` takes messages to the supervisor."""
        self._reserved = {(len(address), int.from_bytes(address, "big")) for address in reserved}
        self._workers = workers
        self._send = send
        self._pools: dict[str, _Pool] = {}
        self._coming: dict[str, _Pool] = {}
        """Those that are about to be in force, in part the same."""
        self._changed: list[tuple[_Pool, PoolSettings]] = []
        """Those of them that will tell other things than they do now."""
        self._in_order: list[_Place] = []
        self._coming_in_order: list[_Place] = []
        self._retired: set[str] = set()
        self.in_use = 0
        """Addresses that peers have."""
        for settings in pools:
            self.prepare(settings, asks=False)
        self.switch()

    def configure(self, pools: Iterable[PoolSettings]) -> None:
        """Have these pools from now on.

        One with the addresses that it had keeps what is leased and given. One that is gone, or has others now, must
        have been retired, and without addresses in use.
        """
        self.begin()
        for settings in pools:
            self.prepare(settings)
        self.switch()

    def begin(self) -> None:
        """Other pools are about to come, one by one."""
        self._coming, self._changed, self._coming_in_order = {}, [], []

    def prepare(self, settings: PoolSettings | str, *, asks: bool = True) -> None:
        """One that is to come, or to stay as it is: then its name. A new one gets its first addresses meanwhile.

        Raises LookupError if no pool has that name.
        """
        if isinstance(settings, str):
            self._come(self._pools[settings])
            return
        plan = PoolPlan(settings, self._workers)
        pool = self._pools.get(settings.name)
        if pool is None or (pool.plan.first, pool.plan.last) != (plan.first, plan.last):
            inside = {n for octets, n in self._reserved if octets == plan.octets and plan.first <= n <= plan.last}
            pool = _Pool(plan, frozenset(inside), self._workers)
            pool.attributes = settings.attributes
            self._come(pool)
            if asks:
                self._ask(pool)
        else:
            self._come(pool)
            self._changed.append((pool, settings))

    def switch(self) -> dict[str, Any]:
        """Have those from now on that were prepared; returns those of before, which take a while to let go of."""
        before, self._pools = self._pools, self._coming
        for pool, settings in self._changed:
            pool.attributes = settings.attributes
        for name in self._retired:
            if name in self._pools:
                self._pools[name].is_retired = False
        self._retired.clear()
        self._in_order = self._coming_in_order
        self.begin()
        return before

    def _come(self, pool: _Pool) -> None:
        self._coming[pool.plan.name] = pool
        insort(self._coming_in_order, (pool.plan.octets, pool.plan.first, pool.plan.name))

    def _pool_at(self, octets: int, number: int) -> _Pool | None:
        """The pool that begins at an address or next before it. Pools do not overlap: no other one can have it."""
        at = bisect_left(self._in_order, (octets, number + 1, ""))
        pool = self._pools[self._in_order[at - 1][2]] if at else None
        return pool if pool is not None and pool.plan.octets == octets and number <= pool.plan.last else None

    def retire(self, name: str) -> int:
        """Give no more addresses of a pool; how many peers have."""
        pool = self._pools.get(name)
        if pool is None:
            return 0
        pool.is_retired = True
        self._retired.add(name)
        return pool.in_use

    def keep(self, name: str) -> None:
        """Give addresses of a pool again."""
        self._retired.discard(name)
        if name in self._pools:
            self._pools[name].is_retired = False

    def in_use_of(self, name: str) -> int:
        """Addresses of one pool that peers have."""
        pool = self._pools.get(name)
        return pool.in_use if pool is not None else 0

    def is_of(self, name: str, address: bytes) -> bool:
        """Whether a packed address belongs to a pool."""
        pool = self._pools.get(name)
        return pool is not None and pool.plan.has(address)

    def pool_of(self, pools: tuple[str, ...], address: bytes) -> str:
        """Which of these pools a packed address belongs to; empty if none gives it."""
        return next((name for name in pools if self.is_of(name, address) and not self._pools[name].is_retired), "")

    def owns(self, address: bytes) -> bool:
        """Whether a packed address is in a block that we have leased."""
        number = int.from_bytes(address, "big")
        pool = self._pool_at(len(address), number)
        return pool is not None and pool.plan.block_of(number) in pool.blocks

    def acquire(self, pools: tuple[str, ...], octets: int, wanted: bytes, identity: Identity) -> bytes | None:
        """A free packed address of `octets` (4 or 16) from the first of `pools` that has one; None if none has.

        `wanted` is given if it is free here. Else it is one that was never given before, or, when there are no more,
        the one that has been free for longest: an address is not soon another peer's. Raises AddressAwaited, for a
        second or so, where another worker may have one to give.
        """
        is_awaited = False
        for name in pools:
            # A connection may name a pool that was unloaded.
            pool = self._pools.get(name)
            if pool is None or pool.plan.octets != octets or pool.is_retired:
                continue
            address = pool.take(int.from_bytes(wanted, "big"))
            if address is None and self._workers > 1:
                self._ask_urgently(pool)
                is_awaited = is_awaited or bool(pool.patience)
            elif pool.free < pool.low_water:
                self._ask(pool)
            if address is not None:
                self.in_use += 1
                return address.to_bytes(octets, "big")
        if is_awaited:
            raise AddressAwaited
        return None

    def release(self, address: bytes) -> bool:
        """The address is free again: nobody has it, so False."""
        number = int.from_bytes(address, "big")
        pool = self._pool_at(len(address), number)
        if pool is not None and pool.put(number):
            self.in_use -= 1
        return False

    def is_handed_over(self, address: bytes) -> bool:
        """What is given from here nobody else had."""
        return False

    def attributes(self, pools: tuple[str, ...], addresses: tuple[bytes, ...]) -> tuple[ConfigurationAttribute, ...]:
        """What a client is told of by those of `pools` that its packed `addresses` are from, each thing once."""
        told: tuple[ConfigurationAttribute, ...] = ()
        for name in pools:
            pool = self._pools.get(name)
            if pool is not None and pool.attributes and any(pool.plan.has(address) for address in addresses):
                told = tuple(dict.fromkeys((*told, *pool.attributes))) if told else pool.attributes
        return told

    def covers(self, octets: int, first: int, last: int) -> bool:
        """Whether a range of addresses, as numbers, lies within one pool."""
        pool = self._pool_at(octets, first)
        return pool is not None and last <= pool.plan.last

    def granted(self, pool: str, blocks: Iterable[int]) -> None:
        """The supervisor has leased us these blocks; none means that it has none."""
        leased = self._coming.get(pool) or self._pools.get(pool)
        if leased is None:
            return
        blocks = tuple(blocks)
        for number in blocks:
            leased.add(number)
        # After a refusal we have still asked: to ask again at once would get the same answer.
        if blocks:
            leased.asked_at = leased.patience = None

    def recalled(self, pool: str, free_elsewhere: int, *, is_urgent: bool = False) -> None:
        """The supervisor asks for what we can spare for a worker that has so many free addresses, and perhaps a peer
        that waits for one."""
        leased = self._pools.get(pool)
        spared = leased.spare(free_elsewhere, is_urgent=is_urgent) if leased is not None else ()
        if spared:
            self._send(LeaseReturn(pool, spared))

    def tick(self) -> None:
        """Ask again for what we lack; to be called about once a second."""
        for pool in self._pools.values():
            pool.asked_at = None
            # Whoever comes a tick after the others waited in vain may wait again.
            pool.patience = pool.patience - 1 if pool.patience else None
            if pool.free < pool.low_water and not pool.is_retired:
                self._ask(pool)

    def _ask(self, pool: _Pool) -> None:
        """Ask for twice the low-water mark; until there is an answer, again whenever half of the rest is gone."""
        if pool.asked_at is None or (pool.free <= pool.asked_at // 2 and pool.free < pool.asked_at):
            pool.asked_at = pool.free
            lacking = 2 * pool.low_water - pool.free
            self._send(LeaseRequest(pool.plan.name, -(-lacking // pool.plan.size), pool.free))

    def _ask_urgently(self, pool: _Pool) -> None:
        """A peer waits for an address, and there is none."""
        if pool.patience is None:
            pool.patience = PATIENCE_TICKS
            pool.asked_at = 0
            self._send(LeaseRequest(pool.plan.name, 1, 0, is_urgent=True))
