"""Whole messages: the header and the chain of payloads behind it (RFC 7296 sections 3.1 and 3.2).

    Generic payload header
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    | Next Payload  |C|  RESERVED   |         Payload Length        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The Encrypted payload ends a message, so its body is the tail of the datagram, and what the integrity check
covers in addition is `datagram[: len(datagram) - len(body)]`.

The messages of a fleet differ in what their payloads hold, and hardly ever in which payloads they are and how
long. So the skeleton of a chain is remembered, by its first type and its length: the next message is cut up in one
step, and if its generic headers are the same octets, the walk over them would have found the same payloads.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from operator import call
from typing import Any, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.header import HEADER_OCTETS, Header, decode_header, encode_header
from cygnet.wire.payloads import Encrypted, EncryptedFragment, Payload, Unknown
from cygnet.wire.payloads.unknown import decode_unknown, encode_unknown
from cygnet.wire.registry import CODECS, CONTAINER_CODECS

MAX_PAYLOADS: Final = 255
"""In one chain. Many certificates and addresses stay far below; a datagram full of empty payloads doesn't."""

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_SK: Final = PayloadType.SK

_GENERIC: Final = struct.Struct("!BBH")
_GENERIC_OCTETS: Final = _GENERIC.size
_CRITICAL: Final = 0x80
_MAX_PAYLOAD_OCTETS: Final = 0xFFFF

_SKELETONS: Final = 256
"""Skeletons that are remembered; a peer that invents some can push out the fleet's, but not grow the memory."""
_SKELETON_PAYLOADS: Final = 24
"""Payloads of the longest chain that is remembered."""

_DECODE: Final[tuple[Callable[[bytes], Payload] | None, ...]] = tuple(
    CODECS[number].decode if number in CODECS else None for number in range(256)
)
_ENCODE: Final[Mapping[type, Callable[[Any], bytes]]] = {codec.struct: codec.encode for codec in CODECS.values()}
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


def sole_encrypted(datagram: bytes, header: Header) -> int | None:
    """The `inner_type` of the Encrypted payload that is all of a datagram behind its header, as in most messages.

    None for any other datagram, also for one that is cut wrongly: `decode_message` says what it is.
    """
    octets = header.length - HEADER_OCTETS
    if header.next_payload != _SK or octets < _GENERIC_OCTETS:
        return None
    inner_type, _, length = _GENERIC.unpack_from(datagram, HEADER_OCTETS)
    return inner_type if length == octets else None


def decode_payloads(first: int, octets: bytes) -> tuple[Payload, ...]:
    """Take apart what an Encrypted payload held, without its padding.

    `first` is the type of the first payload, the `inner_type` of the container. Raises `WireError`, also for
    an Encrypted payload among them.
    """
    payloads = _decode_chain(first, octets, 0)
    if payloads and type(payloads[-1]) in _ENCODE_CONTAINER:
        raise WireError(WireFault.NESTED_ENCRYPTED)
    return payloads


def encode_payloads(payloads: Sequence[Payload]) -> tuple[int, bytes]:
    """The type of the first payload, and the octets of all.

    Raises `WireError` where a payload is too long, or where a container is not the last.
    """
    if not payloads:
        return 0, b""
    kinds: tuple[type[Payload], ...] = tuple(map(type, payloads))
    encoders = _encoders(kinds)
    if encoders is None:
        return _encode_special(payloads)
    bodies = tuple(map(call, encoders, payloads))
    return kinds[0].payload_type, _template(kinds, tuple(map(len, bodies))) % bodies


@lru_cache(maxsize=256)
def _encoders(kinds: tuple[type[Payload], ...]) -> tuple[Callable[[Any], bytes], ...] | None:
    """What encodes payloads of these classes; None if there are some among them that need a closer look."""
    if not _ENCODE.keys() >= set(kinds):
        return None
    return tuple([_ENCODE[kind] for kind in kinds])


@lru_cache(maxsize=1024)
def _template(kinds: tuple[type[Payload], ...], lengths: tuple[int, ...]) -> bytes:
    """A chain of payloads of these classes and lengths of body, with `%b` for each body: the formatting of octets puts
    them between the generic headers in one step."""
    types = [kind.payload_type for kind in kinds]
    try:
        headers = [
            _GENERIC.pack(next_type, 0, length + _GENERIC_OCTETS)
            for next_type, length in zip((*types[1:], 0), lengths, strict=True)
        ]
    except struct.error as exc:
        raise WireError(WireFault.TOO_LONG) from exc
    return b"".join([header.replace(b"%", b"%%") + b"%b" for header in headers])


