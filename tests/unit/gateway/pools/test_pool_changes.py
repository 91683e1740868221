"""Pools that come, change and go while peers have addresses of them."""

import sys

import pytest
from tests.instructions import Instructions

from cygnet.auth.identity import ANY_IDENTITY
from cygnet.gateway.control import AnyMessage
from cygnet.gateway.pools.leasing import Leasing
from cygnet.gateway.pools.ledger import Ledger, PoolPlan
from cygnet.gateway.pools.pools import AddressPools
from cygnet.iana import CfgAttribute
from cygnet.ike.settings import PoolSettings
from cygnet.wire.payloads.configuration import ConfigurationAttribute

ANY4 = bytes(4)


def told(server: bytes) -> ConfigurationAttribute:
    return ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_DNS, server)


def pool(name: str, first: int, last: int, *dns: bytes) -> PoolSettings:
    return PoolSettings(name, bytes((10, 3, 0, first)), bytes((10, 3, 0, last)), tuple(map(told, dns)))


def worker(*pools: PoolSettings) -> AddressPools:
    sent: list[AnyMessage] = []
    addresses = AddressPools(pools, workers=1, send=sent.append)
    for each in pools:
        addresses.granted(each.name, range(PoolPlan(each, 1).blocks))
    return addresses


def acquire(addresses: AddressPools, *names: str) -> bytes | None:
    return addresses.acquire(names, 4, ANY4, ANY_IDENTITY)


def test_a_pool_that_stays_keeps_what_was_given() -> None:
    addresses = worker(pool("a", 1, 2))
    first = acquire(addresses, "a")
    addresses.configure([pool("a", 1, 2, b"\x0a\x01\x00\x35"), pool("b", 9, 9)])
    assert acquire(addresses, "a") not in (None, first)
    assert first is not None
    assert addresses.attributes(("a", "b"), (first,)) == (told(b"\x0a\x01\x00\x35"),)


def test_a_retired_pool_gives_nothing_and_says_what_is_in_use() -> None:
    addresses = worker(pool("a", 1, 9))
    given = acquire(addresses, "a")
    assert given is not None
    assert addresses.retire("a") == 1
    assert acquire(addresses, "a") is None
    addresses.keep("a")
    assert acquire(addresses, "a") is not None
    addresses.release(given)
    assert addresses.retire("a") == 1


def test_a_pool_that_was_unloaded_is_no_pool() -> None:
    addresses = worker(pool("a", 1, 9))
    addresses.configure([])
    assert acquire(addresses, "a") is None
    assert addresses.attributes(("a",), (bytes((10, 3, 0, 1)),)) == ()
    assert addresses.retire("a") == 0
    # What was on its way when it went does no harm.
    addresses.granted("a", (0,))
    addresses.recalled("a", 0)
    addresses.release(bytes((10, 3, 0, 1)))
    assert addresses.in_use == 0


def test_the_ledger_forgets_the_leases_of_a_pool_with_other_addresses() -> None:
    ledger = Ledger([PoolPlan(pool("a", 1, 64), 1), PoolPlan(pool("b", 100, 130), 1)])
    kept, gone = ledger.lease("a", 0, 2), ledger.lease("b", 0, 2)
    assert kept and gone
    ledger.configure([PoolPlan(pool("a", 1, 64), 1), PoolPlan(pool("b", 140, 170), 1)])
    assert (ledger.blocks_of("a", 0), ledger.blocks_of("b", 0)) == (tuple(kept), ())
    assert ledger.lease("b", 0, 2) == (0, 1)


@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or a measurement of coverage traces already")
def test_what_it_costs_that_pools_go_grows_with_their_number_alone() -> None:
    def cost(number: int) -> int:
        pools = [pool(f"p{n}", 4 * n, 4 * n + 3) for n in range(number)]
        leasing = Leasing(pools, 2, routes=None, send=lambda worker, message: True)
        for worker in range(2):
            leasing.at_start(worker)
        counted = Instructions()
        counted.counting(leasing.configure)([])
        assert not leasing.at_start(0)
        return counted.by_function.total()

    assert cost(60) <= 4.2 * cost(15)
