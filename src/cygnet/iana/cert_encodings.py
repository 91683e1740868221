"""IANA "IKEv2 Certificate Encodings"."""

from enum import IntEnum


class CertEncoding(IntEnum):
    """What a CERT or CERTREQ payload holds (RFC 7296 section 3.6)."""

    PKCS7_WRAPPED_X509 = 1  # unspecified
    PGP = 2  # unspecified
    DNS_SIGNED_KEY = 3  # unspecified
    X509_SIGNATURE = 4  # RFC 7296
    KERBEROS_TOKEN = 6  # unspecified
    CRL = 7  # RFC 7296
    ARL = 8  # unspecified
    SPKI = 9  # unspecified
    X509_ATTRIBUTE = 10  # unspecified
    RAW_RSA_KEY = 11  # deprecated by RFC 7670
    HASH_AND_URL_X509 = 12  # RFC 7296
    HASH_AND_URL_X509_BUNDLE = 13  # RFC 7296
    OCSP_CONTENT = 14  # RFC 4806
    RAW_PUBLIC_KEY = 15  # RFC 7670
