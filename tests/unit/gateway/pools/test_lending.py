"""Virtual addresses that follow their peers from worker to worker: all workers and the supervisor together."""

import ipaddress
import random
import sys
from collections import deque

import pytest
from tests.instructions import Instructions

from cygnet.auth.identity import Identity, parse_identity
from cygnet.gateway.claims import RESERVED, USED, Claims
from cygnet.gateway.control import (
    AddressClaimed,
    AddressHanded,
    AddressReturned,
    AddressWanted,
    AnyMessage,
    LeaseGrant,
    LeaseRecall,
)
from cygnet.gateway.pools.leasing import Leasing, PoolMessage
from cygnet.gateway.pools.ledger import NOBODY, PoolPlan
from cygnet.gateway.pools.lent_addresses import MAX_ASKED, PATIENCE_TICKS, LentAddresses
from cygnet.gateway.pools.pools import AddressPools
from cygnet.ike.errors import AddressAwaited, AddressElsewhere
from cygnet.ike.settings import PoolSettings

POOL = PoolSettings(name="p", first=bytes((10, 0, 0, 1)), last=bytes((10, 0, 0, 12)))
"""Small enough to be cut into single addresses."""
BLOCKS = PoolSettings(name="p", first=bytes((10, 0, 0, 0)), last=bytes((10, 0, 0, 199)))
"""Cut into blocks of four."""
ANY = bytes(4)
CAROL, DAVE = parse_identity("carol@example.org"), parse_identity("dave@example.org")


class FakeRoutes:
    """As `Routes`, and the kernel: the longest prefix counts."""

    def __init__(self) -> None:
        self.claims: Claims[str] = Claims()
        self.add = self.claims.add
        self.discard = self.claims.discard
        self.discard_all = self.claims.discard_all

    def holder_of(self, address: bytes) -> int:
        network = ipaddress.ip_network(address)
        for _ in range(9):
            holder = self.claims.holder(str(network))
            if holder != NOBODY:
                return holder
            network = network.supernet()
        return NOBODY


class Worker:
    """Gives addresses to IKE_SAs, which are pairs of a peer and an address here."""

    def __init__(self, gateway: "Gateway", number: int) -> None:
        self.gateway = gateway
        self.number = number
        self.sas: list[tuple[Identity, bytes]] = []
        self.pools = AddressPools((gateway.pool,), workers=len(gateway.numbers), send=self.send)
        self.lent = LentAddresses(self.pools, holds=lambda *sa: sa in self.sas, send=self.send)
        for pool, blocks in gateway.leasing.at_start(number):
            self.pools.granted(pool, blocks)

    def send(self, message: AnyMessage) -> bool:
        self.gateway.to_supervisor.append((self.number, message))
        return True

    def set_up(self, peer: Identity, wanted: bytes = ANY) -> bytes | None:
        """As IKE_AUTH does, until it need not wait any more."""
        for _ in range(PATIENCE_TICKS + 2):
            if (peer, wanted) in self.sas:
                self.sas.append((peer, wanted))
                return wanted
            try:
                address = self.lent.acquire(("p",), 4, wanted, peer)
            except AddressAwaited:
                self.gateway.settle()
                continue
            if address is not None:
                self.sas.append((peer, address))
            return address
        return None

    def end(self, peer: Identity, address: bytes) -> bool:
        """Whether the peer goes on with it elsewhere."""
        self.sas.remove((peer, address))
        return (peer, address) in self.sas or self.lent.release(address)

    def use(self, address: bytes) -> None:
        """The peer sends its first packet."""
        self.lent.used((address,))
        self.gateway.settle()

    def receive(self, message: AnyMessage) -> None:
        if isinstance(message, LeaseGrant):
            self.pools.granted(message.pool, message.blocks)
        elif isinstance(message, LeaseRecall):
            self.pools.recalled(message.pool, message.free, is_urgent=message.is_urgent)
        else:
            assert isinstance(message, AddressWanted | AddressHanded | AddressReturned)
            self.lent.on_message(message)


