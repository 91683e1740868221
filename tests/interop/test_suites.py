"""Algorithms as strongSwan understands them, for the IKE_SA and for ESP."""

import msgspec
import pytest
from tests.interop.pairs import SERVER_INNER, Role, child_of, paired
from tests.interop.topologies import Topology


class Suite(msgspec.Struct, frozen=True):
    """Proposals, and what strongSwan must report to have been agreed on."""

    ike: str
    esp: str
    ike_sa: dict[str, str]
    child_sa: dict[str, str]


SUITES = {
    "gcm": Suite(
        "aes128gcm16-prfsha256-x25519",
        "aes128gcm16",
        {"encr-alg": "AES_GCM_16", "encr-keysize": "128", "prf-alg": "PRF_HMAC_SHA2_256", "dh-group": "CURVE_25519"},
        {"encr-alg": "AES_GCM_16", "encr-keysize": "128"},
    ),
    "cbc-modp": Suite(
        "aes128-sha256-modp2048",
        "aes128-sha256",
        {
            **{"encr-alg": "AES_CBC", "encr-keysize": "128", "integ-alg": "HMAC_SHA2_256_128"},
            **{"prf-alg": "PRF_HMAC_SHA2_256", "dh-group": "MODP_2048"},
        },
        {"encr-alg": "AES_CBC", "encr-keysize": "128", "integ-alg": "HMAC_SHA2_256_128"},
    ),
    "chacha": Suite(
        "chacha20poly1305-prfsha384-ecp384",
        "chacha20poly1305",
        {"encr-alg": "CHACHA20_POLY1305", "prf-alg": "PRF_HMAC_SHA2_384", "dh-group": "ECP_384"},
        {"encr-alg": "CHACHA20_POLY1305"},
    ),
    "sha1-cbc256": Suite(
        "aes256-sha512-prfsha512-ecp521",
        "aes256-sha1",
        {
            **{"encr-alg": "AES_CBC", "encr-keysize": "256", "integ-alg": "HMAC_SHA2_512_256"},
            **{"prf-alg": "PRF_HMAC_SHA2_512", "dh-group": "ECP_521"},
        },
        {"encr-alg": "AES_CBC", "encr-keysize": "256", "integ-alg": "HMAC_SHA1_96"},
    ),
    "ctr-xcbc": Suite(
        "aes192ctr-aesxcbc-prfaesxcbc-ecp256",
        "aes256ctr-sha384",
        {
            **{"encr-alg": "AES_CTR", "encr-keysize": "192", "integ-alg": "AES_XCBC_96"},
            **{"prf-alg": "PRF_AES128_XCBC", "dh-group": "ECP_256"},
        },
        {"encr-alg": "AES_CTR", "encr-keysize": "256", "integ-alg": "HMAC_SHA2_384_192"},
    ),
    "ccm-cmac": Suite(
        "aes256ccm16-prfaescmac-x448",
        "aes128ccm8",
        {"encr-alg": "AES_CCM_16", "encr-keysize": "256", "prf-alg": "PRF_AES128_CMAC", "dh-group": "CURVE_448"},
        {"encr-alg": "AES_CCM_8", "encr-keysize": "128"},
    ),
}
ALGORITHM_KEYS = {"encr-alg", "encr-keysize", "integ-alg", "prf-alg", "dh-group", "esn"}


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_suite(direct: Topology, role: Role, suite: Suite) -> None:
    proposals = {"proposals": suite.ike, "esp_proposals": suite.esp}
    with paired(role, direct, server=proposals, client=proposals) as pair:
        ike_sa = pair.set_up()
        child = child_of(ike_sa)
        assert {key: value for key, value in ike_sa.items() if key in ALGORITHM_KEYS} == suite.ike_sa
        assert {key: value for key, value in child.items() if key in ALGORITHM_KEYS} == suite.child_sa

        [virtual] = pair.virtual_addresses(ike_sa)
        if role is Role.INITIATOR:
            direct.client.add_address(f"{virtual}/32")
        assert direct.client.ping(SERVER_INNER, source=virtual, count=2) == 2
