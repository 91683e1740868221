"""Notify payload (RFC 7296 section 3.10).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|  Protocol ID  |   SPI Size    |      Notify Message Type      |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                Security Parameter Index (SPI)                 ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                       Notification Data                       ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

import struct
from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault

_FIXED = struct.Struct("!BBH")
_FIXED_OCTETS: Final = _FIXED.size
_SPI_SIZE_OFFSET: Final = 1

_CACHED_OCTETS: Final = 16
"""Announcements of capabilities are this short and repeat; hashes, cookies and tickets are longer."""


class Notify(msgspec.Struct, frozen=True, gc=False):
    """An error or a piece of status."""

    payload_type: ClassVar[PayloadType] = PayloadType.NOTIFY

    protocol_id: int
    """A `ProtocolId`: `NONE` unless `spi` is given."""
    spi: bytes
    """The SA that the notification is about; empty for this IKE_SA, or for none."""
    notify_type: int
    """A `NotifyType`."""
    data: bytes


def decode_notify(body: bytes) -> Notify:
    """Take apart the body of a Notify payload; raises `WireError`."""
    # One that names an SA comes once.
    is_common = _FIXED_OCTETS <= len(body) <= _CACHED_OCTETS and not body[_SPI_SIZE_OFFSET]
    return _decode_cached(body) if is_common else _decode(body)


def encode_notify(payload: Notify) -> bytes:
    """The body of a Notify payload."""
    spi = payload.spi
    if not spi:
        return _FIXED.pack(payload.protocol_id, 0, payload.notify_type) + payload.data
    if len(spi) > 0xFF:
        raise WireError(WireFault.TOO_LONG)
    return _FIXED.pack(payload.protocol_id, len(spi), payload.notify_type) + spi + payload.data


def _decode(body: bytes) -> Notify:
    octets = len(body)
    if octets < _FIXED_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    protocol_id, spi_octets, notify_type = _FIXED.unpack_from(body)
    if spi_octets == 0:
        return Notify(protocol_id, b"", notify_type, body[_FIXED_OCTETS:])
    data_start = _FIXED_OCTETS + spi_octets
    if data_start > octets:
        raise WireError(WireFault.TRUNCATED)
    return Notify(protocol_id, body[_FIXED_OCTETS:data_start], notify_type, body[data_start:])


_decode_cached = lru_cache(maxsize=512)(_decode)
