"""Traps, with a real core and data plane on a fake network with a fake clock."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import cast

import msgspec
import pytest
from tests.sim.world import (
    CLIENT,
    ESP,
    GATEWAY,
    Host,
    ListPool,
    World,
    change_connection,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
)
from tests.unit.dataplane.children import packed, selector

from cygnet.dataplane.echo import build_echo_request
from cygnet.dataplane.inner import SENDERS_PORT, Flow
from cygnet.dataplane.selection import flow_selectors
from cygnet.dataplane.userspace import UserspaceDataplane
from cygnet.gateway.claims import RESERVED
from cygnet.gateway.control import AddDiversion, AddRoute, AnyMessage, DelRoute, Diversion
from cygnet.gateway.host.host_network import HostNetwork
from cygnet.gateway.initiations import Initiations, initiating_worker
from cygnet.gateway.traffic.traps import LAST_PAUSE_S, MAX_HELD, Traps
from cygnet.iana import IpProtocol
from cygnet.ike.effects import Effect, Revive
from cygnet.ike.path import Path
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import ChildSettings, ConnectionSettings, EndAction, Mode, Settings, StartAction, TrapOrder
from cygnet.ike.tasks import RekeyIke
from cygnet.net.driver import Driver

INSIDE, BEHIND, BESIDE = "10.2.0.1", "10.1.0.1", "10.4.0.1"
PATH = Path(CLIENT, 500, GATEWAY, 500)
TRAP, START, NONE = StartAction.TRAP, StartAction.TRAP_START, StartAction.NONE


class Later:
    """What is to be called later, by the world's clock; the table's timers are the world's own."""

    def __init__(self, world: World) -> None:
        self.world = world

    def call_later(self, delay: float, callback: Callable[[], None]) -> "Later":
        if callback.__name__ == "again":
            self.world.at(delay, callback)
        return self

    def cancel(self) -> None:
        pass


class TrappedHost(Host):
    """A worker's part in it: a core, a data plane, and the traps."""

    def __init__(self, world: World, settings: Settings, *, worker: int = 0, workers: int = 1) -> None:
        super().__init__(world, CLIENT, settings)
        self.esp: list[bytes] = []
        self.routes: list[AnyMessage] = []
        loop = cast(asyncio.AbstractEventLoop, Later(world))
        self.dataplane = UserspaceDataplane(
            self,
            lambda packet, path, is_udp_encapsulated, traffic_class: self.esp.append(packet),
            self._count,
            unsent=lambda packet, flow: self.traps.take(packet, flow),
            clock=lambda: world.now,
        )
        self.driver = Driver(
            self.table,
            self.dataplane,
            lambda datagram, path: None,
            send_keepalive=lambda path: None,
            on_event=self._tell,
            loop=loop,
            clock=lambda: world.now,
        )
        self._inform = self.driver.carry_out
        self.driver.carry_out = self.carry_out  # type: ignore[method-assign]
        self.initiations = Initiations(self.driver, loop, port=500, worker=0, workers=1, entropy=bytes)
        self.traps = Traps(
            self.driver,
            self.initiations,
            HostNetwork(self.routes.append, lambda octets, first, last: False),
            port=500,
            worker=worker,
            workers=workers,
            send=self.dataplane.send_inner,
            count_event=self._count,
            path_to=lambda connection, port: PATH,
        )
        self.traps.configure()

    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        """Nobody is behind it."""

    def _tell(self, effect: Effect) -> None:
        self.traps.on_event(effect)
        if isinstance(effect, Revive) and effect.trap:
            self.traps.lost(effect)

    def carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            super().carry_out([effect])
            self._inform([effect])

    def ping(self, destination: str = BEHIND, source: str = INSIDE, count: int = 1) -> None:
        """Have packets for the kernel's route into our device."""
        for number in range(count):
            ends = packed(source), packed(destination)
            self.dataplane.send_inner(build_echo_request(*ends, identifier=1, sequence=number, payload=b"ping"))

    def event(self, name: str) -> int:
        return self.counters[name]


def connection(*actions: StartAction, **changes: object) -> ConnectionSettings:
    """Networks behind the gateway, of which each has a child with one of the actions."""
    names, networks = ("net", "lan", "dmz"), ("10.1.0.0/16", "10.4.0.0/16", "10.5.0.0/16")
    children = tuple(
        ChildSettings(
            name=name,
            esp_proposals=ESP,
            local_ts=(parse_selector("10.2.0.0/16"),),
            remote_ts=(parse_selector(network),),
            start_action=action,
        )
        for name, network, action in zip(names, networks, actions, strict=False)
    )
    return client_connection(**{"vips": (), "remote_addrs": (GATEWAY,), "children": children, **changes})


