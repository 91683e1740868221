"""Which worker's socket gets a datagram: the rules, once for people and tests, once for the kernel.

Every worker has a socket of its own in one SO_REUSEPORT group, and an SA has one worker for life. On a NAT-T port it
has two: IKE queues apart from ESP, since a queue that a flood of ESP has filled has no room for the IKE_AUTH that
comes to the same port, and the kernel would drop the one as readily as the other.

The kernel runs `steering_program` on each datagram and hands it to the socket that the result names, by the order in
which the sockets were bound. `steer` states the same rules in Python; a property test holds the two together.

The rules rest on the layout of our SPIs (`cygnet.ike.spi`):

* On a NAT-T port four zero octets precede IKE (RFC 3948 section 2.2); anything else is ESP, and the worker is in its
  SPI. Its socket is that many places behind the workers' sockets for IKE.
* IKE whose Initiator flag is set comes from the original initiator, so our SPI is the responder's (RFC 7296
  section 3.1). While that is zero, this is a request for a new SA: a keyed hash of the initiator's SPI
  chooses, so that retransmissions, and the return with a cookie, meet the same worker.
* IKE whose Initiator flag is clear comes from the original responder, so our SPI is the initiator's.
* What is too short for these rules is nobody's. The kernel spreads it by its hash of the flow.
"""

import struct
from typing import Final

import msgspec

from cygnet.ike.spi import owner, worker_of_esp_spi, worker_of_ike_spi
from cygnet.net.bpf import Instruction, Label, Op, assemble

SPREAD_BY_FLOW: Final = 0xFFFFFFFF
"""The program's result where it has no opinion: the kernel ignores an index that no socket has."""

_FLAGS_OFFSET: Final = 19
_FLAG_INITIATOR: Final = 0x08
_MARKER_OCTETS: Final = 4
_MIX_1: Final = 0x85EBCA6B
_MIX_2: Final = 0xC2B2AE35
"""Odd multipliers with good avalanche, from MurmurHash3's finaliser."""
_WORDS: Final = struct.Struct("!II")


class SteeringKey(msgspec.Struct, frozen=True, gc=False):
    """Keeps peers from predicting which worker an initiator SPI leads to: two random words of 32 bits."""

    high: int
    low: int

    @classmethod
    def from_octets(cls, octets: bytes) -> "SteeringKey":
        """The key that 8 random octets make."""
        high, low = _WORDS.unpack(octets)
        return cls(high, low)

    def __repr__(self) -> str:
        return "SteeringKey(<redacted>)"


def steer(datagram: bytes, *, workers: int, key: SteeringKey, is_natt: bool) -> int | None:
    """The place in the group of the socket that gets `datagram`, a UDP payload: the worker's number, or `workers` more
    for ESP. None leaves it to the kernel's hash of the flow.
    """
    if is_natt:
        if len(datagram) < _MARKER_OCTETS:
            return None
        if datagram[:_MARKER_OCTETS] != bytes(_MARKER_OCTETS):
            return workers + owner(worker_of_esp_spi(datagram), workers)
        datagram = datagram[_MARKER_OCTETS:]
    if len(datagram) <= _FLAGS_OFFSET:
        return None
    spi_i, spi_r = datagram[:8], datagram[8:16]
    if not datagram[_FLAGS_OFFSET] & _FLAG_INITIATOR:
        return owner(worker_of_ike_spi(spi_i), workers)
    if spi_r != bytes(8):
        return owner(worker_of_ike_spi(spi_r), workers)
    return hash_spi(spi_i, key) % workers


def hash_spi(spi_i: bytes, key: SteeringKey) -> int:
    """32 bits that depend on all of an initiator's SPI and on the key."""
    high: int
    low: int
    high, low = _WORDS.unpack(spi_i)
    mixed = (high ^ key.high) * _MIX_1 & 0xFFFFFFFF
    mixed ^= mixed >> 15
    mixed ^= low
    mixed = (mixed ^ key.low) * _MIX_2 & 0xFFFFFFFF
    mixed ^= mixed >> 13
    mixed = mixed * _MIX_1 & 0xFFFFFFFF
    mixed ^= mixed >> 16
    return mixed


