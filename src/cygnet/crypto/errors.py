"""What can go wrong in the cryptography, told apart by who is to blame."""

from cygnet.wire.errors import IkeError


class CryptoError(IkeError):
    """A key, a length or a counter cannot be used: a mistake of ours, or an SA at its end."""


class IntegrityError(CryptoError):
    """A packet is not genuine: wrong ICV, too short, or not a whole number of cipher blocks."""


class InvalidKeyExchange(CryptoError):
    """A peer's public value fails the tests of RFC 6989 section 2, or has the wrong length."""
