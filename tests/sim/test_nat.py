"""Peers behind NATs: keepalives (RFC 3948 section 2.3), and how a mapping is followed (RFC 7296 section 2.23)."""

from itertools import pairwise

import pytest
from tests.sim.world import (
    CLIENT,
    GATEWAY,
    Host,
    ListPool,
    Nat,
    World,
    agree,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
    sa_of,
)

from cygnet.ike.effects import MoveChild, SendKeepalive
from cygnet.ike.path import Path

OUTSIDE = "203.0.113.1"
ELSEWHERE = "203.0.113.77"


def set_up(world: World, *, keep_alive_s: float = 20.0, dpd_delay_s: float = 0.0) -> tuple[Host, Host]:
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(100)))
    client = Host(world, CLIENT, client_settings(keep_alive_s=keep_alive_s))
    client.initiate(gateway, client_connection(dpd_delay_s=dpd_delay_s))
    world.run(1.0)
    assert agree(client, gateway) and client.children
    return client, gateway


def keepalives(host: Host) -> list[SendKeepalive]:
    return [e for e in host.events if isinstance(e, SendKeepalive)]


def test_the_side_behind_the_nat_sends_keepalives_while_nothing_else_goes_out(world: World) -> None:
    world.nats.append(Nat(CLIENT, OUTSIDE))
    client, gateway = set_up(world)
    world.run(200.0)
    sent = keepalives(client)
    assert len(sent) in (10, 11), "every 20 seconds, the first one early"
    assert {each.path for each in sent} == {Path(CLIENT, 4500, GATEWAY, 4500)}
    assert client.counters["keepalives_sent_total"] == len(sent)
    assert not keepalives(gateway)
    client.delete(sa_of(client).spi)
    world.run(1.0)
    assert client.table.next_timer() is None or client.table.handle_timers(world.now + 100) == []


def test_without_a_nat_or_when_switched_off_there_are_none(world: World) -> None:
    client, gateway = set_up(world)
    world.run(100.0)
    assert not keepalives(client) and not keepalives(gateway)
    natted = World()
    natted.nats.append(Nat(CLIENT, OUTSIDE))
    client, _ = set_up(natted, keep_alive_s=0.0)
    natted.run(100.0)
    assert sa_of(client).is_behind_nat and not keepalives(client)


@pytest.mark.parametrize("keep_alive_s", [20.0, 0.0])
def test_they_keep_the_way_in_open(world: World, keep_alive_s: float) -> None:
    world.nats.append(Nat(CLIENT, OUTSIDE, idle_s=30.0))
    client, gateway = set_up(world, keep_alive_s=keep_alive_s)
    world.run(300.0)
    gateway.delete(sa_of(gateway).spi)
    world.run(1.0)
    assert (client.closed == ["deleted_by_peer"]) == bool(keep_alive_s)


def test_esp_and_ike_that_go_out_put_them_off(world: World) -> None:
    world.nats.append(Nat(CLIENT, OUTSIDE))
    client, _ = set_up(world)
    (spi_in,) = client.children

    def send_esp() -> None:
        client.esp_sent[spi_in] = world.now

    for second in range(0, 101, 5):
        world.at(second, send_esp)
    world.run(119.0)
    assert not keepalives(client)
    world.run(2.0)
    assert len(keepalives(client)) == 1, "20 seconds after the last ESP"

    talking = World()
    talking.nats.append(Nat(CLIENT, OUTSIDE))
    prober, _ = set_up(talking, dpd_delay_s=12.0)
    assert sa_of(prober).is_behind_nat
    talking.run(100.0)
    assert prober.counters["liveness_checks_total"] >= 7
    assert len(keepalives(prober)) <= 1, "none but the first, which may come before any check"


def test_those_that_began_together_are_spread(world: World) -> None:
    world.nats.append(Nat(CLIENT, OUTSIDE))
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(100)))
    client = Host(world, CLIENT, client_settings())
    for _ in range(100):
        client.initiate(gateway, client_connection())
    world.run(1.0)
    due = sorted(sa.keepalive_due - world.now for sa in client.table.sas.values())
    assert len(due) == 100 and 0.0 <= due[0] < 2.0 and 17.0 < due[-1] <= 20.0
    assert all(later - earlier < 2.0 for earlier, later in pairwise(due))


def test_esp_moves_the_gateway_to_a_peer_behind_a_nat_and_to_no_other(world: World) -> None:
    client, gateway = set_up(world)
    moved = Path(GATEWAY, 4500, ELSEWHERE, 40077)
    (spi_in,) = gateway.children
    assert gateway.table.follow(spi_in, moved, world.now) == []
    assert sa_of(gateway).path.remote == CLIENT, "no NAT was found: no NAT can have moved the peer"

    natted = World()
    natted.nats.append(Nat(CLIENT, OUTSIDE))
    client, gateway = set_up(natted)
    (spi_in,) = gateway.children
    assert gateway.table.follow(spi_in, moved, natted.now)[0] == MoveChild(spi_in, moved, True)
    assert sa_of(gateway).path == moved
    (spi_in,) = client.children
    assert client.table.follow(spi_in, Path(CLIENT, 4500, ELSEWHERE, 4500), natted.now) == []


def test_a_replayed_or_forged_message_moves_nobody(world: World) -> None:
    world.nats.append(Nat(CLIENT, OUTSIDE))
    client, gateway = set_up(world, dpd_delay_s=5.0)
    world.run(20.0)
    before = sa_of(gateway).path
    moved = Path(GATEWAY, 4500, ELSEWHERE, 40077)
    requests = [send.datagram for host, send in world.sent if host is client and send.path.local_port == 4500]
    for datagram in requests:
        gateway.receive(datagram, moved)
        gateway.receive(datagram[:-1] + bytes((datagram[-1] ^ 1,)), moved)
    assert sa_of(gateway).path == before
    assert not gateway.of_kind(MoveChild)
