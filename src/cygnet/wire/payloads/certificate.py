"""Certificate payload (RFC 7296 section 3.6).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
| Cert Encoding |                                               |
+-+-+-+-+-+-+-+-+       Certificate Data                        |
~                                                               ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from typing import ClassVar

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault


class Certificate(msgspec.Struct, frozen=True, gc=False):
    """A certificate, a revocation list, or where to fetch one."""

    payload_type: ClassVar[PayloadType] = PayloadType.CERT

    encoding: int
    """A `CertEncoding`."""
    data: bytes
    """In the form that `encoding` names."""


def decode_certificate(body: bytes) -> Certificate:
    """Take apart the body of a CERT payload; raises `WireError`."""
    if not body:
        raise WireError(WireFault.TRUNCATED)
    return Certificate(body[0], body[1:])


def encode_certificate(payload: Certificate) -> bytes:
    """The body of a CERT payload."""
    return bytes((payload.encoding,)) + payload.data
