"""What grows with the number of tunnels, and must not do so by leaps."""

from collections import deque
from collections.abc import Iterator, Mapping, Set
from functools import partial

import pytest
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
from cygnet.gateway.pools import AddressPools
from cygnet.ike.connections import Connection
from cygnet.ike.effects import RemoveChild
from cygnet.ike.kept_responses import KEPT_S
from cygnet.ike.path import Path
from cygnet.ike.settings import PoolSettings
from cygnet.ike.sharded_map import SPLIT_AT

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

    template = Connection(client_connection())
    for number in range(TUNNELS):
        connection = template.with_local_id(parse_identity(f"c{number}@example.org"))
        world.at(number / A_SECOND, partial(begin, client, connection))
    world.run(TUNNELS / A_SECOND + 1.0)
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
