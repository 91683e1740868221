"""IKE_SAs that begin without a CHILD_SA (RFC 6023, `childless =`)."""

import msgspec
import pytest
from tests.sim.test_reauth import Pair
from tests.sim.test_rekey import PFS
from tests.sim.world import (
    CLIENT,
    GATEWAY,
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

from cygnet.iana import NotifyType
from cygnet.ike.connections import Connection
from cygnet.ike.path import Path
from cygnet.ike.settings import Childless
from cygnet.ike.tasks import Reauthenticate
from cygnet.wire.message import decode_message
from cygnet.wire.payloads.notify import Notify

ALLOW, PREFER, FORCE, NEVER = Childless
NAMES = ("net", "lan")


def announced(world: World, host: Host) -> set[int]:
    """The notifies of the IKE_SA_INIT message of `host`."""
    first = next(send for sender, send in world.sent if sender is host)
    return {p.notify_type for p in decode_message(first.datagram).payloads if isinstance(p, Notify)}


@pytest.mark.parametrize("childless", Childless)
def test_support_is_announced_by_the_responder_alone(childless: Childless) -> None:
    world = World()
    gateway = Host(world, GATEWAY, change_connection(gateway_settings(), childless=childless), ListPool(counted(2)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    notify = NotifyType.CHILDLESS_IKEV2_SUPPORTED
    assert (notify in announced(world, gateway)) == (childless is not NEVER)
    assert notify not in announced(world, client)
    if childless is FORCE:
        assert gateway.closed == client.closed == ["invalid_syntax"]
    else:
        assert agree(client, gateway)


def test_an_ike_sa_without_a_child_gets_its_virtual_address() -> None:
    world = World()
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(2)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(children=()))
    world.run(1.0)
    assert agree(client, gateway) and not gateway.children
    assert client.established[0].virtual_ips == gateway.established[0].virtual_ips == (bytes((10, 0, 0, 1)),)
    client.delete(sa_of(client).spi)
    world.run(1.0)
    assert not gateway.pool.used


@pytest.mark.parametrize(("has_child", "childless"), [(False, ALLOW), (False, PREFER), (False, NEVER), (True, FORCE)])
def test_a_peer_that_does_not_support_it_is_not_asked_to_do_without_a_child(
    childless: Childless, has_child: bool
) -> None:
    world = World()
    settings = change_connection(gateway_settings(), childless=NEVER)
    gateway = Host(world, GATEWAY, settings, ListPool(counted(2)))
    client = Host(world, CLIENT, client_settings())
    changes = {} if has_child else {"children": ()}
    client.initiate(gateway, client_connection(childless=childless, **changes))
    world.run(1.0)
    assert client.closed == ["childless_unsupported"]
    assert not gateway.established


@pytest.mark.parametrize("theirs", [ALLOW, FORCE, NEVER])
@pytest.mark.parametrize("ours", Childless)
def test_when_we_begin_without_a_child(world: World, ours: Childless, theirs: Childless) -> None:
    """What both settings make of it; the children are there in the end, wherever there is an IKE_SA."""
    ends = Pair(world, client={"childless": ours}, gateway={"childless": theirs}, names=NAMES, further=("lan",))
    world.run(5.0)
    if (ours is FORCE and theirs is NEVER) or (ours in (ALLOW, NEVER) and theirs is FORCE):
        assert not ends.client.established and not ends.gateway.established
        return
    assert ends.names(ends.client) == ends.names(ends.gateway) == set(NAMES) and agree(ends.client, ends.gateway)
    exchanges = ends.client.counters['ike_messages_total{message="create-child-out-req"}']
    assert exchanges == (2 if ours in (PREFER, FORCE) and theirs is not NEVER else 1)


@pytest.mark.parametrize("childless", [ALLOW, PREFER])
def test_every_child_then_has_a_key_exchange_of_its_own(childless: Childless) -> None:
    """What IKE_AUTH makes has none (RFC 7296 section 1.2)."""
    world = World()
    (theirs,), (ours,) = gateway_settings().connections[0].children, client_connection().children
    theirs, ours = (msgspec.structs.replace(child, esp_proposals=PFS) for child in (theirs, ours))
    gateway = Host(world, GATEWAY, change_connection(gateway_settings(), children=(theirs,)), ListPool(counted(2)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(children=(ours,), childless=childless))
    world.run(1.0)
    [child] = client.children.values()
    assert agree(client, gateway)
    assert (child.suite.ke is not None) == (childless is PREFER)


@pytest.mark.parametrize("seed", range(4))
def test_in_bad_weather_and_with_a_new_proof(seed: int) -> None:
    world = World(seed, Weather(loss=0.2, duplication=0.1, jitter=0.3))
    ends = Pair(world, client={"childless": PREFER}, names=NAMES, further=("lan",))
    world.run(60.0)
    address = sa_of(ends.client).virtual_ips
    ends.order(ends.client, Reauthenticate())
    world.run(120.0)
    assert ends.client.closed == ["reauthenticated"]
    assert ends.names(ends.client) == ends.names(ends.gateway) == set(NAMES) and len(ends.client.children) == 2
    assert sa_of(ends.client).virtual_ips == address and agree(ends.client, ends.gateway)


@pytest.mark.parametrize("theirs", [ALLOW, NEVER])
def test_an_ike_sa_alone_may_be_asked_for_with_any_setting(theirs: Childless) -> None:
    world = World()
    gateway = Host(world, GATEWAY, change_connection(gateway_settings(), childless=theirs), ListPool(counted(2)))
    client = Host(world, CLIENT, client_settings())
    path = Path(CLIENT, 500, GATEWAY, 500)
    _, effects = client.table.initiate(Connection(client_connection()), path, world.now, is_childless=True)
    client.carry_out(effects)
    world.run(1.0)
    assert not client.children and not gateway.children
    assert client.closed == ([] if theirs is ALLOW else ["childless_unsupported"])
