"""The AUTH payload of a pre-shared key, against RFC 7296 section 2.15 written out with the standard library."""

import hashlib
import hmac

import pytest

from cygnet.auth.psk import compute_psk_auth, forget_secrets, verify_psk_auth
from cygnet.crypto.prf import PRF
from cygnet.iana import PrfId

MESSAGE, NONCE, SK_P, ID_BODY = b"\x01" * 300, b"\x02" * 32, b"\x03" * 32, b"\x02\x00\x00\x00gw.example.org"
HASHES = {
    PrfId.HMAC_SHA1: hashlib.sha1,
    PrfId.HMAC_SHA2_256: hashlib.sha256,
    PrfId.HMAC_SHA2_384: hashlib.sha384,
    PrfId.HMAC_SHA2_512: hashlib.sha512,
}


def auth(prf: PrfId = PrfId.HMAC_SHA2_256, secret: bytes = b"secret", nonce: bytes = NONCE) -> bytes:
    return compute_psk_auth(PRF[prf], secret, sk_p=SK_P, message=MESSAGE, nonce=nonce, id_body=ID_BODY)


@pytest.mark.parametrize("prf", HASHES)
@pytest.mark.parametrize("secret", [b"s", b"secret", b"x" * 200])
def test_hmac_prfs_follow_the_formula(prf: PrfId, secret: bytes) -> None:
    digest = HASHES[prf]
    key = hmac.digest(secret, b"Key Pad for IKEv2", digest)
    expected = hmac.digest(key, MESSAGE + NONCE + hmac.digest(SK_P, ID_BODY, digest), digest)
    assert auth(prf, secret) == expected


@pytest.mark.parametrize("prf", PRF)
def test_every_prf_gives_its_length_and_verifies(prf: PrfId) -> None:
    row = PRF[prf]
    sk_p = bytes(row.key_octets)
    received = compute_psk_auth(row, b"secret", sk_p=sk_p, message=MESSAGE, nonce=NONCE, id_body=ID_BODY)
    assert len(received) == row.output_octets
    assert verify_psk_auth(received, row, b"secret", sk_p=sk_p, message=MESSAGE, nonce=NONCE, id_body=ID_BODY)


@pytest.mark.parametrize("part", ["secret", "sk_p", "message", "nonce", "id_body", "received"])
def test_a_change_of_any_part_fails(part: str) -> None:
    parts = {
        "secret": b"secret",
        "sk_p": SK_P,
        "message": MESSAGE,
        "nonce": NONCE,
        "id_body": ID_BODY,
        "received": auth(),
    }
    parts[part] = parts[part][:-1] + bytes((parts[part][-1] ^ 1,))
    assert not verify_psk_auth(
        parts["received"],
        PRF[PrfId.HMAC_SHA2_256],
        parts["secret"],
        sk_p=parts["sk_p"],
        message=parts["message"],
        nonce=parts["nonce"],
        id_body=parts["id_body"],
    )


@pytest.mark.parametrize("received", [b"", auth()[:-1], auth() + b"\0"])
def test_another_length_fails(received: bytes) -> None:
    row = PRF[PrfId.HMAC_SHA2_256]
    assert not verify_psk_auth(received, row, b"secret", sk_p=SK_P, message=MESSAGE, nonce=NONCE, id_body=ID_BODY)


def test_secrets_that_are_remembered_are_kept_apart() -> None:
    first = (auth(secret=b"one"), auth(secret=b"two"), auth(PrfId.HMAC_SHA2_512, b"one"))
    again = (auth(secret=b"one"), auth(secret=b"two"), auth(PrfId.HMAC_SHA2_512, b"one"))
    forget_secrets()
    afresh = (auth(secret=b"one"), auth(secret=b"two"), auth(PrfId.HMAC_SHA2_512, b"one"))
    assert first == again == afresh
    assert len(set(first)) == 3
