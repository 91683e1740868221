"""Algorithms as strongSwan understands them, for the IKE_SA and for ESP."""

import msgspec
import pytest
from tests.interop.controlled import RawSection
from tests.interop.pairs import SERVER_INNER, Role, child_of, paired
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
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.ike)
def test_suite(direct: Topology, role: Role, suite: Suite) -> None:
    proposals = {"proposals": suite.ike, "esp_proposals": suite.esp}
    with paired(role, direct, server=proposals, client=proposals) as pair:
        ike_sa = pair.set_up()
        assert (reported(ike_sa), reported(child_of(ike_sa))) == (suite.ike_sa, suite.child_sa)

        [virtual] = pair.virtual_addresses(ike_sa)
        if role is Role.INITIATOR:
            direct.client.add_address(f"{virtual}/32")
        assert direct.client.ping(SERVER_INNER, source=virtual, count=2) == 2
