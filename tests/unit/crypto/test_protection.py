"""Packet protection: what it covers, what it refuses, and how it treats nonces and memory."""

import hmac
import os
import sys
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from cygnet.crypto.ciphers import aes_cbc
from cygnet.crypto.encr import ENCR
from cygnet.crypto.errors import CryptoError, IntegrityError
from cygnet.crypto.integ import INTEG
from cygnet.crypto.protection import PacketProtection, make_protection
from cygnet.iana.transforms import EncrId, IntegId

GCM_KEY = bytes(range(20))
CBC_KEY = bytes(range(16))
INTEG_KEY = bytes(range(100, 132))
AAD = b"header"
BLOCKS = b"sixteen octets. " * 3


def _gcm(number: EncrId = EncrId.AES_GCM_16) -> PacketProtection:
    return make_protection(ENCR[number], 128, None, encr_key=GCM_KEY, integ_key=b"", entropy=os.urandom)


def _composed(number: EncrId = EncrId.AES_CBC, entropy: Callable[[int], bytes] = os.urandom) -> PacketProtection:
    encr = ENCR[number]
    return make_protection(
        encr,
        128,
        INTEG[IntegId.HMAC_SHA2_256_128],
        encr_key=GCM_KEY[: encr.key_octets(128)],
        integ_key=INTEG_KEY,
        entropy=entropy,
    )


def test_icv_covers_aad_iv_ciphertext_and_suffix() -> None:
    body = _composed().seal(AAD, BLOCKS, b"\x00\x00\x00\x07")
    covered = AAD + body[:-16] + b"\x00\x00\x00\x07"
    assert body[-16:] == hmac.digest(INTEG_KEY, covered, "sha256")[:16]


def test_wrong_suffix_is_a_wrong_icv() -> None:
    body = _composed().seal(AAD, BLOCKS, b"\x00\x00\x00\x07")
    assert _composed().open(AAD, body, b"\x00\x00\x00\x07") == BLOCKS
    for suffix in (b"", b"\x00\x00\x00\x08"):
        with pytest.raises(IntegrityError):
            _composed().open(AAD, body, suffix)


def test_aead_ignores_the_suffix() -> None:
    assert _gcm().seal(AAD, BLOCKS, b"suffix") == _gcm().seal(AAD, BLOCKS)
    assert _gcm().open(AAD, _gcm().seal(AAD, BLOCKS), b"suffix") == BLOCKS


@pytest.mark.parametrize("make", [_gcm, _composed])
def test_body_shorter_than_iv_and_icv_is_refused(make: Callable[[], PacketProtection]) -> None:
    protection = make()
    for octets in range(protection.overhead):
        with pytest.raises(IntegrityError):
            protection.open(AAD, bytes(octets))


def test_genuine_icv_does_not_excuse_a_broken_block() -> None:
    sealed = bytes(16) + bytes(17)
    body = sealed + hmac.digest(INTEG_KEY, AAD + sealed, "sha256")[:16]
    with pytest.raises(IntegrityError):
        _composed().open(AAD, body)


def test_unpadded_plaintext_is_refused() -> None:
    with pytest.raises(CryptoError):
        _composed().seal(AAD, b"17 octets of text")


def test_cbc_iv_is_what_entropy_gives() -> None:
    asked: list[int] = []

    def entropy(octets: int) -> bytes:
        asked.append(octets)
        return bytes([len(asked)] * octets)

    protection = _composed(entropy=entropy)
    assert [protection.seal(AAD, BLOCKS)[:16] for _ in range(3)] == [bytes([n] * 16) for n in (1, 2, 3)]
    assert asked == [16, 16, 16]
    assert protection.counter == 0


@pytest.mark.parametrize("make", [_gcm, lambda: _composed(EncrId.AES_CTR)])
def test_counter_is_the_iv_and_grows(make: Callable[[], PacketProtection]) -> None:
    protection = make()
    assert [protection.seal(AAD, BLOCKS)[:8] for _ in range(3)] == [n.to_bytes(8, "big") for n in range(3)]
    assert protection.counter == 3


@pytest.mark.parametrize("make", [_gcm, lambda: _composed(EncrId.AES_CTR)])
def test_nonces_run_out_instead_of_repeating(make: Callable[[], PacketProtection]) -> None:
    protection = make()
    protection.counter = 2**64 - 1
    assert protection.seal(AAD, BLOCKS)[:8] == b"\xff" * 8
    for _ in range(2):
        with pytest.raises(CryptoError):
            protection.seal(AAD, BLOCKS)
    with pytest.raises(CryptoError):
        protection.counter = 0


def test_counter_never_goes_back() -> None:
    protection = _gcm()
    protection.counter = 1000
    protection.counter = 1000
    with pytest.raises(CryptoError):
        protection.counter = 999
    assert protection.counter == 1000


