"""Identities: strongSwan's way of writing them, and what matches what."""

import pytest

from cygnet.auth.distinguished_name import encode_name
from cygnet.auth.identity import (
    ANY_IDENTITY,
    ANYBODY,
    EXACT,
    IPV4_RANGE,
    MAX_OCTETS,
    ONE_WILDCARD,
    Identity,
    matches,
    parse_identity,
)
from cygnet.iana import IdType

WRITTEN = [
    ("gw.example.org", IdType.FQDN, b"gw.example.org"),
    ("moon", IdType.FQDN, b"moon"),
    ("@moon", IdType.FQDN, b"moon"),
    ("@10.0.0.1", IdType.FQDN, b"10.0.0.1"),
    ("fqdn:10.0.0.1", IdType.FQDN, b"10.0.0.1"),
    ("dns:moon", IdType.FQDN, b"moon"),
    ("fqdn:#00ff", IdType.FQDN, b"\x00\xff"),
    ("carol@example.org", IdType.RFC822_ADDR, b"carol@example.org"),
    ("@@carol", IdType.RFC822_ADDR, b"carol"),
    ("email:carol", IdType.RFC822_ADDR, b"carol"),
    ("rfc822:carol", IdType.RFC822_ADDR, b"carol"),
    ("userfqdn:carol", IdType.RFC822_ADDR, b"carol"),
    ("10.0.0.1", IdType.IPV4_ADDR, bytes((10, 0, 0, 1))),
    ("ipv4:10.0.0.1", IdType.IPV4_ADDR, bytes((10, 0, 0, 1))),
    ("ipv4:#0a000001", IdType.IPV4_ADDR, bytes((10, 0, 0, 1))),
    ("fd00::1", IdType.IPV6_ADDR, bytes.fromhex("fd000000000000000000000000000001")),
    ("ipv6:fd00::1", IdType.IPV6_ADDR, bytes.fromhex("fd000000000000000000000000000001")),
    ("a:b", IdType.KEY_ID, b"a:b"),
    ("@#0a:0b", IdType.KEY_ID, b"\x0a\x0b"),
    ("keyid:foo", IdType.KEY_ID, b"foo"),
    ("keyid:#666f6f", IdType.KEY_ID, b"foo"),
    ("{13}:#00", IdType.NULL, b"\x00"),
    ("{200}:text", 200, b"text"),
    ("C=CH, O=x, CN=y", IdType.DER_ASN1_DN, encode_name("C=CH, O=x, CN=y")),
    ("E=carol@example.org", IdType.DER_ASN1_DN, encode_name("E=carol@example.org")),
    ("dn:CN=y", IdType.DER_ASN1_DN, encode_name("CN=y")),
    ("asn1dn:CN=y", IdType.DER_ASN1_DN, encode_name("CN=y")),
    ("asn1dn:#3000", IdType.DER_ASN1_DN, b"\x30\x00"),
    ("asn1gn:#8200", IdType.DER_ASN1_GN, b"\x82\x00"),
    ("10.0.0.0/8", IPV4_RANGE, bytes((10, 0, 0, 0, 10, 255, 255, 255))),
    ("10.0.0.1-10.0.0.9", IPV4_RANGE, bytes((10, 0, 0, 1, 10, 0, 0, 9))),
    ("vpn-gw", IdType.FQDN, b"vpn-gw"),
    ("%any", 0, b""),
    ("*", 0, b""),
    ("0.0.0.0", 0, b""),
    ("::", 0, b""),
    ("", 0, b""),
]


@pytest.mark.parametrize(("text", "id_type", "data"), WRITTEN)
def test_parsing(text: str, id_type: int, data: bytes) -> None:
    assert parse_identity(text) == Identity(id_type, data)


@pytest.mark.parametrize(("text", "id_type", "data"), WRITTEN)
def test_what_is_printed_is_read_back(text: str, id_type: int, data: bytes) -> None:
    identity = Identity(id_type, data)
    assert parse_identity(str(identity)) == identity


@pytest.mark.parametrize(
    ("identity", "printed"),
    [
        (Identity(IdType.FQDN, b"gw.example.org"), "gw.example.org"),
        (Identity(IdType.FQDN, b"10.0.0.1"), "fqdn:10.0.0.1"),
        (Identity(IdType.FQDN, b"a\nb"), "fqdn:#610a62"),
        (Identity(IdType.FQDN, b"\xff"), "fqdn:#ff"),
        (Identity(IdType.KEY_ID, b"device-7"), "keyid:device-7"),
        (Identity(IdType.IPV4_ADDR, bytes((10, 0, 0, 1))), "10.0.0.1"),
        (Identity(IdType.IPV4_ADDR, b"10.0.0.1"), "ipv4:#31302e302e302e31"),
        (Identity(IdType.DER_ASN1_DN, encode_name("C=CH,CN=y")), "C=CH, CN=y"),
        (Identity(IdType.DER_ASN1_DN, b"nonsense"), "asn1dn:#6e6f6e73656e7365"),
        (Identity(99, b"x"), "{99}:x"),
        (ANY_IDENTITY, "%any"),
    ],
)
def test_printing(identity: Identity, printed: str) -> None:
    assert str(identity) == printed


