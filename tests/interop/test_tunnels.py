"""Tunnels that carry traffic: between Cygnet and strongSwan in both roles, and between two Cygnets."""

import ipaddress
import re

import pytest
from tests.interop.cygnet_gateway import Cygnet
from tests.interop.namespaces import Namespace
from tests.interop.pairs import CLIENT_INNER, SERVER_INNER, Pair, Role, child_of, paired, two_cygnets
from tests.interop.polling import eventually
from tests.interop.strongswan import StrongSwan, client_config, server_config
from tests.interop.topologies import Topology
from tests.interop.watch import EspWatch

both_roles = pytest.mark.parametrize("role", Role, ids=lambda role: role.value)


def use_virtual_address(pair: Pair, topology: Topology, address: str) -> None:
    """Wait until the client's host has the address that its peer has assigned; both daemons see to it by themselves."""
    await_address(topology.client, address, whose=pair.role.value)


def await_address(client: Namespace, address: str, *, whose: str = "") -> None:
    """The same for any daemon."""
    length = ipaddress.ip_address(address).max_prefixlen
    eventually(
        lambda: f" {address}/{length} " in client.ip("-brief", "address"), what=f"{whose}: the client has {address}"
    )


@both_roles
def test_pings_cross_both_ways(topology: Topology, role: Role) -> None:
    """PSK, a virtual address from a pool, our TUN device; directly and through a NAT with the float to port 4500."""
    with paired(role, topology) as pair, EspWatch(topology.server) as arrived:
        ike_sa = pair.set_up()
        is_responder = role is Role.RESPONDER
        [virtual] = pair.virtual_addresses(ike_sa)
        peer_sees_us_as = "gw.example.org" if is_responder else "carol@example.org"
        assert ike_sa["remote-id"] == peer_sees_us_as
        assert ipaddress.ip_address(virtual) in ipaddress.ip_network("10.3.0.0/24")
        if is_responder:
            assert (ike_sa["remote-host"], ike_sa["remote-port"]) == (topology.server_address, "4500")
        else:
            assert ike_sa["remote-host"] == ("192.0.2.254" if topology.nat else topology.client_address)
            assert (int(str(ike_sa["remote-port"])) in range(20000, 21000)) == (topology.nat is not None)
        child = child_of(ike_sa)
        client_ts, server_ts = ("local-ts", "remote-ts") if is_responder else ("remote-ts", "local-ts")
        assert child[client_ts] == [f"{virtual}/32"]
        assert child[server_ts] == ["10.1.0.0/24"]

        use_virtual_address(pair, topology, virtual)
        assert topology.client.ping(SERVER_INNER, source=virtual, count=3) == 3
        assert topology.server.ping(virtual, source=SERVER_INNER, count=3) == 3
        # As large as our device takes them, with the inner header.
        assert topology.client.ping(SERVER_INNER, source=virtual, count=1, payload_octets=1372) == 1
        pair.cygnet.await_count('esp_packets_total{direction="in"}', 7)
        pair.cygnet.await_count('esp_packets_total{direction="out"}', 7)

        # kernel-libipsec knows ESP in UDP only: where our digests show no NAT, it pretends that there is one.
        behind_nat = "nat-local" if is_responder else "nat-remote"
        assert {key for key in ike_sa if key.startswith("nat-")} == {
            behind_nat if topology.nat else "nat-fake",
            "nat-any",
        }
        assert child["encap"] == "yes"
        assert (arrived.in_udp, arrived.bare) == (7, 0)


@both_roles
def test_virtual_addresses_of_both_families(direct: Topology, role: Role) -> None:
    inner = {"local_ts": "10.1.0.0/24, fd01::/64", "pools": {"v4": "10.3.0.0/24", "v6": "fd03::/120"}}
    asked = {"virtual_ips": "0.0.0.0, ::", "remote_ts": "10.1.0.0/24, fd01::/64"}
    direct.server.add_address("fd01::1/128")
    with paired(role, direct, server=inner, client=asked) as pair:
        virtual_4, virtual_6 = pair.virtual_addresses(pair.set_up())
        for server_inner, virtual, pool in (
            (SERVER_INNER, virtual_4, "10.3.0.0/24"),
            ("fd01::1", virtual_6, "fd03::/120"),
        ):
            assert ipaddress.ip_address(virtual) in ipaddress.ip_network(pool)
            use_virtual_address(pair, direct, virtual)
            assert direct.client.ping(server_inner, source=virtual, count=2) == 2
            assert direct.server.ping(virtual, source=server_inner, count=2) == 2


