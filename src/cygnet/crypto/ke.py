"""The key exchange methods of transform type 4: one row each.

Every public value of a peer is tested as RFC 6989 section 2 asks before it is used, and what fails is
InvalidKeyExchange. Private keys come from the library's own generator, which knows how each group wants them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cygnet.crypto.errors import InvalidKeyExchange
from cygnet.crypto.modp import ModpKeyPair
from cygnet.crypto.x25519 import X25519_KEY_PAIR
from cygnet.iana.transforms import KeId


class KeyPair(Protocol):
    """Our half of one key exchange; good for one exchange, then to be dropped."""

    @property
    def public(self) -> bytes:
        """The data of our KE payload (RFC 7296 section 3.4)."""
        ...

    def shared(self, peer: bytes) -> bytes:
        """The shared secret g^ir with the peer of this KE payload data; raises InvalidKeyExchange."""
        ...


class KeyExchangeMethod(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One key exchange method."""

    id: KeId
    keywords: tuple[str, ...]
    """strongSwan's names; the first is the one we print."""
    public_octets: int
    """Length of the data of a KE payload."""
    factory: Callable[[bytes | None], KeyPair]
    """Private key, or None for a fresh one -> key pair."""
    init_cost: int = 1
    """What it costs a responder to answer IKE_SA_INIT with it, about, where X25519 costs 1: some 0.1 ms."""

    def generate(self) -> KeyPair:
        """A fresh key pair."""
        return self.factory(None)

    def from_private(self, private: bytes) -> KeyPair:
        """The key pair of a given private key, a big-endian number or the octets of RFC 7748."""
        return self.factory(private)


class _X448KeyPair:
    """RFC 8031, RFC 7748."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes | None) -> None:
        self._private = X448PrivateKey.from_private_bytes(private) if private is not None else X448PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        try:
            return self._private.exchange(X448PublicKey.from_public_bytes(peer))
        except ValueError as exc:
            raise InvalidKeyExchange("unusable X448 public value") from exc


_UNCOMPRESSED: Final = b"\x04"


class _EcpKeyPair:
    """RFC 5903 section 7: the public value is x | y, without SEC1's first octet, the secret x alone."""

    __slots__ = ("_private", "public")

    def __init__(self, curve: ec.EllipticCurve, private: bytes | None) -> None:
        if private is not None:
            self._private = ec.derive_private_key(int.from_bytes(private, "big"), curve)
        else:
            self._private = ec.generate_private_key(curve)
        point = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public = point[1:]

    def shared(self, peer: bytes) -> bytes:
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(self._private.curve, _UNCOMPRESSED + peer)
        except ValueError as exc:  # wrong length, or off the curve (RFC 6989 section 2.3)
            raise InvalidKeyExchange("the public value is no point of the curve") from exc
        return self._private.exchange(ec.ECDH(), point)


def _modp(number: KeId, bits: int, init_cost: int) -> KeyExchangeMethod:
    return KeyExchangeMethod(
        id=number,
        keywords=(f"modp{bits}",),
        public_octets=bits // 8,
        factory=partial(ModpKeyPair, bits),
        init_cost=init_cost,
    )


def _ecp(number: KeId, keyword: str, curve: ec.EllipticCurve, init_cost: int) -> KeyExchangeMethod:
    return KeyExchangeMethod(
        id=number,
        keywords=(keyword,),
        public_octets=2 * ((curve.key_size + 7) // 8),
        factory=partial(_EcpKeyPair, curve),
        init_cost=init_cost,
    )


_ROWS = (
    _modp(KeId.MODP_1024, 1024, 2),  # RFC 7296 appendix B.2; RFC 8247 wants it gone
    _modp(KeId.MODP_1536, 1536, 3),  # RFC 3526, as those below
    _modp(KeId.MODP_2048, 2048, 4),
    _modp(KeId.MODP_3072, 3072, 8),
    _modp(KeId.MODP_4096, 4096, 15),
    _modp(KeId.MODP_6144, 6144, 34),
    _modp(KeId.MODP_8192, 8192, 57),
    _ecp(KeId.ECP_256, "ecp256", ec.SECP256R1(), 1),  # RFC 5903
    _ecp(KeId.ECP_384, "ecp384", ec.SECP384R1(), 3),
    _ecp(KeId.ECP_521, "ecp521", ec.SECP521R1(), 4),
    _ecp(KeId.BRAINPOOL_256, "ecp256bp", ec.BrainpoolP256R1(), 5),  # RFC 6954
    _ecp(KeId.BRAINPOOL_384, "ecp384bp", ec.BrainpoolP384R1(), 10),
    _ecp(KeId.BRAINPOOL_512, "ecp512bp", ec.BrainpoolP512R1(), 13),
    KeyExchangeMethod(  # RFC 8031
        id=KeId.CURVE25519, keywords=("x25519", "curve25519"), public_octets=32, factory=X25519_KEY_PAIR
    ),
    KeyExchangeMethod(
        id=KeId.CURVE448, keywords=("x448", "curve448"), public_octets=56, factory=_X448KeyPair, init_cost=4
    ),
)

KE: Mapping[int, KeyExchangeMethod] = MappingProxyType({row.id: row for row in _ROWS})
"""The key exchange methods."""
