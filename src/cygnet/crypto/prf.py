"""The pseudorandom functions of transform type 2, and the function prf+ that stretches them."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

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
    hmac_once,
)
from cygnet.iana.transforms import PrfId

_MAX_BLOCKS: Final = 255  # RFC 7296 section 2.13: the block counter is one octet
_COUNTERS: Final = tuple(bytes((counter,)) for counter in range(_MAX_BLOCKS + 1))
_FIXED_NONCE_OCTETS: Final = 8


class PrfAlgorithm(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One pseudorandom function."""

    id: PrfId
    keywords: tuple[str, ...]
    """strongSwan's names; the first is the one we print."""
    output_octets: int
    key_octets: int
    """The preferred key length, which SK_d, SK_pi and SK_pr have (RFC 7296 section 2.14)."""
    once: Callable[[bytes, bytes], bytes]
    """Key, of any length, and data -> prf(key, data)."""
    key: Callable[[bytes], Mac]
    """Key, of any length -> the PRF under it, for a key that is used often."""
    plus: Callable[[bytes, bytes, int], bytes]
    """Key, seed and a number of octets -> as many of prf+(key, seed), RFC 7296 section 2.13.

    Raises CryptoError when that would take more than 255 blocks.
    """
    is_fixed_key: bool = False
    """Whether its key is of fixed length by construction, so that the rule for nonces as key applies."""
    is_legacy: bool = False

    def skeyseed(self, nonce_i: bytes, nonce_r: bytes, shared: bytes) -> bytes:
        """prf(Ni | Nr, g^ir).

        RFC 7296 section 2.14: a PRF whose key has a fixed length gets only the first 64 bits of each nonce.
        """
        if self.is_fixed_key:
            nonce_i, nonce_r = nonce_i[:_FIXED_NONCE_OCTETS], nonce_r[:_FIXED_NONCE_OCTETS]
        return self.once(nonce_i + nonce_r, shared)


def _hkdf_plus(function: HashFunction, key: bytes, seed: bytes, octets: int) -> bytes:
    """prf+ over HMAC is HKDF-Expand (RFC 5869 section 2.3), which the library runs in one call."""
    _require_blocks(octets, function.octets)
    return HKDFExpand(function.openssl, octets, seed).derive(key)


def _mac_plus(keyed: Callable[[bytes], Mac], output_octets: int, key: bytes, seed: bytes, octets: int) -> bytes:
    """prf+ as RFC 7296 section 2.13 writes it down, over any MAC."""
    blocks = _require_blocks(octets, output_octets)
    digest = keyed(key).digest
    block = b""
    stream = []
    for counter in _COUNTERS[1 : blocks + 1]:
        block = digest(block + seed + counter)
        stream.append(block)
    return b"".join(stream)[:octets]


def _require_blocks(octets: int, output_octets: int) -> int:
    """How many blocks make up `octets`; CryptoError if the block counter has no room for them."""
    blocks = -(-octets // output_octets)
    if blocks > _MAX_BLOCKS:
        raise CryptoError(f"prf+ cannot give {octets} octets, only {_MAX_BLOCKS} blocks of {output_octets}")
    return blocks


def _aes_xcbc_prf(key: bytes) -> AesXcbc:
    # RFC 4434 section 2: a short key is padded with zeros, a long one is hashed under a key of zeros.
    if len(key) > AES_BLOCK_OCTETS:
        key = AesXcbc(bytes(AES_BLOCK_OCTETS)).digest(key)
    return AesXcbc(key.ljust(AES_BLOCK_OCTETS, b"\x00"))


def _aes_cmac_prf(key: bytes) -> AesCmac:
    # RFC 4615 section 3: a key of any other length than 16 octets is hashed under a key of zeros.
    if len(key) != AES_BLOCK_OCTETS:
        key = AesCmac(bytes(AES_BLOCK_OCTETS)).digest(key)
    return AesCmac(key)


def hmac_prf(
    number: PrfId, keywords: tuple[str, ...], function: HashFunction, *, is_legacy: bool = False
) -> PrfAlgorithm:
    """The row of an HMAC, which prefers keys as long as its hash."""
    return PrfAlgorithm(
        id=number,
        keywords=keywords,
        output_octets=function.octets,
        key_octets=function.octets,
        once=partial(hmac_once, function),
        key=partial(Hmac, function),
        plus=partial(_hkdf_plus, function),
        is_legacy=is_legacy,
    )


def _aes_prf(number: PrfId, keyword: str, keyed: Callable[[bytes], Mac]) -> PrfAlgorithm:
    """The row of a MAC over AES-128, whose key has a fixed length."""
    return PrfAlgorithm(
        id=number,
        keywords=(keyword,),
        output_octets=AES_BLOCK_OCTETS,
        key_octets=AES_BLOCK_OCTETS,
        once=lambda key, data: keyed(key).digest(data),
        key=keyed,
        plus=partial(_mac_plus, keyed, AES_BLOCK_OCTETS),
        is_fixed_key=True,
    )


_ROWS = (
    hmac_prf(PrfId.HMAC_SHA1, ("prfsha1",), SHA1),  # RFC 2104
    hmac_prf(PrfId.HMAC_SHA2_256, ("prfsha256",), SHA2_256),  # RFC 4868
    hmac_prf(PrfId.HMAC_SHA2_384, ("prfsha384",), SHA2_384),
    hmac_prf(PrfId.HMAC_SHA2_512, ("prfsha512",), SHA2_512),
    _aes_prf(PrfId.AES128_XCBC, "prfaesxcbc", _aes_xcbc_prf),  # RFC 4434
    _aes_prf(PrfId.AES128_CMAC, "prfaescmac", _aes_cmac_prf),  # RFC 4615
)

PRF: Mapping[PrfId, PrfAlgorithm] = MappingProxyType({row.id: row for row in _ROWS})
"""The PRFs that are on without asking; `legacy` has others."""
