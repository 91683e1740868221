"""What holds for every algorithm of the tables, whatever the octets."""

import hmac
import os
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from hypothesis import given, settings
from hypothesis import strategies as st

from cygnet.crypto.encr import EncrAlgorithm
from cygnet.crypto.errors import IntegrityError, InvalidKeyExchange
from cygnet.crypto.integ import IntegAlgorithm
from cygnet.crypto.ke import KeyExchangeMethod
from cygnet.crypto.legacy import with_legacy
from cygnet.crypto.mac import MD5, SHA1, SHA2_256, SHA2_384, SHA2_512, AesXcbc, HashFunction, Hmac, hmac_once
from cygnet.crypto.prf import PrfAlgorithm
from cygnet.crypto.protection import PacketProtection, make_protection

TABLES = with_legacy()
HASHES = {"md5": MD5, "sha1": SHA1, "sha256": SHA2_256, "sha384": SHA2_384, "sha512": SHA2_512}


class Suite(NamedTuple):
    """A cipher of a key length, with the integrity algorithm beside it."""

    encr: EncrAlgorithm
    key_bits: int
    integ: IntegAlgorithm | None

    def __str__(self) -> str:
        words = [f"{self.encr.id.name}-{self.key_bits}", *([self.integ.id.name] if self.integ else [])]
        return "+".join(words)

    def protect(self) -> PacketProtection:
        """One end of an SA; both ends have the same keys."""
        return make_protection(
            self.encr,
            self.key_bits,
            self.integ,
            encr_key=bytes(range(self.encr.key_octets(self.key_bits))),
            integ_key=bytes(range(100, 100 + self.integ.key_octets)) if self.integ else b"",
            entropy=os.urandom,
        )


def _suites() -> list[Suite]:
    suites = []
    for encr in TABLES.encr.values():
        for key_bits in encr.key_bits:
            integs = (None,) if encr.is_aead else tuple(TABLES.integ.values())
            suites += [Suite(encr, key_bits, integ) for integ in integs]
    return suites


every_suite = pytest.mark.parametrize("suite", _suites(), ids=str)
octets = st.binary(max_size=80)


@every_suite
@settings(max_examples=20)
@given(packets=st.lists(st.tuples(octets, st.integers(0, 9), octets), min_size=1, max_size=4))
def test_what_is_sealed_opens_in_any_order_and_no_iv_repeats(
    suite: Suite, packets: list[tuple[bytes, int, bytes]]
) -> None:
    sender, receiver = suite.protect(), suite.protect()
    plaintexts = [os.urandom(blocks * suite.encr.block_octets) for _, blocks, _ in packets]
    bodies = [
        sender.seal(aad, plaintext, suffix) for (aad, _, suffix), plaintext in zip(packets, plaintexts, strict=True)
    ]
    assert len({body[: sender.iv_octets] for body in bodies}) == len(bodies)
    for (aad, _, suffix), plaintext, body in reversed(list(zip(packets, plaintexts, bodies, strict=True))):
        assert len(body) == len(plaintext) + sender.overhead
        assert receiver.open(aad, body, suffix) == plaintext


