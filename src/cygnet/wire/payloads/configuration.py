"""Configuration payload (RFC 7296 section 3.15).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|   CFG Type    |                    RESERVED                   |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                   Configuration Attributes                    ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

Configuration attribute (section 3.15.1)
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|R|         Attribute Type      |            Length             |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                             Value                             ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

import struct
from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault

_FIXED = struct.Struct("!Bxxx")
_FIXED_OCTETS: Final = _FIXED.size
_ATTRIBUTE = struct.Struct("!HH")
_ATTRIBUTE_OCTETS: Final = _ATTRIBUTE.size

_TYPE_MASK: Final = 0x7FFF
_CACHED_OCTETS: Final = 64
"""What a fleet asks for is always the same, and this short."""


class ConfigurationAttribute(msgspec.Struct, frozen=True, gc=False):
    """One thing asked for or given."""

    type: int
    """A `CfgAttribute`."""
    value: bytes
    """Empty in a request that leaves the value to the responder."""


class Configuration(msgspec.Struct, frozen=True, gc=False):
    """Addresses and servers, asked for or given."""

    payload_type: ClassVar[PayloadType] = PayloadType.CP

    cfg_type: int
    """A `CfgType`."""
    attributes: tuple[ConfigurationAttribute, ...]


def decode_configuration(body: bytes) -> Configuration:
    """Take apart the body of a CP payload; raises `WireError`."""
    return _decode_cached(body) if len(body) <= _CACHED_OCTETS else _decode(body)


def encode_configuration(payload: Configuration) -> bytes:
    """The body of a CP payload."""
    parts = [_FIXED.pack(payload.cfg_type)]
    for attribute in payload.attributes:
        value = attribute.value
        if len(value) > 0xFFFF or attribute.type > _TYPE_MASK:
            raise WireError(WireFault.TOO_LONG)
        parts.append(_ATTRIBUTE.pack(attribute.type, len(value)))
        parts.append(value)
    return b"".join(parts)


def _decode(body: bytes) -> Configuration:
    end = len(body)
    if end < _FIXED_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    attributes = []
    offset = _FIXED_OCTETS
    while offset < end:
        start = offset + _ATTRIBUTE_OCTETS
        if start > end:
            raise WireError(WireFault.TRUNCATED)
        kind, length = _ATTRIBUTE.unpack_from(body, offset)
        offset = start + length
        if offset > end:
            raise WireError(WireFault.TRUNCATED)
        attributes.append(ConfigurationAttribute(kind & _TYPE_MASK, body[start:offset]))
    return Configuration(body[0], tuple(attributes))


_decode_cached = lru_cache(maxsize=256)(_decode)
