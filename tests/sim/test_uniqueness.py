"""How many IKE_SAs a peer may have (`unique =`)."""

from collections import Counter
from collections.abc import Iterable

import pytest
from tests.sim.world import (
    CLIENT,
    CLIENT_ID,
    ESP,
    EVERYTHING,
    GATEWAY,
    GATEWAY_ID,
    IKE,
    SECRET,
    Host,
    ListPool,
    Weather,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
    sa_of,
)

from cygnet.auth.identity import Identity
from cygnet.dataplane.userspace import LINGER_S
from cygnet.ike.effects import Demand, Effect, InitialContact
from cygnet.ike.settings import AuthSettings, ChildSettings, ConnectionSettings, Settings, Unique

ELSEWHERE = "192.0.2.77"
"""Another address that the same client comes from."""


def gateway_with(world: World, unique: Unique) -> Host:
    return Host(world, GATEWAY, change_connection(gateway_settings(), unique=unique), ListPool(counted(10)))


def second_of_two(world: World, gateway: Host, *, says_alone: bool, address: str = ELSEWHERE) -> tuple[Host, Host]:
    """The same client, first at its address and then at another, where it may say INITIAL_CONTACT."""
    first = Host(world, CLIENT, client_settings())
    first.initiate(gateway, client_connection())
    world.run(1.0)
    second = Host(world, address, client_settings(), sends_initial_contact=says_alone)
    second.initiate(gateway, client_connection())
    world.run(1.0)
    return first, second


@pytest.mark.parametrize(
    ("unique", "says_alone", "left", "closed"),
    [
        (Unique.NO, False, 2, []),
        (Unique.NO, True, 1, ["initial_contact"]),
        (Unique.NEVER, False, 2, []),
        (Unique.NEVER, True, 2, []),
        (Unique.REPLACE, False, 1, ["replaced"]),
        (Unique.REPLACE, True, 1, ["initial_contact"]),
        (Unique.KEEP, False, 1, ["authentication_failed"]),
        (Unique.KEEP, True, 1, ["initial_contact"]),
    ],
)
def test_what_becomes_of_the_first_of_two(unique: Unique, says_alone: bool, left: int, closed: list[str]) -> None:
    world = World()
    gateway = gateway_with(world, unique)
    first, second = second_of_two(world, gateway, says_alone=says_alone)
    assert gateway.closed == closed
    assert len(gateway.table.sas) == len(gateway.children) == len(gateway.pool.used) == left
    # The first is told when it is replaced; after INITIAL_CONTACT there is nobody to tell.
    assert first.closed == (["deleted_by_peer"] if closed == ["replaced"] else [])
    assert second.closed == (["authentication_failed"] if closed == ["authentication_failed"] else [])
    if unique is Unique.KEEP and not says_alone:
        assert gateway.counters['authentication_failures_total{reason="not_unique"}'] == 1


def test_keep_lets_a_peer_authenticate_itself_anew_from_where_it_is() -> None:
    world = World()
    gateway = gateway_with(world, Unique.KEEP)
    client = Host(world, CLIENT, client_settings())
    for _ in range(2):
        client.initiate(gateway, client_connection())
        world.run(1.0)
    assert len(gateway.table.sas) == 2 and not gateway.closed


@pytest.mark.parametrize("unique", [Unique.NO, Unique.NEVER, Unique.KEEP, Unique.REPLACE])
def test_what_the_other_workers_are_asked(unique: Unique) -> None:
    world = World()
    gateway = gateway_with(world, unique)
    Host(world, CLIENT, client_settings()).initiate(gateway, client_connection())
    world.run(1.0)
    asked = [(e.local_id, e.remote_id, e.demand) for e in gateway.initial_contacts]
    demands = {Unique.KEEP: Demand.YIELD, Unique.REPLACE: Demand.DELETE}
    assert asked == ([(GATEWAY_ID, CLIENT_ID, demands[unique])] if unique in demands else [])


@pytest.mark.parametrize(("ago_s", "is_told"), [(0.2, False), (0.8, True)])
def test_a_peer_is_told_what_goes_if_it_came_up_while_it_began_another(ago_s: float, is_told: bool) -> None:
    """With another worker it has begun an IKE_SA and said INITIAL_CONTACT, and both ends have this one as well."""
    world = World()
    gateway = gateway_with(world, Unique.NO)
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    gateway.carry_out(gateway.table.drop_peer(CLIENT_ID, bytes(8), world.now, begun=world.now - ago_s))
    world.run(1.0)
    assert client.closed == (["deleted_by_peer"] if is_told else [])
    assert gateway.closed == ["initial_contact"]


