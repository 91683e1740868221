"""IANA "IKEv2 Identification Payload ID Types"."""

from enum import IntEnum


class IdType(IntEnum):
    """What kind of name an Identification payload holds (RFC 7296 section 3.5)."""

    IPV4_ADDR = 1  # RFC 7296
    FQDN = 2  # RFC 7296
    RFC822_ADDR = 3  # RFC 7296
    IPV6_ADDR = 5  # RFC 7296
    DER_ASN1_DN = 9  # RFC 7296
    DER_ASN1_GN = 10  # RFC 7296
    KEY_ID = 11  # RFC 7296
    FC_NAME = 12  # RFC 4595
    NULL = 13  # RFC 7619
