"""What grows with the number of tunnels, and must not do so by leaps."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial

import pytest
from tests.instructions import Instructions
from tests.sim.world import (
    CLIENT,
    GATEWAY,
    Host,
    ListPool,
    World,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
    request,
)

from cygnet.auth.identity import parse_identity
from cygnet.dataplane.userspace import UserspaceDataplane
from cygnet.gateway.control import AnyMessage
from cygnet.gateway.pools.pools import AddressPools
from cygnet.ike.connections import Connection
from cygnet.ike.effects import RemoveChild, SaEstablished, SaRekeyed
from cygnet.ike.kept_responses import KEPT_S
from cygnet.ike.path import Path
from cygnet.ike.resting import IDLE_S
from cygnet.ike.settings import PoolSettings
from cygnet.ike.sharded_map import SPLIT_AT, ShardedMap
from cygnet.ike.tasks import Probe, RekeyChild, RekeyIke, Task

TUNNELS = SPLIT_AT + 300
A_SECOND = 200
"""Tunnels that come in each."""


@pytest.fixture(autouse=True)
def packing() -> None:
    """Once is enough: SAs are packed when they have been idle for some seconds, as they are in a worker."""


class Sink:
    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        raise AssertionError("nothing is sent")


class Pools(ListPool, AddressPools):
    """Those of a worker that has leased more than enough."""

    def __init__(self) -> None:
        def send(message: AnyMessage) -> None:
            raise AssertionError("there are enough")

        first, last = bytes((10, 64, 0, 1)), bytes((10, 64, 255, 254))
        AddressPools.__init__(self, [PoolSettings(name="pool", first=first, last=last)], workers=1, send=send)
        self.granted("pool", range(16))

    acquire = AddressPools.acquire
    release = AddressPools.release
    is_handed_over = AddressPools.is_handed_over
    attributes = AddressPools.attributes


def begin(client: Host, connection: Connection) -> None:
    """As the tester does: one connection for all, but for the identity."""
    path = Path(CLIENT, 500, GATEWAY, 500)
    client.carry_out(client.table.initiate(connection, path, client.world.now)[1])


def hash_tables(thing: object, where: str, seen: set[int]) -> Iterator[tuple[str, int]]:
    """All dicts and sets that a thing of ours is made of, with how many entries they have."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    parts: Iterator[tuple[str, object]] = iter(())
    if isinstance(thing, Mapping | Set) and type(thing).__module__ in ("builtins", "collections"):
        yield where, len(thing)
        values = thing.values() if isinstance(thing, Mapping) else ()
        parts = (("[]", value) for value in values)
    elif isinstance(thing, list | tuple | deque):
        parts = (("[]", value) for value in thing)
    elif type(thing).__module__.startswith("cygnet."):
        names = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
        names |= set(getattr(thing, "__dict__", ()))
        parts = ((f".{name}", getattr(thing, name, None)) for name in sorted(names))
    for name, part in parts:
        yield from hash_tables(part, where + name, seen)


def come(world: World, client: Host, gateway: Host, numbers: range) -> None:
    """Set up a tunnel for each of these, some in each second, and let them sleep."""
    template = Connection(client_connection())
    for place, number in enumerate(numbers):
        connection = template.with_local_id(parse_identity(f"c{number:04}@example.org"))
        world.at(place / A_SECOND, partial(begin, client, connection))
    world.run(len(numbers) / A_SECOND + 2 * IDLE_S)


def test_no_table_is_one_dict(world: World) -> None:
    """A dict that is full moves all of its entries at once: with so many tunnels as there may be, that takes tens of
    milliseconds. So none that has as many entries as there are tunnels is one dict, when they come and when they go."""
    pools = Pools()
    gateway = Host(world, GATEWAY, gateway_settings(), pools)
    client = Host(world, CLIENT, client_settings())
    dataplane = UserspaceDataplane(Sink(), lambda *args: None, lambda name: None, clock=lambda: world.now)
    roots = {"gateway": gateway.table, "client": client.table, "dataplane": dataplane, "pools": pools._pools}

    def largest() -> list[tuple[str, int]]:
        return [
            (name, size) for root in roots for name, size in hash_tables(roots[root], root, set()) if size > SPLIT_AT
        ]

    come(world, client, gateway, range(TUNNELS))
    for child in gateway.children.values():
        dataplane.install(child)
    assert len(gateway.established) == len(dataplane) == TUNNELS
    assert not largest()
    spis = list(client.table.sas)
    for number, spi in enumerate(spis):
        world.at(number / A_SECOND, partial(client.delete, spi))
    world.run(TUNNELS / A_SECOND + 1.0)
    assert not gateway.table.sas and not pools.in_use
    for effect in gateway.events:
        if isinstance(effect, RemoveChild):
            dataplane.remove(effect.spi_in)
    assert not len(dataplane) and not largest()