class Gateway:
    """Some workers and their supervisor."""

    def __init__(self, pool: PoolSettings = POOL, workers: int = 3) -> None:
        self.pool = pool
        self.numbers = range(workers)
        self.to_supervisor: deque[tuple[int, AnyMessage]] = deque()
        self.to_workers: deque[tuple[int, AnyMessage]] = deque()
        self.routes = FakeRoutes()
        self.leasing = Leasing((pool,), workers, routes=self.routes, send=self.send)  # type: ignore[arg-type]
        self.workers: dict[int, Worker] = {}
        self.is_silent: set[int] = set()
        for number in self.numbers:
            self.workers[number] = Worker(self, number)

    def send(self, worker: int, message: AnyMessage) -> bool:
        assert worker in self.numbers
        self.to_workers.append((worker, message))
        return worker in self.workers

    def step(self) -> None:
        if self.to_supervisor:
            worker, message = self.to_supervisor.popleft()
            assert isinstance(message, PoolMessage)
            self.leasing.on_message(worker, message)
        elif self.to_workers:
            worker, message = self.to_workers.popleft()
            if worker in self.workers and worker not in self.is_silent:
                self.workers[worker].receive(message)

    def settle(self) -> None:
        while self.to_supervisor or self.to_workers:
            self.step()

    def tick(self, times: int = PATIENCE_TICKS + 2) -> None:
        for _ in range(times):
            for worker in self.workers.values():
                worker.pools.tick()
                worker.lent.tick()
            self.settle()

    def kill(self, number: int) -> None:
        """It dies, and is started again."""
        del self.workers[number]
        self.to_supervisor = deque(item for item in self.to_supervisor if item[0] != number)
        self.to_workers = deque(item for item in self.to_workers if item[0] != number)
        self.routes.discard_all(number)
        self.leasing.free(number)
        self.workers[number] = Worker(self, number)

    def routed_to(self, address: bytes) -> int:
        """Which worker gets packets for an address."""
        self.settle()
        return self.routes.holder_of(address)

    def all_free(self) -> bool:
        """Whether one worker can have all of them, without giving one twice."""
        self.tick()
        assert len(self.leasing.lending) == 0
        found = set()
        while (address := self.workers[0].set_up(DAVE)) is not None:
            assert address not in found
            found.add(address)
        return len(found) == PoolPlan(self.pool, 1).capacity


def moved(gateway: Gateway, first: int, second: int) -> bytes:
    """Carol authenticates herself anew with another worker than before; both IKE_SAs stand."""
    address = gateway.workers[first].set_up(CAROL)
    assert address is not None
    assert gateway.workers[second].set_up(CAROL, address) == address
    return address


def test_a_peer_keeps_its_address_with_another_worker() -> None:
    gateway = Gateway()
    address = moved(gateway, 0, 1)
    gateway.workers[1].use(address)
    assert gateway.workers[0].end(CAROL, address)
    gateway.tick()
    assert gateway.routed_to(address) == 1, "the old IKE_SA has no say in it any more"
    assert gateway.workers[0].set_up(DAVE) != address and gateway.workers[2].set_up(DAVE, address) != address
    assert not gateway.workers[1].end(CAROL, address)
    gateway.tick()
    assert gateway.routed_to(address) == 0 and gateway.workers[0].pools.in_use == 1


@pytest.mark.parametrize("pool", [POOL, BLOCKS], ids=["addresses", "blocks"])
def test_its_packets_come_along_when_it_uses_the_new_ike_sa(pool: PoolSettings) -> None:
    gateway = Gateway(pool)
    address = moved(gateway, 0, 1)
    assert gateway.routed_to(address) == 0, "the peer may not know yet that the new one stands"
    gateway.workers[1].use(address)
    assert gateway.routed_to(address) == 1
    assert gateway.workers[2].set_up(CAROL, address) == address
    assert gateway.routed_to(address) == 1
    gateway.workers[2].use(address)
    assert gateway.routed_to(address) == 2


@pytest.mark.parametrize("pool", [POOL, BLOCKS], ids=["addresses", "blocks"])
def test_its_packets_come_along_when_the_old_ike_sa_ends(pool: PoolSettings) -> None:
    """At once, and not only when the worker gives the address back."""
    gateway = Gateway(pool)
    address = moved(gateway, 0, 1)
    gateway.workers[0].end(CAROL, address)
    assert gateway.routed_to(address) == 1
    assert gateway.workers[2].set_up(CAROL, address) == address
    gateway.workers[1].end(CAROL, address)
    assert gateway.routed_to(address) == 2


