"""Certificates, revocation lists and keys that clients have loaded: kept to be listed as strongSwan lists them.

Nothing proves an identity by them yet, so of a private key only its identifier is kept, and not the key.
"""

import binascii
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from types import UnionType
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from cygnet.auth.identity import Identity, matches, parse_identity
from cygnet.iana import IdType

_PEM: Final = b"-----BEGIN"
_PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
_KEYS_OF: Final[dict[str, type[_PrivateKey] | UnionType]] = {
    "ANY": _PrivateKey,
    "RSA": rsa.RSAPrivateKey,
    "ECDSA": ec.EllipticCurvePrivateKey,
}
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm)


class CertificateKind(Enum):
    """What is kept beside private keys, by strongSwan's names, in the order in which it lists them."""

    PUBLIC_KEY = "PUBKEY"
    X509 = "X509"
    ATTRIBUTE = "X509_AC"
    REVOCATION_LIST = "X509_CRL"
    OCSP_RESPONSE = "OCSP_RESPONSE"


class CertificateFlag(Enum):
    """What an X.509 certificate is for, by strongSwan's names, in the order in which it lists them."""

    NONE = "NONE"
    CA = "CA"
    AA = "AA"
    OCSP = "OCSP"


class HeldCertificate(msgspec.Struct, frozen=True):
    """A certificate, a revocation list or a bare public key."""

    kind: CertificateKind
    flag: CertificateFlag
    data: bytes
    """DER."""
    subjects: tuple[Identity, ...]
    """The names it is about, or of the issuer of a revocation list; the first is the distinguished name."""
    key_id: str = ""
    """Of its public key."""
    issued: float = 0.0
    """When a revocation list was made, in seconds since the epoch."""

    def has_subject(self, pattern: Identity) -> bool:
        """Whether it is about such an identity."""
        return any(matches(pattern, subject) is not None for subject in self.subjects)


def decode_certificate(kind: CertificateKind, flag: CertificateFlag, octets: bytes) -> HeldCertificate:
    """PEM or DER as what a client says that it is. Raises ValueError."""
    is_pem = _PEM in octets
    try:
        if kind is CertificateKind.X509:
            parse = x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate
            certificate = _certificate(parse(octets), flag)
        elif kind is CertificateKind.REVOCATION_LIST:
            parse_list = x509.load_pem_x509_crl if is_pem else x509.load_der_x509_crl
            certificate = _revocation_list(parse_list(octets))
        elif kind is CertificateKind.PUBLIC_KEY:
            parse_key = load_pem_public_key if is_pem else load_der_public_key
            certificate = _public_key(parse_key(octets))  # type: ignore[arg-type]
        else:
            raise ValueError
    except _UNREADABLE:
        raise ValueError(f"parsing {kind.value} certificate failed") from None
    if flag is CertificateFlag.CA and certificate.flag is not flag:
        raise ValueError("ca certificate lacks CA basic constraint, rejected")
    return certificate


def private_key_id(kind: str, octets: bytes, password: bytes | None = None) -> str:
    """The identifier of a private key of kind ANY, RSA or ECDSA, PEM or DER; a `password` is used if it needs one.

    Raises ValueError.
    """
    load = load_pem_private_key if _PEM in octets else load_der_private_key
    wanted = _KEYS_OF.get(kind)
    for each in dict.fromkeys((None, password)):
        with suppress(*_UNREADABLE):
            key = load(octets, each)
            if wanted is not None and isinstance(key, wanted):
                return key_id(key.public_key())
    raise ValueError(f"parsing {kind} private key failed")


def decode_container(octets: bytes, password: bytes | None = None) -> tuple[list[HeldCertificate], list[str]]:
    """The certificates in a PKCS#12 container, and the identifiers of its keys. Raises ValueError."""
    try:
        container = load_pkcs12(octets, password)
    except _UNREADABLE:
        raise ValueError("parsing PKCS12 container failed, or its password is wrong") from None
    inside = [*([container.cert] if container.cert is not None else ()), *container.additional_certs]
    key = container.key
    keys = [key_id(key.public_key())] if isinstance(key, _PrivateKey) else []
    return [_certificate(each.certificate, CertificateFlag.NONE) for each in inside], keys


def key_id(key: CertificatePublicKeyTypes) -> str:
    """SHA-1 of the subjectPublicKey, in hexadecimal, by which strongSwan names keys (RFC 5280 section 4.2.1.2)."""
    return x509.SubjectKeyIdentifier.from_public_key(key).digest.hex()


class HeldFiles(msgspec.Struct, frozen=True):
    """What lies beside a configuration file."""

    certificates: tuple[HeldCertificate, ...] = ()
    """In the order in which they are loaded."""
    key_ids: tuple[str, ...] = ()
    authorities: dict[str, HeldCertificate] = {}
    """The certificates of authorities, by the names of these."""


