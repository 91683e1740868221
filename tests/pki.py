"""A certification authority with what it issues, for tests that load certificates."""

import datetime

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

DAY = datetime.timedelta(1)
BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_ENCODINGS = {True: Encoding.PEM, False: Encoding.DER}


class Issued(msgspec.Struct, frozen=True):
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_octets(self, *, is_pem: bool = True) -> bytes:
        return self.key.private_bytes(_ENCODINGS[is_pem], PrivateFormat.TraditionalOpenSSL, NoEncryption())

    def public_octets(self, *, is_pem: bool = True) -> bytes:
        return self.key.public_key().public_bytes(_ENCODINGS[is_pem], PublicFormat.SubjectPublicKeyInfo)

    def issue(self, common_name: str, *, dns: str = "", usages: tuple[x509.ObjectIdentifier, ...] = ()) -> "Issued":
        """A certificate of an end entity."""
        extensions: list[x509.ExtensionType] = []
        if dns:
            extensions.append(x509.SubjectAlternativeName([x509.DNSName(dns)]))
        if usages:
            extensions.append(x509.ExtendedKeyUsage(usages))
        return _issued(common_name, extensions, self)

    def revocation_list(self, *, day: int = 0, is_pem: bool = True) -> bytes:
        """An empty one, made so many days after the authority."""
        begin = BEGIN + day * DAY
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, begin, begin + 1000 * DAY)
        builder = builder.add_extension(x509.CRLNumber(day + 1), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_ENCODINGS[is_pem])


def authority(common_name: str = "Root") -> Issued:
    """One that has signed itself."""
    return _issued(common_name, [x509.BasicConstraints(ca=True, path_length=None)], None)


def _issued(common_name: str, extensions: list[x509.ExtensionType], issuer: Issued | None) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Acme"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )
    builder = x509.CertificateBuilder(
        issuer.certificate.subject if issuer is not None else name,
        name,
        key.public_key(),
        x509.random_serial_number(),
        BEGIN,
        BEGIN + 3650 * DAY,
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    signer = issuer.key if issuer is not None else key
    return Issued(builder.sign(signer, hashes.SHA256()), key)
