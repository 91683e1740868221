"""Several CHILD_SAs of one IKE_SA: all of them are set up, and set up again."""

import msgspec
import pytest
from tests.sim.test_reauth import Pair
from tests.sim.world import Weather, World, agree, change_connection, sa_of

from cygnet.ike.effects import Revive
from cygnet.ike.settings import EndAction
from cygnet.ike.tasks import DeleteChild, Reauthenticate

NAMES = ("net", "lan", "dmz")
REAUTH = {"reauth_time_s": 3600.0, "over_time_s": 600.0, "rand_time_s": 0.0}
RESTART = {"dpd_action": EndAction.START, "close_action": EndAction.START}


def started(world: World, **client: object) -> Pair:
    """A client that begins with three tunnels in one IKE_SA."""
    return Pair(world, client=client, names=NAMES, further=NAMES[1:])


def with_actions(ends: Pair, **actions: EndAction) -> None:
    """Let the client's children do that when they are lost; for an IKE_SA that stands."""
    connection = sa_of(ends.client).connection
    assert connection is not None
    for child in connection.children:
        child.settings = msgspec.structs.replace(child.settings, **actions)


def revived(ends: Pair) -> list[set[str]]:
    return [set(e.start) for e in ends.client.events if isinstance(e, Revive)]


@pytest.mark.parametrize("seed", range(5))
def test_all_come_up_in_any_weather(seed: int) -> None:
    world = World(seed, Weather(loss=0.2, duplication=0.1, jitter=0.3))
    ends = started(world)
    world.run(120.0)
    assert ends.names(ends.client) == ends.names(ends.gateway) == set(NAMES)
    assert len(ends.client.children) == 3 and len(ends.client.established) == 1
    assert agree(ends.client, ends.gateway)


def test_an_ike_sa_that_never_stands_asks_for_nothing(world: World) -> None:
    ends = started(world)
    ends.gateway.is_down = True
    world.run(60.0)
    assert ends.client.closed == ["timeout_ike_sa_init"] and not ends.client.table.sas


def test_one_that_is_refused_leaves_the_others(world: World) -> None:
    ends = started(world)
    settings = ends.gateway.env.settings
    children = tuple(child for child in settings.connections[0].children if child.name != "lan")
    ends.gateway.env.configure(change_connection(settings, children=children))
    world.run(5.0)
    assert ends.names(ends.client) == ends.names(ends.gateway) == {"net", "dmz"}
    assert agree(ends.client, ends.gateway)


def test_a_new_proof_takes_over_those_that_are_still_to_come(world: World) -> None:
    ends = started(world, **REAUTH)
    world.run(0.045)
    assert ends.names(ends.client) < set(NAMES)
    ends.order(ends.client, Reauthenticate())
    world.run(60.0)
    assert ends.client.closed == ["reauthenticated"]
    assert ends.names(ends.client) == ends.names(ends.gateway) == set(NAMES)
    assert len(ends.client.children) == 3 and agree(ends.client, ends.gateway)


def test_all_are_asked_back_that_stood_or_were_to_come(world: World) -> None:
    ends = started(world)
    world.run(0.045)
    with_actions(ends, **RESTART)
    assert ends.names(ends.client) == {"net"}
    ends.gateway.delete(sa_of(ends.gateway).spi)
    world.run(1.0)
    assert ends.client.closed == ["deleted_by_peer"] and revived(ends) == [set(NAMES)]


def test_our_own_delete_asks_nothing_back_though_children_were_to_come(world: World) -> None:
    ends = started(world)
    world.run(0.045)
    with_actions(ends, **RESTART)
    ends.client.delete(sa_of(ends.client).spi)
    ends.gateway.is_down = True
    world.run(60.0)
    assert not ends.client.table.sas and not revived(ends)


@pytest.mark.parametrize("action", [EndAction.START, EndAction.NONE])
def test_a_child_that_the_peer_ends_alone_comes_back_in_the_same_ike_sa(world: World, action: EndAction) -> None:
    ends = started(world)
    world.run(1.0)
    with_actions(ends, close_action=action)
    lost = next(child for child in ends.gateway.children.values() if child.name == "lan")
    ends.order(ends.gateway, DeleteChild(lost.spi_in))
    world.run(10.0)
    assert ends.names(ends.client) == {"net", "dmz", *(("lan",) if action is EndAction.START else ())}
    assert lost.spi_in not in ends.gateway.children
    assert len(ends.client.table.sas) == 1 and agree(ends.client, ends.gateway)


def test_a_child_that_both_ends_end_does_not_come_back(world: World) -> None:
    ends = started(world)
    world.run(1.0)
    with_actions(ends, close_action=EndAction.START)
    for host in (ends.client, ends.gateway):
        ends.order(host, DeleteChild(next(child.spi_in for child in host.children.values() if child.name == "lan")))
    world.run(10.0)
    assert ends.names(ends.client) == ends.names(ends.gateway) == {"net", "dmz"}