def server(world: World, *local: str, **changes: object) -> Host:
    """The gateway, with a child for each of those networks, or of others."""
    networks = local or ("10.1.0.0/16", "10.4.0.0/16", "10.5.0.0/16")
    children = tuple(
        ChildSettings(
            name=f"net{number}",
            esp_proposals=ESP,
            local_ts=(parse_selector(network),),
            remote_ts=(parse_selector("10.2.0.0/16"),),
        )
        for number, network in enumerate(networks)
    )
    return Host(world, GATEWAY, change_connection(gateway_settings(), children=children, pools=(), **changes))


def host(world: World, settings: ConnectionSettings, **changes: object) -> TrappedHost:
    return TrappedHost(world, client_settings(connections=(settings,), **changes))


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_packet_sets_the_tunnel_up_and_is_sent_through_it(world: World) -> None:
    gateway, client = server(world), host(world, connection(TRAP))
    assert client.routes == [AddRoute("10.1.0.0/16", RESERVED)]
    world.run(10.0)
    assert not client.table.sas, "nothing happens without a packet"
    client.ping(count=3)
    assert len(client.table.sas) == 1 and not client.esp
    world.run(1.0)
    assert len(client.esp) == 3 and len(client.children) == len(gateway.children) == 1
    assert client.event("trap_sprung") == 1 and client.event("trap_dropped") == client.event("inner_no_tunnel") == 0
    client.ping()
    assert len(client.esp) == 4 and client.event("trap_sprung") == 1


def test_its_own_selectors_go_first(world: World) -> None:
    """RFC 7296 section 2.9: so a peer that takes a part only takes the one with the packet in it."""
    gateway, client = (
        server(world, "10.1.0.0/24", "10.1.7.0/24"),
        host(world, connection(TRAP)),
    )
    client.ping("10.1.7.1")
    world.run(1.0)
    [child] = gateway.children.values()
    assert len(client.esp) == 1 and child.ts_local[0].start <= packed("10.1.7.1") <= child.ts_local[0].end


@pytest.mark.parametrize(("source", "destination"), [(INSIDE, "10.9.0.1"), ("10.9.0.1", BEHIND)])
def test_other_packets_set_nothing_up(world: World, source: str, destination: str) -> None:
    client = host(world, connection(TRAP))
    client.ping(destination, source)
    assert not client.table.sas and client.event("inner_no_tunnel") == 1
    assert client.event("trap_sprung") == client.event("trap_dropped") == 0


def test_few_packets_are_held_and_the_others_are_counted(world: World) -> None:
    server(world)
    client = host(world, connection(TRAP))
    client.ping(count=MAX_HELD + 5)
    world.run(1.0)
    assert len(client.esp) == MAX_HELD and client.event("trap_dropped") == 5


def test_a_peer_that_is_not_there_is_not_asked_for_each_packet(world: World) -> None:
    """One attempt at a time, and a pause after each that doubles up to a minute."""
    client = host(world, connection(TRAP))
    begun = []
    for _ in range(20_000):
        before = client.event("trap_sprung")
        client.ping()
        if client.event("trap_sprung") > before:
            begun.append(world.now)
        world.run(0.1)
        assert len(client.table.sas) <= 1
    gaps = [b - a for a, b in pairwise(begun)]
    assert len(gaps) >= 10 and gaps[-1] - gaps[0] >= LAST_PAUSE_S - 2.0
    assert all(b > a - 0.5 for a, b in pairwise(gaps))
    assert client.event("trap_dropped") >= 20_000 - MAX_HELD
    gateway = server(world)
    world.run(LAST_PAUSE_S + 25.0)
    client.ping()
    world.run(1.0)
    assert client.children and gateway.children
    assert client.traps._traps[b"home/net"].pause_s == 1.0


