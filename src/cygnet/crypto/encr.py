"""The encryption algorithms of transform type 1: one row each, shared by negotiation, ESP and kernel."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from cygnet.crypto.ciphers import CtrCipher, KeyedCipher, TruncatedGcm, aes_cbc
from cygnet.crypto.errors import CryptoError
from cygnet.iana.transforms import EncrId

NO_KEY_LENGTH: Final = 0
"""The key length of algorithms whose transform carries no Key Length attribute (RFC 7296 section 3.3.5)."""

_AES_KEY_BITS: Final = (128, 192, 256)
_FULL_ICV_OCTETS: Final = 16


class EncrAlgorithm(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One encryption algorithm."""

    id: EncrId
    keywords: tuple[str, ...]
    """strongSwan's names, with `{bits}` where the key length goes; the first is the one we print."""
    key_bits: tuple[int, ...]
    """The key lengths that may be negotiated, or NO_KEY_LENGTH alone."""
    iv_octets: int
    """Octets of the IV that each packet carries."""
    kernel_name: str
    """What Linux calls it (XFRMA_ALG_AEAD for AEADs, else XFRMA_ALG_CRYPT)."""
    factory: Callable[[bytes], KeyedCipher]
    """Key without its salt -> cipher."""
    salt_octets: int = 0
    """Octets at the end of the keying material that begin every nonce; with them, IVs are a counter."""
    icv_octets: int = 0
    """Octets of the ICV of an AEAD; 0 for a cipher that needs an integrity algorithm beside it."""
    block_octets: int = 1
    """What plaintext is padded to a multiple of; ESP aligns to 4 besides (RFC 4303 section 2.4)."""
    fixed_key_octets: int = 0
    """The length of the key, without salt, where no Key Length attribute says it."""
    is_legacy: bool = False

    @property
    def is_aead(self) -> bool:
        """Whether it protects integrity too, and so stands without an integrity algorithm (RFC 5282)."""
        return self.icv_octets > 0

    def key_octets(self, key_bits: int) -> int:
        """Octets of keying material that a key of `key_bits` takes, the salt included.

        Raises CryptoError for a length that the algorithm does not have.
        """
        if key_bits not in self.key_bits:
            raise CryptoError(f"{self.id.name} has no keys of {key_bits} bits")
        return (key_bits // 8 or self.fixed_key_octets) + self.salt_octets


def _aead_keywords(mode: str, icv_octets: int) -> tuple[str, ...]:
    # The length of the ICV in octets, in bits, or not at all, which means the full one.
    words = (f"aes{{bits}}{mode}{icv_octets}", f"aes{{bits}}{mode}{icv_octets * 8}")
    return (*words, f"aes{{bits}}{mode}") if icv_octets == _FULL_ICV_OCTETS else words


def _aes_gcm(number: EncrId, icv_octets: int, factory: Callable[[bytes], KeyedCipher]) -> EncrAlgorithm:
    # RFC 4106 for ESP, RFC 5282 for IKE.
    return EncrAlgorithm(
        id=number,
        keywords=_aead_keywords("gcm", icv_octets),
        key_bits=_AES_KEY_BITS,
        salt_octets=4,
        iv_octets=8,
        icv_octets=icv_octets,
        kernel_name="rfc4106(gcm(aes))",
        factory=factory,
    )


def _aes_ccm(number: EncrId, icv_octets: int) -> EncrAlgorithm:
    # RFC 4309 for ESP, RFC 5282 for IKE.
    return EncrAlgorithm(
        id=number,
        keywords=_aead_keywords("ccm", icv_octets),
        key_bits=_AES_KEY_BITS,
        salt_octets=3,
        iv_octets=8,
        icv_octets=icv_octets,
        kernel_name="rfc4309(ccm(aes))",
        factory=partial(AESCCM, tag_length=icv_octets),
    )


_ROWS = (
    EncrAlgorithm(  # RFC 3602
        id=EncrId.AES_CBC,
        keywords=("aes{bits}", "aes"),
        key_bits=_AES_KEY_BITS,
        iv_octets=16,
        block_octets=16,
        kernel_name="cbc(aes)",
        factory=aes_cbc,
    ),
    EncrAlgorithm(  # RFC 3686, RFC 5930
        id=EncrId.AES_CTR,
        keywords=("aes{bits}ctr",),
        key_bits=_AES_KEY_BITS,
        salt_octets=4,
        iv_octets=8,
        kernel_name="rfc3686(ctr(aes))",
        factory=CtrCipher,
    ),
    _aes_ccm(EncrId.AES_CCM_8, 8),
    _aes_ccm(EncrId.AES_CCM_12, 12),
    _aes_ccm(EncrId.AES_CCM_16, 16),
    _aes_gcm(EncrId.AES_GCM_8, 8, partial(TruncatedGcm, icv_octets=8)),
    _aes_gcm(EncrId.AES_GCM_12, 12, partial(TruncatedGcm, icv_octets=12)),
    _aes_gcm(EncrId.AES_GCM_16, 16, AESGCM),
    EncrAlgorithm(  # RFC 7634
        id=EncrId.CHACHA20_POLY1305,
        keywords=("chacha20poly1305",),
        key_bits=(NO_KEY_LENGTH,),
        fixed_key_octets=32,
        salt_octets=4,
        iv_octets=8,
        icv_octets=16,
        kernel_name="rfc7539esp(chacha20,poly1305)",
        factory=ChaCha20Poly1305,
    ),
)

ENCR: Mapping[EncrId, EncrAlgorithm] = MappingProxyType({row.id: row for row in _ROWS})
"""The encryption algorithms that are on without asking; `legacy` has others."""
