"""Looks into an IKE_SA_INIT request without taking it apart: for what is decided before a peer has proven anything.

To decode a message makes an object of every payload. What a flood of them gets is a cookie, and that needs one payload
and allocates nothing that stays.
"""

import struct
from typing import Final

from cygnet.iana import NotifyType, PayloadType
from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.header import HEADER_OCTETS
from cygnet.wire.payloads.nonce import MAX_NONCE_OCTETS, MIN_NONCE_OCTETS

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_NONCE: Final = int(PayloadType.NONCE)
_NOTIFY: Final = int(PayloadType.NOTIFY)
_PS: Final = int(PayloadType.PS)
_COOKIE: Final = int(NotifyType.COOKIE)

_NEXT_PAYLOAD_OFFSET: Final = 16
_GENERIC: Final = struct.Struct("!BxH")
_GENERIC_OCTETS: Final = _GENERIC.size
_NOTIFY_HEADER: Final = struct.Struct("!BxHxBH")
"""Generic header, then protocol ID, SPI size and type (RFC 7296 section 3.10)."""
_NOTIFY_OCTETS: Final = _NOTIFY_HEADER.size

MAX_PEEKED: Final = 32
"""Payloads that are passed over in search of one; the nonce is the third or fourth of most peers."""


def peek_cookie(datagram: bytes) -> bytes:
    """The cookie that stands first in a message, where RFC 7296 section 2.6 demands it; empty if none does.

    Raises `WireError` if that payload is longer than the message, or too short for a notify.
    """
    if len(datagram) <= HEADER_OCTETS or datagram[_NEXT_PAYLOAD_OFFSET] != _NOTIFY:
        return b""
    end = len(datagram)
    if end < HEADER_OCTETS + _NOTIFY_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    _, length, spi_octets, notify_type = _NOTIFY_HEADER.unpack_from(datagram, HEADER_OCTETS)
    start = HEADER_OCTETS + _NOTIFY_OCTETS + spi_octets
    stop = HEADER_OCTETS + length
    if not start <= stop <= end:
        raise WireError(WireFault.BAD_LENGTH)
    return datagram[start:stop] if notify_type == _COOKIE else b""


def peek_nonce(datagram: bytes) -> bytes:
    """The data of the first Nonce payload of a message.

    Raises `WireError` if there is none among the first payloads, or if these have impossible lengths.
    """
    nonce = _peek(datagram, _NONCE)
    if nonce is None:
        raise WireError(WireFault.NO_NONCE)
    if not MIN_NONCE_OCTETS <= len(nonce) <= MAX_NONCE_OCTETS:
        raise WireError(WireFault.BAD_NONCE_LENGTH)
    return nonce


def peek_solution(datagram: bytes) -> bytes:
    """The keys in the first Puzzle Solution payload, which follows the cookie (RFC 8019 section 7.1.2).

    Empty if there is none among the first payloads. Raises `WireError` if these have impossible lengths.
    """
    return _peek(datagram, _PS) or b""


def _peek(datagram: bytes, wanted: int) -> bytes | None:
    """The body of the first payload of that type."""
    end = len(datagram)
    if end < HEADER_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    payload_type, offset = datagram[_NEXT_PAYLOAD_OFFSET], HEADER_OCTETS
    for _ in range(MAX_PEEKED):
        start = offset + _GENERIC_OCTETS
        if start > end:
            break
        next_type, length = _GENERIC.unpack_from(datagram, offset)
        stop = offset + length
        if not start <= stop <= end:
            raise WireError(WireFault.BAD_LENGTH)
        if payload_type == wanted:
            return datagram[start:stop]
        payload_type, offset = next_type, stop
    return None
