"""One direction of a CHILD_SA: packets to ESP packets and back (RFC 4303, tunnel mode).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------------------------------------------------------+ ----
    |               Security Parameters Index (SPI)                 | ^Int.
    +---------------------------------------------------------------+ |Cov-
    |                      Sequence Number                          | |ered
    +---------------------------------------------------------------+ | ----
    |                    Payload Data (variable)                    | |   ^
    ~                                                               ~ |   |
    |                                                               | |Conf.
    +               +-----------------------------------------------+ |Cov-
    |               |     Padding (0-255 bytes)                     | |ered
    +-+-+-+-+-+-+-+-+               +-------------------------------+ |   |
    |                               |  Pad Length   | Next Header   | v   v
    +---------------------------------------------------------------+ ------
    |         Integrity Check Value-ICV   (variable)                |
    +---------------------------------------------------------------+

With extended sequence numbers only the low half is sent. The high half is authenticated all the same: between SPI and
low half for combined modes (RFC 4106 section 5), after the packet for the others (RFC 4303 section 2.2.1).
"""

import struct
from functools import lru_cache

import msgspec

from cygnet.crypto.protection import PacketProtection
from cygnet.esp.errors import SequenceExhausted
from cygnet.esp.replay import ReplayWindow
from cygnet.iana import IpProtocol
from cygnet.wire.errors import WireError

HEADER_OCTETS = 8
_TRAILER_OCTETS = 2
_IPV4_HEADER_OCTETS = 20
_IPV6_HEADER_OCTETS = 40

_HEADER = struct.Struct("!II")
_ESN_AAD = struct.Struct("!IQ")
_U32 = struct.Struct("!I")
_U16 = struct.Struct("!H")

_IPV4 = int(IpProtocol.IPV4)
_IPV6 = int(IpProtocol.IPV6)

_PADDINGS = tuple(bytes(range(1, n + 1)) for n in range(256))
"""Padding of n octets: 1, 2, 3, ... (RFC 4303 section 2.4)."""


@lru_cache(maxsize=256)
def _trailers(next_header: int) -> tuple[bytes, ...]:
    """ESP trailers for 0 to 255 octets of padding, with Pad Length and Next Header."""
    return tuple(padding + bytes((n, next_header)) for n, padding in enumerate(_PADDINGS))


class OutboundState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How far an `OutboundSa` has come."""

    sequence: int
    counter: int
    """Of its protection: the next explicit IV."""
    packets: int
    octets: int


class InboundState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How far an `InboundSa` has come."""

    highest: int
    """The right edge of its window."""
    seen: bytes
    """The window's bitmap."""
    packets: int
    octets: int


class OutboundSa:
    """The sending half of a CHILD_SA.

    `sequence` is the last number used. An SA that had sent packets before this object was made must be given a number
    that is not below any it used: under one key neither numbers nor IVs may repeat.
    """

    __slots__ = (
        "_align_mask",
        "_last_sequence",
        "_overhead",
        "is_esn",
        "octets",
        "packets",
        "protection",
        "sequence",
        "spi",
    )

    def __init__(self, spi: int, protection: PacketProtection, *, is_esn: bool, sequence: int = 0) -> None:
        """Make an SA that sends under the peer's `spi`."""
        self.spi = spi
        self.protection = protection
        self.is_esn = is_esn
        self.sequence = sequence
        self.packets = 0
        self.octets = 0
        self._last_sequence = (1 << 64) - 1 if is_esn else (1 << 32) - 1
        # Pad Length and Next Header end on a 4-octet boundary whatever the cipher (RFC 4303 section 2.4).
        self._align_mask = max(4, protection.block_octets) - 1
        self._overhead = HEADER_OCTETS + protection.overhead
        if protection.counter < sequence:
            protection.counter = sequence

    def room(self, octets: int) -> int:
        """Octets of the largest inner packet that an ESP packet of up to `octets` can hold; below 0 if none."""
        return ((octets - self._overhead) & ~self._align_mask) - _TRAILER_OCTETS

    @property
    def state(self) -> OutboundState:
        """How far it has come: for one that goes on in its place."""
        return OutboundState(self.sequence, self.protection.counter, self.packets, self.octets)

    def resume(self, state: OutboundState) -> None:
        """Go on from there, with what has sent nothing yet."""
        self.sequence = state.sequence
        self.protection.counter = state.counter
        self.packets = state.packets
        self.octets = state.octets

    def encapsulate(self, packet: bytes, next_header: int, padding: int = 0) -> bytes:
        """Protect an inner packet: the ESP packet from its SPI to its ICV.

        A packet of fewer than `padding` octets is filled up to as many (RFC 4303 section 2.7); it must say its own
        length then, as IP packets do. Raises SequenceExhausted after the last sequence number, and CryptoError where
        the cipher has no nonce left.
        """
        sequence = self.sequence + 1
        if sequence > self._last_sequence:
            raise SequenceExhausted(f"SA {self.spi:08x} has sent {self.sequence} packets")
        self.sequence = sequence
        size = len(packet)
        if size < padding:
            packet += bytes(padding - size)
        plaintext = packet + _trailers(next_header)[-(len(packet) + _TRAILER_OCTETS) & self._align_mask]
        if not self.is_esn:
            header = aad = _HEADER.pack(self.spi, sequence)
            suffix = b""
        else:
            header = _HEADER.pack(self.spi, sequence & 0xFFFFFFFF)
            aad, suffix = _cover_esn(self.spi, sequence, header, self.protection)
        body = self.protection.seal(aad, plaintext, suffix)
        self.packets += 1
        self.octets += size
        return header + body


