"""Public values that a peer must not get away with (RFC 6989), and the form of those that it may send."""

import subprocess
import sys

import pytest
from tests.vectors.ke import ELLIPTIC
from tests.vectors.modp_primes import MODP_PRIMES

from cygnet.crypto import modp
from cygnet.crypto.errors import InvalidKeyExchange
from cygnet.crypto.ke import KE, KeyExchangeMethod
from cygnet.iana.transforms import KeId

MODP_BITS = {
    KeId.MODP_1024: 1024,
    KeId.MODP_1536: 1536,
    KeId.MODP_2048: 2048,
    KeId.MODP_3072: 3072,
    KeId.MODP_4096: 4096,
    KeId.MODP_6144: 6144,
    KeId.MODP_8192: 8192,
}
CURVES = (KeId.ECP_256, KeId.ECP_384, KeId.ECP_521, KeId.BRAINPOOL_256, KeId.BRAINPOOL_384, KeId.BRAINPOOL_512)
# The points of small order that X25519 decodes (RFC 7748 section 6.1; their list is D. J. Bernstein's).
X25519_SMALL_ORDER = (
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
)
X448_SMALL_ORDER = (
    "00" * 56,
    "01" + "00" * 55,
    "fe" + "ff" * 27 + "fe" + "ff" * 27,
    "ff" * 28 + "fe" + "ff" * 27,
)


@pytest.mark.parametrize("method", KE.values(), ids=lambda method: method.id.name)
def test_both_ends_agree_and_keys_are_fresh(method: KeyExchangeMethod) -> None:
    initiator, responder = method.generate(), method.generate()
    assert len(initiator.public) == len(responder.public) == method.public_octets
    assert initiator.public != responder.public
    assert initiator.shared(responder.public) == responder.shared(initiator.public)


@pytest.mark.parametrize("method", KE.values(), ids=lambda method: method.id.name)
def test_wrong_length_is_refused(method: KeyExchangeMethod) -> None:
    pair = method.generate()
    public = method.generate().public
    for data in (b"", public[:-1], public + b"\x00", b"\x00" + public, b"\x04" + public):
        with pytest.raises(InvalidKeyExchange):
            pair.shared(data)


@pytest.mark.parametrize(("number", "bits"), MODP_BITS.items(), ids=lambda value: str(value))
def test_modp_values_out_of_range_are_refused(number: KeId, bits: int) -> None:
    """RFC 6989 section 2.1: 1 < y < p - 1."""
    prime = MODP_PRIMES[bits]
    pair = KE[number].from_private(b"\x05")
    for y in (0, 1, prime - 1, prime, prime + 1, 2**bits - 1):
        with pytest.raises(InvalidKeyExchange):
            pair.shared(y.to_bytes(bits // 8, "big"))


@pytest.mark.parametrize("number", CURVES, ids=lambda number: number.name)
def test_point_off_the_curve_is_refused(number: KeId) -> None:
    """RFC 6989 section 2.3."""
    pair = KE[number].generate()
    public = bytearray(KE[number].generate().public)
    public[-1] ^= 1
    for data in (bytes(public), bytes(len(public)), b"\xff" * len(public)):
        with pytest.raises(InvalidKeyExchange):
            pair.shared(data)


@pytest.mark.parametrize("number", CURVES, ids=lambda number: number.name)
def test_point_of_another_curve_is_refused(number: KeId) -> None:
    for vector in ELLIPTIC:
        if vector.id in CURVES and vector.id != number:
            with pytest.raises(InvalidKeyExchange):
                KE[number].generate().shared(bytes.fromhex(vector.public_i))


@pytest.mark.parametrize("point", X25519_SMALL_ORDER)
def test_x25519_secret_of_all_zeros_is_refused(point: str) -> None:
    with pytest.raises(InvalidKeyExchange):
        KE[KeId.CURVE25519].generate().shared(bytes.fromhex(point))


@pytest.mark.parametrize("point", X448_SMALL_ORDER)
def test_x448_secret_of_all_zeros_is_refused(point: str) -> None:
    with pytest.raises(InvalidKeyExchange):
        KE[KeId.CURVE448].generate().shared(bytes.fromhex(point))


@pytest.mark.parametrize(("number", "bits"), MODP_BITS.items(), ids=lambda value: str(value))
def test_modp_values_keep_their_leading_zeros(number: KeId, bits: int) -> None:
    """RFC 7296 sections 2.14 and 3.4."""
    octets = bits // 8
    initiator, responder = KE[number].from_private(b"\x03"), KE[number].from_private(b"\x05")
    assert initiator.public == (2**3).to_bytes(octets, "big")
    assert initiator.shared(responder.public) == (2**15).to_bytes(octets, "big")


@pytest.mark.parametrize(("bits", "published"), MODP_PRIMES.items(), ids=lambda value: str(value)[:4])
def test_computed_primes_are_the_published_ones(bits: int, published: int) -> None:
    assert published.bit_length() == bits
    assert modp.prime(bits) == published


def test_modp_groups_are_made_once() -> None:
    KE[KeId.MODP_2048].generate()
    before = modp._parameters.cache_info()
    for _ in range(3):
        KE[KeId.MODP_2048].generate()
    after = modp._parameters.cache_info()
    assert after.misses == before.misses
    assert after.hits == before.hits + 3


def test_deprecation_of_modp_in_the_library_stays_behind_the_seam() -> None:
    script = (
        "from cygnet.crypto.ke import KE\nmethod = KE[14]\nassert method.generate().shared(method.generate().public)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
