"""Files that strongSwan would load from beside the configuration."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from tests import pki

from cygnet.auth.held_credentials import CertificateFlag, CertificateKind, HeldFiles, decode_certificate, key_id
from cygnet.config.folders import FOLDERS
from cygnet.config.load import load_settings

ROOT = pki.authority()
GATEWAY = ROOT.issue("gw", dns="gw.example.org")
KEY = key_id(GATEWAY.key.public_key())
GOOD = {
    "x509": GATEWAY.pem,
    "x509ca": ROOT.pem,
    "x509ocsp": GATEWAY.der,
    "x509aa": GATEWAY.der,
    "x509crl": ROOT.revocation_list(),
    "pubkey": GATEWAY.public_octets(),
    "private": GATEWAY.key_octets(),
    "ecdsa": GATEWAY.key_octets(is_pem=False),
    "pkcs8": GATEWAY.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    "pkcs12": serialize_key_and_certificates(
        b"gw", GATEWAY.key, GATEWAY.certificate, [ROOT.certificate], NoEncryption()
    ),
}
"""Attribute certificates and keys of the other kinds are not read at all."""
CERTIFICATE = decode_certificate(CertificateKind.X509, CertificateFlag.NONE, GATEWAY.pem)
LOCKED = BestAvailableEncryption(b"open sesame")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "swanctl.conf"
    file.touch(0o600)
    return file


def put(path: Path, **contents: bytes) -> None:
    """`folder__name=octets`."""
    for where, octets in contents.items():
        folder, name = where.split("__")
        (path.parent / folder).mkdir(exist_ok=True)
        file = path.parent / folder / f"{name}.pem"
        file.write_bytes(octets)
        file.chmod(0o600)


def read(path: Path, config: str = "") -> tuple[HeldFiles, list[str]]:
    """What was found, and the warnings without their place."""
    path.write_text(f"connections {{ }}\n{config}")
    configuration = load_settings(str(path))
    return configuration.files, [warning.message for warning in configuration.warnings]


@pytest.mark.parametrize("folder", GOOD)
def test_files_are_held_and_said_to_be_of_no_use(path: Path, folder: str) -> None:
    assert read(path) == (HeldFiles(), [])
    for name in ("b", "a", "c", "d"):
        put(path, **{f"{folder}__{name}": GOOD[folder]})
    (path.parent / folder / ".hidden").write_text("")
    files, [warning] = read(path)
    assert files.certificates or files.key_ids == (KEY,)
    assert warning.startswith('"a.pem", "b.pem", "c.pem" and 1 more can be listed, and not be used: certificates are')


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_file_that_can_not_be_read_is_named_and_costs_that_file(path: Path, folder: str) -> None:
    put(path, **{f"{folder}__bad": b"a private key", "x509__gw": GATEWAY.pem})
    files, warnings = read(path)
    assert any(warning.startswith('"bad.pem" can\'t be loaded: parsing ') for warning in warnings)
    assert "a private key" not in "".join(warnings)
    assert list(files.certificates) == [CERTIFICATE]


@pytest.mark.parametrize(
    ("folder", "secret", "is_read"),
    [
        ("private", "open sesame", True),
        ("private", "shut", False),
        ("private", None, False),
        ("pkcs8", "open sesame", True),
        ("pkcs12", "open sesame", True),
        ("pkcs12", "shut", False),
    ],
)
def test_passwords_are_those_of_the_secrets(path: Path, folder: str, secret: str | None, is_read: bool) -> None:
    """Neither a key nor a password is shown, nor that of another file tried."""
    octets = (
        serialize_key_and_certificates(b"gw", GATEWAY.key, GATEWAY.certificate, None, LOCKED)
        if folder == "pkcs12"
        else GATEWAY.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, LOCKED)
    )
    put(path, **{f"{folder}__gw": octets})
    section = f"{folder}-other {{ file = other.pem\n secret = open sesame\n }}\n"
    if secret is not None:
        section += f"{folder}-gw {{ file = gw.pem\n secret = {secret}\n }}\n"
    files, warnings = read(path, f"secrets {{ {section} }}")
    assert files.key_ids == ((KEY,) if is_read else ())
    assert [held.subjects for held in files.certificates] == (
        [CERTIFICATE.subjects] if is_read and "12" in folder else []
    )
    assert any('"gw.pem" can\'t be loaded: parsing ' in warning for warning in warnings) is not is_read
    assert not any("sesame" in warning or "shut" in warning for warning in warnings)


def test_keys_that_everybody_can_read_are_named(path: Path) -> None:
    put(path, private__open=GATEWAY.key_octets(), private__closed=GATEWAY.key_octets(), x509__gw=GATEWAY.pem)
    for name in ("private/open.pem", "x509/gw.pem"):
        (path.parent / name).chmod(0o644)
    _, warnings = read(path)
    assert [each for each in warnings if "chmod" in each] == [
        '"open.pem" can be read by everybody on this machine: chmod o-rwx'
    ]


def test_authorities_have_the_certificates_that_they_name(path: Path) -> None:
    put(path, x509ca__root=ROOT.pem, x509__gw=GATEWAY.pem)
    elsewhere = path.parent / "elsewhere.der"
    elsewhere.write_bytes(ROOT.der)
    sections = "\n".join(
        f"{name} {{ {key} = {value}\n }}"
        for name, key, value in (
            ("here", "cacert", "root.pem"),
            ("there", "file", elsewhere),
            ("gone", "cacert", "gone.pem"),
            ("leaf", "cacert", "../x509/gw.pem"),
        )
    )
    files, warnings = read(path, f"authorities {{ {sections}\n }}")
    assert list(files.authorities) == ["here", "there"]
    assert '"gone.pem" can\'t be loaded: No such file or directory' in warnings
    assert any("gw.pem\" can't be loaded: ca certificate lacks CA basic constraint" in warning for warning in warnings)


def test_a_file_of_another_name_has_no_such_folders(path: Path) -> None:
    put(path, private__diary=b"")
    other = path.with_name("gw.conf")
    other.write_text("connections { }")
    assert load_settings(str(other)).warnings == ()


def test_what_is_no_file_is_not_waited_for(path: Path) -> None:
    (path.parent / "x509").mkdir()
    os.mkfifo(path.parent / "x509" / "pipe.pem")
    files, warnings = read(path)
    assert (files, warnings) == (HeldFiles(), ['"pipe.pem" can\'t be loaded: it is no file'])
