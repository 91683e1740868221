"""Encrypted Fragment payload, SKF (RFC 7383 section 2.5): one piece of a message too long for one datagram.

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|        Fragment Number        |        Total Fragments        |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~         Initialization Vector to Integrity Checksum Data      ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

import struct
from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault

_FIXED = struct.Struct("!HH")
_FIXED_OCTETS: Final = _FIXED.size


class EncryptedFragment(msgspec.Struct, frozen=True, gc=False):
    """A piece of the inner payloads, protected on its own."""

    payload_type: ClassVar[PayloadType] = PayloadType.SKF

    inner_type: int
    """`PayloadType` of the first payload inside for fragment 1; 0 for the others."""
    number: int
    """1 to `total`."""
    total: int
    body: bytes
    """IV to checksum, the tail of the datagram. All before, the two numbers included, is associated data."""


def decode_encrypted_fragment(inner_type: int, body: bytes) -> EncryptedFragment:
    """Take apart the body of an SKF payload; raises `WireError`, also for a number beyond the total."""
    if len(body) < _FIXED_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    number, total = _FIXED.unpack_from(body)
    if not 1 <= number <= total:
        raise WireError(WireFault.BAD_FRAGMENT_NUMBER)
    return EncryptedFragment(inner_type, number, total, body[_FIXED_OCTETS:])


def encode_encrypted_fragment(payload: EncryptedFragment) -> bytes:
    """The body of an SKF payload; raises `WireError` for a number beyond the total."""
    if not 1 <= payload.number <= payload.total <= 0xFFFF:
        raise WireError(WireFault.BAD_FRAGMENT_NUMBER)
    return _FIXED.pack(payload.number, payload.total) + payload.body
