"""Delete payload (RFC 7296 section 3.11).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
| Protocol ID   |   SPI Size    |          Num of SPIs          |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~               Security Parameter Index(es) (SPI)              ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

import struct
from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault

_FIXED = struct.Struct("!BBH")
_FIXED_OCTETS: Final = _FIXED.size


class Delete(msgspec.Struct, frozen=True, gc=False):
    """SAs that the sender has removed."""

    payload_type: ClassVar[PayloadType] = PayloadType.DELETE

    protocol_id: int
    """A `ProtocolId`: `IKE` for the IKE_SA that carries the message."""
    spis: tuple[bytes, ...]
    """The sender's inbound SPIs, all of one size; empty for an IKE_SA."""


def decode_delete(body: bytes) -> Delete:
    """Take apart the body of a Delete payload; raises `WireError`."""
    if len(body) < _FIXED_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    protocol_id, spi_octets, count = _FIXED.unpack_from(body)
    if spi_octets == 0 and count:
        raise WireError(WireFault.BAD_SPI_SIZE)
    if len(body) != _FIXED_OCTETS + spi_octets * count:
        raise WireError(WireFault.BAD_LENGTH)
    starts = range(_FIXED_OCTETS, len(body), spi_octets or 1)
    return Delete(protocol_id, tuple([body[start : start + spi_octets] for start in starts]))


def encode_delete(payload: Delete) -> bytes:
    """The body of a Delete payload; raises `WireError` where its SPIs differ in size."""
    spis = payload.spis
    spi_octets = len(spis[0]) if spis else 0
    if spis and (spi_octets == 0 or len(set(map(len, spis))) > 1):
        raise WireError(WireFault.BAD_SPI_SIZE)
    if spi_octets > 0xFF or len(spis) > 0xFFFF:
        raise WireError(WireFault.TOO_LONG)
    return _FIXED.pack(payload.protocol_id, spi_octets, len(spis)) + b"".join(spis)
