"""Several CHILD_SAs in one IKE_SA, and IKE_SAs that begin without any."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.interop.cygnet_gateway import ESTABLISHED
from tests.interop.pairs import SERVER_INNER, Pair, Role, paired, section
from tests.interop.pings import Pings
from tests.interop.polling import eventually
from tests.interop.topologies import Topology

OTHER_INNER = "10.4.0.1"
"""An address behind the server in the network of the second child."""
NAMES = {"net", "lan"}

both_roles = pytest.mark.parametrize("role", Role, ids=lambda role: role.value)


@contextmanager
def two_children(role: Role, topology: Topology, *, connection: str = "", child: str = "") -> Iterator[Pair]:
    """A client that has a child for each of two networks behind the server; Cygnet starts both if it is that."""
    starts = f"{'start_action = start' if role is Role.INITIATOR else ''}\n{child}"
    lan = f"lan {{\n%s = 10.4.0.0/24\n{child}\n%s\n}}"
    client = {"connection": connection, "child": child, "children": lan % ("remote_ts", starts)}
    server = {"children": "lan {\nlocal_ts = 10.4.0.0/24\n}"}
    topology.server.add_address(f"{OTHER_INNER}/32")
    with paired(role, topology, client=client, server=server) as pair:
        if role is Role.RESPONDER:
            pair.strongswan.initiate("net")
            pair.strongswan.initiate("lan")
        eventually(lambda: _has_both(pair), what="both CHILD_SAs are there")
        yield pair


def _has_both(pair: Pair) -> bool:
    """Both ends have one IKE_SA, and in it one CHILD_SA of each name."""
    assert pair.cygnet.count(ESTABLISHED) == 1 and pair.cygnet.count("child_sas") == 2
    [ike_sa] = pair.strongswan.sas()
    children = [section(each) for each in section(ike_sa["child-sas"]).values()]
    assert sorted(str(each["name"]) for each in children) == sorted(NAMES)
    assert all(each["state"] == "INSTALLED" for each in children)
    return True


def _both_carry(pair: Pair, topology: Topology) -> None:
    [ike_sa] = pair.strongswan.sas()
    [address] = pair.virtual_addresses(ike_sa)
    if pair.role is Role.INITIATOR:
        topology.client.add_address(f"{address}/32")
    for inner in (SERVER_INNER, OTHER_INNER):
        assert topology.client.ping(inner, source=address, count=2) == 2


@both_roles
def test_two_children_carry_traffic_in_one_ike_sa(direct: Topology, role: Role) -> None:
    with two_children(role, direct) as pair:
        _both_carry(pair, direct)
        [ike_sa] = pair.strongswan.sas()
        children = [section(each) for each in section(ike_sa["child-sas"]).values()]
        assert [(each["packets-in"], each["packets-out"]) for each in children] == [("2", "2")] * 2


@both_roles
def test_both_get_new_keys(direct: Topology, role: Role) -> None:
    """From whoever has set them up, again and again, each in place of its own predecessor."""
    with two_children(role, direct, child="rekey_time = 2s\nlife_time = 20s\nrand_time = 0s") as pair:
        eventually(lambda: pair.cygnet.count("child_sas_rekeyed_total") >= 4, timeout_s=10.0)
        [ike_sa] = pair.strongswan.sas()
        assert {str(section(each)["name"]) for each in section(ike_sa["child-sas"]).values()} == NAMES
        _both_carry(pair, direct)


@both_roles
def test_both_are_there_again_with_a_new_proof(direct: Topology, role: Role) -> None:
    """Whoever has set them up authenticates itself anew every three seconds."""
    reauth = "reauth_time = 3s\nover_time = 20s\nrand_time = 0s"
    with two_children(role, direct, connection=reauth) as pair:
        pair.cygnet.await_count("ike_sas_established_total", 2, timeout_s=10.0)
        eventually(lambda: _has_both(pair), what="both CHILD_SAs are in the new IKE_SA")


def test_both_are_set_up_again_when_the_peer_ends_the_ike_sa(direct: Topology) -> None:
    with two_children(Role.INITIATOR, direct, child="close_action = start") as pair:
        pair.strongswan.terminate(ike="rw")
        pair.cygnet.await_count('ike_sas_closed_total{reason="deleted_by_peer"}', 1)
        eventually(lambda: _has_both(pair), what="both CHILD_SAs are there again")


def test_the_one_that_the_peer_ends_is_set_up_again_in_the_same_ike_sa(direct: Topology) -> None:
    with two_children(Role.INITIATOR, direct, child="close_action = start") as pair:
        pair.strongswan.terminate(child="lan")
        pair.cygnet.await_count('ike_messages_total{message="create-child-out-req"}', 2)
        eventually(lambda: _has_both(pair), what="both CHILD_SAs are there again")
        assert pair.cygnet.count("ike_sas_established_total") == 1


@pytest.mark.parametrize(
    ("role", "policy"),
    [(Role.INITIATOR, "prefer"), (Role.INITIATOR, "force"), (Role.RESPONDER, "force")],
    ids=lambda each: each.value if isinstance(each, Role) else each,
)
def test_the_ike_sa_begins_without_a_child(direct: Topology, role: Role, policy: str) -> None:
    """The CHILD_SA comes by CREATE_CHILD_SA, with a key exchange of its own."""
    options = {"esp_proposals": "aes128gcm16-x25519"}
    client = {**options, "connection": f"childless = {policy}"}
    with paired(role, direct, client=client, server=options) as pair:
        [address] = pair.virtual_addresses(pair.set_up())
        way = "in" if role is Role.RESPONDER else "out"
        pair.cygnet.await_count(f'ike_messages_total{{message="create-child-{way}-req"}}', 1)
        pair.cygnet.await_count("child_sas", 1)
        [ike_sa] = pair.strongswan.sas()
        [child] = section(ike_sa["child-sas"]).values()
        assert section(child)["dh-group"] == "CURVE_25519"
        if role is Role.INITIATOR:
            direct.client.add_address(f"{address}/32")
        assert direct.client.ping(SERVER_INNER, source=address, count=2) == 2


def test_where_the_peer_does_not_let_us_begin_without_a_child_we_begin_with_one(direct: Topology) -> None:
    client, server = {"connection": "childless = prefer"}, {"connection": "childless = never"}
    with paired(Role.INITIATOR, direct, client=client, server=server) as pair:
        pair.set_up()
        pair.cygnet.await_count("child_sas", 1)
        assert pair.cygnet.count('ike_messages_total{message="create-child-out-req"}') == 0


def test_there_is_no_ike_sa_with_a_peer_that_does_not_let_us_begin_without_a_child(direct: Topology) -> None:
    client, server = {"connection": "childless = force"}, {"connection": "childless = never"}
    with paired(Role.INITIATOR, direct, client=client, server=server) as pair:
        pair.cygnet.await_count('ike_sas_closed_total{reason="childless_unsupported"}', 1)
        assert pair.cygnet.established == 0


@both_roles
def test_a_child_without_traffic_is_closed(direct: Topology, role: Role) -> None:
    """Not while there are pings, though it gets new keys; then alone, and strongSwan knows."""
    ours = {"child": "inactivity = 2s\nrekey_time = 1s\nlife_time = 20s\nrand_time = 0s"}
    client, server = (ours, {}) if role is Role.INITIATOR else ({}, ours)
    with paired(role, direct, client=client, server=server) as pair:
        [address] = pair.virtual_addresses(pair.set_up())
        if role is Role.INITIATOR:
            direct.client.add_address(f"{address}/32")
        with Pings(direct.client, SERVER_INNER, source=address) as pings:
            eventually(lambda: pair.cygnet.count("child_sas_rekeyed_total") >= 3, timeout_s=10.0)
        assert pings.lost == []
        assert pair.cygnet.count("child_sas_inactive_total") == 0
        pair.cygnet.await_count("child_sas_inactive_total", 1)
        pair.cygnet.await_count("child_sas", 0, timeout_s=10.0)
        # strongSwan lists a deleted CHILD_SA for five seconds more.
        eventually(lambda: not pair.strongswan.sas()[0]["child-sas"], timeout_s=10.0, what="no CHILD_SA at strongSwan")
        assert pair.cygnet.established == len(pair.strongswan.sas()) == 1
