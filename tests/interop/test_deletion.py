"""The end of an SA, from either side: the other side learns of it, and nothing of it is left."""

import pytest
from tests.interop.pairs import SERVER_INNER, Role, paired
from tests.interop.polling import eventually
from tests.interop.topologies import Topology

both_roles = pytest.mark.parametrize("role", Role, ids=lambda role: role.value)

SITE_CLIENT = {"virtual_ips": "", "child": "local_ts = 10.2.0.0/24"}
SITE_SERVER = {"pools": {}, "child": "remote_ts = 10.2.0.0/24"}


@both_roles
def test_strongswan_deletes_the_ike_sa(direct: Topology, role: Role) -> None:
    with paired(role, direct) as pair:
        pair.set_up()
        pair.cygnet.await_count("pool_addresses_in_use", 1 if role is Role.RESPONDER else 0)
        pair.strongswan.terminate(ike="home" if role is Role.RESPONDER else "rw")
        eventually(pair.is_bare)
        pair.cygnet.await_count('ike_sas_closed_total{reason="deleted_by_peer"}', 1)


@both_roles
def test_strongswan_deletes_the_child_alone(direct: Topology, role: Role) -> None:
    """The route to the networks behind the peer goes with the CHILD_SA; the IKE_SA stays."""
    direct.client.add_address("10.2.0.1/32")
    own, route = (direct.server, "10.2.0.0/24") if role is Role.RESPONDER else (direct.client, "10.1.0.0/24")
    with paired(role, direct, client=SITE_CLIENT, server=SITE_SERVER) as pair:
        pair.set_up()
        eventually(lambda: f"{route} dev cygnet" in own.ip("route"))
        assert direct.client.ping(SERVER_INNER, source="10.2.0.1", count=2) == 2
        pair.strongswan.terminate(child="net")
        pair.cygnet.await_count("child_sas", 0)
        eventually(lambda: route not in own.ip("route"))
        assert pair.cygnet.established == 1
        [ike_sa] = pair.strongswan.sas()
        assert (ike_sa["state"], ike_sa["child-sas"]) == ("ESTABLISHED", {})


@both_roles
def test_our_end_is_told_to_the_peer(topology: Topology, role: Role) -> None:
    """SIGTERM: strongSwan knows of no IKE_SA by the time that we have ended, and our devices and routes are gone."""
    with paired(role, topology) as pair:
        own = topology.server if role is Role.RESPONDER else topology.client
        pair.set_up()
        assert pair.cygnet.devices()
        pair.cygnet.stop()
        eventually(lambda: pair.strongswan.sas() == [], what="strongSwan has no IKE_SA")
        assert pair.cygnet.devices() == []
        assert "cygnet" not in own.ip("route")

        pair.cygnet.start()
        pair.set_up()
