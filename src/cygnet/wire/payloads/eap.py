"""Extensible Authentication Protocol payload (RFC 7296 section 3.16, RFC 3748 section 4).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|     Code      | Identifier    |           Length              |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|     Type      | Type_Data...
+-+-+-+-+-+-+-+-+-+-
"""

import struct
from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.reader import Reader

_FIXED = struct.Struct("!BBH")
_FIXED_OCTETS: Final = _FIXED.size


class Eap(msgspec.Struct, frozen=True, gc=False):
    """One EAP message."""

    payload_type: ClassVar[PayloadType] = PayloadType.EAP

    code: int
    """1 Request, 2 Response, 3 Success, 4 Failure."""
    identifier: int
    """Matches a response with its request."""
    data: bytes
    """Type and Type_Data of a Request or Response; empty in a Success or Failure."""


def decode_eap(body: bytes) -> Eap:
    """Take apart the body of an EAP payload; raises `WireError`, also where EAP's own length is another."""
    reader = Reader(body)
    code, identifier, length = reader.u8(), reader.u8(), reader.u16()
    if length != len(body):
        raise WireError(WireFault.BAD_LENGTH)
    return Eap(code, identifier, reader.rest())


def encode_eap(payload: Eap) -> bytes:
    """The body of an EAP payload."""
    length = _FIXED_OCTETS + len(payload.data)
    if length > 0xFFFF:
        raise WireError(WireFault.TOO_LONG)
    return _FIXED.pack(payload.code, payload.identifier, length) + payload.data
