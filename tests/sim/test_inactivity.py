"""CHILD_SAs that carry nothing for long are closed (`inactivity =`), also when they got new keys meanwhile."""

from collections import Counter

import msgspec
import pytest
from tests.sim.test_reauth import Pair
from tests.sim.world import Host, World, agree, sa_of

from cygnet.ike.tasks import Reauthenticate, RekeyChild, RekeyIke

LIMIT = 80.0
LOOK = LIMIT / 8


class Carried(Counter[bytes]):
    """Packets of each CHILD_SA, by our SPI."""


def idle_pair(
    world: World,
    *,
    names: tuple[str, ...] = ("net",),
    closes_ike: bool = False,
    limits: tuple[float, ...] = (LIMIT,),
) -> tuple[Pair, Carried]:
    """A client whose first children may be idle for so long; what they carry is for the test to say."""
    ends = Pair(world, names=names, further=names[1:])
    carried = Carried()
    client = ends.client
    client.env.packets_carried = lambda spi_in: carried[spi_in]
    client.env.settings = msgspec.structs.replace(client.env.settings, inactivity_close_ike=closes_ike)
    connection = next(iter(client.table.sas.values())).connection
    assert connection is not None
    for child, limit in zip(connection.children, limits, strict=False):
        child.settings = msgspec.structs.replace(child.settings, inactivity_s=limit)
    world.run(1.0)
    assert ends.names(ends.client) == set(names)
    return ends, carried


def spi_of(host: Host, name: str = "net") -> bytes:
    """Our newest SPI of that name."""
    return [child.spi_in for child in host.children.values() if child.name == name][-1]


def test_one_that_carries_nothing_is_closed_and_the_ike_sa_stays(world: World) -> None:
    ends, _ = idle_pair(world)
    world.run(LIMIT - 2.0)
    assert len(ends.client.children) == 1
    world.run(2.0 + LOOK + 1.0)
    assert not ends.client.children and not ends.gateway.children
    assert len(ends.client.table.sas) == len(ends.gateway.table.sas) == 1
    assert ends.client.counters["child_sas_inactive_total"] == 1


@pytest.mark.parametrize("quiet", [0.5, 0.9])
def test_one_that_carries_something_in_time_stays(world: World, quiet: float) -> None:
    ends, carried = idle_pair(world)
    for _ in range(5):
        world.run(quiet * LIMIT)
        carried[spi_of(ends.client)] += 1
    assert ends.client.children
    world.run(LIMIT - 2.0)
    assert ends.client.children
    world.run(2.0 + LOOK + 1.0)
    assert not ends.client.children, "counted from the last packet on"


def test_only_those_that_are_idle_and_may_not_be_are_closed(world: World) -> None:
    ends, carried = idle_pair(world, names=("net", "lan", "dmz"), limits=(LIMIT, LIMIT, 0.0))
    for _ in range(12):
        world.run(LIMIT / 2)
        carried[spi_of(ends.client, "lan")] += 1
    assert ends.names(ends.client) == ends.names(ends.gateway) == {"lan", "dmz"}


@pytest.mark.parametrize("names", [("net",), ("net", "lan")])
def test_the_ike_sa_goes_with_its_only_child_where_that_is_wanted(world: World, names: tuple[str, ...]) -> None:
    ends, _ = idle_pair(world, names=names, closes_ike=True)
    world.run(LIMIT + LOOK + 1.0)
    if len(names) == 1:
        assert ends.client.closed == ["inactive"] and ends.gateway.closed == ["deleted_by_peer"]
        assert not ends.gateway.pool.used
    else:
        assert not ends.client.closed and ends.names(ends.client) == {"lan"}
    assert agree(ends.client, ends.gateway)


@pytest.mark.parametrize("role", ["client", "gateway"])
def test_new_keys_are_no_traffic(world: World, role: str) -> None:
    ends, _ = idle_pair(world)
    host = ends.client if role == "client" else ends.gateway
    for _ in range(3):
        world.run(LIMIT / 4)
        ends.order(host, RekeyChild(spi_of(host)))
    world.run(LIMIT / 4 - 4.0)
    assert ends.names(ends.client) == {"net"}
    world.run(4.0 + LOOK + 1.0)
    assert not ends.client.children and not ends.gateway.children


def test_what_was_carried_before_new_keys_counts_after_them(world: World) -> None:
    ends, carried = idle_pair(world)
    world.run(0.7 * LIMIT)
    carried[spi_of(ends.client)] += 1
    ends.order(ends.client, RekeyChild(spi_of(ends.client)))
    world.run(0.9 * LIMIT)
    assert ends.names(ends.client) == {"net"}
    world.run(0.1 * LIMIT + LOOK + 1.0)
    assert not ends.client.children


@pytest.mark.parametrize("task", [RekeyIke(), Reauthenticate()])
def test_neither_a_new_ike_sa_nor_a_new_proof_is_traffic(world: World, task: RekeyIke | Reauthenticate) -> None:
    ends, _ = idle_pair(world)
    world.run(0.7 * LIMIT)
    ends.order(ends.client, task)
    world.run(0.2 * LIMIT)
    assert ends.names(ends.client) == {"net"} and len(ends.client.table.sas) == 1
    world.run(0.1 * LIMIT + LOOK + 5.0)
    assert not ends.client.children and len(ends.client.table.sas) == 1
    assert agree(ends.client, ends.gateway)


def test_one_whose_packets_nobody_counts_stays(world: World) -> None:
    ends, _ = idle_pair(world)
    ends.client.env.packets_carried = lambda spi_in: None
    world.run(3 * LIMIT)
    assert ends.client.children
    assert sa_of(ends.client).children[0].idleness is None, "and is looked at no more"
