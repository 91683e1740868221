"""Key Exchange payload (RFC 7296 section 3.4).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|  Key Exchange Method Number   |           RESERVED            |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                       Key Exchange Data                       ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

import struct
from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault

_FIXED = struct.Struct("!Hxx")
_FIXED_OCTETS: Final = _FIXED.size


class KeyExchange(msgspec.Struct, frozen=True, gc=False):
    """The sender's public value."""

    payload_type: ClassVar[PayloadType] = PayloadType.KE

    method: int
    """A `KeId`."""
    data: bytes
    """Its length and range are the method's to check."""


def decode_key_exchange(body: bytes) -> KeyExchange:
    """Take apart the body of a KE payload; raises `WireError`."""
    if len(body) < _FIXED_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    return KeyExchange(_FIXED.unpack_from(body)[0], body[_FIXED_OCTETS:])


def encode_key_exchange(payload: KeyExchange) -> bytes:
    """The body of a KE payload."""
    return _FIXED.pack(payload.method) + payload.data
