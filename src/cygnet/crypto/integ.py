"""The integrity algorithms of transform type 3: one row each, which negotiation, ESP and the kernel share."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import msgspec

from cygnet.crypto.errors import CryptoError
from cygnet.crypto.mac import SHA1, SHA2_256, SHA2_384, SHA2_512, AesCmac, AesXcbc, HashFunction, Hmac, Mac
from cygnet.iana.transforms import IntegId

ComputeIcv = Callable[[bytes], bytes]
"""Octets that are to be protected -> their ICV, already truncated."""


class IntegAlgorithm(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One integrity algorithm."""

    id: IntegId
    keywords: tuple[str, ...]
    """strongSwan's names; the first is the one we print."""
    key_octets: int
    icv_octets: int
    kernel_name: str
    """What Linux calls it (XFRMA_ALG_AUTH_TRUNC)."""
    mac: Callable[[bytes], Mac]
    """Key -> MAC, not truncated."""
    is_legacy: bool = False

    def factory(self, key: bytes) -> ComputeIcv:
        """The function that computes ICVs under `key`, which has `key_octets` octets.

        Raises CryptoError for a key of another length.
        """
        if len(key) != self.key_octets:
            raise CryptoError(f"{self.keywords[0]} takes a key of {self.key_octets} octets, not {len(key)}")
        digest = self.mac(key).digest
        icv_octets = self.icv_octets
        return lambda data: digest(data)[:icv_octets]


def hmac_integ(
    number: IntegId,
    keywords: tuple[str, ...],
    function: HashFunction,
    *,
    icv_octets: int,
    is_legacy: bool = False,
) -> IntegAlgorithm:
    """The row of an HMAC that is cut to `icv_octets`; its key is as long as the hash."""
    return IntegAlgorithm(
        id=number,
        keywords=keywords,
        key_octets=function.octets,
        icv_octets=icv_octets,
        kernel_name=f"hmac({function.kernel_name})",
        mac=partial(Hmac, function),
        is_legacy=is_legacy,
    )


_ROWS = (
    hmac_integ(IntegId.HMAC_SHA1_96, ("sha1", "sha"), SHA1, icv_octets=12),  # RFC 2404
    hmac_integ(IntegId.HMAC_SHA2_256_128, ("sha256", "sha2_256"), SHA2_256, icv_octets=16),  # RFC 4868
    hmac_integ(IntegId.HMAC_SHA2_384_192, ("sha384", "sha2_384"), SHA2_384, icv_octets=24),
    hmac_integ(IntegId.HMAC_SHA2_512_256, ("sha512", "sha2_512"), SHA2_512, icv_octets=32),
    IntegAlgorithm(  # RFC 3566
        id=IntegId.AES_XCBC_96,
        keywords=("aesxcbc",),
        key_octets=16,
        icv_octets=12,
        kernel_name="xcbc(aes)",
        mac=AesXcbc,
    ),
    IntegAlgorithm(  # RFC 4494
        id=IntegId.AES_CMAC_96,
        keywords=("aescmac",),
        key_octets=16,
        icv_octets=12,
        kernel_name="cmac(aes)",
        mac=AesCmac,
    ),
)

INTEG: Mapping[IntegId, IntegAlgorithm] = MappingProxyType({row.id: row for row in _ROWS})
"""The integrity algorithms that are on without asking; `legacy` has others."""
