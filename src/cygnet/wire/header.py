"""The header of every IKE message (RFC 7296 section 3.1).

                     1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                       IKE SA Initiator's SPI                  |
|                                                               |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                       IKE SA Responder's SPI                  |
|                                                               |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|  Next Payload | MjVer | MnVer | Exchange Type |     Flags     |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                          Message ID                           |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                            Length                             |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

import struct
from typing import Final

import msgspec

from cygnet.wire.errors import WireError, WireFault

HEADER_OCTETS: Final = 28
SPI_OCTETS: Final = 8
NO_SPI: Final = bytes(SPI_OCTETS)
"""The responder's SPI as long as it has not chosen one."""
VERSION_2: Final = 0x20
"""Major version 2, minor version 0."""
FLAG_INITIATOR: Final = 0x08
"""The sender is the original initiator of the IKE_SA."""
FLAG_VERSION: Final = 0x10
"""The sender could speak a higher major version. Never set by us."""
FLAG_RESPONSE: Final = 0x20
"""The message answers the request with the same message ID."""

_HEADER = struct.Struct("!8s8sBBBBII")


class Header(msgspec.Struct, frozen=True, gc=False):
    """The fields of the header as they stand in the datagram."""

    spi_i: bytes
    """8 octets."""
    spi_r: bytes
    """8 octets, `NO_SPI` in the first message of an IKE_SA."""
    next_payload: int
    version: int
    """Major version in the upper, minor version in the lower four bits."""
    exchange_type: int
    flags: int
    message_id: int
    length: int
    """Octets of the whole datagram."""

    @property
    def major_version(self) -> int:
        """2 for everything that this package can take apart."""
        return self.version >> 4

    @property
    def is_initiator(self) -> bool:
        """Whether the sender is the original initiator of the IKE_SA, whichever way the message goes."""
        return self.flags & FLAG_INITIATOR != 0

    @property
    def is_response(self) -> bool:
        """Whether the message is a response."""
        return self.flags & FLAG_RESPONSE != 0


def decode_header(datagram: bytes) -> Header:
    """Take the header off a datagram (without the non-ESP marker).

    Raises `WireError` where the datagram is shorter than a header or its Length field is not its length.
    Versions, exchange types and flags are for the caller to judge.
    """
    octets = len(datagram)
    if octets < HEADER_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    header = Header(*_HEADER.unpack_from(datagram))
    if header.length != octets:
        raise WireError(WireFault.BAD_LENGTH)
    return header


def encode_header(
    *,
    spi_i: bytes,
    spi_r: bytes,
    next_payload: int,
    exchange_type: int,
    flags: int,
    message_id: int,
    length: int,
) -> bytes:
    """The 28 octets of a version 2.0 header; `length` counts the whole datagram.

    Raises `WireError` where an SPI is not of 8 octets.
    """
    if len(spi_i) != SPI_OCTETS or len(spi_r) != SPI_OCTETS:
        raise WireError(WireFault.BAD_SPI_SIZE)
    return _HEADER.pack(spi_i, spi_r, next_payload, VERSION_2, exchange_type, flags, message_id, length)
