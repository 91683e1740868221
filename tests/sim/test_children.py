"""Several CHILD_SAs of one IKE_SA: all of them are set up, and set up again."""

import msgspec
import pytest
from tests.sim.test_reauth import Pair
from tests.sim.world import CLIENT, ESP, GATEWAY, Weather, World, agree, change_connection, sa_of

from cygnet.dataplane.userspace import LINGER_S
from cygnet.ike.connections import Connection
from cygnet.ike.effects import ChildFailed, Revive
from cygnet.ike.exchanges import child as child_exchange
from cygnet.ike.exchanges import rekey_child
from cygnet.ike.path import Path
from cygnet.ike.selectors import host_selector, parse_selector
from cygnet.ike.settings import Childless, ChildSettings, EndAction
from cygnet.ike.tasks import CreateChild, DeleteChild, Reauthenticate, RekeyChild
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.traffic_selectors import (
    TrafficSelector,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)

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


def limited(world: World, limit: int) -> Pair:
    """A client that wants three tunnels, of a gateway that gives it no more than so many in an IKE_SA."""
    ends = started(world)
    ends.gateway.env.settings = msgspec.structs.replace(ends.gateway.env.settings, child_sa_limit=limit)
    world.run(1.0)
    return ends


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_peer_may_have_so_many_and_no_more(world: World, limit: int) -> None:
    """RFC 7296 section 1.3: NO_ADDITIONAL_SAS. When one goes another may come."""
    ends = limited(world, limit)
    assert ends.names(ends.client) == set(NAMES[:limit])
    assert ends.gateway.counters['requests_failed_total{reason="no_additional_sas"}'] == 3 - limit
    assert ends.client.of_kind(ChildFailed) == [
        ChildFailed(sa_of(ends.client).spi, name, "no_additional_sas") for name in NAMES[limit:]
    ]
    assert set(ends.gateway.table._children) == set(ends.gateway.children)
    assert set(ends.client.table._children) == set(ends.client.children)
    ends.order(ends.client, DeleteChild(next(iter(ends.client.children))))
    world.run(1.0)
    ends.order(ends.client, CreateChild(NAMES[-1]))
    world.run(1.0)
    assert NAMES[-1] in ends.names(ends.client) and agree(ends.client, ends.gateway)


def test_those_that_may_be_there_may_get_new_keys(world: World) -> None:
    ends = limited(world, 3)
    for _ in range(3):
        for spi_in in list(ends.client.children):
            ends.order(ends.client, RekeyChild(spi_in))
        world.run(LINGER_S + 1.0)
        assert len(ends.client.children) == 3 and agree(ends.client, ends.gateway)
    assert ends.gateway.counters["child_sas_rekeyed_total"] == 9


def test_a_peer_that_rekeys_without_end_is_put_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was replaced awaits its Delete, and no more of that than of what stands."""
    ends = limited(world, 1)
    monkeypatch.setattr(rekey_child, "_delete", lambda *arguments: None)
    for _ in range(6):
        *_, newest = sa_of(ends.client).children
        ends.order(ends.client, RekeyChild(newest.spi_in))
        world.run(0.1)
        assert len(sa_of(ends.gateway).children) <= 2
    assert ends.gateway.counters["child_sas_rekeyed_total"] == 1
    assert ends.gateway.counters['requests_failed_total{reason="no_additional_sas"}'] == 2 + 5
    world.run(60.0)
    assert len(ends.client.children) == 1 and agree(ends.client, ends.gateway)


# From the second address of the gateway's pool.
WEB = (
    msgspec.structs.replace(host_selector(bytes((10, 0, 0, 2))), ip_protocol=6, start_port=40000, end_port=40000),
    msgspec.structs.replace(host_selector(bytes((10, 2, 7, 1))), ip_protocol=6, start_port=443, end_port=443),
)


@pytest.mark.parametrize("childless", [Childless.ALLOW, Childless.PREFER])
def test_the_packet_that_a_child_is_for_goes_before_the_policy(world: World, childless: Childless) -> None:
    """RFC 7296 section 2.9: with its ports; not with an address that it can't have yet."""
    ends = Pair(world, client={"childless": childless}, names=NAMES)
    ready = Connection(ends.connection)
    lan = ready.child("lan")
    world.run(1.0)
    ends.client.delete(sa_of(ends.client).spi)
    world.run(1.0)
    offered: list[tuple[TrafficSelector, ...]] = []
    original = child_exchange.offer

    def note(*arguments: object, **options: object) -> tuple[Payload, ...]:
        payloads = original(*arguments, **options)  # type: ignore[arg-type]
        kinds = TrafficSelectorsInitiator | TrafficSelectorsResponder
        offered.extend(payload.selectors for payload in payloads if isinstance(payload, kinds))
        return payloads

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child_exchange, "offer", note)
        _, effects = ends.client.table.initiate(ready, Path(CLIENT, 500, GATEWAY, 500), world.now, child=lan, flow=WEB)
        ends.client.carry_out(effects)
        world.run(1.0)
    assert offered[1][0] == WEB[1] and len(offered[1]) == 2
    assert (offered[0][0] == WEB[0]) == (childless is Childless.PREFER)
    [child] = ends.client.children.values()
    assert child.name == "lan" and WEB[1] not in child.ts_remote, "the gateway takes all of it"
    assert agree(ends.client, ends.gateway)


@pytest.mark.parametrize("first", [0, 1])
def test_a_responder_chooses_the_child_with_the_first_choices(world: World, first: int) -> None:
    """RFC 7296 section 2.9: a part that includes them, if that is allowed, whichever child comes first."""
    ends = Pair(world, names=("net",))
    networks = ("10.1.0.0/24", "10.1.7.0/24")
    children = tuple(
        ChildSettings(name=f"part{n}", esp_proposals=ESP, local_ts=(parse_selector(network),))
        for n, network in enumerate(networks)
    )
    ends.gateway.env.configure(change_connection(ends.gateway.env.settings, children=children))
    world.run(1.0)
    ends.client.delete(sa_of(ends.client).spi)
    world.run(1.0)
    wanted = parse_selector(networks[first]).first[:3] + b"\1"
    flow = host_selector(bytes((10, 0, 0, 1))), host_selector(wanted)
    path = Path(CLIENT, 500, GATEWAY, 500)
    _, effects = ends.client.table.initiate(Connection(ends.connection), path, world.now, flow=flow)
    ends.client.carry_out(effects)
    world.run(1.0)
    [child] = ends.gateway.children.values()
    assert child.name == f"part{first}"
