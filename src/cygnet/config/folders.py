"""The folders beside `swanctl.conf` whose files strongSwan's `swanctl` loads: certificates, revocation lists and keys.

They are read with the configuration, and listed as if `swanctl --load-creds` had loaded them. Nothing uses them yet.
"""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from cygnet.auth.held_credentials import (
    CertificateFlag,
    CertificateKind,
    HeldCertificate,
    HeldFiles,
    decode_certificate,
    decode_container,
    private_key_id,
)
from cygnet.config.errors import Problem, quote
from cygnet.config.resource_keys import CERTIFICATES
from cygnet.config.syntax import Section

FILE_NAME: Final = "swanctl.conf"
"""Only beside a file of this name are they that; a folder `private` elsewhere may hold anything."""

MAX_OCTETS: Final = 64 << 20
"""Of one file: revocation lists can be long."""

_AUTHORITIES: Final = "x509ca"
_CERTIFICATES: Final = {
    "x509": (CertificateKind.X509, CertificateFlag.NONE),
    _AUTHORITIES: (CertificateKind.X509, CertificateFlag.CA),
    "x509ocsp": (CertificateKind.X509, CertificateFlag.OCSP),
    "x509aa": (CertificateKind.X509, CertificateFlag.AA),
    "x509ac": (CertificateKind.ATTRIBUTE, CertificateFlag.NONE),
    "x509crl": (CertificateKind.REVOCATION_LIST, CertificateFlag.NONE),
    "pubkey": (CertificateKind.PUBLIC_KEY, CertificateFlag.NONE),
}
_KEYS: Final = {"private": "ANY", "rsa": "RSA", "ecdsa": "ECDSA", "bliss": "BLISS", "pkcs8": "ANY"}
_CONTAINERS: Final = ("pkcs12",)
FOLDERS: Final = (*_CERTIFICATES, *_KEYS, *_CONTAINERS)
_SHOWN: Final = 3


class _Found(msgspec.Struct):
    """What was read so far."""

    certificates: list[HeldCertificate] = []
    keys: list[str] = []
    authorities: dict[str, HeldCertificate] = {}
    problems: list[Problem] = []


def read_folders(path: str, root: Section) -> tuple[HeldFiles, tuple[Problem, ...]]:
    """What the folders beside the configuration file `path` hold, with warnings: a file that can't be read costs that
    file. `root` is the configuration: its `secrets` have the passwords, and its `authorities` name files."""
    found = _Found()
    parent = Path(path).parent
    _read_authorities(parent, root, found)
    if Path(path).name == FILE_NAME:
        passwords = _passwords(root)
        for folder in FOLDERS:
            _read_folder(parent / folder, passwords, found)
    files = HeldFiles(tuple(found.certificates), tuple(dict.fromkeys(found.keys)), found.authorities)
    return files, tuple(found.problems)


def _read_folder(folder: Path, passwords: Mapping[tuple[str, str], bytes], found: _Found) -> None:
    names: list[str] = []
    failed: dict[str, list[str]] = {}
    for name in _names(folder):
        try:
            _take(folder.name, _octets(folder / name), passwords.get((folder.name, name)), found)
        except (OSError, ValueError) as exc:
            failed.setdefault(_why(exc), []).append(name)
        else:
            names.append(name)
    messages = [f"{_some(each)} can't be loaded: {why}" for why, each in failed.items()]
    exposed = [name for name in names if folder.name not in _CERTIFICATES and _is_exposed(folder / name)]
    if exposed:
        messages.append(f"{_some(exposed)} can be read by everybody on this machine: chmod o-rwx")
    if names:
        messages.append(f"{_some(names)} can be listed, and not be used: {CERTIFICATES}")
    found.problems += [Problem(str(folder), 0, 0, message, is_warning=True) for message in messages]


def _take(folder: str, octets: bytes, password: bytes | None, found: _Found) -> None:
    """Keep what a file of that folder holds. Raises ValueError."""
    if folder in _CERTIFICATES:
        found.certificates.append(decode_certificate(*_CERTIFICATES[folder], octets))
    elif folder in _KEYS:
        found.keys.append(private_key_id(_KEYS[folder], octets, password))
    else:
        certificates, keys = decode_container(octets, password)
        found.certificates += certificates
        found.keys += keys


def _read_authorities(parent: Path, root: Section, found: _Found) -> None:
    """The certificates that sections of `authorities` name."""
    section = root.sections.get("authorities")
    for name, authority in section.sections.items() if section is not None else ():
        setting = authority.settings.get("cacert") or authority.settings.get("file")
        if setting is None or not setting.value:
            continue
        try:
            octets = _octets(parent / _AUTHORITIES / setting.value)
            found.authorities[name] = decode_certificate(CertificateKind.X509, CertificateFlag.CA, octets)
        except (OSError, ValueError) as exc:
            message = f"{quote(setting.value)} can't be loaded: {_why(exc)}"
            found.problems.append(setting.value_position.problem(message, is_warning=True))


def _passwords(root: Section) -> dict[tuple[str, str], bytes]:
    """By folder and file, as sections such as `secrets.private-gw { file = gw.pem, secret = ... }` tell them."""
    section = root.sections.get("secrets")
    found: dict[tuple[str, str], bytes] = {}
    for name, secret in section.sections.items() if section is not None else ():
        folder = next((each for each in (*_KEYS, *_CONTAINERS) if name.startswith(each)), "")
        file, password = secret.settings.get("file"), secret.settings.get("secret")
        if folder and file is not None and file.value and password is not None and password.value is not None:
            found[folder, file.value] = password.value.encode()
    return found


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(quote, names[:_SHOWN])) + more


def _why(exc: OSError | ValueError) -> str:
    return (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc)


def _is_exposed(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _octets(path: Path) -> bytes:
    """Raises OSError, and ValueError for what is no file, or too large a one."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no file")
    if status.st_size > MAX_OCTETS:
        raise ValueError(f"it has more than {MAX_OCTETS >> 20} MiB")
    return path.read_bytes()


def _names(folder: Path) -> Iterator[str]:
    try:
        yield from sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir())
    except OSError:
        return
