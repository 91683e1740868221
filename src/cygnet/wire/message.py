"""Whole messages: the header and the chain of payloads behind it (RFC 7296 sections 3.1 and 3.2).

    Generic payload header
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    | Next Payload  |C|  RESERVED   |         Payload Length        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The Encrypted payload ends a message, so its body is the tail of the datagram, and what the integrity check
covers in addition is `datagram[: len(datagram) - len(body)]`.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.header import HEADER_OCTETS, Header, decode_header, encode_header
from cygnet.wire.payloads import Encrypted, EncryptedFragment, Payload, Unknown
from cygnet.wire.payloads.unknown import decode_unknown, encode_unknown
from cygnet.wire.registry import CODECS, CONTAINER_CODECS

MAX_PAYLOADS: Final = 255
"""In one chain. Many certificates and addresses stay far below; a datagram full of empty payloads doesn't."""

_GENERIC: Final = struct.Struct("!BBH")
_GENERIC_OCTETS: Final = _GENERIC.size
_CRITICAL: Final = 0x80
_MAX_BODY_OCTETS: Final = 0xFFFF - _GENERIC_OCTETS

_DECODE: Final[tuple[Callable[[bytes], Payload] | None, ...]] = tuple(
    CODECS[number].decode if number in CODECS else None for number in range(256)
)
_ENCODE: Final[Mapping[type, Callable[[Any], bytes]]] = {
    Unknown: encode_unknown,
    **{codec.struct: codec.encode for codec in CODECS.values()},
}
_ENCODE_CONTAINER: Final[Mapping[type, Callable[[Any], bytes]]] = {
    codec.struct: codec.encode for codec in CONTAINER_CODECS.values()
}


class Message(msgspec.Struct, frozen=True, gc=False):
    """A datagram taken apart."""

    header: Header
    payloads: tuple[Payload, ...]
    """In the order of the datagram. An `Encrypted` or `EncryptedFragment` is the last."""


def decode_message(datagram: bytes, header: Header | None = None) -> Message:
    """Take apart a datagram (without the non-ESP marker), as far as it is not encrypted.

    A `header` that was decoded from the same datagram before need not be decoded again. Raises `WireError`.
    """
    if header is None:
        header = decode_header(datagram)
    return Message(header, _decode_chain(header.next_payload, datagram, HEADER_OCTETS))


def decode_payloads(first: int, octets: bytes) -> tuple[Payload, ...]:
    """Take apart what an Encrypted payload held, without its padding.

    `first` is the type of the first payload, the `inner_type` of the container. Raises `WireError`, also for
    an Encrypted payload among them.
    """
    payloads = _decode_chain(first, octets, 0)
    if payloads and isinstance(payloads[-1], Encrypted | EncryptedFragment):
        raise WireError(WireFault.NESTED_ENCRYPTED)
    return payloads


def encode_payloads(payloads: Sequence[Payload]) -> tuple[int, bytes]:
    """The type of the first payload, and the octets of all.

    Raises `WireError` where a payload is too long, or where a container is not the last.
    """
    next_type = 0
    parts: list[bytes] = []
    for payload in reversed(payloads):
        encode = _ENCODE.get(type(payload))
        if encode is None:
            if parts or not isinstance(payload, Encrypted | EncryptedFragment):
                raise WireError(WireFault.ENCRYPTED_NOT_LAST)
            encode = _ENCODE_CONTAINER[type(payload)]
            next_type = payload.inner_type
        body = encode(payload)
        octets = len(body)
        if octets > _MAX_BODY_OCTETS:
            raise WireError(WireFault.TOO_LONG)
        flags = _CRITICAL if type(payload) is Unknown and payload.is_critical else 0
        parts.append(body)
        parts.append(_GENERIC.pack(next_type, flags, octets + _GENERIC_OCTETS))
        next_type = payload.payload_type
    parts.reverse()
    return next_type, b"".join(parts)


def encode_message(
    *,
    spi_i: bytes,
    spi_r: bytes,
    exchange_type: int,
    flags: int,
    message_id: int,
    payloads: Sequence[Payload],
) -> bytes:
    """A complete datagram, without the non-ESP marker.

    For a message that is to be encrypted, hand in an `Encrypted` (or `EncryptedFragment`) whose body is as
    many zeros as the sealed body will have octets: all but that tail is then the associated data, and the
    sealed body replaces the tail. Raises `WireError`, see `encode_payloads`.
    """
    next_payload, chain = encode_payloads(payloads)
    header = encode_header(
        spi_i=spi_i,
        spi_r=spi_r,
        next_payload=next_payload,
        exchange_type=exchange_type,
        flags=flags,
        message_id=message_id,
        length=HEADER_OCTETS + len(chain),
    )
    return header + chain


def _decode_chain(first: int, octets: bytes, offset: int) -> tuple[Payload, ...]:
    payloads: list[Payload] = []
    end = len(octets)
    payload_type = first
    for _ in range(MAX_PAYLOADS):
        if not payload_type:
            break
        start = offset + _GENERIC_OCTETS
        if start > end:
            raise WireError(WireFault.TRUNCATED)
        next_type, flags, length = _GENERIC.unpack_from(octets, offset)
        offset += length
        if not start <= offset <= end:
            raise WireError(WireFault.BAD_LENGTH)
        body = octets[start:offset]
        decode = _DECODE[payload_type]
        # RFC 7296 section 2.5: the critical bit counts for types that are not understood, and for no other.
        if decode is not None:
            payloads.append(decode(body))
        elif payload_type in CONTAINER_CODECS:
            if offset != end:
                raise WireError(WireFault.ENCRYPTED_NOT_LAST)
            payloads.append(CONTAINER_CODECS[payload_type].decode(next_type, body))
            return tuple(payloads)
        else:
            payloads.append(decode_unknown(payload_type, flags & _CRITICAL != 0, body))
        payload_type = next_type
    if payload_type:
        raise WireError(WireFault.TOO_MANY_PAYLOADS)
    if offset != end:
        raise WireError(WireFault.TRAILING_OCTETS)
    return tuple(payloads)
