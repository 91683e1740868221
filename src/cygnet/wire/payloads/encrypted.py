"""Encrypted payload, SK (RFC 7296 section 3.14): the last payload of every message after IKE_SA_INIT.

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     Initialization Vector                     |
    |         (length is block size for encryption algorithm)       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ~                    Encrypted IKE Payloads                     ~
    +               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |               |             Padding (0-255 octets)            |
    +-+-+-+-+-+-+-+-+                               +-+-+-+-+-+-+-+-+
    |                                               |  Pad Length   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ~                    Integrity Checksum Data                    ~
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

Where IV, padding and checksum begin depends on the algorithms, so the body stays whole here.
"""

from typing import ClassVar

import msgspec

from cygnet.iana import PayloadType


class Encrypted(msgspec.Struct, frozen=True, gc=False):
    """Payloads under protection."""

    payload_type: ClassVar[PayloadType] = PayloadType.SK

    inner_type: int
    """`PayloadType` of the first payload inside: the Next Payload field of this one; 0 for none."""
    body: bytes
    """IV to checksum, the tail of the datagram. All before is the associated data (RFC 5282 section 5.1)."""


def decode_encrypted(inner_type: int, body: bytes) -> Encrypted:
    """Take apart the body of an SK payload; any octets are one."""
    return Encrypted(inner_type, body)


def encode_encrypted(payload: Encrypted) -> bytes:
    """The body of an SK payload."""
    return payload.body
