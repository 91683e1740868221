"""What is set up again after the peer is found dead, or has ended the IKE_SA (`dpd_action`, `close_action`)."""

import msgspec
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
    sa_of,
)

from cygnet.ike.effects import Revive
from cygnet.ike.settings import ConnectionSettings, EndAction

START, NONE = EndAction.START, EndAction.NONE


def lost(host: Host) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(e.connection, e.path.remote, e.start) for e in host.events if isinstance(e, Revive)]


def connection(dpd_action: EndAction, close_action: EndAction) -> ConnectionSettings:
    (child,) = client_connection().children
    child = msgspec.structs.replace(child, dpd_action=dpd_action, close_action=close_action)
    return client_connection(children=(child,), dpd_delay_s=10.0)


def pair(world: World, settings: ConnectionSettings) -> tuple[Host, Host]:
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(10)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, settings)
    world.run(1.0)
    assert client.established
    return client, gateway


@pytest.mark.parametrize(("dpd", "close"), [(START, NONE), (NONE, START), (START, START), (NONE, NONE)])
@pytest.mark.parametrize("how", ["dead", "closed", "ours"])
def test_what_is_asked_for_depends_on_how_it_ended(dpd: EndAction, close: EndAction, how: str) -> None:
    world = World()
    client, gateway = pair(world, connection(dpd, close))
    if how == "dead":
        gateway.is_down = True
    elif how == "closed":
        gateway.delete(sa_of(gateway).spi)
    else:
        client.delete(sa_of(client).spi)
    world.run(60.0)
    assert not client.table.sas
    wanted = {"dead": dpd is START, "closed": close is START, "ours": False}[how]
    assert lost(client) == ([("home", GATEWAY, ("net",))] if wanted else [])


def test_a_peer_that_dies_while_we_end_the_sa_is_not_asked_back() -> None:
    world = World()
    client, gateway = pair(world, connection(START, START))
    gateway.is_down = True
    client.delete(sa_of(client).spi)
    world.run(60.0)
    assert not client.table.sas and not lost(client)


def test_one_that_never_stood_is_not_revived() -> None:
    world = World()
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(10)))
    client = Host(world, CLIENT, client_settings())
    gateway.is_down = True
    client.initiate(gateway, connection(START, START))
    world.run(60.0)
    assert client.closed == ["timeout_ike_sa_init"] and not lost(client)


def test_a_client_with_an_address_of_ours_is_left_to_come_back_by_itself() -> None:
    world = World()
    settings = gateway_settings()
    (first,) = settings.connections
    (child,) = first.children
    children = (msgspec.structs.replace(child, dpd_action=START, close_action=START),)
    first = msgspec.structs.replace(first, children=children, dpd_delay_s=10.0)
    gateway = Host(world, GATEWAY, msgspec.structs.replace(settings, connections=(first,)), ListPool(counted(10)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    client.is_down = True
    world.run(200.0)
    assert gateway.closed == ["timeout_informational"] and not lost(gateway)
