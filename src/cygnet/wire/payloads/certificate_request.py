"""Certificate Request payload (RFC 7296 section 3.7).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
| Cert Encoding |                                               |
+-+-+-+-+-+-+-+-+       Certification Authority                 |
~                                                               ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from typing import ClassVar

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault


class CertificateRequest(msgspec.Struct, frozen=True, gc=False):
    """Whose certificates the sender trusts."""

    payload_type: ClassVar[PayloadType] = PayloadType.CERTREQ

    encoding: int
    """A `CertEncoding`."""
    data: bytes
    """For X.509, the SHA-1 hashes of the authorities' SubjectPublicKeyInfo, 20 octets each."""


def decode_certificate_request(body: bytes) -> CertificateRequest:
    """Take apart the body of a CERTREQ payload; raises `WireError`."""
    if not body:
        raise WireError(WireFault.TRUNCATED)
    return CertificateRequest(body[0], body[1:])


def encode_certificate_request(payload: CertificateRequest) -> bytes:
    """The body of a CERTREQ payload."""
    return bytes((payload.encoding,)) + payload.data
