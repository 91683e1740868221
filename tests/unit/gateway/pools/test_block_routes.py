"""Leased blocks and their routes."""

import ipaddress
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cygnet.gateway.claims import NOBODY, Claim, Claims
from cygnet.gateway.pools.block_routes import BlockRoutes
from cygnet.gateway.pools.ledger import PoolPlan
from cygnet.ike.settings import PoolSettings

WORKERS = 3
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def plan_of(first: str, last: str, workers: int = 2) -> PoolPlan:
    packed = (ipaddress.ip_address(first).packed, ipaddress.ip_address(last).packed)
    return PoolPlan(PoolSettings(name="p", first=packed[0], last=packed[1]), workers)


class Kernel:
    """As `Routes`, and the kernel: the longest prefix counts. Sees to it that nobody is without a route meanwhile."""

    def __init__(self) -> None:
        self.claims: Claims[str] = Claims()
        self.prefixes: dict[str, Network] = {}
        self.expected: dict[ipaddress.IPv4Address | ipaddress.IPv6Address, int] = {}

    def add(self, prefix: str, worker: int, claim: Claim) -> None:
        self.claims.add(prefix, worker, claim)
        self.prefixes[prefix] = ipaddress.ip_network(prefix)
        self.check()

    def discard(self, prefix: str, worker: int, claim: Claim) -> None:
        assert self.claims.wants(prefix, worker), "what is taken back was there"
        self.claims.discard(prefix, worker, claim)
        if self.claims.holder(prefix) == NOBODY:
            del self.prefixes[prefix]
        self.check()

    def kill(self, worker: int) -> None:
        for prefix in self.claims.discard_all(worker):
            if self.claims.holder(prefix) == NOBODY:
                del self.prefixes[prefix]

    def holder_of(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
        found = [prefix for prefix, network in self.prefixes.items() if address in network]
        longest = max(found, key=lambda prefix: self.prefixes[prefix].prefixlen, default="")
        return self.claims.holder(longest)

    def check(self) -> None:
        for address, worker in self.expected.items():
            assert self.holder_of(address) == worker


def first_of(plan: PoolPlan, block: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(plan.start_of(block).to_bytes(plan.octets, "big"))


POOLS = {
    "aligned": plan_of("10.3.0.0", "10.3.0.255"),
    "as people write it": plan_of("10.3.0.1", "10.3.0.254"),
    "odd": plan_of("10.3.0.13", "10.3.1.77"),
    "IPv6": plan_of("fd00::5", "fd00::ffff"),
}


@pytest.mark.parametrize("pool", POOLS)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["lease", "lease", "return", "die"]), st.integers(0, WORKERS - 1), st.integers(1, 64)
        ),
        max_size=25,
    )
)
def test_each_block_is_routed_to_who_has_it_and_no_other(pool: str, steps: list[tuple[str, int, int]]) -> None:
    plan = POOLS[pool]
    kernel = Kernel()
    routes = BlockRoutes(kernel)  # type: ignore[arg-type]
    free = list(range(plan.blocks))
    held: list[set[int]] = [set() for _ in range(WORKERS)]

    def expect(blocks: Iterable[int], worker: int | None) -> None:
        for block in blocks:
            if worker is None:
                kernel.expected.pop(first_of(plan, block), None)
            else:
                kernel.expected[first_of(plan, block)] = worker

    for what, worker, number in steps:
        if what == "lease":
            leased, free = free[:number], free[number:]
            routes.add(plan, worker, leased)
            held[worker].update(leased)
            expect(leased, worker)
        elif what == "return":
            # Some from here and there.
            given_back = sorted(held[worker])[:: 1 + number % 5][:number]
            expect(given_back, None)
            routes.discard(plan, worker, given_back)
            held[worker].difference_update(given_back)
            free += given_back
        else:
            expect(held[worker], None)
            kernel.kill(worker)
            routes.forget(worker)
            free += sorted(held[worker])
            held[worker].clear()
        kernel.check()
        for block in free:
            assert kernel.holder_of(first_of(plan, block)) == NOBODY
    for worker in range(WORKERS):
        kernel.expected.clear()
        routes.discard(plan, worker, held[worker])
    assert not kernel.prefixes and not routes._shared


@pytest.mark.parametrize(("workers", "most"), [(1, 9), (2, 7)])
def test_a_worker_begins_with_few_routes(workers: int, most: int) -> None:
    """Of the 254 addresses that a pool often has, one worker of two has 127: in prefixes no more than seven."""
    plan = plan_of("10.3.0.1", "10.3.0.254", workers)
    kernel = Kernel()
    routes = BlockRoutes(kernel)  # type: ignore[arg-type]
    routes.add(plan, 0, range(plan.blocks // workers))
    assert 1 <= len(kernel.prefixes) <= most


def test_neighbours_are_as_few_prefixes_as_can_be() -> None:
    plan = plan_of("10.3.0.1", "10.3.0.254")
    assert (plan.size, plan.blocks) == (4, 64)
    assert list(plan.runs_of(range(64))) == [range(64)]
    assert plan.prefix_of(0, 64) == "10.3.0.0/24"
    assert list(plan.runs_of([3, 1, 2, 4, 5, 6, 9])) == [
        range(1, 2),
        range(2, 4),
        range(4, 6),
        range(6, 7),
        range(9, 10),
    ]
    assert (plan.prefix_of(2, 2), plan.prefix_of(9)) == ("10.3.0.8/29", "10.3.0.36/30")
    assert list(plan.runs_of([])) == []
