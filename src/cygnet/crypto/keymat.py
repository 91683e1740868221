"""From a shared secret to the keys of IKE_SAs and CHILD_SAs (RFC 7296 sections 2.14, 2.17 and 2.18)."""

import struct
from functools import lru_cache

import msgspec

from cygnet.crypto.encr import EncrAlgorithm
from cygnet.crypto.integ import IntegAlgorithm
from cygnet.crypto.ke import KeyExchangeMethod
from cygnet.crypto.prf import PrfAlgorithm


class IkeSuite(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """The algorithms of an IKE_SA."""

    encr: EncrAlgorithm
    encr_key_bits: int
    """The negotiated Key Length; 0 where the algorithm has none."""
    integ: IntegAlgorithm | None
    """None beside an AEAD."""
    prf: PrfAlgorithm
    ke: KeyExchangeMethod


class ChildSuite(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """The algorithms of a CHILD_SA."""

    encr: EncrAlgorithm
    key_bits: int
    """The negotiated Key Length; 0 where the algorithm has none."""
    integ: IntegAlgorithm | None = None
    """None beside an AEAD."""
    ke: KeyExchangeMethod | None = None
    """The method of a key exchange of its own ("PFS"), if there is one."""
    is_esn: bool = False
    """Whether sequence numbers have 64 bits."""


class IkeKeys(msgspec.Struct, frozen=True, gc=False):
    """Keys of an IKE_SA: `sk_ai`, `sk_ar` are empty beside an AEAD, `sk_ei`, `sk_er` end in the salt."""

    sk_d: bytes
    sk_ai: bytes
    sk_ar: bytes
    sk_ei: bytes
    sk_er: bytes
    sk_pi: bytes
    sk_pr: bytes

    def __repr__(self) -> str:
        return "IkeKeys(<redacted>)"


class ChildKeys(msgspec.Struct, frozen=True, gc=False):
    """Keys of a CHILD_SA: `_i` for what the exchange's initiator sends, `_r` for what its responder sends.

    The integrity keys are empty beside an AEAD; the encryption keys end with the salt.
    """

    encr_i: bytes
    integ_i: bytes
    encr_r: bytes
    integ_r: bytes

    def __repr__(self) -> str:
        return "ChildKeys(<redacted>)"


def derive_ike_keys(
    suite: IkeSuite, *, shared: bytes, nonce_i: bytes, nonce_r: bytes, spi_i: bytes, spi_r: bytes
) -> IkeKeys:
    """The keys of a new IKE_SA, RFC 7296 section 2.14: SKEYSEED = prf(Ni | Nr, g^ir).

    `shared` is g^ir as the key exchange gives it, with its leading zeros. Raises CryptoError if the suite's
    key length is none of its algorithm's.
    """
    skeyseed = suite.prf.skeyseed(nonce_i, nonce_r, shared)
    return _expand_skeyseed(suite, skeyseed, nonce_i + nonce_r + spi_i + spi_r)


def derive_rekeyed_ike_keys(
    suite: IkeSuite,
    *,
    old_prf: PrfAlgorithm,
    old_sk_d: bytes,
    shared: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    spi_i: bytes,
    spi_r: bytes,
) -> IkeKeys:
    """The keys of an IKE_SA that replaces one, RFC 7296 section 2.18: SKEYSEED = prf(SK_d, g^ir | Ni | Nr).

    SKEYSEED comes from the PRF of the old IKE_SA, everything after it from that of the new `suite`.
    """
    skeyseed = old_prf.once(old_sk_d, shared + nonce_i + nonce_r)
    return _expand_skeyseed(suite, skeyseed, nonce_i + nonce_r + spi_i + spi_r)


def derive_child_keys(
    suite: ChildSuite, prf: PrfAlgorithm, sk_d: bytes, *, nonce_i: bytes, nonce_r: bytes, shared: bytes = b""
) -> ChildKeys:
    """The keys of a CHILD_SA, RFC 7296 section 2.17: KEYMAT = prf+(SK_d, [g^ir |] Ni | Nr).

    `prf` and `sk_d` are those of the IKE_SA; the nonces, and `shared` if there was a key exchange, those of
    the exchange that made the CHILD_SA.
    """
    layout = _child_layout(suite)
    return ChildKeys(*layout.unpack(prf.plus(sk_d, shared + nonce_i + nonce_r, layout.size)))


def _expand_skeyseed(suite: IkeSuite, skeyseed: bytes, seed: bytes) -> IkeKeys:
    layout = _ike_layout(suite)
    return IkeKeys(*layout.unpack(suite.prf.plus(skeyseed, seed, layout.size)))


@lru_cache(maxsize=256)
def _ike_layout(suite: IkeSuite) -> struct.Struct:
    """How prf+ is cut into the keys of an IKE_SA, in the order of `IkeKeys`."""
    prf = suite.prf.key_octets
    integ = suite.integ.key_octets if suite.integ else 0
    encr = suite.encr.key_octets(suite.encr_key_bits)
    return struct.Struct(f"{prf}s{integ}s{integ}s{encr}s{encr}s{prf}s{prf}s")


@lru_cache(maxsize=256)
def _child_layout(suite: ChildSuite) -> struct.Struct:
    """How prf+ is cut into the keys of a CHILD_SA, in the order of `ChildKeys`."""
    integ = suite.integ.key_octets if suite.integ else 0
    encr = suite.encr.key_octets(suite.key_bits)
    return struct.Struct(f"{encr}s{integ}s{encr}s{integ}s")