@pytest.mark.parametrize("make", [_gcm, _composed, lambda: _composed(EncrId.AES_CTR)])
def test_forgetting_keeps_the_key_and_the_counter(make: Callable[[], PacketProtection]) -> None:
    sender, receiver = make(), make()
    first = sender.seal(AAD, BLOCKS)
    counter = sender.counter
    sender.forget()
    receiver.forget()
    assert sender.counter == counter
    second = sender.seal(AAD, BLOCKS)
    assert first[: sender.iv_octets] != second[: sender.iv_octets]
    assert receiver.open(AAD, first) == receiver.open(AAD, second) == BLOCKS
    receiver.forget()
    assert receiver.open(AAD, first) == BLOCKS


def test_forgetting_drops_the_cipher_objects() -> None:
    for protection in (_gcm(), _composed()):
        protection.open(AAD, protection.seal(AAD, BLOCKS))
        busy = [getattr(protection, slot, None) for slot in ("_cipher", "_compute_icv")]
        protection.forget()
        idle = [getattr(protection, slot, None) for slot in ("_cipher", "_compute_icv")]
        assert any(busy)
        assert idle == [None, None]


def test_idle_protection_is_small() -> None:
    assert not hasattr(_gcm(), "__dict__")
    assert sys.getsizeof(_gcm()) <= 80
    assert sys.getsizeof(_composed()) <= 112


@pytest.mark.parametrize("make", [_gcm, _composed])
def test_repr_shows_no_key(make: Callable[[], PacketProtection]) -> None:
    shown = repr(make())
    assert "AES" in shown
    for key in (GCM_KEY, CBC_KEY, INTEG_KEY):
        assert key.hex()[:8] not in shown
        assert repr(key)[2:10] not in shown


@pytest.mark.parametrize(
    ("number", "iv_octets", "icv_octets", "block_octets", "is_aead"),
    [
        (EncrId.AES_GCM_8, 8, 8, 1, True),
        (EncrId.AES_GCM_16, 8, 16, 1, True),
        (EncrId.AES_CTR, 8, 16, 1, False),
        (EncrId.AES_CBC, 16, 16, 16, False),
    ],
)
def test_figures(number: EncrId, iv_octets: int, icv_octets: int, block_octets: int, is_aead: bool) -> None:
    protection = _gcm(number) if is_aead else _composed(number)
    assert protection.iv_octets == iv_octets
    assert protection.icv_octets == icv_octets
    assert protection.block_octets == block_octets
    assert protection.is_aead is is_aead
    assert protection.overhead == iv_octets + icv_octets
    assert len(protection.seal(AAD, BLOCKS)) == len(BLOCKS) + protection.overhead


def test_pairs_that_do_not_go_together_are_refused() -> None:
    gcm, cbc, sha256 = ENCR[EncrId.AES_GCM_16], ENCR[EncrId.AES_CBC], INTEG[IntegId.HMAC_SHA2_256_128]
    with pytest.raises(CryptoError, match="integrity"):  # RFC 7296 section 3.3: no encryption without integrity
        make_protection(cbc, 128, None, encr_key=CBC_KEY, integ_key=b"", entropy=os.urandom)
    with pytest.raises(CryptoError, match="integrity"):
        make_protection(gcm, 128, sha256, encr_key=GCM_KEY, integ_key=INTEG_KEY, entropy=os.urandom)
    with pytest.raises(CryptoError):
        make_protection(gcm, 256, None, encr_key=GCM_KEY, integ_key=b"", entropy=os.urandom)
    with pytest.raises(CryptoError):
        make_protection(cbc, 128, sha256, encr_key=CBC_KEY, integ_key=INTEG_KEY[1:], entropy=os.urandom)
    with pytest.raises(CryptoError):
        make_protection(gcm, 128, None, encr_key=GCM_KEY[:16], integ_key=b"", entropy=os.urandom)


def test_running_cbc_context_equals_a_fresh_one_for_each_packet() -> None:
    running = aes_cbc(CBC_KEY)
    for blocks in (3, 0, 1, 7, 1):
        iv, plaintext = os.urandom(16), os.urandom(16 * blocks)
        fresh = Cipher(AES(CBC_KEY), modes.CBC(iv)).encryptor()
        ciphertext = fresh.update(plaintext) + fresh.finalize()
        assert running.encrypt(iv, plaintext, None) == ciphertext
        assert running.decrypt(iv, ciphertext, None) == plaintext


def test_forged_packets_do_not_disturb_the_running_context() -> None:
    sender, receiver = _composed(), _composed()
    for _ in range(3):
        body = sender.seal(AAD, BLOCKS)
        with pytest.raises(IntegrityError):
            receiver.open(AAD, body[:-1] + bytes([body[-1] ^ 1]))
        assert receiver.open(AAD, body) == BLOCKS


def test_short_gcm_tags_are_the_beginning_of_the_full_one() -> None:
    full = _gcm().seal(AAD, BLOCKS)
    assert _gcm(EncrId.AES_GCM_12).seal(AAD, BLOCKS) == full[:-4]
    assert _gcm(EncrId.AES_GCM_8).seal(AAD, BLOCKS) == full[:-8]
