"""IKE_SA_INIT that takes more than one round trip, and what an independent scanner makes of our answers."""

import json

import pytest
from tests.interop.cygnet_gateway import HALF_OPEN, Cygnet
from tests.interop.namespaces import Namespace
from tests.interop.pairs import Role, paired
from tests.interop.polling import eventually
from tests.interop.strongswan import server_config
from tests.interop.topologies import Topology

both_roles = pytest.mark.parametrize("role", Role, ids=lambda role: role.value)

# The initiator's first guess is not what the responder wants.
GUESSING = {"proposals": "aes128gcm16-prfsha256-ecp384-x25519"}
WANTING = {"proposals": "aes128gcm16-prfsha256-x25519"}


@both_roles
def test_another_key_exchange_method_is_asked_for(direct: Topology, role: Role) -> None:
    with paired(role, direct, client=GUESSING, server=WANTING) as pair:
        ike_sa = pair.set_up()
        assert ike_sa["dh-group"] == "CURVE_25519"
        if role is Role.RESPONDER:
            pair.cygnet.await_count('ike_sa_init_refused_total{reason="invalid_ke_payload"}', 1)
        else:
            assert "DH group ECP_384 unacceptable, requesting CURVE_25519" in pair.strongswan.log()


def test_we_ask_for_a_cookie(direct: Topology) -> None:
    with paired(Role.RESPONDER, direct, gateway="cookie_threshold = 0") as pair:
        pair.set_up()
        pair.cygnet.await_count("cookies_sent_total", 1)
        pair.cygnet.await_count("cookies_accepted_total", 1)


def test_we_ask_for_a_cookie_and_another_key_exchange_method(direct: Topology) -> None:
    """The order of the two is ours; strongSwan must get through either way (RFC 7296 section 2.6.1)."""
    with paired(Role.RESPONDER, direct, gateway="cookie_threshold = 0", client=GUESSING, server=WANTING) as pair:
        assert pair.set_up()["dh-group"] == "CURVE_25519"
        assert pair.cygnet.count("cookies_accepted_total") >= 1
        pair.cygnet.await_count('ike_sa_init_refused_total{reason="invalid_ke_payload"}', 1)


def leave_half_open(client: Namespace, server_address: str) -> None:
    """Begin an IKE_SA and never authenticate: what should follow goes to a port where nobody is."""
    load = Cygnet.program(
        "load", server_address, "--natt-port", "9", "--psk", "any", "--count", "1", "--timeout", "0.3"
    )
    answer = client.run(*load, "--encap", "--json", "--quiet", check=False)
    assert json.loads(answer.stdout)["failures"] == {"timeout_ike_auth": 1}


@pytest.mark.parametrize("proposals", [WANTING, GUESSING], ids=["cookie-alone", "and-another-method"])
def test_we_return_a_cookie(direct: Topology, proposals: dict[str, str]) -> None:
    # strongSwan's threshold can't be 0: that would switch cookies off.
    settings = {"dos_protection": True, "cookie_threshold": 1, "cookie_threshold_ip": 1}
    with paired(Role.INITIATOR, direct, settings=settings, client=proposals, server=WANTING) as pair:
        pair.set_up()
        pair.cygnet.stop()
        eventually(lambda: pair.strongswan.sas() == [])
        leave_half_open(direct.client, direct.server_address)
        assert [ike_sa["state"] for ike_sa in pair.strongswan.sas()] == ["CONNECTING"]
        pair.cygnet.start()
        eventually(lambda: pair.cygnet.established == 1, what="we are established")
        pair.cygnet.await_count("cookies_returned_total", 1)


SCANS = {
    # ike-scan offers AES-CBC, HMAC-SHA1 and three MODP groups, and guesses the first.
    "handshake": ("aes256-sha1-modp1024", "IKEv2 SA_INIT Handshake returned", HALF_OPEN),
    "another-method": (
        "aes256-sha1-modp2048",
        "Notify message 17 (INVALID_KE_PAYLOAD)",
        'ike_sa_init_refused_total{reason="invalid_ke_payload"}',
    ),
    "no-proposal": (
        "aes128gcm16-prfsha256-x25519",
        "Notify message 14 (NO_PROPOSAL_CHOSEN)",
        'ike_sa_init_refused_total{reason="no_proposal_chosen"}',
    ),
}


@pytest.mark.parametrize(("proposals", "answer", "series"), SCANS.values(), ids=SCANS)
def test_ike_scan_understands_us(direct: Topology, proposals: str, answer: str, series: str) -> None:
    with Cygnet(direct.server, server_config(proposals=proposals)) as cygnet:
        scan = direct.client.run("ike-scan", "--ikev2", "--sport=0", "--retry=1", direct.server_address)
        assert answer in scan.stdout
        if series == HALF_OPEN:
            agreed = "SA=(Encr=AES_CBC,KeyLength=256 Prf=HMAC_SHA1 Integ=HMAC_SHA1_96 DH_Group=2:modp1024)"
            assert f"{agreed} KeyExchange(132 bytes) Nonce(32 bytes)" in scan.stdout
        cygnet.await_count(series, 1)
