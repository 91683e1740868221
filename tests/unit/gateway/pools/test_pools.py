import ipaddress

import pytest

from cygnet.auth.identity import ANY_IDENTITY
from cygnet.gateway.control import AnyMessage, LeaseRequest, LeaseReturn
from cygnet.gateway.pools.ledger import MAX_BLOCKS, Ledger, PoolPlan
from cygnet.gateway.pools.pools import LOW_WATER, PATIENCE_TICKS, AddressPools, blocks_at_start, low_water
from cygnet.iana import CfgAttribute
from cygnet.ike.errors import AddressAwaited
from cygnet.ike.settings import PoolSettings
from cygnet.wire.payloads.configuration import ConfigurationAttribute

ANY4 = bytes(4)


def pool(first: str, last: str, name: str = "p", dns: tuple[str, ...] = ()) -> PoolSettings:
    packed = [ipaddress.ip_address(address).packed for address in (first, last, *dns)]
    told = tuple(ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_DNS, server) for server in packed[2:])
    return PoolSettings(name=name, first=packed[0], last=packed[1], attributes=told)


def text(address: bytes | None) -> str:
    return str(ipaddress.ip_address(address)) if address is not None else "none"


class Rig:
    """One worker's pools, with all blocks of the pool and what it tells the supervisor."""

    def __init__(self, settings: PoolSettings, *, blocks: int | None = None, reserved: tuple[str, ...] = ()) -> None:
        self.plan = PoolPlan(settings, 1)
        self.sent: list[AnyMessage] = []
        packed = tuple(ipaddress.ip_address(address).packed for address in reserved)
        self.pools = AddressPools((settings,), workers=1, reserved=packed, send=self.sent.append)
        self.pools.granted(settings.name, range(self.plan.blocks if blocks is None else blocks))

    def acquire(self, wanted: str = "0.0.0.0") -> str:
        packed = ipaddress.ip_address(wanted).packed
        return text(self.pools.acquire(("p",), len(packed), packed, ANY_IDENTITY))

    def release(self, address: str) -> None:
        self.pools.release(ipaddress.ip_address(address).packed)


