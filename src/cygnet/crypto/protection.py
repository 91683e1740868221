"""How the packets of one direction of one SA are protected: the same for IKE's SK payload and for ESP.

    +---------+------------------------------+-------------+
    |   IV    |   ciphertext (padded)        |     ICV     |
    +---------+------------------------------+-------------+

Padding belongs to the caller, since IKE and ESP pad differently.
"""

from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from cryptography.exceptions import InvalidTag

from cygnet.crypto.ciphers import KeyedCipher
from cygnet.crypto.encr import EncrAlgorithm
from cygnet.crypto.errors import CryptoError, IntegrityError
from cygnet.crypto.integ import ComputeIcv, IntegAlgorithm

Entropy = Callable[[int], bytes]
"""Number of octets -> that many octets that nobody can predict (`os.urandom`)."""

_COUNTER_LIMIT: Final = 1 << 64


class PacketProtection:
    """The keys of one direction of one SA, and what they do to packets. Made by `make_protection`.

    Only the raw key is kept for good. The cipher objects are made when the first packet needs them, and
    `forget()` drops them again, so that an idle SA is small.
    """

    __slots__ = ("_cipher", "_counter", "_encr", "_key", "block_octets", "overhead")

    def __init__(self, encr: EncrAlgorithm, key: bytes, icv_octets: int) -> None:
        self._encr = encr
        self._key = key
        self._counter = 0
        self._cipher: KeyedCipher | None = None
        self.block_octets = encr.block_octets
        """What plaintext has to be a multiple of."""
        self.overhead = encr.iv_octets + icv_octets
        """Octets by which a sealed body is longer than its plaintext."""

    def seal(self, aad: bytes, plaintext: bytes, suffix: bytes = b"") -> bytes:
        """IV | ciphertext | ICV of `plaintext`, which is a multiple of `block_octets`.

        The ICV covers `aad` too. `suffix` is what the ICV of a separate integrity algorithm covers behind the
        packet although it is not sent (the high-order half of an extended sequence number, RFC 4303 section
        2.2.1); an AEAD ignores it, because there it is part of the `aad`. Raises CryptoError when the nonces
        are used up.
        """
        raise NotImplementedError

    def open(self, aad: bytes, body: bytes, suffix: bytes = b"") -> bytes:
        """The plaintext, still padded, of IV | ciphertext | ICV; IntegrityError unless it is genuine."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop the cipher objects; the next packet makes them again. The counter stays."""
        self._cipher = None

    @property
    def keys(self) -> tuple[bytes, bytes]:
        """The encryption key with its salt, and the integrity key: what `make_protection` was given."""
        return self._key, b""

    @property
    def counter(self) -> int:
        """The next explicit IV of an algorithm whose IVs are a counter.

        It can be set, to go on where an SA stood before a restart, but never back: that would repeat nonces,
        which for GCM gives the key away (RFC 4106 section 2). Raises CryptoError on such an attempt.
        """
        return self._counter

    @counter.setter
    def counter(self, value: int) -> None:
        if value < self._counter:
            raise CryptoError("the counter of nonces never goes back")
        self._counter = value

    @property
    def iv_octets(self) -> int:
        """Octets of the IV in front of the ciphertext."""
        return self._encr.iv_octets

    @property
    def icv_octets(self) -> int:
        """Octets of the ICV behind the ciphertext."""
        return self.overhead - self._encr.iv_octets

    @property
    def is_aead(self) -> bool:
        """Whether one algorithm encrypts and authenticates."""
        return self._encr.is_aead

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._encr.id.name}, key redacted>"

    def _next_counter_iv(self) -> bytes:
        counter = self._counter
        if counter >= _COUNTER_LIMIT:
            raise CryptoError("every nonce of this key has been used")
        self._counter = counter + 1
        return counter.to_bytes(8, "big")

    def _make_cipher(self) -> KeyedCipher:
        encr = self._encr
        self._cipher = cipher = encr.factory(self._key[: len(self._key) - encr.salt_octets])
        return cipher


class _AeadProtection(PacketProtection):
    """RFC 5282 for IKE, RFC 4106, 4309 and 7634 for ESP: nonce = salt | IV."""

    __slots__ = ()

    def seal(self, aad: bytes, plaintext: bytes, suffix: bytes = b"") -> bytes:
        iv = self._next_counter_iv()
        cipher = self._cipher or self._make_cipher()
        return iv + cipher.encrypt(self._key[-self._encr.salt_octets :] + iv, plaintext, aad)

    def open(self, aad: bytes, body: bytes, suffix: bytes = b"") -> bytes:
        if len(body) < self.overhead:
            raise IntegrityError("too short for an IV and an ICV")
        encr = self._encr
        iv_octets = encr.iv_octets
        cipher = self._cipher or self._make_cipher()
        try:
            return cipher.decrypt(self._key[-encr.salt_octets :] + body[:iv_octets], body[iv_octets:], aad)
        except InvalidTag as exc:
            raise IntegrityError("the ICV is wrong") from exc