def test_a_second_trap_joins_the_ike_sa_also_while_it_is_set_up(world: World) -> None:
    gateway, client = server(world), host(world, connection(TRAP, TRAP, TRAP))
    client.ping(BEHIND)
    client.ping(BESIDE)
    world.run(1.0)
    client.ping("10.5.0.1")
    world.run(1.0)
    assert len(client.table.sas) == 1 and len(client.established) == 1
    assert sorted(child.name for child in client.children.values()) == ["dmz", "lan", "net"]
    assert len(client.esp) == 3 and len(gateway.children) == 3


def test_a_trap_finds_the_ike_sa_that_was_rekeyed_meanwhile(world: World) -> None:
    server(world)
    client = host(world, connection(TRAP, TRAP))
    client.ping()
    world.run(1.0)
    [spi] = client.table.sas
    client.carry_out(client.table.order(spi, RekeyIke(), world.now))
    client.ping(BESIDE)
    world.run(2.0)
    assert len(client.table.sas) == 1 and spi not in client.table.sas
    assert len(client.children) == 2 and len(client.esp) == 2


def test_with_an_attempt_under_way_packets_wait_for_it(world: World) -> None:
    """`trap|start`: one IKE_SA, not two."""
    server(world)
    client = host(world, connection(START, TRAP, local_addrs=(CLIENT,)))
    client.initiations.start()
    client.ping(BEHIND)
    client.ping(BESIDE)
    world.run(1.0)
    assert len(client.established) == 1 and len(client.children) == 2 and len(client.esp) == 2


def test_a_tunnel_that_is_lost_leaves_the_trap(world: World) -> None:
    gateway, client = server(world), host(world, connection(TRAP))
    for _ in range(2):
        client.ping()
        world.run(1.0)
        assert len(client.children) == 1
        gateway.delete(next(iter(gateway.table.sas)))
        world.run(1.0)
        assert not client.table.sas
    assert DelRoute("10.1.0.0/16", RESERVED) not in client.routes
    assert len(client.esp) == 2


@pytest.mark.parametrize("field", ["dpd_action", "close_action"])
def test_what_was_lost_is_trapped_where_that_is_wanted(world: World, field: str) -> None:
    settings = connection(NONE, dpd_delay_s=10.0)
    (child,) = settings.children
    child = msgspec.structs.replace(child, **{field: EndAction.TRAP})
    settings = msgspec.structs.replace(settings, children=(child,))
    gateway, client = server(world), host(world, settings)
    client.ping()
    assert len(client.traps) == 0 and client.event("inner_no_tunnel") == 1
    connections = client.env.connections
    ready = connections.named("home")
    assert ready is not None
    _, effects = client.table.initiate(ready, PATH, world.now)
    client.carry_out(effects)
    world.run(1.0)
    assert client.children
    if field == "dpd_action":
        gateway.is_down = True
        world.run(60.0)
        gateway.is_down = False
    else:
        gateway.delete(next(iter(gateway.table.sas)))
        world.run(1.0)
    assert not client.table.sas and len(client.traps) == 1
    assert client.routes[-1] == AddRoute("10.1.0.0/16", RESERVED)
    client.ping()
    world.run(1.0)
    assert client.children and len(client.esp) == 1


def test_the_trap_of_what_was_lost_is_where_it_was(world: World) -> None:
    """The peer may have set it up, with whatever worker it met; all other traps are with the one that sets them up."""
    settings = client_settings(connections=(connection(TRAP),))
    server(world)
    other = next(worker for worker in range(2) if worker != initiating_worker(connection(TRAP), 2))
    client = TrappedHost(world, settings, worker=other, workers=2)
    assert len(client.traps) == 0
    client.traps.lost(Revive("home", PATH, (), ("net", "gone")))
    client.traps.configure()
    assert len(client.traps) == 1 and client.routes == [AddRoute("10.1.0.0/16", RESERVED)]
    client.ping()
    world.run(1.0)
    assert len(client.esp) == 1


def test_a_peer_that_narrows_it_to_something_else_does_not_get_ever_more_tunnels(world: World) -> None:
    server(world, "10.1.0.0/24")
    client = host(world, connection(TRAP))
    client.ping()
    world.run(1.0)
    assert len(client.esp) == 1
    for _ in range(600):
        client.ping("10.1.7.1")
        world.run(1.0)
    assert len(client.children) == 1 and len(client.esp) == 1
    assert 5 <= client.event("trap_sprung") <= 20


