"""The registries: names for numbers, and the tables of RFC 7296 as they stand in its text."""

from enum import IntEnum

import pytest

import cygnet.iana
from cygnet.iana import (
    CfgAttribute,
    EncrId,
    ExchangeType,
    IdType,
    IntegId,
    KeId,
    NotifyType,
    PayloadType,
    PrfId,
    TransformType,
    name_of,
)

REGISTRIES = [value for value in vars(cygnet.iana).values() if isinstance(value, type) and issubclass(value, IntEnum)]


@pytest.mark.parametrize("registry", REGISTRIES)
def test_every_number_has_one_name(registry: type[IntEnum]) -> None:
    assert len(registry) == len(registry.__members__)
    for member in registry:
        assert name_of(registry, int(member)) == member.name


def test_a_number_without_a_name_is_printed_as_it_is() -> None:
    assert name_of(NotifyType, 40960) == "40960"
    assert name_of(NotifyType, NotifyType.COOKIE) == "COOKIE"


def test_errors_and_status_are_told_apart() -> None:
    """RFC 7296 section 3.10.1."""
    assert NotifyType.REGISTRATION_FAILED.is_error
    assert not NotifyType.INITIAL_CONTACT.is_error


@pytest.mark.parametrize(
    ("registry", "table"),
    [
        (
            PayloadType,
            "SA 33 KE 34 IDI 35 IDR 36 CERT 37 CERTREQ 38 AUTH 39 NONCE 40 NOTIFY 41 DELETE 42 VENDOR_ID 43 "
            "TSI 44 TSR 45 SK 46 CP 47 EAP 48 SKF 53",
        ),
        (ExchangeType, "IKE_SA_INIT 34 IKE_AUTH 35 CREATE_CHILD_SA 36 INFORMATIONAL 37"),
        (TransformType, "ENCR 1 PRF 2 INTEG 3 KE 4 SN 5"),
        (EncrId, "TRIPLE_DES 3 NULL 11 AES_CBC 12 AES_CTR 13 AES_GCM_16 20 CHACHA20_POLY1305 28"),
        (PrfId, "HMAC_MD5 1 HMAC_SHA1 2 AES128_XCBC 4 HMAC_SHA2_256 5 HMAC_SHA2_512 7 AES128_CMAC 8"),
        (IntegId, "NONE 0 HMAC_MD5_96 1 HMAC_SHA1_96 2 AES_XCBC_96 5 AES_CMAC_96 8 HMAC_SHA2_256_128 12"),
        (KeId, "NONE 0 MODP_1024 2 MODP_1536 5 MODP_2048 14 MODP_8192 18 ECP_256 19 CURVE25519 31 CURVE448 32"),
        (IdType, "IPV4_ADDR 1 FQDN 2 RFC822_ADDR 3 IPV6_ADDR 5 DER_ASN1_DN 9 DER_ASN1_GN 10 KEY_ID 11"),
        (
            CfgAttribute,
            "INTERNAL_IP4_ADDRESS 1 INTERNAL_IP4_NETMASK 2 INTERNAL_IP4_DNS 3 INTERNAL_IP4_NBNS 4 "
            "INTERNAL_IP4_DHCP 6 APPLICATION_VERSION 7 INTERNAL_IP6_ADDRESS 8 INTERNAL_IP6_DNS 10 "
            "INTERNAL_IP6_DHCP 12 INTERNAL_IP4_SUBNET 13 SUPPORTED_ATTRIBUTES 14 INTERNAL_IP6_SUBNET 15",
        ),
        (
            NotifyType,
            "UNSUPPORTED_CRITICAL_PAYLOAD 1 INVALID_IKE_SPI 4 INVALID_MAJOR_VERSION 5 INVALID_SYNTAX 7 "
            "INVALID_MESSAGE_ID 9 INVALID_SPI 11 NO_PROPOSAL_CHOSEN 14 INVALID_KE_PAYLOAD 17 "
            "AUTHENTICATION_FAILED 24 SINGLE_PAIR_REQUIRED 34 NO_ADDITIONAL_SAS 35 "
            "INTERNAL_ADDRESS_FAILURE 36 FAILED_CP_REQUIRED 37 TS_UNACCEPTABLE 38 INVALID_SELECTORS 39 "
            "TEMPORARY_FAILURE 43 CHILD_SA_NOT_FOUND 44 INITIAL_CONTACT 16384 SET_WINDOW_SIZE 16385 "
            "ADDITIONAL_TS_POSSIBLE 16386 IPCOMP_SUPPORTED 16387 NAT_DETECTION_SOURCE_IP 16388 "
            "NAT_DETECTION_DESTINATION_IP 16389 COOKIE 16390 USE_TRANSPORT_MODE 16391 "
            "HTTP_CERT_LOOKUP_SUPPORTED 16392 REKEY_SA 16393 ESP_TFC_PADDING_NOT_SUPPORTED 16394 "
            "NON_FIRST_FRAGMENTS_ALSO 16395",
        ),
    ],
)
def test_the_numbers_of_rfc_7296(registry: type[IntEnum], table: str) -> None:
    words = table.split()
    for name, number in zip(words[::2], words[1::2], strict=True):
        assert registry[name] == int(number)