def test_its_packets_go_back_with_it_when_it_uses_an_older_ike_sa_again() -> None:
    gateway = Gateway()
    address = moved(gateway, 0, 1)
    for worker in (1, 0, 1, 0):
        gateway.workers[worker].use(address)
        assert gateway.routed_to(address) == worker


def test_a_worker_that_has_no_such_peer_gets_no_packets_by_saying_so() -> None:
    gateway = Gateway()
    address = moved(gateway, 0, 1)
    gateway.workers[1].use(address)
    gateway.workers[2].send(AddressClaimed(address, USED))
    gateway.workers[2].send(AddressClaimed(address, RESERVED))
    gateway.workers[2].send(AddressClaimed(bytes((10, 0, 0, 77)), USED))
    assert gateway.routed_to(address) == 1


def test_from_worker_to_worker_and_back() -> None:
    gateway = Gateway()
    address = moved(gateway, 0, 1)
    gateway.workers[0].end(CAROL, address)
    for old, new in ((1, 2), (2, 0), (0, 2), (2, 1), (1, 0)):
        assert gateway.workers[new].set_up(CAROL, address) == address
        assert gateway.workers[old].end(CAROL, address)
        assert gateway.routed_to(address) == new
        gateway.workers[new].use(address)
        gateway.tick()
        assert gateway.routed_to(address) == new
    gateway.workers[0].end(CAROL, address)
    assert gateway.all_free()


def test_back_to_a_worker_that_has_had_it_a_moment_ago() -> None:
    """The packets come along, also if that worker has not given it back yet."""
    gateway = Gateway()
    address = moved(gateway, 0, 1)
    gateway.workers[0].end(CAROL, address)
    for old, new in ((1, 0), (0, 1), (1, 2), (2, 0), (0, 1)):
        assert gateway.workers[new].set_up(CAROL, address) == address
        gateway.workers[new].use(address)
        assert gateway.routed_to(address) == new
        gateway.workers[old].end(CAROL, address)
    gateway.tick()
    assert gateway.routed_to(address) == 1
    gateway.workers[1].end(CAROL, address)
    assert gateway.all_free()


def test_where_the_new_ike_sa_fails_the_old_one_has_its_address_still() -> None:
    gateway = Gateway()
    address = moved(gateway, 0, 1)
    gateway.workers[1].use(address)
    gateway.workers[1].end(CAROL, address)
    assert gateway.routed_to(address) == 0 and gateway.workers[0].sas == [(CAROL, address)]
    gateway.tick()
    assert gateway.routed_to(address) == 0
    gateway.workers[0].end(CAROL, address)
    assert gateway.all_free()


def test_another_peer_does_not_get_it_by_asking_for_it() -> None:
    gateway = Gateway()
    address = gateway.workers[0].set_up(CAROL)
    assert address is not None
    given = gateway.workers[1].set_up(DAVE, address)
    assert given not in (None, address) and gateway.routed_to(address) == 0


def test_an_address_that_nobody_has_is_not_waited_for_twice() -> None:
    gateway = Gateway()
    worker = gateway.workers[1]
    wanted = next(a for a in (bytes((10, 0, 0, n)) for n in range(1, 13)) if gateway.workers[0].pools.owns(a))
    assert worker.set_up(CAROL, wanted) not in (None, wanted)
    assert worker.lent.acquire(("p",), 4, wanted, CAROL) is not None


def test_a_worker_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    gateway = Gateway()
    address = gateway.workers[0].set_up(CAROL)
    assert address is not None
    gateway.is_silent = {0}
    with pytest.raises(AddressElsewhere):
        gateway.workers[1].lent.acquire(("p",), 4, address, CAROL)
    gateway.tick()
    assert gateway.workers[1].lent.acquire(("p",), 4, address, CAROL) not in (None, address)


