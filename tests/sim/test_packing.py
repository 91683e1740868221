"""Gateways whose IKE_SAs sleep whenever they may: peers notice nothing."""

import pytest
from tests.sim.world import (
    CLIENT,
    CLIENT_ID,
    GATEWAY,
    Host,
    ListPool,
    Nat,
    Weather,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
)

from cygnet.ike.effects import MoveChild
from cygnet.ike.kept_responses import KEPT_S
from cygnet.ike.resting import IDLE_S
from cygnet.ike.table import IkeTable

DPD_S = 20.0


@pytest.fixture(autouse=True)
def packing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the one for all simulations: here they sleep indeed, and nobody holds them."""

    def receive(host: Host, datagram: bytes, path: object) -> None:
        if not host.is_down:
            host.carry_out(host.table.receive(datagram, path, host.world.now))  # type: ignore[arg-type]
            host.table.sas.rest_all(host.world.now)

    monkeypatch.setattr(Host, "receive", receive)


def asleep(table: IkeTable) -> int:
    return sum(isinstance(table.sas.look(spi), bytes) for spi in table.sas)


def many(world: World, number: int, gateway: Host, **changes: object) -> list[Host]:
    """Clients with a tunnel each, some time apart."""
    clients = []
    for n in range(number):
        host = Host(world, f"192.0.2.{n + 1}", client_settings())
        host.initiate(gateway, client_connection(**changes))
        world.run(0.5)
        clients.append(host)
    return clients


def gateway_of(world: World, **changes: object) -> Host:
    return Host(world, GATEWAY, change_connection(gateway_settings(), **changes), ListPool(counted(20)))


def test_tunnels_sleep_and_wake_for_each_message(world: World) -> None:
    gateway = gateway_of(world)
    clients = many(world, 5, gateway)
    world.run(5.0)
    assert asleep(gateway.table) == len(gateway.table.sas) == 5 and gateway.table.sas.awake == 0
    for client in clients:
        (spi,) = client.table.sas
        client.delete(spi)
        world.run(0.5)
        assert not client.table.sas and client.closed == ["deleted"]
    assert gateway.closed == ["deleted_by_peer"] * 5 and not gateway.pool.used and not gateway.children


@pytest.mark.parametrize("is_ours", [True, False])
def test_liveness_is_asked_and_answered_asleep(world: World, is_ours: bool) -> None:
    gateway = gateway_of(world, dpd_delay_s=DPD_S if is_ours else 0.0)
    clients = many(world, 5, gateway, dpd_delay_s=0.0 if is_ours else DPD_S)
    world.run(10 * DPD_S)
    asking = [gateway] if is_ours else clients
    probes = sum(host.counters["liveness_checks_total"] for host in asking)
    assert 5 * 10 <= probes <= 5 * 20
    assert asleep(gateway.table) >= 4, "one may have looked at the clock just now"
    assert not gateway.closed
    assert sum(host.counters["retransmissions_total"] for host in (gateway, *clients)) == 0
    for client in clients:
        client.is_down = True
    world.run(300.0)
    assert gateway.closed == (["timeout_informational"] * 5 if is_ours else [])


def test_a_response_that_was_lost_is_repeated_by_a_sleeper(world: World) -> None:
    gateway, client = gateway_of(world), Host(world, CLIENT, client_settings())
    world.tamper = lambda host, send: () if host is gateway and gateway.established else (send,)
    client.initiate(gateway, client_connection())
    world.run(2.0)
    assert asleep(gateway.table) == 1 and not client.established
    world.tamper = lambda host, send: (send,)
    world.run(2.0)
    assert agree(client, gateway) and gateway.counters["responses_repeated_total"] >= 1
    assert len(gateway.established) == len(client.established) == 1


def test_a_request_that_comes_again_after_minutes_is_ignored(world: World) -> None:
    """RFC 7296 section 2.1: it MUST be ignored, and not be run again."""
    gateway, client = gateway_of(world), Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    auth = next(send for host, send in world.sent if host is client and send.datagram[18] == 35)
    path = type(auth.path)(GATEWAY, auth.path.remote_port, CLIENT, auth.path.local_port)
    world.run(KEPT_S - 10.0)
    gateway.receive(auth.datagram, path)
    assert gateway.counters["responses_repeated_total"] == 1
    world.run(40.0)
    gateway.receive(auth.datagram, path)
    assert gateway.counters["responses_repeated_total"] == 1
    assert gateway.counters['datagrams_dropped_total{reason="stale_request"}'] == 1
    assert agree(client, gateway)


def test_a_sleeper_is_found_by_its_child_and_by_its_peer(world: World) -> None:
    nat = Nat(inside=CLIENT, outside="203.0.113.1")
    world.nats.append(nat)
    gateway, client = gateway_of(world), Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    (spi_in,) = gateway.children
    path = gateway.paths[spi_in]
    moved = type(path)(path.local, path.local_port, path.remote, path.remote_port + 1)
    assert asleep(gateway.table) == 1
    effects = gateway.table.follow(spi_in, moved, world.now)
    assert [effect.path for effect in effects if isinstance(effect, MoveChild)] == [moved]
    gateway.table.sas.rest_all(world.now)
    gateway.carry_out(gateway.table.drop_peer(CLIENT_ID, b"", world.now))
    assert gateway.closed == ["initial_contact"] and not gateway.table.sas and not gateway.pool.used


@pytest.mark.parametrize("seed", range(8))
def test_bad_weather_changes_nothing(seed: int) -> None:
    world = World(seed, Weather(loss=0.2, duplication=0.2, delay=0.05, jitter=0.2))
    gateway = gateway_of(world, dpd_delay_s=DPD_S)
    clients = many(world, 6, gateway)
    world.run(100.0)
    for host in (gateway, *clients):
        assert not any("internal" in reason for reason in host.closed)
    established = {(s.spi_i, s.spi_r) for host in clients for s in host.table.sas.views()}
    assert established and established <= {(s.spi_i, s.spi_r) for s in gateway.table.sas.views()}
    for host in clients:
        for spi in tuple(host.table.sas):
            host.delete(spi)
    world.run(400.0)
    assert not any(host.table.sas for host in (gateway, *clients)) and not gateway.pool.used


def test_a_storm_of_timers_is_served_in_parts(world: World) -> None:
    """What is due at once, as after a storm of set-ups, must not keep datagrams waiting."""
    number = 150
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(number)))
    client = Host(world, CLIENT, client_settings())
    for _ in range(number):
        client.initiate(gateway, client_connection(dpd_delay_s=DPD_S))
    world.run(2 * IDLE_S)
    assert asleep(client.table) == number
    parts = []
    world.now = 1001.0 + DPD_S
    while (due := client.table.next_timer()) is not None and due <= world.now:
        effects = client.table.handle_timers(world.now)
        parts.append(len(effects))
        client.carry_out(effects)
    assert sum(parts) == number and max(parts) <= 64


def test_those_that_came_together_do_not_ask_together(world: World) -> None:
    number = 150
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(number)))
    client = Host(world, CLIENT, client_settings())
    for _ in range(number):
        client.initiate(gateway, client_connection(dpd_delay_s=DPD_S))
    world.run(1.0)
    asked = []
    world.tamper = lambda host, send: (asked.append(world.now), (send,))[1]  # type: ignore[func-returns-value]
    world.run(1.1 * DPD_S)
    asked = asked[::2]  # the others are the answers
    assert len(asked) >= number and max(asked) <= 1000.5 + DPD_S
    assert max(sum(start <= time < start + 0.5 for time in asked) for start in asked) <= number / 2
