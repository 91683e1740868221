"""Message authentication codes, keyed once: what the PRFs and the integrity algorithms are made of.

Each class has one method, `digest(data) -> bytes`, that returns the full, untruncated code and can be called
any number of times, since the keyed state is kept. `hmac_once` is for keys that are used but once.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from cygnet.crypto.errors import CryptoError

if TYPE_CHECKING:
    from hashlib import _Hash

AES_BLOCK_OCTETS: Final = 16

_INNER_PAD: Final = bytes(octet ^ 0x36 for octet in range(256))
_OUTER_PAD: Final = bytes(octet ^ 0x5C for octet in range(256))
_ZERO_BLOCK: Final = bytes(AES_BLOCK_OCTETS)


class Mac(Protocol):
    """A keyed message authentication code."""

    def digest(self, data: bytes) -> bytes:
        """The full code of `data`."""
        ...


class HashFunction(msgspec.Struct, frozen=True):
    """One hash function, as the two libraries that we take it from know it."""

    octets: int
    """Length of its value."""
    block_octets: int
    """Length of its input blocks, to which HMAC pads its key."""
    new: "Callable[[bytes], _Hash]"
    openssl: hashes.HashAlgorithm
    """The same function for `cryptography`."""

    @property
    def kernel_name(self) -> str:
        """What Linux calls it."""
        return self.openssl.name


# That MD5 and SHA-1 have collisions does no harm to their HMAC (RFC 6151 section 2.3); systems in FIPS mode
# want to be told.
MD5: Final = HashFunction(16, 64, partial(hashlib.md5, usedforsecurity=False), hashes.MD5())  # noqa: S303
SHA1: Final = HashFunction(20, 64, partial(hashlib.sha1, usedforsecurity=False), hashes.SHA1())  # noqa: S303
SHA2_256: Final = HashFunction(32, 64, hashlib.sha256, hashes.SHA256())
SHA2_384: Final = HashFunction(48, 128, hashlib.sha384, hashes.SHA384())
SHA2_512: Final = HashFunction(64, 128, hashlib.sha512, hashes.SHA512())


def hmac_once(function: HashFunction, key: bytes, data: bytes) -> bytes:
    """HMAC of `data`; the key may have any length.

    `hashlib` keeps the hash functions that it has fetched from OpenSSL, whereas `hmac.digest` has OpenSSL fetch
    the MAC and its hash again for every call, which costs more than to hash.
    """
    new = function.new
    octets = function.block_octets
    block = key.ljust(octets, b"\x00") if len(key) <= octets else _key_block(function, key)
    inner = new(block.translate(_INNER_PAD) + data).digest()
    return new(block.translate(_OUTER_PAD) + inner).digest()


class Hmac:
    """HMAC (RFC 2104) with both key pads hashed in advance; the key may have any length."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, function: HashFunction, key: bytes) -> None:
        new = function.new
        block = _key_block(function, key)
        self._inner = new(block.translate(_INNER_PAD))
        self._outer = new(block.translate(_OUTER_PAD))

    def digest(self, data: bytes) -> bytes:
        """HMAC of `data`, as long as the hash."""
        inner = self._inner.copy()
        inner.update(data)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def _key_block(function: HashFunction, key: bytes) -> bytes:
    """The key as one input block of the hash function, hashed before if it is longer (RFC 2104 section 2)."""
    octets = function.block_octets
    if len(key) > octets:
        key = function.new(key).digest()
    return key.ljust(octets, b"\x00")


class AesCmac:
    """AES-CMAC (RFC 4493); the key is 16 octets."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        self._keyed = CMAC(_aes128(key))

    def digest(self, data: bytes) -> bytes:
        """CMAC of `data`, 16 octets."""
        cmac = self._keyed.copy()
        cmac.update(data)
        return cmac.finalize()


class AesXcbc:
    """AES-XCBC-MAC (RFC 3566); the key is 16 octets."""

    __slots__ = ("_chain", "_padded", "_whole")

    def __init__(self, key: bytes) -> None:
        # RFC 3566 section 4: the message is chained under K1; K2 or K3 enters the last block, as it is whole
        # or padded.
        ecb = Cipher(_aes128(key), modes.ECB()).encryptor()  # noqa: S305 - one block each, as the RFC defines
        keys = ecb.update(b"\x01" * AES_BLOCK_OCTETS + b"\x02" * AES_BLOCK_OCTETS + b"\x03" * AES_BLOCK_OCTETS)
        self._chain: Cipher[modes.CBC] = Cipher(AES(keys[:16]), modes.CBC(_ZERO_BLOCK))
        self._whole = int.from_bytes(keys[16:32], "big")
        self._padded = int.from_bytes(keys[32:], "big")

    def digest(self, data: bytes) -> bytes:
        """XCBC-MAC of `data`, 16 octets."""
        last_octets = len(data) % AES_BLOCK_OCTETS
        if data and not last_octets:
            mask = self._whole
        else:
            data += b"\x80" + bytes(AES_BLOCK_OCTETS - 1 - last_octets)
            mask = self._padded
        last = int.from_bytes(data[-AES_BLOCK_OCTETS:], "big") ^ mask
        cbc: CipherContext = self._chain.encryptor()
        return cbc.update(data[:-AES_BLOCK_OCTETS] + last.to_bytes(AES_BLOCK_OCTETS, "big"))[-AES_BLOCK_OCTETS:]


def _aes128(key: bytes) -> AES:
    if len(key) != AES_BLOCK_OCTETS:
        raise CryptoError(f"the key of an AES-128 MAC has {len(key)} octets instead of 16")
    return AES(key)