class TestPlan:
    @pytest.mark.parametrize(
        ("first", "last", "workers", "size"),
        [
            ("10.3.0.1", "10.3.0.254", 1, 8),
            ("10.3.0.1", "10.3.0.254", 2, 4),
            ("10.3.0.0", "10.3.0.255", 16, 1),
            ("10.3.0.0", "10.3.255.255", 2, 2048),
            ("10.0.0.0", "10.255.255.255", 2, 4096),
            ("10.0.0.1", "10.0.0.3", 4, 1),
            ("10.0.0.1", "10.0.0.1", 254, 1),
            ("fd00::1", "fd00::ffff:ffff:ffff:ffff", 2, 4096),
        ],
    )
    def test_every_worker_has_several_blocks_where_there_are_as_many_addresses(
        self, first: str, last: str, workers: int, size: int
    ) -> None:
        plan = PoolPlan(pool(first, last), workers)
        assert plan.size == size
        assert plan.blocks >= min(16 * workers, plan.capacity)

    def test_the_blocks_are_the_pool(self) -> None:
        plan = PoolPlan(pool("10.3.0.5", "10.3.0.250"), 1)
        addresses = [address for block in range(plan.blocks) for address in plan.range_of(block)]
        assert addresses == list(range(plan.first, plan.last + 1))
        assert all(plan.block_of(address) == block for block in range(plan.blocks) for address in plan.range_of(block))

    def test_a_block_is_a_prefix(self) -> None:
        plan = PoolPlan(pool("10.3.0.5", "10.3.0.250"), 1)
        assert (plan.prefix_of(0), plan.prefix_of(1)) == ("10.3.0.0/29", "10.3.0.8/29")
        assert PoolPlan(pool("fd00::1", "fd00::ffff"), 1).prefix_of(1) == "fd00::800/117"

    def test_a_pool_without_end_is_used_in_part(self) -> None:
        plan = PoolPlan(pool("fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 2)
        assert plan.blocks == MAX_BLOCKS


class TestLedger:
    def ledger(self, last: str = "10.0.0.7") -> Ledger:
        return Ledger([PoolPlan(pool("10.0.0.0", last), 2)])

    def test_leases_each_block_once(self) -> None:
        ledger = self.ledger()
        assert ledger.lease("p", 0, 5) == (0, 1, 2, 3, 4)
        assert ledger.lease("p", 1, 5) == (5, 6, 7)
        assert ledger.lease("p", 0, 1) == ()

    def test_who_waits_gets_what_comes_back(self) -> None:
        ledger = self.ledger()
        ledger.lease("p", 0, 8)
        assert ledger.lease("p", 1, 2) == ()
        assert ledger.give_back("p", 0, (3, 4, 5)) == (3, 4, 5)
        assert ledger.settle("p") == [(1, (3, 4))]
        assert ledger.settle("p") == []

    def test_takes_back_only_what_the_worker_had(self) -> None:
        ledger = self.ledger()
        ledger.lease("p", 0, 2)
        ledger.lease("p", 1, 2)
        assert ledger.give_back("p", 0, (1, 2, 77)) == (1,)
        assert ledger.blocks_of("p", 1) == (2, 3)

    def test_what_a_dead_worker_had_is_leased_again_last(self) -> None:
        ledger = self.ledger()
        ledger.lease("p", 0, 3)
        ledger.reclaim(0)
        assert ledger.lease("p", 1, 8) == (3, 4, 5, 6, 7, 0, 1, 2)

    def test_a_dead_worker_waits_for_nothing(self) -> None:
        ledger = self.ledger()
        ledger.lease("p", 0, 8)
        ledger.lease("p", 1, 1)
        ledger.reclaim(1)
        ledger.give_back("p", 0, (0,))
        assert ledger.settle("p") == []


class TestAcquire:
    def test_gives_what_was_never_given_first_and_what_was_free_for_longest_then(self) -> None:
        rig = Rig(pool("10.0.0.1", "10.0.0.4"))
        first, second = rig.acquire(), rig.acquire()
        rig.release(second)
        rig.release(first)
        assert [rig.acquire() for _ in range(5)] == ["10.0.0.3", "10.0.0.4", second, first, "none"]

    def test_honours_a_wish_for_a_fresh_address_and_does_not_give_it_again(self) -> None:
        rig = Rig(pool("10.0.0.1", "10.0.0.4"))
        assert rig.acquire("10.0.0.3") == "10.0.0.3"
        assert rig.acquire("10.0.0.3") == "10.0.0.1"
        assert [rig.acquire() for _ in range(3)] == ["10.0.0.2", "10.0.0.4", "none"]

    def test_honours_a_wish_for_an_address_that_came_back(self) -> None:
        rig = Rig(pool("10.0.0.1", "10.0.0.4"))
        for _ in range(4):
            rig.acquire()
        rig.release("10.0.0.2")
        rig.release("10.0.0.3")
        assert [rig.acquire("10.0.0.3"), rig.acquire(), rig.acquire()] == ["10.0.0.3", "10.0.0.2", "none"]

    def test_a_wish_released_before_its_turn_is_given_once(self) -> None:
        rig = Rig(pool("10.0.0.1", "10.0.0.3"))
        rig.acquire("10.0.0.2")
        rig.release("10.0.0.2")
        assert [rig.acquire() for _ in range(4)] == ["10.0.0.1", "10.0.0.3", "10.0.0.2", "none"]

    @pytest.mark.parametrize("wanted", ["10.0.1.1", "9.255.255.255", "255.255.255.255"])
    def test_a_wish_beyond_the_pool_is_a_wish(self, wanted: str) -> None:
        assert Rig(pool("10.0.0.1", "10.0.0.4")).acquire(wanted) == "10.0.0.1"

    def test_never_gives_a_reserved_address(self) -> None:
        rig = Rig(pool("10.0.0.1", "10.0.0.3"), reserved=("10.0.0.1", "10.9.9.9", "fd00::1"))
        assert [rig.acquire("10.0.0.1"), rig.acquire(), rig.acquire()] == ["10.0.0.2", "10.0.0.3", "none"]
        rig.release("10.0.0.1")
        assert rig.acquire() == "none"

    def test_releasing_twice_or_what_was_never_given_changes_nothing(self) -> None:
        rig = Rig(pool("10.0.0.1", "10.0.0.3"))
        rig.acquire()
        for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.7.7.7"):
            rig.release(address)
        assert rig.pools.in_use == 0
        assert sorted(rig.acquire() for _ in range(4)) == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "none"]

    def test_takes_the_first_pool_of_the_family_that_has_one(self) -> None:
        settings = (
            pool("fd00::1", "fd00::1", "six"),
            pool("10.0.0.1", "10.0.0.1", "small"),
            pool("10.0.1.1", "10.0.1.1", "next"),
        )
        sent: list[AnyMessage] = []
        pools = AddressPools(settings, workers=1, send=sent.append)
        for each in settings:
            pools.granted(each.name, (0,))
        names = ("six", "small", "next")
        given = [text(pools.acquire(names, octets, bytes(octets), ANY_IDENTITY)) for octets in (4, 4, 4, 16, 16)]
        assert given == ["10.0.0.1", "10.0.1.1", "none", "fd00::1", "none"]

    def test_tells_what_the_pools_of_the_addresses_tell_each_once(self) -> None:
        settings = (
            pool("10.0.0.1", "10.0.0.1", "a", ("9.9.9.9", "1.1.1.1")),
            pool("10.1.0.1", "10.1.0.1", "b", ("9.9.9.9",)),
        )
        pools = AddressPools(settings, workers=1, send=lambda message: None)
        in_a, in_b = bytes((10, 0, 0, 1)), bytes((10, 1, 0, 1))

        def told(*addresses: bytes) -> list[str]:
            return [text(attribute.value) for attribute in pools.attributes(("b", "a", "gone"), addresses)]

        assert told(in_a, in_b) == ["9.9.9.9", "1.1.1.1"]
        assert told(in_b) == ["9.9.9.9"]
        assert told() == told(bytes(4), bytes(16)) == []

    def test_a_large_pool_costs_nothing_until_it_is_used(self) -> None:
        rig = Rig(pool("fd00::1", "fd00::ffff:ffff:ffff:ffff"), blocks=1)
        assert rig.acquire("::") == "fd00::1"
        assert rig.acquire("fd00::fff") == "fd00::fff"


class TestLeasing:
    def test_asks_for_more_before_there_are_none(self) -> None:
        rig = Rig(pool("10.0.0.0", "10.0.255.255"), blocks=1)
        assert rig.plan.size == 4096
        for _ in range(4096 - LOW_WATER):
            rig.acquire()
        assert rig.sent == []
        rig.acquire()
        assert rig.sent == [LeaseRequest("p", 1, LOW_WATER - 1)]
        rig.acquire()
        assert len(rig.sent) == 1

    def test_asks_again_when_half_of_the_rest_is_gone(self) -> None:
        rig = Rig(pool("10.0.0.0", "10.0.0.31"), blocks=10)
        for _ in range(25):
            rig.acquire()
        asked = [message for message in rig.sent if isinstance(message, LeaseRequest)]
        assert [message.free for message in asked] == [15, 7, 3, 1, 0]
        assert [message.blocks for message in asked] == [9, 13, 15, 16, 16]

    def test_a_grant_serves_at_once_and_a_refusal_is_asked_again_at_the_tick(self) -> None:
        rig = Rig(pool("10.0.0.0", "10.0.0.31"), blocks=0)
        assert rig.acquire() == "none"
        rig.pools.granted("p", ())
        assert rig.acquire() == "none"
        assert len(rig.sent) == 1
        rig.pools.tick()
        assert len(rig.sent) == 2
        rig.pools.granted("p", (3,))
        assert rig.acquire() == "10.0.0.6"

    def test_spares_only_blocks_that_nobody_uses_and_only_half_of_the_difference(self) -> None:
        rig = Rig(pool("10.0.0.0", "10.0.0.31"))
        used = [rig.acquire() for _ in range(12)]
        for address in used[:-1]:
            rig.release(address)
        assert used[-1] == "10.0.0.11"
        rig.pools.recalled("p", 3)
        (message,) = rig.sent
        assert isinstance(message, LeaseReturn)
        assert 5 not in message.blocks
        assert len(message.blocks) == 7
        left = [rig.acquire() for _ in range(40)]
        spared = {str(ipaddress.ip_address(a)) for block in message.blocks for a in rig.plan.range_of(block)}
        given = [address for address in left if address != "none"]
        assert len(given) == len(set(given)) == 32 - 14 - 1
        assert spared.isdisjoint(given)

    @pytest.mark.parametrize("free_elsewhere", [31, 32, 100])
    def test_spares_nothing_for_a_worker_that_has_as_much(self, free_elsewhere: int) -> None:
        rig = Rig(pool("10.0.0.0", "10.0.0.31"))
        rig.pools.recalled("p", free_elsewhere)
        assert rig.sent == []

    def test_gives_its_last_free_address_where_a_peer_waits_for_one(self) -> None:
        rig = Rig(pool("10.0.0.1", "10.0.0.2"), reserved=("10.0.0.2",))
        rig.pools.recalled("p", 0)
        assert rig.sent == [LeaseReturn("p", (1,))], "the reserved one is of no use to anybody"
        rig.pools.recalled("p", 0, is_urgent=True)
        assert rig.sent[1:] == [LeaseReturn("p", (0,))]
        rig.pools.recalled("p", 0, is_urgent=True)
        assert len(rig.sent) == 2

    def test_gives_no_address_that_a_peer_has(self) -> None:
        rig = Rig(pool("10.0.0.1", "10.0.0.1"))
        rig.acquire()
        rig.pools.recalled("p", 0, is_urgent=True)
        assert not [message for message in rig.sent if isinstance(message, LeaseReturn)]

    def test_a_peer_waits_for_an_address_of_another_worker_for_a_second_or_two(self) -> None:
        sent: list[AnyMessage] = []
        pools = AddressPools((pool("10.0.0.1", "10.0.0.1"),), workers=2, send=sent.append)
        for _ in range(2):
            for _ in range(PATIENCE_TICKS):
                with pytest.raises(AddressAwaited):
                    pools.acquire(("p",), 4, ANY4, ANY_IDENTITY)
                pools.granted("p", ())
                pools.tick()
            assert pools.acquire(("p",), 4, ANY4, ANY_IDENTITY) is None
            pools.tick()
        assert len([each for each in sent if isinstance(each, LeaseRequest) and each.is_urgent]) == 2
        pools.granted("p", (0,))
        assert text(pools.acquire(("p",), 4, ANY4, ANY_IDENTITY)) == "10.0.0.1"

    def test_a_peer_does_not_wait_where_another_of_its_pools_has_an_address(self) -> None:
        settings = (pool("10.0.0.1", "10.0.0.1", "empty"), pool("10.0.1.1", "10.0.1.1", "next"))
        pools = AddressPools(settings, workers=2, send=lambda message: None)
        pools.granted("next", (0,))
        assert text(pools.acquire(("empty", "next"), 4, ANY4, ANY_IDENTITY)) == "10.0.1.1"

    def test_returned_addresses_are_nobodys(self) -> None:
        rig = Rig(pool("10.0.0.0", "10.0.0.31"))
        rig.pools.recalled("p", 0)
        (message,) = rig.sent
        assert isinstance(message, LeaseReturn)
        address = str(ipaddress.ip_address(rig.plan.start_of(message.blocks[0])))
        rig.release(address)
        assert rig.acquire(address) != address

    def test_begins_with_room_for_a_burst_and_no_more_than_its_share(self) -> None:
        small = PoolPlan(pool("10.0.0.1", "10.0.0.14"), 2)
        assert blocks_at_start(small, 2) * small.size <= 7
        large = PoolPlan(pool("10.0.0.0", "10.255.255.255"), 2)
        assert blocks_at_start(large, 2) * large.size >= 2 * low_water(large, 2)
