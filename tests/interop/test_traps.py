"""Tunnels that a packet sets up: `start_action = trap`, and what is left when they are lost."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.interop.cygnet_gateway import ESTABLISHED, Cygnet
from tests.interop.pairs import CLIENT_INNER, SERVER_INNER, child_of
from tests.interop.polling import eventually
from tests.interop.strongswan import StrongSwan, client_config, server_config
from tests.interop.topologies import Topology

SPRUNG = 'dataplane_events_total{event="trap_sprung"}'
DROPPED = 'dataplane_events_total{event="trap_dropped"}'


@contextmanager
def trapped(
    topology: Topology,
    *,
    child: str = "start_action = trap",
    connection: str = "",
    gateway: str = "",
    server_ts: str = "10.1.0.0/24",
) -> Iterator[tuple[Cygnet, StrongSwan]]:
    """Our end, with a trap for what is behind strongSwan; both have an address inside."""
    topology.client.add_address(f"{CLIENT_INNER}/32")
    topology.server.add_address(f"{SERVER_INNER}/32")
    server_text = server_config(pools={}, local_ts=server_ts, child="remote_ts = 10.2.0.0/24")
    ours = f"local_ts = 10.2.0.0/24\n{child}"
    client_text = client_config(topology.server_address, virtual_ips="", connection=connection, child=ours)
    client_text = f"gateway {{\n{gateway}\n}}\n{client_text}"
    with (
        StrongSwan("strongswan", topology.server, server_text) as strongswan,
        Cygnet(topology.client, client_text) as cygnet,
    ):
        yield cygnet, strongswan


def test_a_ping_sets_the_tunnel_up_and_none_is_lost(direct: Topology) -> None:
    with trapped(direct) as (cygnet, strongswan):
        assert cygnet.established == 0
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=5) == 5
        assert cygnet.count(SPRUNG) == 1 and cygnet.count(DROPPED) == 0
        [ike_sa] = strongswan.sas()
        child = child_of(ike_sa)
        assert (child["local-ts"], child["remote-ts"]) == (["10.1.0.0/24"], ["10.2.0.0/24"])


def test_a_peer_that_takes_a_part_only_takes_the_one_with_the_packet_in_it(direct: Topology) -> None:
    """strongSwan narrows to two networks, and what a packet of the second one set up carries it."""
    direct.server.add_address("10.1.0.129/32")
    with trapped(direct, server_ts="10.1.0.0/25, 10.1.0.128/25") as (cygnet, _):
        assert direct.client.ping("10.1.0.129", source=CLIENT_INNER, count=3) == 3
        assert cygnet.count("child_sas") == 1


def test_tcp_through_a_trap_tells_its_ports(direct: Topology) -> None:
    with trapped(direct) as (cygnet, _):
        script = f"import socket; socket.create_connection(('{SERVER_INNER}', 9), 3, ('{CLIENT_INNER}', 40009))"
        direct.client.run(sys.executable, "-c", script, check=False)
        cygnet.await_count("child_sas", 1)
        assert cygnet.count(SPRUNG) == 1


def test_a_tunnel_without_traffic_goes_and_the_next_packet_sets_it_up_again(direct: Topology) -> None:
    with trapped(direct, child="start_action = trap\ninactivity = 1s") as (cygnet, _):
        for number in (1, 2):
            assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=3) == 3
            assert cygnet.count(SPRUNG) == number
            cygnet.await_count("child_sas", 0, timeout_s=10.0)
        assert cygnet.count("ike_sas_established_total") == 1


def test_a_dead_peer_leaves_a_trap(direct: Topology) -> None:
    """`dpd_action = trap`: nothing is asked of it until there is a packet; and then not for every packet."""
    options = {"child": "start_action = start\ndpd_action = trap", "connection": "dpd_delay = 1s"}
    with trapped(direct, **options) as (cygnet, strongswan):
        cygnet.await_count(ESTABLISHED, 1)
        assert cygnet.count(SPRUNG) == 0
        strongswan.kill()
        cygnet.await_count('ike_sas_closed_total{reason="timeout_informational"}', 1, timeout_s=10.0)
        assert "10.1.0.0/24" in direct.client.ip("route", "show")
        assert "home/net, TUNNEL" in cygnet.swanctl("--list-pols", "--trap")
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=20) == 0
        assert cygnet.count(SPRUNG) <= 2
        strongswan.start()
        eventually(
            lambda: direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=2) == 2,
            timeout_s=20.0,
            what="the tunnel is there again",
        )


def test_a_peer_that_ends_the_ike_sa_leaves_a_trap(direct: Topology) -> None:
    with trapped(direct, child="start_action = start\nclose_action = trap") as (cygnet, strongswan):
        cygnet.await_count(ESTABLISHED, 1)
        strongswan.terminate(ike="rw")
        cygnet.await_count(ESTABLISHED, 0)
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=3) == 3
        assert cygnet.count(SPRUNG) == 1
        assert "home/net, TUNNEL" in cygnet.swanctl("--list-pols")
        cygnet.swanctl("--uninstall", "--child", "net")
        assert cygnet.swanctl("--list-pols") == ""


def test_swanctl_installs_and_uninstalls_traps(direct: Topology) -> None:
    with trapped(direct, child="") as (cygnet, _):
        assert cygnet.swanctl("--list-pols", "--trap") == ""
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=1) == 0
        cygnet.swanctl("--install", "--child", "net")
        assert "home/net, TUNNEL" in cygnet.swanctl("--list-pols", "--trap")
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=3) == 3
        cygnet.swanctl("--uninstall", "--child", "net")
        assert cygnet.swanctl("--list-pols", "--trap") == ""
        assert cygnet.count("child_sas") == 1, "the tunnel stands"
        cygnet.terminate(ike="home")
        assert "10.1.0.0/24" not in direct.client.ip("route", "show")
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=1) == 0


@pytest.mark.parametrize("workers", [2, 3])
def test_packets_come_to_the_worker_whose_trap_it_is(direct: Topology, workers: int) -> None:
    with trapped(direct, gateway=f"workers = {workers}") as (cygnet, _):
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=5) == 5
        assert cygnet.established == 1 and len(cygnet.workers()) == workers
