"""Ciphers behind one face, `encrypt` and `decrypt` with a nonce: that of the AEAD classes of `cryptography`.

AEADs take the nonce salt | IV and return the ciphertext with the ICV behind it. A cipher without integrity
ignores the associated data; `protection` puts an integrity algorithm around it.
"""

from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, CipherContext, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES

# RFC 3686 section 4: the block counter of a packet begins with one.
_FIRST_COUNTER_BLOCK: Final = b"\x00\x00\x00\x01"


class KeyedCipher(Protocol):
    """A cipher with its key."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Ciphertext of `data`, followed by the ICV if this is an AEAD."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Plaintext of `data`; an AEAD raises `cryptography.exceptions.InvalidTag` for a forgery."""
        ...


class TruncatedGcm:
    """AES-GCM with an ICV of less than 16 octets (RFC 4106 section 6)."""

    __slots__ = ("_algorithm", "_full", "_icv_octets")

    def __init__(self, key: bytes, *, icv_octets: int) -> None:
        self._full = AESGCM(key)
        self._algorithm = AES(key)
        self._icv_octets = icv_octets

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Ciphertext and ICV."""
        return self._full.encrypt(nonce, data, associated_data)[: len(data) + self._icv_octets]

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Plaintext; InvalidTag if the ICV is not right."""
        ciphertext_octets = len(data) - self._icv_octets
        if ciphertext_octets < 0:
            raise InvalidTag
        mode = modes.GCM(nonce, data[ciphertext_octets:], min_tag_length=self._icv_octets)
        context = Cipher(self._algorithm, mode).decryptor()
        context.authenticate_additional_data(associated_data or b"")
        return context.update(data[:ciphertext_octets]) + context.finalize()


class CtrCipher:
    """AES-CTR (RFC 3686): the counter block is salt (4) | IV (8) | block number (4), from one."""

    __slots__ = ("_context", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = AES(key)
        self._context: CipherContext | None = None

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Ciphertext, as long as `data`."""
        counter_block = nonce + _FIRST_COUNTER_BLOCK
        context = self._context
        if context is None:
            context = self._context = Cipher(self._key, modes.CTR(counter_block)).encryptor()
        else:
            context.reset_nonce(counter_block)
        return context.update(data)

    decrypt = encrypt


class CbcCipher:
    """A block cipher in CBC mode, for many packets.

    To set up a cipher context costs several times as much as to run it over a packet, and CBC contexts take
    no new IV. So one context runs on for ever, and each packet is spliced into its chain. Decrypting, the IV
    goes in as the ciphertext block that the packet follows, and what comes out for it is thrown away.
    Encrypting, the block cipher is fed its input xor the last ciphertext block; adding that block and the IV
    to the first plaintext block leaves plaintext xor IV.
    """

    __slots__ = ("_algorithm", "_block_octets", "_decryptor", "_encryptor", "_last_block")

    def __init__(self, algorithm: BlockCipherAlgorithm) -> None:
        self._algorithm = algorithm
        self._block_octets = algorithm.block_size // 8
        self._last_block = 0
        self._encryptor: CipherContext | None = None
        self._decryptor: CipherContext | None = None

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Ciphertext of whole blocks; the nonce is the IV."""
        if self._encryptor is None:
            self._encryptor = self._start().encryptor()
        if not data:
            return b""
        octets = self._block_octets
        first = int.from_bytes(data[:octets], "big") ^ int.from_bytes(nonce, "big") ^ self._last_block
        ciphertext = self._encryptor.update(first.to_bytes(octets, "big") + data[octets:])
        self._last_block = int.from_bytes(ciphertext[-octets:], "big")
        return ciphertext

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Plaintext of whole blocks; the nonce is the IV."""
        if self._decryptor is None:
            self._decryptor = self._start().decryptor()
        return self._decryptor.update(nonce + data)[self._block_octets :]

    def _start(self) -> Cipher[modes.CBC]:
        return Cipher(self._algorithm, modes.CBC(bytes(self._block_octets)))


def aes_cbc(key: bytes) -> CbcCipher:
    """AES in CBC mode (RFC 3602)."""
    return CbcCipher(AES(key))