@pytest.mark.parametrize("demand", [Demand.FORGET, Demand.DELETE, Demand.YIELD])
def test_what_a_worker_does_when_it_is_asked(demand: Demand) -> None:
    world = World()
    gateway = gateway_with(world, Unique.NO)
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    ours = sa_of(gateway).spi
    elsewhere = bytes((1, 7, 0, 0, 0, 0, 0, 1))
    gateway.carry_out(gateway.table.drop_peer(CLIENT_ID, elsewhere, world.now, local_id=GATEWAY_ID, demand=demand))
    world.run(1.0)
    if demand is Demand.YIELD:
        (verdict,) = gateway.initial_contacts
        assert (verdict.sa, verdict.demand) == (elsewhere, Demand.REFUSE)
        assert agree(client, gateway)
    else:
        assert gateway.closed == ["initial_contact" if demand is Demand.FORGET else "replaced"]
        assert client.closed == ([] if demand is Demand.FORGET else ["deleted_by_peer"])
    gateway.carry_out(gateway.table.drop_peer(CLIENT_ID, ours, world.now, local_id=GATEWAY_ID, demand=Demand.DELETE))
    assert len(gateway.table.sas) == (demand is Demand.YIELD), "what it is asked in the name of stands"


def test_an_initiator_says_initial_contact_unless_it_never_enforces_anything() -> None:
    for unique in Unique:
        world = World()
        gateway = gateway_with(world, Unique.NO)
        client = Host(world, CLIENT, client_settings(), sends_initial_contact=True)
        client.initiate(gateway, client_connection(unique=unique))
        world.run(1.0)
        assert len(gateway.initial_contacts) == (unique is not Unique.NEVER)


def site(ours: Identity, theirs: Identity, unique: Unique) -> ConnectionSettings:
    """One of two ends that are alike."""
    child = ChildSettings(name="net", esp_proposals=ESP, local_ts=EVERYTHING, remote_ts=EVERYTHING)
    return ConnectionSettings(
        name="site",
        proposals=IKE,
        local=AuthSettings(id=ours),
        remote=AuthSettings(id=theirs),
        unique=unique,
        mobike=False,
        children=(child,),
    )


@pytest.mark.parametrize("unique", [Unique.NO, Unique.REPLACE])
def test_both_begin_at_once_and_say_that_they_have_no_other(unique: Unique) -> None:
    """In whatever order that arrives: in the end both have the same, and at least one."""
    crossed = 0
    for seed in range(60):
        world = World(seed, Weather(delay=0.01, jitter=0.1))
        east_site, west_site = site(CLIENT_ID, GATEWAY_ID, unique), site(GATEWAY_ID, CLIENT_ID, unique)
        retransmit = client_settings().retransmit
        east, west = (
            Host(
                world,
                address,
                Settings(connections=(connection,), secrets=(SECRET,), retransmit=retransmit),
                sends_initial_contact=True,
            )
            for address, connection in ((CLIENT, east_site), (GATEWAY, west_site))
        )
        east.initiate(west, east_site)
        west.initiate(east, west_site)
        world.run(5.0 + LINGER_S)
        assert agree(east, west), seed
        assert 1 <= len(east.table.sas) <= 2, seed
        closed = east.closed + west.closed
        assert "timeout_informational" not in closed, "neither forgets what the other may have"
        assert set(closed) <= {"initial_contact", "replaced", "deleted_by_peer"}, seed
        crossed += "deleted_by_peer" in closed
    assert crossed


def test_what_we_have_begun_alone_goes_on_other_workers_too() -> None:
    """We have told the peer that we have no other: it has forgotten what it had begun with another worker of ours."""
    world = World()
    gateway = gateway_with(world, Unique.NO)
    client = Host(world, CLIENT, client_settings(), sends_initial_contact=True)
    settings = client_connection()
    client.initiate(gateway, settings)
    world.run(1.0)
    assert [each.demand for each in client.initial_contacts] == [Demand.CONFIRM]
    # As the other worker would: this IKE_SA is young and then old.
    spi = sa_of(client).spi
    client.carry_out(client.table.drop_peer(GATEWAY_ID, b"", world.now, demand=Demand.CONFIRM))
    world.run(1.0)
    assert sa_of(client).spi == spi and client.counters["liveness_checks_total"] == 1
    world.run(60.0)
    client.carry_out(client.table.drop_peer(GATEWAY_ID, b"", world.now, demand=Demand.CONFIRM))
    world.run(1.0)
    assert client.closed == ["replaced"] and gateway.closed[-1:] == ["deleted_by_peer"]


