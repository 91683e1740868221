"""The pseudorandom functions of transform type 2, and the function prf+ that stretches them."""

import hmac
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol

import msgspec
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from cygnet.crypto.errors import CryptoError
from cygnet.crypto.mac import (
    AES_BLOCK_OCTETS,
    SHA1,
    SHA2_256,
    SHA2_384,
    SHA2_512,
    AesCmac,
    AesXcbc,
    HashFunction,
    Hmac,
    Mac,
)
from cygnet.iana.transforms import PrfId

_MAX_BLOCKS: Final = 255  # RFC 7296 section 2.13: the block counter is one octet
_COUNTERS: Final = tuple(bytes((counter,)) for counter in range(_MAX_BLOCKS + 1))
_FIXED_NONCE_OCTETS: Final = 8


class KeyedPrf(Protocol):
    """A PRF with its key."""

    def digest(self, data: bytes) -> bytes:
        """prf(key, data)."""
        ...

    def plus(self, seed: bytes, octets: int) -> bytes:
        """The first `octets` octets of prf+(key, seed), RFC 7296 section 2.13.

        Raises CryptoError when that would take more than 255 blocks.
        """
        ...


class PrfAlgorithm(msgspec.Struct, frozen=True, gc=False):
    """One pseudorandom function."""

    id: PrfId
    keywords: tuple[str, ...]
    """strongSwan's names; the first is the one we print."""
    output_octets: int
    key_octets: int
    """The preferred key length, which SK_d, SK_pi and SK_pr have (RFC 7296 section 2.14)."""
    key: Callable[[bytes], KeyedPrf]
    """Key, of any length -> the PRF under it."""
    is_fixed_key: bool = False
    """Whether its key is of fixed length by construction, so that the rule for nonces as key applies."""
    is_legacy: bool = False

    def key_of_nonces(self, nonce_i: bytes, nonce_r: bytes) -> KeyedPrf:
        """The PRF under Ni | Nr, as SKEYSEED wants it.

        RFC 7296 section 2.14: a PRF whose key has a fixed length gets only the first 64 bits of each nonce.
        """
        if self.is_fixed_key:
            return self.key(nonce_i[:_FIXED_NONCE_OCTETS] + nonce_r[:_FIXED_NONCE_OCTETS])
        return self.key(nonce_i + nonce_r)


class _HmacPrf:
    """prf+ over HMAC is HKDF-Expand (RFC 5869 section 2.3), which the library runs in one call."""

    __slots__ = ("_function", "_is_used", "_key", "_mac")

    def __init__(self, function: HashFunction, key: bytes) -> None:
        self._function = function
        self._key = key
        self._is_used = False
        self._mac: Hmac | None = None

    def digest(self, data: bytes) -> bytes:
        mac = self._mac
        if mac is None:
            # Most keys of a handshake are used once: hashing the pads in advance pays from the second time on.
            if not self._is_used:
                self._is_used = True
                return hmac.digest(self._key, data, self._function.library.name)
            mac = self._mac = Hmac(self._function, self._key)
        return mac.digest(data)

    def plus(self, seed: bytes, octets: int) -> bytes:
        function = self._function
        _require_blocks(octets, function.octets)
        return HKDFExpand(function.library, octets, seed).derive(self._key)


class _MacPrf:
    """prf+ as RFC 7296 section 2.13 writes it down, over any MAC."""

    __slots__ = ("_output_octets", "digest")

    def __init__(self, mac: Mac, output_octets: int) -> None:
        self.digest = mac.digest
        self._output_octets = output_octets

    def plus(self, seed: bytes, octets: int) -> bytes:
        blocks = _require_blocks(octets, self._output_octets)
        block = b""
        stream = []
        for counter in _COUNTERS[1 : blocks + 1]:
            block = self.digest(block + seed + counter)
            stream.append(block)
        return b"".join(stream)[:octets]


def _require_blocks(octets: int, output_octets: int) -> int:
    """How many blocks make up `octets`; CryptoError if the block counter has no room for them."""
    blocks = -(-octets // output_octets)
    if blocks > _MAX_BLOCKS:
        raise CryptoError(f"prf+ cannot give {octets} octets, only {_MAX_BLOCKS} blocks of {output_octets}")
    return blocks


def _aes_xcbc_prf(key: bytes) -> KeyedPrf:
    # RFC 4434 section 2: a short key is padded with zeros, a long one is hashed under a key of zeros.
    if len(key) > AES_BLOCK_OCTETS:
        key = AesXcbc(bytes(AES_BLOCK_OCTETS)).digest(key)
    return _MacPrf(AesXcbc(key.ljust(AES_BLOCK_OCTETS, b"\x00")), AES_BLOCK_OCTETS)


def _aes_cmac_prf(key: bytes) -> KeyedPrf:
    # RFC 4615 section 3: a key of any other length than 16 octets is hashed under a key of zeros.
    if len(key) != AES_BLOCK_OCTETS:
        key = AesCmac(bytes(AES_BLOCK_OCTETS)).digest(key)
    return _MacPrf(AesCmac(key), AES_BLOCK_OCTETS)


def hmac_prf(
    number: PrfId, keywords: tuple[str, ...], function: HashFunction, *, is_legacy: bool = False
) -> PrfAlgorithm:
    """The row of an HMAC, which prefers keys as long as its hash."""
    return PrfAlgorithm(
        id=number,
        keywords=keywords,
        output_octets=function.octets,
        key_octets=function.octets,
        key=partial(_HmacPrf, function),
        is_legacy=is_legacy,
    )


_ROWS = (
    hmac_prf(PrfId.HMAC_SHA1, ("prfsha1",), SHA1),  # RFC 2104
    hmac_prf(PrfId.HMAC_SHA2_256, ("prfsha256",), SHA2_256),  # RFC 4868
    hmac_prf(PrfId.HMAC_SHA2_384, ("prfsha384",), SHA2_384),
    hmac_prf(PrfId.HMAC_SHA2_512, ("prfsha512",), SHA2_512),
    PrfAlgorithm(  # RFC 4434
        id=PrfId.AES128_XCBC,
        keywords=("prfaesxcbc",),
        output_octets=AES_BLOCK_OCTETS,
        key_octets=AES_BLOCK_OCTETS,
        key=_aes_xcbc_prf,
        is_fixed_key=True,
    ),
    PrfAlgorithm(  # RFC 4615
        id=PrfId.AES128_CMAC,
        keywords=("prfaescmac",),
        output_octets=AES_BLOCK_OCTETS,
        key_octets=AES_BLOCK_OCTETS,
        key=_aes_cmac_prf,
        is_fixed_key=True,
    ),
)

PRF: Mapping[PrfId, PrfAlgorithm] = MappingProxyType({row.id: row for row in _ROWS})
"""The PRFs that are on without asking; `legacy` has others."""
