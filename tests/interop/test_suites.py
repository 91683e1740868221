"""Algorithms as strongSwan understands them, for the IKE_SA and for ESP."""

from contextlib import ExitStack

import msgspec
import pytest
from tests.interop.controlled import RawSection
from tests.interop.cygnet_gateway import ESTABLISHED, Cygnet
from tests.interop.pairs import SERVER_INNER, Role, child_of
from tests.interop.strongswan import StrongSwan, client_config, server_config
from tests.interop.test_tunnels import await_address
from tests.interop.topologies import Topology


class Suite(msgspec.Struct, frozen=True):
    """Proposals, and what strongSwan must report to have been agreed on."""

    ike: str
    esp: str
    ike_sa: str
    """Of the keys in REPORTED, those that it reports, in that order."""
    child_sa: str


REPORTED = ("encr-alg", "encr-keysize", "integ-alg", "prf-alg", "dh-group", "esn")
SUITES = (
    Suite(
        ike="aes128gcm16-prfsha256-x25519",
        esp="aes128gcm16",
        ike_sa="AES_GCM_16 128 PRF_HMAC_SHA2_256 CURVE_25519",
        child_sa="AES_GCM_16 128",
    ),
    Suite(
        ike="aes128-sha256-modp2048",
        esp="aes128-sha256",
        ike_sa="AES_CBC 128 HMAC_SHA2_256_128 PRF_HMAC_SHA2_256 MODP_2048",
        child_sa="AES_CBC 128 HMAC_SHA2_256_128",
    ),
    Suite(
        ike="chacha20poly1305-prfsha384-ecp384",
        esp="chacha20poly1305",
        ike_sa="CHACHA20_POLY1305 PRF_HMAC_SHA2_384 ECP_384",
        child_sa="CHACHA20_POLY1305",
    ),
    Suite(
        ike="aes256-sha512-prfsha512-ecp521",
        esp="aes256-sha1",
        ike_sa="AES_CBC 256 HMAC_SHA2_512_256 PRF_HMAC_SHA2_512 ECP_521",
        child_sa="AES_CBC 256 HMAC_SHA1_96",
    ),
    Suite(
        ike="aes192ctr-aesxcbc-prfaesxcbc-ecp256",
        esp="aes256ctr-sha384",
        ike_sa="AES_CTR 192 AES_XCBC_96 PRF_AES128_XCBC ECP_256",
        child_sa="AES_CTR 256 HMAC_SHA2_384_192",
    ),
    Suite(
        ike="aes256ccm16-prfaescmac-x448",
        esp="aes128ccm8",
        ike_sa="AES_CCM_16 256 PRF_AES128_CMAC CURVE_448",
        child_sa="AES_CCM_8 128",
    ),
)


def reported(sa: RawSection) -> str:
    """The algorithms of an SA, as strongSwan names them."""
    return " ".join(str(sa[key]) for key in REPORTED if key in sa)


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_suites(direct: Topology, role: Role) -> None:
    """A peer for each, all with one connection that allows all of them; each tunnel carries traffic."""
    direct.server.add_address(f"{SERVER_INNER}/32")
    server = server_config(
        proposals=", ".join(suite.ike for suite in SUITES), esp_proposals=", ".join(suite.esp for suite in SUITES)
    )
    peers = {f"peer{number}": suite for number, suite in enumerate(SUITES)}
    clients = "".join(
        client_config(
            direct.server_address,
            name=name,
            identity=f"{name}@example.org",
            proposals=suite.ike,
            esp_proposals=suite.esp,
            child="start_action = start" if role is Role.INITIATOR else "",
        )
        for name, suite in peers.items()
    )
    with ExitStack() as stack:
        if role is Role.RESPONDER:
            cygnet = stack.enter_context(Cygnet(direct.server, server))
            strongswan = stack.enter_context(StrongSwan("strongswan", direct.client, clients))
            for name in peers:
                strongswan.initiate("net", ike=name)
        else:
            strongswan = stack.enter_context(StrongSwan("strongswan", direct.server, server))
            # The way to what is behind the peer leads to one worker, whichever tunnel a source address belongs to.
            cygnet = stack.enter_context(Cygnet(direct.client, clients, "--workers", "1"))
        cygnet.await_count(ESTABLISHED, len(SUITES))
        key, vips = ("local-id", "local-vips") if role is Role.RESPONDER else ("remote-id", "remote-vips")
        ike_sas = {str(ike_sa[key]).partition("@")[0]: ike_sa for ike_sa in strongswan.sas()}
        assert {name: (reported(sa), reported(child_of(sa))) for name, sa in ike_sas.items()} == {
            name: (suite.ike_sa, suite.child_sa) for name, suite in peers.items()
        }
        assert "ADD_4_ADDR" not in strongswan.log(), "no virtual address is told as one that we are reached at"
        for ike_sa in ike_sas.values():
            [virtual] = list(ike_sa[vips])
            await_address(direct.client, virtual)
            assert direct.client.ping(SERVER_INNER, source=virtual, count=2) == 2
