"""Tunnels that stay while addresses change (RFC 4555), and NATs that change their mapping, with real traffic."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from tests.interop.namespaces import Namespace
from tests.interop.pairs import CLIENT_INNER, SERVER_INNER, Pair, Role, paired, two_cygnets
from tests.interop.pings import Pings
from tests.interop.polling import eventually
from tests.interop.test_tunnels import use_virtual_address
from tests.interop.topologies import Topology

both_roles = pytest.mark.parametrize("role", Role, ids=lambda role: role.value)

SECOND_CLIENT, SECOND_SERVER = "192.0.2.3", "192.0.2.101"
CLIENT_DEVICE, SERVER_DEVICE = "to-server", "to-client"
ROW_S = 0.5
"""Of pings that must all be answered, after a move."""
ROAMING = {"connection": "dpd_delay = 1s"}
"""A client that soon sees that its peer is silent."""
OWN_TABLE = {"routing_table": 0}
"""strongSwan looks for no way to its peer in the table that its own routes are in; 0 says that it has none."""


def set_up(pair: Pair, topology: Topology) -> str:
    """Set the tunnel up and try it; returns the client's virtual address."""
    [virtual, *_] = pair.virtual_addresses(pair.set_up())
    use_virtual_address(pair, topology, virtual)
    assert topology.client.ping(SERVER_INNER, source=virtual, count=2) == 2
    return virtual


@contextmanager
def pinging(client: Namespace, virtual: str) -> Iterator[None]:
    """Ping all the while, and until a row of them in the end is answered: there is one gap at the most."""
    with Pings(client, SERVER_INNER, source=virtual) as pings:
        yield
        time.sleep(ROW_S)
    first, last = (pings.lost[0], pings.lost[-1]) if pings.lost else (0, -1)
    assert len(pings.lost) == last - first + 1, f"more than one gap: {pings.lost}"
    assert last < pings.sent - 1


def assert_both_ways(topology: Topology, virtual: str) -> None:
    assert topology.client.ping(SERVER_INNER, source=virtual, count=3) == 3
    assert topology.server.ping(virtual, source=SERVER_INNER, count=3) == 3


def change_client_address(topology: Topology, goes_to: str) -> str:
    """Take the client's IPv4 address away, after giving it another if it is to stay with IPv4; returns the new one."""
    client = topology.client
    client.set_sysctl("net.ipv4.conf.all.promote_secondaries", "1")
    if goes_to == "ipv4":
        client.add_address(f"{SECOND_CLIENT}/24", CLIENT_DEVICE)
    client.ip("address", "del", f"{topology.client_address}/24", "dev", CLIENT_DEVICE)
    return SECOND_CLIENT if goes_to == "ipv4" else topology.client_address_v6


def strongswan_sees(pair: Pair, key: str, value: str) -> bool:
    [ike_sa] = pair.strongswan.sas()
    assert ike_sa["state"] == "ESTABLISHED"
    assert ike_sa[key] == value
    return True


@pytest.mark.parametrize("goes_to", ["ipv4", "ipv6"])
def test_two_cygnets_keep_one_tunnel_while_the_client_moves(direct: Topology, goes_to: str) -> None:
    with two_cygnets(direct, direct.server_address) as (roamer, gateway):
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=2) == 2
        with pinging(direct.client, CLIENT_INNER):
            change_client_address(direct, goes_to)
            gateway.await_count("routability_checks_total", 1)
        assert_both_ways(direct, CLIENT_INNER)
        for end in (roamer, gateway):
            end.await_count("ike_sas_moved_total", 1)
            assert end.count("ike_sas_established_total") == end.established == end.count("child_sas") == 1


def test_a_client_moves_while_new_keys_are_made(direct: Topology) -> None:
    """The IKE_SA gets new keys every second, before, during and after the move."""
    often = "rekey_time = 1s\n over_time = 20s\n rand_time = 0s"
    with two_cygnets(direct, direct.server_address, connection=often) as (roamer, gateway):

        def await_new_keys() -> None:
            before = roamer.count("ike_sas_rekeyed_total")
            eventually(lambda: roamer.count("ike_sas_rekeyed_total") >= before + 2, timeout_s=15.0, what="new keys")

        with pinging(direct.client, CLIENT_INNER):
            await_new_keys()
            change_client_address(direct, "ipv4")
            gateway.await_count("ike_sas_moved_total", 1)
            await_new_keys()
        assert_both_ways(direct, CLIENT_INNER)
        eventually(lambda: roamer.established == gateway.established == 1, what="one IKE_SA at both ends")


def test_two_cygnets_keep_one_tunnel_when_the_gateway_loses_an_address(direct: Topology) -> None:
    """The client, whose path looks as good as ever, tries the other addresses when its peer is silent."""
    direct.server.set_sysctl("net.ipv4.conf.all.promote_secondaries", "1")
    direct.server.add_address(f"{SECOND_SERVER}/24", SERVER_DEVICE)
    with two_cygnets(direct, direct.server_address, connection="dpd_delay = 1s") as (roamer, gateway):
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=2) == 2
        direct.server.ip("address", "del", f"{direct.server_address}/24", "dev", SERVER_DEVICE)
        gateway.await_count("ike_sas_moved_total", 1, timeout_s=15)
        assert_both_ways(direct, CLIENT_INNER)
        for end in (roamer, gateway):
            assert end.count("ike_sas_established_total") == end.established == end.count("child_sas") == 1