def test_a_client_waits_for_its_address_and_sends_from_it_then(world: World) -> None:
    """The packet that sets the tunnel up can't have the address yet."""
    settings = connection(TRAP)
    (child,) = settings.children
    child = msgspec.structs.replace(child, local_ts=ChildSettings(name="x").local_ts)
    settings = msgspec.structs.replace(settings, children=(child,), vips=(bytes(4),))
    Host(world, GATEWAY, gateway_settings(), ListPool(counted(3)))
    client = host(world, settings)
    client.ping(source=CLIENT)
    world.run(5.0)
    assert not client.esp and len(client.children) == 1
    client.ping(source="10.0.0.1")
    client.ping(source=CLIENT)
    world.run(5.0)
    assert len(client.esp) == 1 and len(client.children) == 1, "one from another address is no reason for another"


def test_traps_come_and_go_with_the_configuration_and_by_order(world: World) -> None:
    client = host(world, connection(TRAP, NONE))
    settings = client.env.settings

    def order(*orders: TrapOrder) -> list[bytes]:
        client.env.configure(msgspec.structs.replace(settings, trap_orders=orders))
        client.traps.configure()
        return sorted(client.traps._traps)

    assert order(TrapOrder("home", "lan", True)) == [b"home/lan", b"home/net"]
    assert order(TrapOrder("home", "lan", True), TrapOrder("home", "net", False)) == [b"home/lan"]
    assert client.routes == [
        AddRoute("10.1.0.0/16", RESERVED),
        AddRoute("10.4.0.0/16", RESERVED),
        DelRoute("10.1.0.0/16", RESERVED),
    ]
    client.ping()
    assert client.event("inner_no_tunnel") == 1 and not client.table.sas
    client.env.configure(msgspec.structs.replace(settings, connections=()))
    client.traps.configure()
    assert len(client.traps) == 0 and client.routes[-1] == DelRoute("10.4.0.0/16", RESERVED)


def test_a_trap_that_is_taken_away_lets_go_of_what_it_holds(world: World) -> None:
    server(world)
    client = host(world, connection(TRAP))
    client.ping(count=2)
    client.env.configure(msgspec.structs.replace(client.env.settings, connections=()))
    client.traps.configure()
    assert client.event("trap_dropped") == 2
    world.run(1.0)
    assert not client.esp


def test_a_worker_that_ends_begins_nothing(world: World) -> None:
    client = host(world, connection(TRAP))
    client.traps.stop()
    client.ping()
    assert not client.table.sas and client.event("trap_dropped") == 1


def test_ports_are_told_and_types_are_not() -> None:
    tcp = Flow(packed(INSIDE), packed(BEHIND), IpProtocol.TCP, 40000, 443, 20, False)
    assert flow_selectors(tcp) == (
        selector(f"{INSIDE}/32", IpProtocol.TCP, (40000, 40000)),
        selector(f"{BEHIND}/32", IpProtocol.TCP, (443, 443)),
    )
    ping = Flow(packed(INSIDE), packed(BEHIND), IpProtocol.ICMP, 0x0800, SENDERS_PORT, 20, False)
    assert flow_selectors(ping) == (
        selector(f"{INSIDE}/32", IpProtocol.ICMP),
        selector(f"{BEHIND}/32", IpProtocol.ICMP),
    )


@pytest.mark.parametrize("is_able", [True, False])
def test_a_trap_for_transport_mode_diverts_what_the_host_sends_to_the_peer(world: World, is_able: bool) -> None:
    """And nothing else springs it, however wide its policy is."""
    child = ChildSettings(
        name="host",
        esp_proposals=ESP,
        mode=Mode.TRANSPORT,
        local_ts=(parse_selector("0.0.0.0/0"),),
        remote_ts=(parse_selector("0.0.0.0/0"),),
        start_action=TRAP,
    )
    gateway = Host(world, GATEWAY, change_connection(gateway_settings(), children=(child,), pools=()))
    gateway.env.takes_transport = True
    client = host(world, connection(NONE))
    client.env.takes_transport = is_able
    client.env.configure(client_settings(connections=(connection(NONE, children=(child,)),)))
    client.traps.configure()
    assert client.routes == ([AddDiversion(Diversion(CLIENT, GATEWAY), RESERVED)] if is_able else [])
    client.ping(BEHIND, CLIENT)
    assert not client.table.sas
    client.ping(GATEWAY, CLIENT)
    world.run(1.0)
    assert len(client.esp) == len(gateway.children) == is_able
    assert all(each.carriage.is_transport for each in client.children.values())
