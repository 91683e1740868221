"""X25519 (RFC 7748, RFC 8031), by libsodium where it is installed and by OpenSSL where it is not.

Both give the same, at the same strength. libsodium takes half as long for a fresh key, which is a quarter of the whole.
"""

from collections.abc import Callable
from typing import Final, cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cygnet.crypto.errors import InvalidKeyExchange

try:
    from nacl import bindings as _sodium
    from nacl.exceptions import CryptoError as _SodiumError
except ImportError:
    IS_WITH_SODIUM = False
else:
    IS_WITH_SODIUM = True

KEY_OCTETS: Final = 32
_UNUSABLE: Final = "unusable X25519 public value"

# What comes before the octets of a key in its SubjectPublicKeyInfo (RFC 8410 sections 3 and 4). The lengths in it fit
# nothing else, so that loading the whole refuses public values of another length.
_KEY_INFO: Final = bytes.fromhex("302a 3005 0603 2b656e 032100")
# `X25519PublicKey.from_public_bytes` takes longer: it imports its backend and questions it in every call.
_load_public = cast(Callable[[bytes], X25519PublicKey], load_der_public_key)


class SodiumKeyPair:
    """By libsodium."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes | None) -> None:
        self._private = private if private is not None else _sodium.randombytes(KEY_OCTETS)
        # libsodium is in C and is given no lengths: here, and below.
        if len(self._private) != KEY_OCTETS:
            raise ValueError(f"an X25519 private key has {KEY_OCTETS} octets")
        self.public: bytes = _sodium.crypto_scalarmult_base(self._private)

    def shared(self, peer: bytes) -> bytes:
        """The shared secret; raises InvalidKeyExchange."""
        if len(peer) != KEY_OCTETS:
            raise InvalidKeyExchange(_UNUSABLE)
        try:
            return _sodium.crypto_scalarmult(self._private, peer)
        except _SodiumError as exc:  # a point of small order: all zeros (RFC 7748 section 6.1)
            raise InvalidKeyExchange(_UNUSABLE) from exc


class OpensslKeyPair:
    """By OpenSSL."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes | None) -> None:
        self._private = (
            X25519PrivateKey.from_private_bytes(private) if private is not None else X25519PrivateKey.generate()
        )
        self.public = self._private.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        """The shared secret; raises InvalidKeyExchange."""
        try:
            return self._private.exchange(_load_public(_KEY_INFO + peer))
        except ValueError as exc:  # wrong length, or a point of small order: all zeros (RFC 7748 section 6.1)
            raise InvalidKeyExchange(_UNUSABLE) from exc


X25519_KEY_PAIR: Final[Callable[[bytes | None], SodiumKeyPair | OpensslKeyPair]] = (
    SodiumKeyPair if IS_WITH_SODIUM else OpensslKeyPair
)