@pytest.mark.parametrize("goes_to", ["ipv4", "ipv6"])
def test_a_strongswan_whose_address_goes_away_takes_its_tunnel_along(direct: Topology, goes_to: str) -> None:
    """Under ping. Its kernel-libipsec can't move a CHILD_SA, and makes a new one on the new path."""
    if goes_to == "ipv4":
        # strongSwan would as soon go over to the other family.
        direct.client.ip("-6", "address", "flush", "dev", CLIENT_DEVICE, "scope", "global")
    # Only the worker that gave a virtual address gives the same again, should the tunnel be made anew.
    with paired(Role.RESPONDER, direct, client=ROAMING, settings=OWN_TABLE, gateway="workers = 1") as pair:
        virtual = set_up(pair, direct)
        with pinging(direct.client, virtual):
            there = change_client_address(direct, goes_to)
            eventually(lambda: strongswan_sees(pair, "local-host", there), what=f"strongSwan is at {there}")
        assert_both_ways(direct, virtual)
        pair.strongswan.rekey(ike="home")
        pair.cygnet.await_count("ike_sas_rekeyed_total", 1)
        eventually(lambda: strongswan_sees(pair, "local-host", there), what="the new IKE_SA is there too")
        assert_both_ways(direct, virtual)
        assert pair.cygnet.established == 1
        assert pair.cygnet.count("address_updates_received_total") >= 1
        assert pair.cygnet.count("routability_checks_total") >= 1


@pytest.mark.parametrize("goes_to", ["ipv4", "ipv6"])
def test_strongswan_follows_us_to_another_address(direct: Topology, goes_to: str) -> None:
    """And returns our cookie: a wrong one would have closed the IKE_SA."""
    with paired(Role.INITIATOR, direct, client=ROAMING, settings=OWN_TABLE) as pair:
        set_up(pair, direct)
        there = change_client_address(direct, goes_to)
        eventually(lambda: strongswan_sees(pair, "remote-host", there), what=f"strongSwan sees us at {there}")
        checks = pair.cygnet.count("liveness_checks_total")
        eventually(lambda: pair.cygnet.count("liveness_checks_total") > checks + 1, what="the path is in use")
        assert pair.cygnet.count("address_updates_sent_total") == pair.cygnet.established == 1
        assert pair.cygnet.count("ike_sas_established_total") == 1


def test_a_nat_that_changes_strongswan_s_mapping_in_mid_session(behind_nat: Topology) -> None:
    assert behind_nat.nat is not None
    with paired(Role.RESPONDER, behind_nat, client=ROAMING, settings=OWN_TABLE) as pair:
        virtual = set_up(pair, behind_nat)
        with pinging(behind_nat.client, virtual):
            behind_nat.nat.rebind()
            pair.cygnet.await_count("ike_sas_moved_total", 1)
        assert_both_ways(behind_nat, virtual)
        assert pair.cygnet.established == 1


def test_strongswan_is_told_when_a_nat_has_changed_our_mapping(behind_nat: Topology) -> None:
    nat = behind_nat.nat
    assert nat is not None
    with paired(Role.INITIATOR, behind_nat, client=ROAMING, settings=OWN_TABLE) as pair:
        set_up(pair, behind_nat)
        # Where the peer sees us is known from the first check on.
        eventually(lambda: pair.cygnet.count("liveness_checks_total") >= 1, what="the peer was asked")
        nat.rebind()
        eventually(
            lambda: int(str(pair.strongswan.sas()[0]["remote-port"])) in nat.ports, what="strongSwan has followed"
        )
        assert pair.cygnet.count("address_updates_sent_total") >= 1
        assert pair.cygnet.count("ike_sas_established_total") == 1


def test_strongswan_s_keepalives_are_heard(behind_nat: Topology) -> None:
    with paired(Role.RESPONDER, behind_nat, settings=OWN_TABLE) as pair:
        pair.set_up()
        eventually(lambda: pair.cygnet.count("keepalives_received_total") >= 1, what="one has come")


def test_strongswan_takes_our_keepalives(behind_nat: Topology) -> None:
    with paired(Role.INITIATOR, behind_nat, gateway="keep_alive = 1s") as pair:
        pair.set_up()
        eventually(lambda: pair.cygnet.count("keepalives_sent_total") >= 2, what="two have gone out")
        assert len(pair.strongswan.sas()) == 1


@both_roles
def test_both_families_inside_ipv6(direct: Topology, role: Role) -> None:
    inner = {"local_ts": "10.1.0.0/24, fd01::/64", "pools": {"v4": "10.3.0.0/24", "v6": "fd03::/120"}}
    asked = {"virtual_ips": "0.0.0.0, ::", "remote_ts": "10.1.0.0/24, fd01::/64"}
    direct.server.add_address("fd01::1/128")
    outside = msgspec.structs.replace(direct, server_address=direct.server_address_v6)
    with paired(role, outside, server=inner, client=asked) as pair:
        ike_sa = pair.set_up()
        assert ":" in str(ike_sa["remote-host"])
        for server_inner, virtual in zip((SERVER_INNER, "fd01::1"), pair.virtual_addresses(ike_sa), strict=True):
            use_virtual_address(pair, direct, virtual)
            assert direct.client.ping(server_inner, source=virtual, count=2) == 2
            assert direct.server.ping(virtual, source=server_inner, count=2) == 2
