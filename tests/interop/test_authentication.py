"""Peers that are not let in, at either end, and nothing left of them."""

from typing import Any

import pytest
from tests.interop.pairs import Role, paired
from tests.interop.polling import eventually
from tests.interop.strongswan import server_config
from tests.interop.topologies import Topology

both_roles = pytest.mark.parametrize("role", Role, ids=lambda role: role.value)

REFUSED = {
    "wrong-secret": {"secret": "another-secret"},
    "unknown-identity": {"identity": "other.example.org"},
}


@both_roles
@pytest.mark.parametrize("server", REFUSED.values(), ids=REFUSED)
def test_authentication_fails(direct: Topology, role: Role, server: dict[str, Any]) -> None:
    with paired(role, direct, server=server) as pair:
        if role is Role.RESPONDER:
            with pytest.raises(AssertionError, match="received AUTHENTICATION_FAILED notify error"):
                pair.strongswan.initiate("net")
            reason = "wrong_secret" if "secret" in server else "no_connection"
            pair.cygnet.await_count(f'authentication_failures_total{{reason="{reason}"}}', 1)
        else:
            eventually(lambda: "<home> ERROR given up after 1 attempts: authentication_failed" in pair.cygnet.log())
        pair.cygnet.await_count('ike_sas_closed_total{reason="authentication_failed"}', 1)
        pair.cygnet.await_count("ike_sas_established_total", 0)
        eventually(pair.is_bare)


@both_roles
def test_no_common_proposal(direct: Topology, role: Role) -> None:
    server, client = {"proposals": "aes128gcm16-prfsha256-x25519"}, {"proposals": "aes256-sha512-ecp384"}
    with paired(role, direct, server=server, client=client) as pair:
        if role is Role.RESPONDER:
            with pytest.raises(AssertionError, match="received NO_PROPOSAL_CHOSEN notify error"):
                pair.strongswan.initiate("net")
            pair.cygnet.await_count('ike_sa_init_refused_total{reason="no_proposal_chosen"}', 1)
        else:
            eventually(lambda: "<home> ERROR given up after 1 attempts: no_proposal_chosen" in pair.cygnet.log())
        eventually(pair.is_bare)


CHILD_REFUSED = {
    "no-common-traffic": ({"remote_ts": "10.9.0.0/24"}, "ts_unacceptable", "TS_UNACCEPTABLE"),
    "no-common-esp-proposal": ({"esp_proposals": "aes256-sha512"}, "no_proposal_chosen", "NO_PROPOSAL_CHOSEN"),
}


@both_roles
@pytest.mark.parametrize(("client", "reason", "notify"), CHILD_REFUSED.values(), ids=CHILD_REFUSED)
def test_child_is_refused(direct: Topology, role: Role, client: dict[str, Any], reason: str, notify: str) -> None:
    """The IKE_SA stands without a child, until the initiator thinks otherwise (RFC 7296 section 1.2)."""
    with paired(role, direct, server={"esp_proposals": "aes128gcm16"}, client=client) as pair:
        if role is Role.RESPONDER:
            with pytest.raises(AssertionError, match=f"received {notify} notify"):
                pair.strongswan.initiate("net")
            pair.cygnet.await_count(f'child_sas_refused_total{{reason="{reason}"}}', 1)
            pair.cygnet.await_count("child_sas", 0)
            pair.cygnet.await_count('ike_sas{state="established"}', 1)
            assert len(pair.strongswan.sas()) == 1
        else:
            eventually(lambda: f"<home> ERROR given up after 1 attempts: {reason}" in pair.cygnet.log())
            pair.cygnet.await_count(f'child_sas_failed_total{{reason="{reason}"}}', 1)
            pair.cygnet.await_count('ike_sas{state="established"}', 1)
            [sa] = pair.strongswan.sas()
            assert not sa["child-sas"]


@both_roles
def test_a_virtual_address_is_to_be_asked_for(direct: Topology, role: Role) -> None:
    """The server has a pool, and the client no `vips`: FAILED_CP_REQUIRED. strongSwan keeps the IKE_SA, we end it."""
    with paired(role, direct, client={"virtual_ips": ""}) as pair:
        if role is Role.RESPONDER:
            for _ in "in IKE_AUTH", "in CREATE_CHILD_SA":
                with pytest.raises(AssertionError, match="received FAILED_CP_REQUIRED notify"):
                    pair.strongswan.initiate("net")
            pair.cygnet.await_count('child_sas_refused_total{reason="failed_cp_required"}', 2)
            pair.cygnet.await_count("child_sas", 0)
            pair.cygnet.await_count('ike_sas{state="established"}', 1)
            [sa] = pair.strongswan.sas()
            assert not sa["child-sas"]
            eventually(lambda: "CHILD_SA refused to the peer: failed_cp_required" in pair.cygnet.log())
        else:
            eventually(lambda: "<home> ERROR given up after 1 attempts: failed_cp_required" in pair.cygnet.log())
            assert "expected a virtual IP request, sending FAILED_CP_REQUIRED" in pair.strongswan.log()
            eventually(pair.is_bare)


def test_a_child_that_was_refused_is_asked_for_again_in_the_same_ike_sa(direct: Topology) -> None:
    client, server = {"connection": "keyingtries = 0"}, {"local_ts": "10.9.0.0/24"}
    with paired(Role.INITIATOR, direct, client=client, server=server) as pair:
        eventually(lambda: "<home> WARNING attempt 1 failed, again in" in pair.cygnet.log())
        pair.strongswan.write_config(server_config())
        pair.strongswan.load()
        pair.cygnet.await_count("child_sas", 1)
        pair.cygnet.await_count("ike_sas_established_total", 1)


def test_we_try_again_until_the_peer_lets_us_in(direct: Topology) -> None:
    client, server = {"connection": "keyingtries = 0"}, {"secret": "another-secret"}
    with paired(Role.INITIATOR, direct, client=client, server=server) as pair:
        eventually(lambda: "<home> WARNING attempt 1 failed, again in" in pair.cygnet.log())
        pair.strongswan.write_config(server_config())
        pair.strongswan.load()
        pair.set_up()
