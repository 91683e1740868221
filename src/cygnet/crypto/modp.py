"""Diffie-Hellman in the MODP groups (RFC 7296 appendix B, RFC 3526), whose generator is 2.

This is the one seam to the finite-field Diffie-Hellman of `cryptography`, which has deprecated it since
version 50. The day it is gone, `ModpKeyPair` needs another constant-time modular exponentiation,
`gmpy2.powmod_sec` for one; nothing else changes.
"""

import warnings
from functools import cache
from typing import Final

from cryptography.utils import CryptographyDeprecationWarning

from cygnet.crypto.errors import InvalidKeyExchange

with warnings.catch_warnings():
    # Peers that have nothing but MODP are still many, and RFC 8247 section 2.4 makes group 14 a MUST. The
    # warning comes with each use of the names, so silencing it here, where they are bound, hides no other.
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    from cryptography.hazmat.primitives.asymmetric.dh import (
        DHParameterNumbers,
        DHParameters,
        DHPrivateNumbers,
        DHPublicNumbers,
    )

GENERATOR: Final = 2

# RFC 2412 appendix E and RFC 3526: p = 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) * pi) + k), with the
# least k for which p and (p-1)/2 are prime.
_K_OF_BITS: Final = {
    1024: 129093,
    1536: 741804,
    2048: 124476,
    3072: 1690314,
    4096: 240904,
    6144: 929484,
    8192: 4743158,
}


@cache
def prime(bits: int) -> int:
    """The prime of the MODP group of that size, computed as the RFCs define it."""
    k = _K_OF_BITS[bits]
    return (1 << bits) - (1 << (bits - 64)) - 1 + ((_scaled_pi(bits - 130) + k) << 64)


class ModpKeyPair:
    """Our half of an exchange in the MODP group of `bits`; `private` is its exponent, None makes a fresh one.

    OpenSSL knows the groups from 1536 bits by their prime and chooses exponents as short as the group's
    strength allows (RFC 3526 section 8). It does not know that of 1024 bits, and proves its prime again for
    every public value of a peer, which takes some 40 ms: `cryptography` asks it to, whether the value comes as
    numbers or as DER, and with the order of the group or without.
    """

    __slots__ = ("_numbers", "_octets", "_private", "public")

    def __init__(self, bits: int, private: bytes | None = None) -> None:
        self._numbers, parameters = _parameters(bits)
        self._octets = bits // 8
        if private is None:
            self._private = parameters.generate_private_key()
            y = self._private.public_key().public_numbers().y
        else:
            # Not in constant time; a key that we were told is a test vector's.
            x = int.from_bytes(private, "big")
            y = pow(GENERATOR, x, self._numbers.p)
            self._private = DHPrivateNumbers(x, DHPublicNumbers(y, self._numbers)).private_key()
        # RFC 7296 section 3.4: as long as the prime, with leading zeros where necessary.
        self.public = y.to_bytes(self._octets, "big")

    def shared(self, peer: bytes) -> bytes:
        """The shared secret, as long as the prime (RFC 7296 section 2.14); raises InvalidKeyExchange."""
        if len(peer) != self._octets:
            raise InvalidKeyExchange("the public value has the wrong length")
        y = int.from_bytes(peer, "big")
        # RFC 6989 section 2.1: all of the groups are of safe primes, where this is the whole test.
        if not 1 < y < self._numbers.p - 1:
            raise InvalidKeyExchange("the public value is out of range")
        secret = self._private.exchange(DHPublicNumbers(y, self._numbers).public_key())
        return secret.rjust(self._octets, b"\x00")


@cache
def _parameters(bits: int) -> tuple[DHParameterNumbers, DHParameters]:
    """The group for OpenSSL, made once: every exchange has the same, and computing it takes milliseconds."""
    numbers = DHParameterNumbers(prime(bits), GENERATOR)
    return numbers, numbers.parameters()


def _scaled_pi(bits: int) -> int:
    """floor(2^bits * pi), by Machin's formula: pi = 16 arctan(1/5) - 4 arctan(1/239)."""
    guard_bits = 64
    unit = 1 << (bits + guard_bits)
    return (16 * _arctan_of_inverse(5, unit) - 4 * _arctan_of_inverse(239, unit)) >> guard_bits


def _arctan_of_inverse(x: int, unit: int) -> int:
    """arctan(1/x) in units of 1/unit, by its Taylor series."""
    power = unit // x
    total = 0
    sign = 1
    for divisor in range(1, unit.bit_length(), 2):
        total += sign * (power // divisor)
        power //= x * x
        sign = -sign
    return total
