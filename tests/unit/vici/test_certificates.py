"""Certificates and keys that are kept and listed; the answers are those of charon 5.9.8."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests import pki
from tests.unit.vici.client import Client

from cygnet.ike.settings import Settings
from cygnet.vici.commands import authorities, certificates, credentials
from cygnet.vici.message import Section
from cygnet.vici.server import CommandError

ROOT = pki.authority()
GW = ROOT.issue("gw", dns="gw.example.org")
OCSP = ROOT.issue("ocsp", usages=(ExtendedKeyUsageOID.OCSP_SIGNING,))


def client() -> Client:
    return Client(certificates.table, credentials.table, authorities.table)


def loaded() -> Client:
    it = client()
    messages: list[Section] = [
        {"type": b"X509", "flag": b"NONE", "data": GW.pem},
        {"type": b"X509", "flag": b"NONE", "data": OCSP.der},
        {"type": b"X509", "flag": b"CA", "data": ROOT.pem},
        {"type": b"X509_CRL", "data": ROOT.revocation_list()},
        {"type": b"pubkey", "data": GW.public_octets()},
    ]
    for message in messages:
        assert it.run("load-cert", message)["success"] is True
    return it


def shown(it: Client, **request: bytes) -> list[tuple[Any, ...]]:
    listed = it.listed("list-certs", dict(request))
    return [(each["type"], each["flag"], each["data"]) for each in listed]


ENTRIES = {
    "key": ("PUBKEY", None, GW.public_octets(is_pem=False)),
    "gw": ("X509", "NONE", GW.der),
    "root": ("X509", "CA", ROOT.der),
    "ocsp": ("X509", "OCSP", OCSP.der),
}


@pytest.mark.parametrize(
    ("request_", "entries"),
    [
        ({"type": b"x509"}, ["gw", "root", "ocsp"]),
        ({"type": b"X509", "flag": b"ca"}, ["root"]),
        ({"type": b"X509", "flag": b"NONE"}, ["gw"]),
        ({"type": b"X509", "flag": b"AA"}, []),
        ({"type": b"pubkey"}, ["key"]),
        ({"type": b"pubkey", "flag": b"CA"}, ["key"]),
        ({"type": b"x509_ac"}, []),
        ({"type": b"ocsp_response"}, []),
        ({"type": b"nonsense"}, []),
        ({"subject": b"gw.example.org"}, ["gw"]),
        ({"subject": b"C=CH, O=Acme, CN=gw"}, ["gw"]),
        ({"type": b"X509", "subject": b"C=*, O=*, CN=*"}, ["gw", "root", "ocsp"]),
        ({"subject": b"C=CH"}, []),
    ],
)
def test_a_list_has_what_is_asked_for(request_: dict[str, bytes], entries: list[str]) -> None:
    assert shown(loaded(), **request_) == [ENTRIES[name] for name in entries]


def test_all_of_it_is_listed_in_strongswans_order() -> None:
    kinds = [(kind, flag) for kind, flag, _ in shown(loaded())]
    assert kinds == [("PUBKEY", None), ("X509", "NONE"), ("X509", "CA"), ("X509", "OCSP"), ("X509_CRL", None)]


def test_what_is_loaded_again_is_there_once_and_warned_of_each_time() -> None:
    it = loaded()
    before = shown(it)
    answer = it.run("load-cert", {"type": b"X509", "data": GW.der})
    assert "CN=gw' is kept and listed, and has no effect" in answer["warnings"][0]
    assert shown(it) == before


def test_of_an_issuers_revocation_lists_the_newest_is_kept() -> None:
    it = client()
    for day in (1, 3, 2):
        it.run("load-cert", {"type": b"X509_CRL", "data": ROOT.revocation_list(day=day)})
    it.run("load-cert", {"type": b"X509_CRL", "data": pki.authority("Other").revocation_list()})
    lists = [data for _, _, data in shown(it)]
    assert len(lists) == 2
    parsed = [x509.load_der_x509_crl(data).extensions.get_extension_for_class(x509.CRLNumber) for data in lists]
    numbers = [extension.value.crl_number for extension in parsed]
    assert sorted(numbers) == [1, 4]


@pytest.mark.parametrize("is_pem", [True, False])
def test_a_key_goes_with_its_certificate(is_pem: bool) -> None:
    it = loaded()
    answer = it.run("load-key", {"type": b"any", "data": GW.key_octets(is_pem=is_pem)})
    identifier = x509.SubjectKeyIdentifier.from_public_key(GW.key.public_key()).digest.hex()
    assert answer["id"] == identifier
    assert it.run("get-keys") == {"keys": (identifier,)}
    with_keys = [each["data"] for each in it.listed("list-certs") if each["has_privkey"]]
    assert with_keys == [GW.public_octets(is_pem=False), GW.der]
    assert it.run("unload-key", {"id": identifier.encode()}) == {"success": True}
    assert it.run("get-keys") == {"keys": ()}
    assert not any(each["has_privkey"] for each in it.listed("list-certs"))


def test_flushing_leaves_what_was_loaded_and_clearing_does_not() -> None:
    it = loaded()
    it.run("load-key", {"type": b"ecdsa", "data": GW.key_octets()})
    it.run("load-shared", {"type": b"IKE", "data": b"secret"})
    it.run("flush-certs", {"type": b"x509"})
    assert len(shown(it)) == 5
    it.run("clear-creds")
    assert shown(it) == []
    assert it.run("get-keys") == it.run("get-shared") == {"keys": ()}


def test_an_authoritys_certificate_is_listed_as_long_as_the_authority_is() -> None:
    it = client()
    it.run("load-authority", {"root": {"cacert": ROOT.pem}})
    assert shown(it) == [ENTRIES["root"]]
    it.run("load-cert", {"type": b"X509", "flag": b"CA", "data": ROOT.der})
    assert shown(it) == [ENTRIES["root"]]
    it.run("clear-creds")
    assert shown(it) == [ENTRIES["root"]]
    it.run("unload-authority", {"name": b"root"})
    assert shown(it) == []


def test_what_was_loaded_outlives_a_reload_of_the_file() -> None:
    it = loaded()
    it.backend.store.replace(Settings())
    assert len(shown(it)) == 5


@pytest.mark.parametrize(
    ("command", "message", "why"),
    [
        ("load-cert", {}, "certificate type missing"),
        ("load-cert", {"type": b"X509"}, "certificate data missing"),
        ("load-cert", {"type": b"nonsense", "data": GW.pem}, "invalid certificate type 'nonsense'"),
        ("load-cert", {"type": b"X509", "flag": b"x", "data": GW.pem}, "invalid certificate flag 'x'"),
        ("load-cert", {"type": b"X509", "data": b"garbage"}, "parsing X509 certificate failed"),
        ("load-cert", {"type": b"X509", "data": GW.key_octets()}, "parsing X509 certificate failed"),
        (
            "load-cert",
            {"type": b"x509", "flag": b"CA", "data": GW.pem},
            "ca certificate lacks CA basic constraint, rejected",
        ),
        ("load-cert", {"type": b"X509_CRL", "data": GW.pem}, "parsing X509_CRL certificate failed"),
        ("load-cert", {"type": b"X509_AC", "data": GW.pem}, "parsing X509_AC certificate failed"),
        ("load-cert", {"type": b"PUBKEY", "data": b"zz"}, "parsing PUBKEY certificate failed"),
        ("load-key", {}, "key type missing"),
        ("load-key", {"type": b"any"}, "key data missing"),
        ("load-key", {"type": b"x", "data": GW.key_octets()}, "invalid key type: x"),
        ("load-key", {"type": b"rsa", "data": GW.key_octets()}, "parsing RSA private key failed"),
        ("load-key", {"type": b"any", "data": b"x"}, "parsing ANY private key failed"),
        ("unload-key", {}, "key id missing"),
        ("unload-key", {"id": b"zz"}, "key not found"),
        ("flush-certs", {"type": b"bad"}, "invalid certificate type 'bad'"),
        ("load-token", {}, "keyid missing"),
        ("load-token", {"handle": b"aa"}, "keys on tokens are not built yet"),
        ("load-shared", {}, "shared key type missing"),
        ("load-shared", {"type": b"IKE"}, "shared key data missing"),
        ("load-shared", {"type": b"X", "data": b"a"}, "invalid shared key type: X"),
        ("load-shared", {"type": b"EAP", "data": b"a"}, "secrets of type EAP are not built yet"),
        ("unload-shared", {}, "unique identifier missing"),
        ("load-authority", {"a": {"cacert": GW.pem}}, "ca certificate lacks CA basic constraint"),
        ("unload-authority", {}, "unload: missing authority name"),
        ("unload-authority", {"name": b"zz"}, "unload: authority 'zz' not found"),
    ],
)
def test_what_is_wrong_is_said_as_strongswan_says_it(command: str, message: Section, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        client().run(command, message)
