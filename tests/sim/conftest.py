"""What most simulations begin with: a gateway, and a client that has a tunnel to it."""

import pytest
from tests.sim.world import (
    CLIENT,
    GATEWAY,
    Host,
    ListPool,
    World,
    agree,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
)


@pytest.fixture(autouse=True, params=["awake", "packed"])
def packing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every simulation runs twice: as it is, and with all SAs packed and woken whenever they are at rest."""
    monkeypatch.setattr(Host, "packs_always", request.param == "packed")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def gateway(world: World) -> Host:
    return Host(world, GATEWAY, gateway_settings(), ListPool(counted(10)))


@pytest.fixture
def client(world: World, gateway: Host) -> Host:
    """A client with a tunnel."""
    host = Host(world, CLIENT, client_settings())
    host.initiate(gateway, client_connection())
    world.run(1.0)
    assert agree(host, gateway)
    return host