def test_who_has_come_and_gone_leaves_no_timer(world: World) -> None:
    """IKE_SAs are to be rekeyed in hours. Of those that are gone by then nothing waits for it, after a minute or so."""
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(50)))
    client = Host(world, CLIENT, client_settings())
    template = Connection(client_connection())
    for number in range(200):
        begin(client, template.with_local_id(parse_identity(f"c{number}@example.org")))
        world.run(0.3)
        (spi,) = client.table.sas
        # Some have had another timer meanwhile.
        if number % 2:
            request(client, ())
        world.run(5.0 * (number % 2))
        client.delete(spi)
        world.run(0.3)
    assert len(gateway.established) == 200 and not gateway.table.sas and not client.table.sas
    world.run(KEPT_S)
    assert gateway.table.timers == client.table.timers == 0


def costs_beside(tunnels: int) -> dict[str, int]:
    """Bytecode instructions in a gateway that has so many, by what one more tunnel does."""
    world = World()
    gateway = Host(world, GATEWAY, gateway_settings(), Pools())
    client = Host(world, CLIENT, client_settings())
    come(world, client, gateway, range(tunnels))
    costs: dict[str, int] = {}
    receive, order = gateway.table.receive, gateway.table.order

    def count(what: str, do: Callable[[], object]) -> None:
        counted = Instructions()
        gateway.table.receive = counted.counting(receive)  # type: ignore[method-assign]
        gateway.table.order = counted.counting(order)  # type: ignore[method-assign]
        do()
        world.run(2 * IDLE_S)
        costs[what] = counted.by_function.total()

    def ours() -> bytes:
        return next(each.sa for each in reversed(gateway.events) if isinstance(each, SaEstablished | SaRekeyed))

    def do(task: Task) -> None:
        gateway.carry_out(gateway.table.order(ours(), task, world.now))

    count("set-up", lambda: come(world, client, gateway, range(tunnels, tunnels + 1)))
    count("liveness check", lambda: do(Probe()))
    child = gateway.table.sas[ours()].children[0].spi_in
    count("new keys of a CHILD_SA", lambda: do(RekeyChild(child)))
    count("new keys of an IKE_SA", lambda: do(RekeyIke()))
    sa = gateway.table.sas[ours()]
    count("deletion", lambda: client.delete(sa.spi_i if not sa.is_original_initiator else sa.spi_r))
    assert len(gateway.table.sas) == tunnels
    return costs


@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or a measurement of coverage traces already")
def test_one_more_tunnel_costs_what_it_costs_beside_few() -> None:
    costs_beside(1)
    # The first of all fills what the others find.
    few, many = costs_beside(20), costs_beside(TUNNELS)
    assert all(each > 100 for each in few.values())
    assert many == pytest.approx(few, rel=0.01)


def test_no_tunnel_has_a_whole_map_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is one instruction, but looks at each of its dicts: 35 us, as much as a liveness check."""

    def count(counted: ShardedMap[object, object]) -> int:
        raise AssertionError("a map is counted")

    monkeypatch.setattr(ShardedMap, "__len__", count)
    assert costs_beside(3)


def test_nobody_wakes_an_idle_tunnel_to_see_that_it_came_up(world: World) -> None:
    """Its half-open time ends half a minute after: to unpack it and pack it again would be a tenth of its set-up."""
    gateway = Host(world, GATEWAY, gateway_settings(), Pools())
    client = Host(world, CLIENT, client_settings())
    come(world, client, gateway, range(10))
    packed = {spi: gateway.table.sas.look(spi) for spi in gateway.table.sas}
    assert all(isinstance(record, bytes) for record in packed.values())
    world.run(gateway.env.settings.half_open_timeout_s + 2 * IDLE_S)
    assert all(gateway.table.sas.look(spi) is record for spi, record in packed.items())