@pytest.mark.parametrize(
    "text",
    ["@", "@@", "@#", "@#0", "@#xy", "fqdn:", "keyid:#", "ipv4:moon", "ipv6:10.0.0.1", "asn1gn:x", "XX=y", "{0}:x",
     "{256}:x", "{7}:x", "10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1"],
)  # fmt: skip
def test_what_can_not_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_identity(text)


@pytest.mark.parametrize(
    ("pattern", "identity", "quality"),
    [
        ("gw.example.org", "gw.example.org", EXACT),
        ("gw.example.org", "GW.Example.ORG", EXACT),
        ("gw.example.org", "gw2.example.org", None),
        ("gw.example.org", "email:gw.example.org", None),
        ("*.example.org", "a.example.org", ONE_WILDCARD),
        ("*.example.org", "a.b.EXAMPLE.org", ONE_WILDCARD),
        ("*.example.org", ".example.org", None),
        ("*.example.org", "example.org", None),
        ("*.example.org", "a.example.org.evil.com", None),
        ("*@example.org", "carol@example.org", ONE_WILDCARD),
        ("*@example.org", "@@@example.org", None),
        ("*@example.org", "carol@evil.example.com", None),
        ("*@example.org", "fqdn:carol@example.org", None),
        ("a.example.org", "fqdn:*.example.org", None),
        ("keyid:abc", "keyid:ABC", None),
        ("keyid:abc", "keyid:abc", EXACT),
        ("keyid:*", "keyid:abc", None),
        ("C=CH, O=x, CN=y", "C=CH, O=X, CN=Y", EXACT),
        ("C=CH, O=x, CN=*", "C=CH, O=x, CN=y", ONE_WILDCARD),
        ("C=CH, O=*, CN=*", "C=CH, O=x, CN=y", ONE_WILDCARD - 1),
        ("C=CH, O=x, CN=*", "C=CH, O=x", None),
        ("C=CH, O=x, CN=*", "C=CH, CN=y, O=x", None),
        ("C=CH, O=x, CN=y", "C=CH, O=x, CN=*", None),
        ("C=CH, CN=*", "asn1dn:#3000", None),
        ("asn1dn:#0102", "asn1dn:#0102", EXACT),
        ("asn1dn:#0102", "asn1dn:#0103", None),
        ("10.0.0.0/8", "10.255.255.255", ONE_WILDCARD),
        ("10.0.0.0/8", "11.0.0.0", None),
        ("10.0.0.0/8", "fqdn:10.1.1.1", None),
        ("10.0.0.1-10.0.0.9", "10.0.0.9", ONE_WILDCARD),
        ("10.0.0.1-10.0.0.9", "10.0.0.10", None),
        ("fd00::/16", "fd00::1", ONE_WILDCARD),
        ("10.0.0.0/8", "ipv4:#0a", None),
        ("%any", "anything.at.all", ANYBODY),
        ("%any", "{13}:#00", ANYBODY),
    ],
)  # fmt: skip
def test_matching(pattern: str, identity: str, quality: int | None) -> None:
    assert matches(parse_identity(pattern), parse_identity(identity)) == quality


def test_the_better_match_compares_greater() -> None:
    name = parse_identity("C=CH, O=x, CN=y")
    patterns = ("C=CH, O=x, CN=y", "C=CH, O=x, CN=*", "C=CH, O=*, CN=*", "%any")
    ranks = [matches(parse_identity(pattern), name) or 0 for pattern in patterns]
    assert ranks == sorted(set(ranks), reverse=True)


def test_many_wildcards_stay_better_than_any() -> None:
    pattern = parse_identity(", ".join(["OU=*"] * 30))
    identity = parse_identity(", ".join(["OU=x"] * 30))
    assert (matches(pattern, identity) or 0) > ANYBODY


@pytest.mark.parametrize("text", ["*.example.org", "*@example.org", "C=CH, CN=*", "10.0.0.0/8", "%any"])
def test_patterns_are_known_as_such(text: str) -> None:
    assert parse_identity(text).is_pattern


@pytest.mark.parametrize("text", ["a.example.org", "a*.example.org", "CN=a*", "keyid:*", "10.0.0.1", "asn1dn:#2a"])
def test_identities_are_no_patterns(text: str) -> None:
    assert not parse_identity(text).is_pattern


@pytest.mark.parametrize("form", ["{}", "{}@example.org", "@{}", "keyid:{}", "*@{}", "CN={}"])
def test_an_identity_that_no_message_has_room_for_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=f"does not fit into a message \\({MAX_OCTETS} do\\)"):
        parse_identity(form.format("x" * MAX_OCTETS + "xxxxxxxxxxxxx"))
    parse_identity(form.format("x" * (MAX_OCTETS - 100)))
    with pytest.raises(ValueError, match="does not fit"):
        parse_identity("keyid:#" + "00" * (MAX_OCTETS + 1))
    # A peer may send what it likes: that is shown, in octets.
    assert str(Identity(IdType.KEY_ID, bytes(MAX_OCTETS + 1))).startswith("keyid:#00")