class _ComposedProtection(PacketProtection):
    """Encrypt, then authenticate (RFC 7296 section 3.14, RFC 4303 section 3.3.2.1)."""

    __slots__ = ("_compute_icv", "_entropy", "_integ", "_integ_key")

    def __init__(
        self, encr: EncrAlgorithm, key: bytes, *, integ: IntegAlgorithm, integ_key: bytes, entropy: Entropy
    ) -> None:
        super().__init__(encr, key, integ.icv_octets)
        self._integ = integ
        self._integ_key = integ_key
        self._entropy = entropy
        self._compute_icv: ComputeIcv | None = None

    def seal(self, aad: bytes, plaintext: bytes, suffix: bytes = b"") -> bytes:
        encr = self._encr
        if len(plaintext) % encr.block_octets:
            raise CryptoError(f"plaintext of {len(plaintext)} octets is not padded to {encr.block_octets}")
        cipher = self._cipher or self._make_cipher()
        if encr.salt_octets:
            iv = self._next_counter_iv()
            nonce = self._key[-encr.salt_octets :] + iv
        else:
            # RFC 3602 section 3: a CBC IV must be unpredictable.
            iv = nonce = self._entropy(encr.iv_octets)
        sealed = iv + cipher.encrypt(nonce, plaintext, None)
        compute_icv = self._compute_icv or self._make_integ()
        return sealed + compute_icv(aad + sealed + suffix)

    def open(self, aad: bytes, body: bytes, suffix: bytes = b"") -> bytes:
        encr = self._encr
        icv_octets = self._integ.icv_octets
        iv_octets = encr.iv_octets
        ciphertext_octets = len(body) - iv_octets - icv_octets
        if ciphertext_octets < 0 or ciphertext_octets % encr.block_octets:
            raise IntegrityError("too short, or not a whole number of cipher blocks")
        sealed = body[:-icv_octets]
        compute_icv = self._compute_icv or self._make_integ()
        if not compare_digest(compute_icv(aad + sealed + suffix), body[-icv_octets:]):
            raise IntegrityError("the ICV is wrong")
        cipher = self._cipher or self._make_cipher()
        nonce = self._key[len(self._key) - encr.salt_octets :] + sealed[:iv_octets]
        return cipher.decrypt(nonce, sealed[iv_octets:], None)

    def forget(self) -> None:
        super().forget()
        self._compute_icv = None

    @property
    def keys(self) -> tuple[bytes, bytes]:
        return self._key, self._integ_key

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._encr.id.name} {self._integ.id.name}, keys redacted>"

    def _make_integ(self) -> ComputeIcv:
        self._compute_icv = compute_icv = self._integ.factory(self._integ_key)
        return compute_icv


def make_protection(
    encr: EncrAlgorithm,
    key_bits: int,
    integ: IntegAlgorithm | None,
    *,
    encr_key: bytes,
    integ_key: bytes,
    entropy: Entropy,
) -> PacketProtection:
    """The protection of one direction of an SA.

    `key_bits` is the negotiated Key Length (0 if the transform had none); `encr_key` is the keying material
    with the salt at its end, `integ_key` is empty for an AEAD. Raises CryptoError when the algorithms do not
    go together, a cipher without integrity among them, or when a key has the wrong length.
    """
    expected_octets = encr.key_octets(key_bits)
    if len(encr_key) != expected_octets:
        raise CryptoError(f"{encr.id.name} takes {expected_octets} octets of keying material, not {len(encr_key)}")
    if encr.is_aead:
        if integ is not None or integ_key:
            raise CryptoError(f"{encr.id.name} takes no integrity algorithm beside it")
        return _AeadProtection(encr, encr_key, encr.icv_octets)
    if integ is None:
        raise CryptoError(f"{encr.id.name} needs an integrity algorithm beside it")
    if len(integ_key) != integ.key_octets:
        raise CryptoError(f"{integ.id.name} takes a key of {integ.key_octets} octets, not {len(integ_key)}")
    return _ComposedProtection(encr, encr_key, integ=integ, integ_key=integ_key, entropy=entropy)