class InboundSa:
    """The receiving half of a CHILD_SA."""

    __slots__ = ("octets", "packets", "protection", "spi", "window")

    def __init__(self, spi: int, protection: PacketProtection, *, is_esn: bool, replay_window: int = 32) -> None:
        """Make an SA that receives under our `spi`; a `replay_window` of 0 packets accepts replays."""
        self.spi = spi
        self.protection = protection
        self.window = ReplayWindow(replay_window, is_esn=is_esn)
        self.packets = 0
        self.octets = 0

    @property
    def state(self) -> InboundState:
        """How far it has come: for one that goes on in its place."""
        return InboundState(self.window.highest, self.window.seen, self.packets, self.octets)

    def resume(self, state: InboundState) -> None:
        """Go on from there, with what has received nothing yet."""
        self.window.restore(state.highest, state.seen)
        self.packets = state.packets
        self.octets = state.octets

    def decapsulate(self, datagram: bytes) -> tuple[int, bytes]:
        """Open an ESP packet that carries this SA's SPI: its Next Header, and the inner packet without padding.

        Raises ReplayError, IntegrityError, and WireError where an authentic packet is malformed. None but an authentic
        packet changes the SA.
        """
        if len(datagram) < HEADER_OCTETS:
            raise WireError("esp_short")
        window = self.window
        protection = self.protection
        sequence = window.check(_U32.unpack_from(datagram, 4)[0])
        aad = datagram[:HEADER_OCTETS]
        suffix = b""
        if window.is_esn:
            aad, suffix = _cover_esn(self.spi, sequence, aad, protection)
        plaintext = protection.open(aad, datagram[HEADER_OCTETS:], suffix)
        window.accept(sequence)
        packet = _cut_trailer(plaintext)
        self.packets += 1
        self.octets += len(packet)
        return plaintext[-1], packet


def _cover_esn(spi: int, sequence: int, header: bytes, protection: PacketProtection) -> tuple[bytes, bytes]:
    """Additional data and implicit suffix by which the ICV covers the high half of a sequence number."""
    if protection.is_aead:
        return _ESN_AAD.pack(spi, sequence), b""
    return header, _U32.pack(sequence >> 32)


def _cut_trailer(plaintext: bytes) -> bytes:
    """The payload of a decrypted packet, without trailer, padding and TFC padding (RFC 4303 sections 2.4 to 2.7)."""
    end = len(plaintext) - _TRAILER_OCTETS
    if end < 0:
        raise WireError("esp_padding")
    pad_length = plaintext[end]
    if pad_length:
        start = end - pad_length
        if start < 0 or plaintext[start:end] != _PADDINGS[pad_length]:
            raise WireError("esp_padding")
        end = start
    next_header = plaintext[-1]
    if next_header == _IPV4:
        if end < _IPV4_HEADER_OCTETS:
            raise WireError("esp_inner_length")
        size = _U16.unpack_from(plaintext, 2)[0]
    elif next_header == _IPV6:
        if end < _IPV6_HEADER_OCTETS:
            raise WireError("esp_inner_length")
        size = _IPV6_HEADER_OCTETS + _U16.unpack_from(plaintext, 4)[0]
    else:
        size = end
    # What follows the inner packet is TFC padding (RFC 4303 section 2.7).
    if size > end:
        raise WireError("esp_inner_length")
    return plaintext[:size]