@every_suite
@settings(max_examples=20)
@given(data=st.data(), aad=st.binary(min_size=1, max_size=40), blocks=st.integers(0, 4))
def test_any_flipped_bit_is_noticed(suite: Suite, data: st.DataObject, aad: bytes, blocks: int) -> None:
    suffix = b"\x00\x00\x00\x01"
    body = suite.protect().seal(aad, os.urandom(blocks * suite.encr.block_octets), suffix)
    parts = [bytearray(aad), bytearray(body), bytearray(suffix)]
    index = data.draw(st.integers(0, 2 if suite.integ else 1), label="part")  # an AEAD has no suffix
    bit = data.draw(st.integers(0, 8 * len(parts[index]) - 1), label="bit")
    parts[index][bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        suite.protect().open(bytes(parts[0]), bytes(parts[1]), bytes(parts[2]))


@every_suite
@settings(max_examples=20)
@given(aad=octets, body=st.binary(max_size=200))
def test_any_octets_are_refused_and_nothing_else_happens(suite: Suite, aad: bytes, body: bytes) -> None:
    with pytest.raises(IntegrityError):
        suite.protect().open(aad, body)


@every_suite
@settings(max_examples=10)
@given(cut=st.integers(1, 40))
def test_shortened_packets_are_refused(suite: Suite, cut: int) -> None:
    body = suite.protect().seal(b"aad", os.urandom(2 * suite.encr.block_octets))
    for shortened in (body[:-cut], body[cut:]):
        with pytest.raises(IntegrityError):
            suite.protect().open(b"aad", shortened)


@pytest.mark.parametrize(("hash_name", "function"), HASHES.items(), ids=HASHES.keys())
@given(key=st.binary(max_size=300), messages=st.lists(st.binary(max_size=300), min_size=1, max_size=3))
def test_hmac_equals_that_of_the_standard_library(
    hash_name: str, function: HashFunction, key: bytes, messages: list[bytes]
) -> None:
    keyed = Hmac(function, key)
    expected = [hmac.digest(key, message, hash_name) for message in messages]
    assert [keyed.digest(message) for message in messages] == expected
    assert [hmac_once(function, key, message) for message in messages] == expected


def _xcbc_by_the_book(key: bytes, message: bytes) -> bytes:
    """RFC 3566 section 4, step by step."""

    def encrypt(key: bytes, block: bytes) -> bytes:
        return Cipher(AES(key), modes.ECB()).encryptor().update(block)

    def xor(left: bytes, right: bytes) -> bytes:
        return bytes(a ^ b for a, b in zip(left, right, strict=True))

    k1, k2, k3 = (encrypt(key, bytes([n] * 16)) for n in (1, 2, 3))
    blocks = [message[start : start + 16] for start in range(0, len(message), 16)] or [b""]
    chained = bytes(16)
    for block in blocks[:-1]:
        chained = encrypt(k1, xor(chained, block))
    last = blocks[-1]
    if len(last) == 16:
        return encrypt(k1, xor(xor(last, chained), k2))
    return encrypt(k1, xor(xor((last + b"\x80").ljust(16, b"\x00"), chained), k3))


@given(key=st.binary(min_size=16, max_size=16), message=st.binary(max_size=100))
def test_xcbc_equals_the_rfc_read_step_by_step(key: bytes, message: bytes) -> None:
    assert AesXcbc(key).digest(message) == _xcbc_by_the_book(key, message)


@pytest.mark.parametrize("row", TABLES.prf.values(), ids=lambda row: row.id.name)
@given(key=st.binary(max_size=200), seed=st.binary(max_size=200), length=st.integers(0, 300))
def test_prf_plus_is_the_recursion_of_rfc_7296(row: PrfAlgorithm, key: bytes, seed: bytes, length: int) -> None:
    """RFC 7296 section 2.13: T1 = prf(K, S | 0x01), T2 = prf(K, T1 | S | 0x02), ..."""
    stream = block = b""
    for counter in range(1, 256):
        if len(stream) >= length:
            break
        block = row.key(key).digest(block + seed + bytes([counter]))
        stream += block
    assert row.plus(key, seed, length) == stream[:length]


@pytest.mark.parametrize("method", TABLES.ke.values(), ids=lambda method: method.id.name)
@settings(max_examples=5)
@given(data=st.data())
def test_any_public_value_gives_a_secret_or_invalid_key_exchange(
    method: KeyExchangeMethod, data: st.DataObject
) -> None:
    length = data.draw(
        st.sampled_from([0, 1, method.public_octets - 1, method.public_octets, method.public_octets + 1])
    )
    peer = data.draw(st.binary(min_size=length, max_size=length))
    try:
        secret = method.generate().shared(peer)
    except InvalidKeyExchange:
        return
    assert length == method.public_octets
    assert any(secret)
