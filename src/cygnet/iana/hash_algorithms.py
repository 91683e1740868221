"""IANA "IKEv2 Hash Algorithms": what SIGNATURE_HASH_ALGORITHMS lists."""

from enum import IntEnum


class HashAlgorithm(IntEnum):
    """A hash that the sender accepts in signatures (RFC 7427 section 4)."""

    SHA1 = 1  # RFC 7427
    SHA2_256 = 2  # RFC 7427
    SHA2_384 = 3  # RFC 7427
    SHA2_512 = 4  # RFC 7427
    IDENTITY = 5  # RFC 8420
    STREEBOG_256 = 6  # RFC 9385
    STREEBOG_512 = 7  # RFC 9385