def steering_program(*, workers: int, key: SteeringKey, is_natt: bool) -> bytes:
    """`steer` as classic BPF, for SO_ATTACH_REUSEPORT_CBPF: it sees the UDP payload and returns an index."""
    ike = _MARKER_OCTETS if is_natt else 0
    source: list[Instruction | Label] = [Instruction(Op.LOAD_LENGTH)]
    if is_natt:
        source += [
            Instruction(Op.JUMP_IF_AT_LEAST, _MARKER_OCTETS, otherwise="nobody"),
            Instruction(Op.LOAD_WORD, 0),
            Instruction(Op.JUMP_IF_EQUAL, 0, then="ike"),
            *_esp_owner(Instruction(Op.LOAD_OCTET, 0), workers),
            Instruction(Op.ADD, workers),
            Instruction(Op.RETURN_A),
            Label("ike"),
            Instruction(Op.LOAD_LENGTH),
        ]
    source += [
        Instruction(Op.JUMP_IF_AT_LEAST, ike + _FLAGS_OFFSET + 1, otherwise="nobody"),
        Instruction(Op.LOAD_OCTET, ike + _FLAGS_OFFSET),
        Instruction(Op.JUMP_IF_ANY_BIT, _FLAG_INITIATOR, then="from initiator"),
        Instruction(Op.LOAD_OCTET, ike + 1),
        Instruction(Op.JUMP, then="owner"),
        Label("from initiator"),
        Instruction(Op.LOAD_WORD, ike + 8),
        Instruction(Op.JUMP_IF_EQUAL, 0, otherwise="known"),
        Instruction(Op.LOAD_WORD, ike + 12),
        Instruction(Op.JUMP_IF_EQUAL, 0, then="new"),
        Label("known"),
        Instruction(Op.LOAD_OCTET, ike + 9),
        Instruction(Op.JUMP, then="owner"),
        Label("new"),
        *_hash_spi(ike, key),
        Label("owner"),
        Instruction(Op.MODULO, workers),
        Instruction(Op.RETURN_A),
        Label("nobody"),
        Instruction(Op.RETURN, SPREAD_BY_FLOW),
    ]
    return assemble(source)


def raw_esp_filter(*, worker: int, workers: int, is_ipv6: bool) -> bytes:
    """A socket filter that passes only the ESP packets of one worker (SO_ATTACH_FILTER).

    Raw sockets form no SO_REUSEPORT group: each gets a copy of every packet, behind its IP header if it is
    IPv4.
    """
    if is_ipv6:
        load_spi = [Instruction(Op.LOAD_OCTET, 0)]
    else:
        load_spi = [Instruction(Op.LOAD_HEADER_LENGTH, 0), Instruction(Op.LOAD_OCTET_AT_X, 0)]
    return assemble(
        [
            *load_spi[:-1],
            *_esp_owner(load_spi[-1], workers),
            Instruction(Op.JUMP_IF_EQUAL, worker, otherwise="not ours"),
            Instruction(Op.RETURN, 0xFFFFFFFF),
            Label("not ours"),
            Instruction(Op.RETURN, 0),
        ]
    )


def _esp_owner(load_first_octet: Instruction, workers: int) -> list[Instruction]:
    """A = the worker that an ESP SPI leads to."""
    return [
        load_first_octet,
        Instruction(Op.ADD, 0xFF),
        Instruction(Op.AND, 0xFF),
        Instruction(Op.MODULO, workers),
    ]


def _hash_spi(offset: int, key: SteeringKey) -> list[Instruction]:
    """A = `hash_spi` of the eight octets at `offset`; X comes in between."""
    return [
        Instruction(Op.LOAD_WORD, offset),
        Instruction(Op.XOR, key.high),
        Instruction(Op.MULTIPLY, _MIX_1),
        *_fold(15),
        Instruction(Op.TO_X),
        Instruction(Op.LOAD_WORD, offset + 4),
        Instruction(Op.XOR_X),
        Instruction(Op.XOR, key.low),
        Instruction(Op.MULTIPLY, _MIX_2),
        *_fold(13),
        Instruction(Op.MULTIPLY, _MIX_1),
        *_fold(16),
    ]


def _fold(bits: int) -> list[Instruction]:
    """A ^= A >> bits."""
    return [Instruction(Op.TO_X), Instruction(Op.SHIFT_RIGHT, bits), Instruction(Op.XOR_X)]