def _encode_special(payloads: Sequence[Payload]) -> tuple[int, bytes]:
    """A chain with a container at its end, or with payloads that we don't understand."""
    next_type = 0
    parts: list[bytes] = []
    for payload in reversed(payloads):
        encode = _ENCODE.get(type(payload), encode_unknown)
        if isinstance(payload, Encrypted | EncryptedFragment):
            if parts:
                raise WireError(WireFault.ENCRYPTED_NOT_LAST)
            encode = _ENCODE_CONTAINER[type(payload)]
            next_type = payload.inner_type
        body = encode(payload)
        octets = len(body) + _GENERIC_OCTETS
        if octets > _MAX_PAYLOAD_OCTETS:
            raise WireError(WireFault.TOO_LONG)
        flags = _CRITICAL if isinstance(payload, Unknown) and payload.is_critical else 0
        parts += (body, _GENERIC.pack(next_type, flags, octets))
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


class _Skeleton(msgspec.Struct, frozen=True):
    """How a chain of payloads was cut up."""

    cut: Callable[[bytes, int], tuple[bytes, ...]]
    """Chain and offset -> generic header, body, generic header, body, ..."""
    headers: tuple[bytes, ...]
    decoders: tuple[Callable[[bytes], Payload], ...]


_skeletons: dict[tuple[int, int], _Skeleton] = {}


def _decode_chain(first: int, octets: bytes, offset: int) -> tuple[Payload, ...]:
    skeleton = _skeletons.get((first, len(octets) - offset))
    if skeleton is not None:
        fields = skeleton.cut(octets, offset)
        if fields[::2] == skeleton.headers:
            return tuple(map(call, skeleton.decoders, fields[1::2]))
    headers, decoders, bodies = _walk(first, octets, offset)
    payloads = tuple(map(call, decoders, bodies))
    if len(payloads) <= _SKELETON_PAYLOADS:
        if len(_skeletons) >= _SKELETONS:
            _skeletons.clear()
        layout = "".join(f"{_GENERIC_OCTETS}s{len(body)}s" for body in bodies)
        cut = struct.Struct(layout).unpack_from
        _skeletons[first, len(octets) - offset] = _Skeleton(cut, tuple(headers), tuple(decoders))
    return payloads


def _walk(first: int, octets: bytes, offset: int) -> tuple[list[bytes], list[Callable[[bytes], Payload]], list[bytes]]:
    """Go from payload to payload: their generic headers, what decodes them, and their bodies."""
    headers: list[bytes] = []
    decoders: list[Callable[[bytes], Payload]] = []
    bodies: list[bytes] = []
    end = len(octets)
    payload_type = first
    for _ in range(MAX_PAYLOADS):
        if not payload_type:
            break
        start = offset + _GENERIC_OCTETS
        if start > end:
            raise WireError(WireFault.TRUNCATED)
        next_type, flags, length = _GENERIC.unpack_from(octets, offset)
        stop = offset + length
        if not start <= stop <= end:
            raise WireError(WireFault.BAD_LENGTH)
        headers.append(octets[offset:start])
        bodies.append(octets[start:stop])
        offset = stop
        decode = _DECODE[payload_type]
        if decode is not None:
            decoders.append(decode)
        elif payload_type in CONTAINER_CODECS:
            if offset != end:
                raise WireError(WireFault.ENCRYPTED_NOT_LAST)
            decoders.append(partial(CONTAINER_CODECS[payload_type].decode, next_type))
            return headers, decoders, bodies
        else:
            # RFC 7296 section 2.5: the critical bit counts for types that are not understood, and for no other.
            decoders.append(partial(decode_unknown, payload_type, flags & _CRITICAL != 0))
        payload_type = next_type
    if payload_type:
        raise WireError(WireFault.TOO_MANY_PAYLOADS)
    if offset != end:
        raise WireError(WireFault.TRAILING_OCTETS)
    return headers, decoders, bodies