def test_a_host_with_several_virtual_addresses_uses_each(direct: Topology) -> None:
    """Tunnels to one network, told apart by these addresses alone, with several workers that could have them."""
    numbers = range(4)
    clients = "".join(
        client_config(
            direct.server_address, name=f"home{n}", identity=f"c{n}@example.org", child="start_action = start"
        )
        for n in numbers
    )
    direct.server.add_address(f"{SERVER_INNER}/32")
    with (
        StrongSwan("strongswan", direct.server, server_config()),
        Cygnet(direct.client, f"gateway {{\nworkers = 3\n}}\n{clients}") as cygnet,
    ):
        eventually(lambda: cygnet.established == len(numbers), what="all have their tunnel")
        addresses = re.findall(r"10\.3\.0\.\d+", cygnet.swanctl("--list-sas"))
        for address in set(addresses):
            assert direct.client.ping(SERVER_INNER, source=address, count=2) == 2
        assert len(set(addresses)) == len(numbers)


def test_the_virtual_address_that_is_asked_for_is_given(direct: Topology) -> None:
    # Of several workers, the one that serves the peer may not have the address. strongSwan gives its own choice anyway.
    asked = {"virtual_ips": "10.3.0.77"}
    with paired(Role.RESPONDER, direct, client=asked, gateway="workers = 1") as pair:
        assert pair.virtual_addresses(pair.set_up()) == ["10.3.0.77"]


@both_roles
def test_echo_answers_where_there_is_no_tun_device(direct: Topology, role: Role) -> None:
    """Without the privilege to make devices, an address of Cygnet's own still answers through the tunnel."""
    echo = SERVER_INNER if role is Role.RESPONDER else "10.3.0.1"
    with paired(role, direct, gateway=f"echo = {echo}", has_tun=False) as pair:
        assert "data plane userspace (echo)" in pair.cygnet.log()
        assert pair.cygnet.devices() == []
        [virtual] = pair.virtual_addresses(pair.set_up())
        if role is Role.RESPONDER:
            assert direct.client.ping(echo, source=virtual, count=3) == 3
        else:
            assert virtual == echo
            assert direct.server.ping(echo, source=SERVER_INNER, count=3) == 3
        pair.cygnet.await_count('dataplane_events_total{event="echo_answered"}', 3)


@pytest.mark.parametrize("is_ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("encap", [False, True], ids=["protocol-50", "forced-udp"])
def test_two_cygnets_join_their_networks(direct: Topology, is_ipv6: bool, encap: bool) -> None:
    """ESP is IP protocol 50 where nothing is between the ends, and goes in UDP where one of them forces it."""
    outer = direct.server_address_v6 if is_ipv6 else direct.server_address
    with (
        EspWatch(direct.server) as arrived,
        two_cygnets(direct, outer, connection="encap = yes" if encap else "") as (client, server),
    ):
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=3) == 3
        assert direct.server.ping(CLIENT_INNER, source=SERVER_INNER, count=3) == 3
        assert (arrived.bare, arrived.in_udp) == ((0, 6) if encap else (6, 0))
        for end in (client, server):
            end.await_count('esp_packets_total{direction="in"}', 6)
            end.await_count('esp_packets_total{direction="out"}', 6)


def test_two_cygnets_through_a_nat(behind_nat: Topology) -> None:
    """Even when the NAT gives the client another port in the midst of it (RFC 7296 section 2.23)."""
    assert behind_nat.nat is not None
    with (
        EspWatch(behind_nat.server) as arrived,
        two_cygnets(behind_nat, behind_nat.server_address) as (_, server),
    ):
        assert behind_nat.client.ping(SERVER_INNER, source=CLIENT_INNER, count=3) == 3
        assert behind_nat.server.ping(CLIENT_INNER, source=SERVER_INNER, count=3) == 3
        behind_nat.nat.rebind()
        assert behind_nat.client.ping(SERVER_INNER, source=CLIENT_INNER, count=3) == 3
        assert behind_nat.server.ping(CLIENT_INNER, source=SERVER_INNER, count=3) == 3
        assert (arrived.bare, arrived.in_udp) == (0, 12)
        assert server.established == 1
