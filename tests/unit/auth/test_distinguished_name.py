"""Distinguished names, against the `cryptography` package's idea of X.509 names."""

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from cygnet.auth.distinguished_name import Attribute, decode_name, encode_name, format_name, normalise_name

C, O, CN = "2.5.4.6", "2.5.4.10", "2.5.4.3"  # noqa: E741 - the attribute's own name


def peer_name(*attributes: tuple[x509.ObjectIdentifier, str, _ASN1Type]) -> bytes:
    return x509.Name([x509.NameAttribute(oid, value, _type=kind) for oid, value, kind in attributes]).public_bytes()


def test_encoding_agrees_with_cryptography() -> None:
    expected = peer_name(
        (NameOID.COUNTRY_NAME, "CH", _ASN1Type.PrintableString),
        (NameOID.ORGANIZATION_NAME, "Zürich, AG", _ASN1Type.UTF8String),
        (NameOID.DOMAIN_COMPONENT, "example", _ASN1Type.IA5String),
        (NameOID.COMMON_NAME, "moon", _ASN1Type.PrintableString),
        (NameOID.EMAIL_ADDRESS, "moon@example.org", _ASN1Type.IA5String),
    )
    assert encode_name("C=CH, O=Zürich\\, AG, DC=example, CN=moon, E=moon@example.org") == expected


def test_long_values_get_long_lengths() -> None:
    for size in (100, 127, 128, 200, 255, 256, 3000):
        der = encode_name(f"2.999.1={'x' * size}")
        assert decode_name(der) == (Attribute("2.999.1", "x" * size),)


@pytest.mark.parametrize(
    "text",
    [
        "C=CH, O=strongSwan, CN=moon",
        "/C=CH/O=strongSwan/CN=moon",
        "c=CH,o=strongSwan,cn=moon",
        "2.5.4.6=CH,O=strongSwan,CN=moon,",
    ],
)
def test_spellings_of_one_name(text: str) -> None:
    assert encode_name(text) == encode_name("C=CH, O=strongSwan, CN=moon")


def test_slashes_separate_only_where_one_begins_the_name() -> None:
    assert decode_name(encode_name("CN=a/b")) == (Attribute(CN, "a/b"),)
    assert decode_name(encode_name("/CN=a,b/O=c")) == (Attribute(CN, "a,b"), Attribute(O, "c"))


@pytest.mark.parametrize("text", ["CN=a\\,b, O=c", "CN=back\\\\slash, O=a/b", "CN=*, O=x", "CN=, O=x", "1.3.6.1.4.1=x"])
def test_text_form_is_read_back(text: str) -> None:
    der = encode_name(text)
    assert encode_name(format_name(der)) == der


def test_string_types_case_and_spaces_do_not_count() -> None:
    ours = encode_name("O=Example Org, CN=moon")
    theirs = peer_name(
        (NameOID.ORGANIZATION_NAME, "EXAMPLE  org ", _ASN1Type.UTF8String),
        (NameOID.COMMON_NAME, "Moon", _ASN1Type.BMPString),
    )
    assert ours != theirs
    assert normalise_name(ours) == normalise_name(theirs)
    assert normalise_name(ours) != normalise_name(encode_name("CN=moon, O=Example Org"))


def test_multi_valued_rdns_are_listed_one_after_another() -> None:
    name = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"), x509.NameAttribute(NameOID.COMMON_NAME, "moon")]
            )
        ]
    )
    assert set(decode_name(name.public_bytes())) == {Attribute(C, "CH"), Attribute(CN, "moon")}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("CN", "TYPE=value"), ("XX=y", "known"), ("CN=a, b", "TYPE=value"), ("1.40=x", "39"), ("=x", "TYPE=value")],
)
def test_what_is_no_name_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        encode_name(text)


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30",
        b"\x31\x00",
        b"\x30\x80\x00\x00",
        b"\x30\x02\x31\x05",
        b"\x30\x02\x30\x00",
        b"\x30\x04\x31\x02\x31\x00",
        b"\x30\x06\x31\x04\x30\x02\x06\x00",
        b"\x30\x0b\x31\x09\x30\x07\x06\x03\x55\x04\x83\x13\x00",
        encode_name("CN=x") + b"\x00",
        encode_name("CN=x")[:-1],
        b"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01\xff",
        encode_name(f"CN={'x' * 5000}"),
    ],
    ids=bytes.hex,
)
def test_octets_that_are_no_name_are_refused(der: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_name(der)
