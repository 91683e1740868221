"""Nonce payload (RFC 7296 section 3.9).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                            Nonce Data                         ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault

MIN_NONCE_OCTETS: Final = 16
MAX_NONCE_OCTETS: Final = 256


class Nonce(msgspec.Struct, frozen=True, gc=False):
    """The sender's share of freshness."""

    payload_type: ClassVar[PayloadType] = PayloadType.NONCE

    data: bytes
    """16 to 256 octets."""


def decode_nonce(body: bytes) -> Nonce:
    """Take apart the body of a Nonce payload; raises `WireError`, also where its length is not allowed."""
    if not MIN_NONCE_OCTETS <= len(body) <= MAX_NONCE_OCTETS:
        raise WireError(WireFault.BAD_NONCE_LENGTH)
    return Nonce(body)


def encode_nonce(payload: Nonce) -> bytes:
    """The body of a Nonce payload; raises `WireError` where its length is not allowed."""
    if not MIN_NONCE_OCTETS <= len(payload.data) <= MAX_NONCE_OCTETS:
        raise WireError(WireFault.BAD_NONCE_LENGTH)
    return payload.data
