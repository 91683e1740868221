"""What workers hold of the pools: blocks of addresses are leased to them, and routed to their devices.

The ledger says who holds what; this carries it out.
"""

from collections.abc import Callable, Iterable

from cygnet.gateway.control import (
    AddressClaimed,
    AddressHanded,
    AddressReturned,
    AddressWanted,
    AnyMessage,
    LeaseGrant,
    LeaseRecall,
    LeaseRequest,
    LeaseReturn,
)
from cygnet.gateway.host.routes import Routes
from cygnet.gateway.pools.block_routes import BlockRoutes
from cygnet.gateway.pools.ledger import Ledger, PoolPlan
from cygnet.gateway.pools.lending import Lending
from cygnet.gateway.pools.pools import blocks_at_start
from cygnet.ike.settings import PoolSettings

PoolMessage = LeaseRequest | LeaseReturn | AddressWanted | AddressHanded | AddressReturned | AddressClaimed
"""What a worker has to say of addresses."""


class Leasing:
    """The pools of a gateway and who has what of them, by the numbers of workers."""

    def __init__(
        self,
        pools: Iterable[PoolSettings],
        workers: int,
        *,
        routes: Routes | None,
        send: Callable[[int, AnyMessage], bool],
    ) -> None:
        """`routes` are made to the workers' devices, if they have any; `send` says whether a worker was reached."""
        self._workers = workers
        self._routes = BlockRoutes(routes) if routes is not None else None
        self._send = send
        self._ledger = Ledger([PoolPlan(pool, workers) for pool in pools])
        self.lending = Lending(self._ledger, routes=routes, send=send)

    def at_start(self, worker: int) -> list[tuple[str, tuple[int, ...]]]:
        """What a worker that is about to start has from the beginning: blocks by the name of their pool."""
        leases: list[tuple[str, tuple[int, ...]]] = []
        for plan in self._ledger.plans:
            wanted = blocks_at_start(plan, self._workers)
            leases.append((plan.name, self._ledger.lease(plan.name, worker, wanted)))
            self._route(plan.name, worker, leases[-1][1])
        return leases

    def on_message(self, worker: int, message: PoolMessage) -> None:
        """Do what a worker asks for, or take what it says. Raises KeyError or ValueError for what makes no sense."""
        if isinstance(message, LeaseRequest):
            self.lease(worker, message)
        elif isinstance(message, LeaseReturn):
            self.take_back(worker, message)
        elif isinstance(message, AddressWanted):
            self.lending.wanted(worker, message)
        elif isinstance(message, AddressHanded):
            self.lending.handed(worker, message)
        elif isinstance(message, AddressClaimed):
            self.lending.claimed(worker, message)
        else:
            self.lending.returned(worker, message)

    def lease(self, worker: int, request: LeaseRequest) -> None:
        """A worker runs out of addresses: give it what is there, and ask the others for what they can spare."""
        plan = self._ledger.plan(request.pool)
        wanted = min(max(request.blocks, 1), blocks_at_start(plan, self._workers))
        blocks = self._ledger.lease(request.pool, worker, wanted, is_urgent=request.is_urgent)
        self._grant(worker, request.pool, blocks)
        if len(blocks) < wanted:
            for holder in self._ledger.holders(request.pool):
                if holder != worker:
                    self._send(holder, LeaseRecall(request.pool, request.free, request.is_urgent))

    def take_back(self, worker: int, message: LeaseReturn) -> None:
        """A worker gives blocks back; whoever waits for some gets them."""
        self._unroute(message.pool, worker, self._ledger.give_back(message.pool, worker, message.blocks))
        self._settle(message.pool)

    def free(self, worker: int) -> None:
        """A worker is dead, and its routes are gone: its addresses are nobody's."""
        self.lending.gone(worker)
        if self._routes is not None:
            self._routes.forget(worker)
        self._ledger.reclaim(worker)
        for plan in self._ledger.plans:
            self._settle(plan.name)

    def configure(self, pools: Iterable[PoolSettings]) -> None:
        """Go on with other pools. One whose range has changed is another, of which nobody has anything."""
        plans = {pool.name: PoolPlan(pool, self._workers) for pool in pools}
        gone: set[str] = set()
        for old in self._ledger.plans:
            new = plans.get(old.name)
            if new is None or (new.first, new.last) != (old.first, old.last):
                gone.add(old.name)
                for worker in self._ledger.holders(old.name):
                    self._unroute(old.name, worker, self._ledger.blocks_of(old.name, worker))
        self.lending.forget(gone)
        self._ledger.configure(plans.values())

    def _grant(self, worker: int, pool: str, blocks: tuple[int, ...]) -> None:
        self._route(pool, worker, blocks)
        if not self._send(worker, LeaseGrant(pool, blocks)):
            # It doesn't know of them, so nobody has an address of them.
            self._unroute(pool, worker, self._ledger.give_back(pool, worker, blocks))

    def _settle(self, pool: str) -> None:
        for worker, blocks in self._ledger.settle(pool):
            self._grant(worker, pool, blocks)

    def _route(self, pool: str, worker: int, blocks: tuple[int, ...]) -> None:
        if self._routes is not None:
            self._routes.add(self._ledger.plan(pool), worker, blocks)

    def _unroute(self, pool: str, worker: int, blocks: tuple[int, ...]) -> None:
        if self._routes is not None:
            self._routes.discard(self._ledger.plan(pool), worker, blocks)
