"""Key derivation against NIST's vector, and against the formulas of RFC 7296 written out with the standard library."""

import hmac
import os
from typing import Any

import pytest
from tests.vectors import keymat as nist

from cygnet.crypto.errors import CryptoError
from cygnet.crypto.keymat import (
    ChildKeys,
    ChildSuite,
    IkeKeys,
    IkeSuite,
    derive_child_keys,
    derive_ike_keys,
    derive_rekeyed_ike_keys,
)
from cygnet.crypto.tables import STANDARD
from cygnet.iana.transforms import EncrId, IntegId, KeId, PrfId

ENCR, INTEG, PRF, KE = STANDARD.encr, STANDARD.integ, STANDARD.prf, STANDARD.ke
SHA1_SUITE = IkeSuite(
    encr=ENCR[EncrId.AES_CBC],
    encr_key_bits=128,
    integ=INTEG[IntegId.HMAC_SHA1_96],
    prf=PRF[PrfId.HMAC_SHA1],
    ke=KE[KeId.CURVE25519],
)


def _gcm_suite(prf: PrfId, key_bits: int = 128) -> IkeSuite:
    return IkeSuite(
        encr=ENCR[EncrId.AES_GCM_16], encr_key_bits=key_bits, integ=None, prf=PRF[prf], ke=KE[KeId.CURVE25519]
    )


def _pieces(stream: bytes, *lengths: int) -> list[bytes]:
    pieces = []
    for octets in lengths:
        pieces.append(stream[:octets])
        stream = stream[octets:]
    return pieces


def _prf_plus(hash_name: str, key: bytes, seed: bytes, octets: int) -> bytes:
    stream = block = b""
    counter = 1
    while len(stream) < octets:
        block = hmac.digest(key, block + seed + bytes([counter]), hash_name)
        stream += block
        counter += 1
    return stream[:octets]


def test_ike_keys_are_those_of_the_nist_vector() -> None:
    keys = derive_ike_keys(
        SHA1_SUITE,
        shared=nist.SHARED,
        nonce_i=nist.NONCE_I,
        nonce_r=nist.NONCE_R,
        spi_i=nist.SPI_I,
        spi_r=nist.SPI_R,
    )
    assert keys == IkeKeys(*_pieces(nist.IKE_KEYMAT, 20, 20, 20, 16, 16, 20, 20))


@pytest.mark.parametrize(
    ("shared", "keymat"),
    [(b"", nist.CHILD_KEYMAT), (nist.SHARED_NEW, nist.CHILD_KEYMAT_WITH_KE)],
    ids=["without key exchange", "with key exchange"],
)
def test_child_keys_are_those_of_the_nist_vector(shared: bytes, keymat: bytes) -> None:
    suite = ChildSuite(ENCR[EncrId.AES_CBC], 128, INTEG[IntegId.HMAC_SHA1_96])
    keys = derive_child_keys(
        suite,
        PRF[PrfId.HMAC_SHA1],
        nist.IKE_KEYMAT[:20],
        nonce_i=nist.NONCE_I,
        nonce_r=nist.NONCE_R,
        shared=shared,
    )
    assert keys == ChildKeys(*_pieces(keymat, 16, 20, 16, 20))


def test_rekeyed_ike_keys_follow_the_nist_skeyseed() -> None:
    spi_i, spi_r = b"new spi1", b"new spi2"
    keys = derive_rekeyed_ike_keys(
        _gcm_suite(PrfId.HMAC_SHA2_256),
        old_prf=PRF[PrfId.HMAC_SHA1],
        old_sk_d=nist.IKE_KEYMAT[:20],
        shared=nist.SHARED_NEW,
        nonce_i=nist.NONCE_I,
        nonce_r=nist.NONCE_R,
        spi_i=spi_i,
        spi_r=spi_r,
    )
    seed = nist.NONCE_I + nist.NONCE_R + spi_i + spi_r
    stream = _prf_plus("sha256", nist.SKEYSEED_REKEY, seed, 136)
    assert keys == IkeKeys(*_pieces(stream, 32, 0, 0, 20, 20, 32, 32))


@pytest.mark.parametrize(
    ("prf", "hash_name", "octets"),
    [(PrfId.HMAC_SHA2_256, "sha256", 32), (PrfId.HMAC_SHA2_384, "sha384", 48), (PrfId.HMAC_SHA2_512, "sha512", 64)],
)
def test_keys_beside_an_aead_are_salted_and_lack_integrity(prf: PrfId, hash_name: str, octets: int) -> None:
    shared, nonce_i, nonce_r, spi_i, spi_r = (os.urandom(n) for n in (32, 32, 48, 8, 8))
    keys = derive_ike_keys(
        _gcm_suite(prf, 256), shared=shared, nonce_i=nonce_i, nonce_r=nonce_r, spi_i=spi_i, spi_r=spi_r
    )
    skeyseed = hmac.digest(nonce_i + nonce_r, shared, hash_name)
    stream = _prf_plus(hash_name, skeyseed, nonce_i + nonce_r + spi_i + spi_r, 3 * octets + 72)
    assert keys == IkeKeys(*_pieces(stream, octets, 0, 0, 36, 36, octets, octets))


@pytest.mark.parametrize("prf", [PrfId.AES128_XCBC, PrfId.AES128_CMAC])
def test_fixed_key_prf_takes_64_bits_of_each_nonce_as_key_and_all_as_seed(prf: PrfId) -> None:
    """RFC 7296 section 2.14."""
    row = PRF[prf]
    nonce_i, nonce_r = bytes(range(32)), bytes(range(50, 74))

    def derive(nonce_i: bytes, nonce_r: bytes) -> IkeKeys:
        return derive_ike_keys(
            _gcm_suite(prf), shared=b"shared", nonce_i=nonce_i, nonce_r=nonce_r, spi_i=bytes(8), spi_r=bytes(8)
        )

    skeyseed = row.key(nonce_i[:8] + nonce_r[:8]).digest(b"shared")
    stream = row.plus(skeyseed, nonce_i + nonce_r + bytes(16), 88)
    assert derive(nonce_i, nonce_r) == IkeKeys(*_pieces(stream, 16, 0, 0, 20, 20, 16, 16))
    assert derive(nonce_i[:-1] + b"x", nonce_r) != derive(nonce_i, nonce_r)


def test_child_keys_beside_an_aead() -> None:
    suite = ChildSuite(ENCR[EncrId.CHACHA20_POLY1305], 0)
    keys = derive_child_keys(suite, PRF[PrfId.HMAC_SHA2_256], b"k" * 32, nonce_i=b"i" * 32, nonce_r=b"r" * 32)
    stream = _prf_plus("sha256", b"k" * 32, b"i" * 32 + b"r" * 32, 72)
    assert keys == ChildKeys(stream[:36], b"", stream[36:], b"")


def test_key_length_that_the_algorithm_lacks_is_refused() -> None:
    arguments: dict[str, Any] = {name: bytes(16) for name in ("shared", "nonce_i", "nonce_r", "spi_i", "spi_r")}
    with pytest.raises(CryptoError):
        derive_ike_keys(_gcm_suite(PrfId.HMAC_SHA2_256, 0), **arguments)


def test_repr_shows_no_key() -> None:
    assert repr(IkeKeys(*[b"secret"] * 7)) == "IkeKeys(<redacted>)"
    assert repr(ChildKeys(*[b"secret"] * 4)) == "ChildKeys(<redacted>)"