class Workers:
    """Two workers of one gateway, and who passes on what they say of peers."""

    def __init__(self, world: World, unique: Unique) -> None:
        self.world = world
        self.settings = change_connection(gateway_settings(), unique=unique)
        self.hosts = [Worker(self, number) for number in range(2)]

    def pass_on(self, sender: "Worker", word: InitialContact) -> None:
        """As the supervisor does: to the others, and to who has said it that it is in order."""
        for host in self.hosts:
            host.inbox.append(word.sa if host is sender else word)
            self.world.at(self.world.rng.random() * 0.1, host.read)


class Worker(Host):
    """What it says of peers takes its time, as what it hears does, and keeps its order."""

    def __init__(self, workers: Workers, number: int) -> None:
        self.workers = workers
        self.inbox: list[InitialContact | bytes] = []
        self.outbox: list[InitialContact] = []
        super().__init__(workers.world, f"198.51.100.{number + 1}", workers.settings, ListPool(counted(4)))
        self.env.workers = 2

    def carry_out(self, effects: Iterable[Effect]) -> None:
        effects = list(effects)
        super().carry_out(effects)
        for effect in effects:
            if isinstance(effect, InitialContact):
                self.outbox.append(effect)
                self.world.at(self.world.rng.random() * 0.1, lambda: self.workers.pass_on(self, self.outbox.pop(0)))

    def read(self) -> None:
        word = self.inbox.pop(0)
        if isinstance(word, bytes):
            self.table.claims.discard(word)
        else:
            self.carry_out(
                self.table.drop_peer(
                    word.remote_id,
                    word.sa,
                    self.world.now,
                    local_id=word.local_id,
                    demand=word.demand,
                    remote=word.remote,
                    begun=word.begun,
                )
            )


@pytest.mark.parametrize(
    ("unique", "says_alone"),
    [(Unique.NO, True), (Unique.REPLACE, False), (Unique.REPLACE, True), (Unique.KEEP, False), (Unique.KEEP, True)],
)
def test_of_two_that_two_workers_set_up_at_once_one_stands(unique: Unique, says_alone: bool) -> None:
    """Neither both, which no worker would see, nor none, since each makes way for the other."""
    stood: Counter[int] = Counter()
    for seed in range(60):
        world = World(seed, Weather(delay=0.01, jitter=0.1))
        workers = Workers(world, unique)
        for number, gateway in enumerate(workers.hosts):
            client = Host(world, f"192.0.2.{number + 1}", client_settings(), sends_initial_contact=says_alone)
            client.initiate(gateway, client_connection())
        world.run(20.0)
        standing = [len(gateway.table.sas) for gateway in workers.hosts]
        assert sum(standing) == 1, (seed, standing, [gateway.closed for gateway in workers.hosts])
        assert not any(gateway.table.claims for gateway in workers.hosts)
        stood[standing.index(1)] += 1
    assert len(stood) == 2, "now the one and now the other"


@pytest.mark.parametrize("unique", [Unique.REPLACE, Unique.KEEP])
def test_the_first_or_the_last_of_two_workers_stands(unique: Unique) -> None:
    world = World()
    workers = Workers(world, unique)
    for number, gateway in enumerate(workers.hosts):
        Host(world, f"192.0.2.{number + 1}", client_settings()).initiate(gateway, client_connection())
        world.run(1.0)
    first, last = ([0, 1], ["replaced"]) if unique is Unique.REPLACE else ([1, 0], ["not_unique"])
    assert [len(gateway.table.sas) for gateway in workers.hosts] == first
    assert workers.hosts[0].closed + workers.hosts[1].closed == last


def test_keep_lets_a_peer_authenticate_itself_anew_with_another_worker() -> None:
    world = World()
    workers = Workers(world, Unique.KEEP)
    client = Host(world, CLIENT, client_settings())
    for gateway in workers.hosts:
        client.initiate(gateway, client_connection())
        world.run(1.0)
    assert [len(gateway.table.sas) for gateway in workers.hosts] == [1, 1]
