"""IANA "IKEv2 Authentication Method"."""

from enum import IntEnum


class AuthMethod(IntEnum):
    """How the AUTH payload was computed (RFC 7296 section 3.8)."""

    RSA_DIGITAL_SIGNATURE = 1  # RFC 7296
    SHARED_KEY_MESSAGE_INTEGRITY_CODE = 2  # RFC 7296
    DSS_DIGITAL_SIGNATURE = 3  # RFC 7296
    ECDSA_SHA2_256_P256 = 9  # RFC 4754
    ECDSA_SHA2_384_P384 = 10  # RFC 4754
    ECDSA_SHA2_512_P521 = 11  # RFC 4754
    GENERIC_SECURE_PASSWORD = 12  # RFC 6467
    NULL = 13  # RFC 7619
    DIGITAL_SIGNATURE = 14  # RFC 7427
