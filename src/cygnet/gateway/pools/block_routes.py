"""The routes of leased blocks: neighbours that are one prefix have one route.

A worker begins with many neighbouring blocks of each pool. A route for each of them would be thirty for a pool of 254
addresses, and a thousand pools are no rarity.
"""

from collections.abc import Iterable

from cygnet.gateway.claims import RESERVED
from cygnet.gateway.host.routes import Routes
from cygnet.gateway.pools.ledger import PoolPlan


class BlockRoutes:
    """The routes into the workers' devices. Those of a worker are for just the blocks that it has."""

    __slots__ = ("_routes", "_shared")

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._shared: dict[tuple[str, int], dict[range, str]] = {}
        """By pool and worker: the blocks that have a route together."""

    def add(self, plan: PoolPlan, worker: int, blocks: Iterable[int]) -> None:
        """A worker has these blocks, too."""
        for run in plan.runs_of(blocks):
            prefix = plan.prefix_of(run.start, len(run))
            if len(run) > 1:
                self._shared.setdefault((plan.name, worker), {})[run] = prefix
            self._routes.add(prefix, worker, RESERVED)

    def discard(self, plan: PoolPlan, worker: int, blocks: Iterable[int]) -> None:
        """A worker has these blocks no longer."""
        gone = set(blocks)
        shared = self._shared.get((plan.name, worker), {})
        for run in [each for each in shared if not gone.isdisjoint(each)]:
            prefix = shared.pop(run)
            # Those that stay have routes before the one that they share goes.
            self.add(plan, worker, [block for block in run if block not in gone])
            self._routes.discard(prefix, worker, RESERVED)
            gone.difference_update(run)
        for block in gone:
            self._routes.discard(plan.prefix_of(block), worker, RESERVED)
        if not shared:
            self._shared.pop((plan.name, worker), None)

    def forget(self, worker: int) -> None:
        """A worker is dead, and its routes are gone."""
        for key in [key for key in self._shared if key[1] == worker]:
            del self._shared[key]