def test_a_storm_of_wishes_is_not_waited_for() -> None:
    gateway = Gateway()
    worker = gateway.workers[1]
    elsewhere = next(a for a in (bytes((10, 0, 0, n)) for n in range(1, 13)) if gateway.workers[0].pools.owns(a))
    for number in range(MAX_ASKED):
        with pytest.raises(AddressElsewhere):
            worker.lent.acquire(("p",), 4, elsewhere, parse_identity(f"c{number}@example.org"))
    assert worker.lent.acquire(("p",), 4, elsewhere, CAROL) not in (None, elsewhere)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_dies_takes_no_address_of_others_with_it(victim: int) -> None:
    gateway = Gateway()
    address = moved(gateway, 0, 1)
    gateway.kill(victim)
    gateway.tick()
    others = [gateway.workers[n].set_up(DAVE) for n in gateway.numbers for _ in range(12)]
    assert address not in others, "somebody has it still"
    assert len({each for each in others if each is not None}) == 11
    if victim == 0:
        assert gateway.routed_to(address) == 1
    for worker in gateway.workers.values():
        for sa in list(worker.sas):
            worker.end(*sa)
    assert gateway.all_free()


def standing_in(gateway: Gateway) -> set[tuple[bytes, Worker]]:
    return {(address, each) for each in gateway.workers.values() for _, address in each.sas}


def check_routes(gateway: Gateway, uses: list[tuple[bytes, Worker]]) -> None:
    """Packets go to the worker whose IKE_SA the peer has used last of those that stand, or else to one that has any."""
    gateway.settle()
    standing = standing_in(gateway)
    for address in {address for address, _ in standing}:
        users = [each.number for used, each in uses if used == address]
        choice = users[-1:] or [each.number for held, each in standing if held == address]
        assert gateway.routed_to(address) in choice


@pytest.mark.parametrize("pool", [POOL, BLOCKS], ids=["addresses", "blocks"])
@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_no_address_is_two_peers_and_none_gets_lost(seed: int, pool: PoolSettings) -> None:
    rng = random.Random(seed)
    gateway = Gateway(pool)
    peers = [parse_identity(f"c{number}@example.org") for number in range(6)]
    uses: list[tuple[bytes, Worker]] = []
    """Who was used with which address, the last one last."""
    for _ in range(300):
        worker = gateway.workers[rng.choice(gateway.numbers)]
        standing = [(each, sa) for each in gateway.workers.values() for sa in each.sas]
        match rng.randrange(14):
            case 0 | 1 | 2:
                first = worker.set_up(rng.choice(peers))
                if first is not None:
                    uses.append((first, worker))
            case 3 | 4 | 5 | 6 if standing:
                peer, address = rng.choice(standing)[1]
                gateway.settle()
                assert worker.set_up(peer, address) == address
            case 7 | 8 | 9 if standing:
                owner, sa = rng.choice(standing)
                owner.end(*sa)
            case 10:
                gateway.tick(1)
            case 11 | 12 if standing:
                user, (_, address) = rng.choice(standing)
                user.use(address)
                uses.append((address, user))
            case 13 if rng.random() < 0.2:
                gateway.kill(worker.number)
            case _:
                gateway.step()
        holders: dict[bytes, set[Identity]] = {}
        for each in gateway.workers.values():
            for peer, address in each.sas:
                holders.setdefault(address, set()).add(peer)
        assert all(len(found) == 1 for found in holders.values()), holders
        uses = [use for use in uses if use in standing_in(gateway)]
        if rng.random() < 0.3:
            check_routes(gateway, uses)
    for each in gateway.workers.values():
        for sa in list(each.sas):
            each.end(*sa)
    assert gateway.all_free()


def cost_of_a_tick(peers: int) -> int:
    """In bytecode instructions, when so many have come here with the addresses that another worker gave them."""
    gateway = Gateway(BLOCKS, workers=2)
    there, here = gateway.workers[0], gateway.workers[1]
    for number in range(peers):
        peer = parse_identity(f"c{number}@example.org")
        address = there.set_up(peer)
        assert address is not None and here.set_up(peer, address) == address
        there.end(peer, address)
    gateway.tick()
    counted = Instructions()
    counted.counting(here.lent.tick)()
    assert len(here.sas) == peers and all(map(here.lent.is_handed_over, (address for _, address in here.sas)))
    return counted.by_function.total()


@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or a measurement of coverage traces already")
def test_a_tick_does_not_look_at_addresses_that_are_in_use() -> None:
    """There may be as many as tunnels, and there is a tick each second."""
    assert 0 < cost_of_a_tick(60) == cost_of_a_tick(5)