class HeldCredentials:
    """What is loaded, by clients and from files, the newest first."""

    def __init__(self) -> None:
        self._certificates: list[HeldCertificate] = []
        self._loaded: dict[HeldCertificate, None] = {}
        """Those of them that clients have loaded, the oldest first."""
        self._keys: dict[str, None] = {}
        self._file_keys: tuple[str, ...] = ()
        self.authorities: dict[str, HeldCertificate] = {}
        """The certificates of authorities, by the names of these."""

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Of the private keys."""
        return tuple(dict.fromkeys((*self._file_keys, *self._keys)))

    def hold_files(self, files: HeldFiles) -> None:
        """These lie beside the configuration file, and no others any more."""
        self._certificates.clear()
        for certificate in (*files.certificates, *self._loaded):
            self._put(certificate)
        self._file_keys = files.key_ids
        self.authorities = dict(files.authorities)

    def add(self, certificate: HeldCertificate) -> bool:
        """Keep one more; of the revocation lists of an issuer, the newest. False if it is there, or a newer one."""
        self._loaded[certificate] = None
        return self._put(certificate)

    def _put(self, certificate: HeldCertificate) -> bool:
        if certificate in self._certificates:
            return False
        if certificate.kind is CertificateKind.REVOCATION_LIST:
            earlier = [each for each in self._certificates if each.kind is certificate.kind]
            rivals = [each for each in earlier if each.subjects == certificate.subjects]
            if any(each.issued >= certificate.issued for each in rivals):
                self._loaded.pop(certificate, None)
                return False
            self._certificates = [each for each in self._certificates if each not in rivals]
        self._certificates.insert(0, certificate)
        return True

    def add_key(self, identifier: str) -> bool:
        """Note that a private key is there; False if that is known."""
        is_known = identifier in self.key_ids
        self._keys[identifier] = None
        return not is_known

    def remove_key(self, identifier: str) -> bool:
        """Forget a private key; False if there is none such."""
        is_there = identifier in self.key_ids
        self._keys.pop(identifier, None)
        self._file_keys = tuple(each for each in self._file_keys if each != identifier)
        return is_there

    def has_private_key(self, certificate: HeldCertificate) -> bool:
        """Whether the private key that belongs to it was loaded."""
        return certificate.key_id in self._keys or certificate.key_id in self._file_keys

    def clear(self) -> None:
        """Forget everything but the certificates of authorities, which belong to these."""
        self._certificates.clear()
        self._loaded.clear()
        self._keys.clear()
        self._file_keys = ()

    def listed(self) -> Iterator[HeldCertificate]:
        """All of it in the order in which strongSwan lists it."""
        every = list(dict.fromkeys([*self._certificates, *self.authorities.values()]))
        for kind in CertificateKind:
            for flag in CertificateFlag:
                yield from (each for each in every if each.kind is kind and each.flag is flag)


def _certificate(parsed: x509.Certificate, flag: CertificateFlag) -> HeldCertificate:
    if _is_ca(parsed):
        flag = CertificateFlag.CA
    elif flag is CertificateFlag.CA:
        flag = CertificateFlag.NONE
    elif flag is CertificateFlag.NONE and _signs_ocsp(parsed):
        flag = CertificateFlag.OCSP
    return HeldCertificate(
        CertificateKind.X509,
        flag,
        parsed.public_bytes(Encoding.DER),
        (_named(parsed.subject), *_alternative_names(parsed)),
        key_id(parsed.public_key()),
    )


def _revocation_list(parsed: x509.CertificateRevocationList) -> HeldCertificate:
    return HeldCertificate(
        CertificateKind.REVOCATION_LIST,
        CertificateFlag.NONE,
        parsed.public_bytes(Encoding.DER),
        (_named(parsed.issuer),),
        issued=parsed.last_update_utc.timestamp(),
    )


def _public_key(parsed: CertificatePublicKeyTypes) -> HeldCertificate:
    identifier = key_id(parsed)
    return HeldCertificate(
        CertificateKind.PUBLIC_KEY,
        CertificateFlag.NONE,
        parsed.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        (Identity(IdType.KEY_ID, binascii.unhexlify(identifier)),),
        identifier,
    )


def _named(name: x509.Name) -> Identity:
    return Identity(IdType.DER_ASN1_DN, name.public_bytes())


def _is_ca(parsed: x509.Certificate) -> bool:
    with suppress(x509.ExtensionNotFound):
        return parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    return False


def _signs_ocsp(parsed: x509.Certificate) -> bool:
    with suppress(x509.ExtensionNotFound):
        usages = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        return ExtendedKeyUsageOID.OCSP_SIGNING in usages
    return False


def _alternative_names(parsed: x509.Certificate) -> Iterator[Identity]:
    with suppress(x509.ExtensionNotFound):
        for name in parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value:
            if isinstance(name, x509.DNSName):
                yield Identity(IdType.FQDN, name.value.encode())
            elif isinstance(name, x509.RFC822Name):
                yield Identity(IdType.RFC822_ADDR, name.value.encode())
            elif isinstance(name, x509.IPAddress):
                yield parse_identity(str(name.value))
