"""Authentication payload (RFC 7296 section 3.8).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
| Auth Method   |                RESERVED                       |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                      Authentication Data                      ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault

_FIXED_OCTETS: Final = 4


class Authentication(msgspec.Struct, frozen=True, gc=False):
    """The proof of the identity that the ID payload claims."""

    payload_type: ClassVar[PayloadType] = PayloadType.AUTH

    method: int
    """An `AuthMethod`."""
    data: bytes


def decode_authentication(body: bytes) -> Authentication:
    """Take apart the body of an AUTH payload; raises `WireError`."""
    if len(body) < _FIXED_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    return Authentication(body[0], body[_FIXED_OCTETS:])


def encode_authentication(payload: Authentication) -> bytes:
    """The body of an AUTH payload."""
    return bytes((payload.method, 0, 0, 0)) + payload.data
