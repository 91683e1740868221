"""Identification payloads, IDi and IDr (RFC 7296 section 3.5).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|   ID Type     |                 RESERVED                      |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                   Identification Data                         ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault

_FIXED_OCTETS: Final = 4
_NOTHING_RESERVED: Final = bytes(3)


class _Identification(msgspec.Struct, frozen=True, gc=False):
    id_type: int
    """An `IdType`."""
    data: bytes
    reserved: bytes = _NOTHING_RESERVED
    """Three octets, without meaning but covered by AUTH, so kept as received."""

    @property
    def body(self) -> bytes:
        """The payload without its generic header, exactly as it was received or is sent.

        This is what AUTH covers: RestOfInitIDPayload, RestOfRespIDPayload (RFC 7296 section 2.15).
        """
        return bytes((self.id_type,)) + self.reserved + self.data


class IdentificationInitiator(_Identification, frozen=True, gc=False):
    """Who the initiator says it is."""

    payload_type: ClassVar[PayloadType] = PayloadType.IDI


class IdentificationResponder(_Identification, frozen=True, gc=False):
    """Who the responder says it is; in a request, whom the initiator wants to talk to."""

    payload_type: ClassVar[PayloadType] = PayloadType.IDR


def decode_identification_initiator(body: bytes) -> IdentificationInitiator:
    """Take apart the body of an IDi payload; raises `WireError`."""
    if len(body) < _FIXED_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    return IdentificationInitiator(body[0], body[_FIXED_OCTETS:], body[1:_FIXED_OCTETS])


def decode_identification_responder(body: bytes) -> IdentificationResponder:
    """Take apart the body of an IDr payload; raises `WireError`."""
    if len(body) < _FIXED_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    return IdentificationResponder(body[0], body[_FIXED_OCTETS:], body[1:_FIXED_OCTETS])


def encode_identification(payload: IdentificationInitiator | IdentificationResponder) -> bytes:
    """The body of an IDi or IDr payload."""
    return payload.body
