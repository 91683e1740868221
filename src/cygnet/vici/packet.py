"""The packets of vici: what stands on the stream around messages (strongSwan's vici README, "Transport protocol").

length (4 octets, big endian) | type (1) | name length (1), name, where the type has a name | message, where it has one
"""

import struct
from enum import IntEnum
from typing import Final

import msgspec

from cygnet.vici.message import Encodable, ViciError, encode

MAX_PACKET_OCTETS: Final = 512 * 1024
"""As in strongSwan; the length field of a longer one ends the connection."""

LENGTH: Final = struct.Struct("!I")


class PacketType(IntEnum):
    """What a packet is."""

    CMD_REQUEST = 0
    """A command of the client's, with its name and a message."""
    CMD_RESPONSE = 1
    """The answer to the oldest command that has none."""
    CMD_UNKNOWN = 2
    """The same, for a command that there isn't."""
    EVENT_REGISTER = 3
    """The client wants events of that name."""
    EVENT_UNREGISTER = 4
    EVENT_CONFIRM = 5
    """The client gets them, or no longer."""
    EVENT_UNKNOWN = 6
    """There are no events of that name."""
    EVENT = 7
    """One event, with its name and a message."""


_NAMED: Final = frozenset(
    (PacketType.CMD_REQUEST, PacketType.EVENT_REGISTER, PacketType.EVENT_UNREGISTER, PacketType.EVENT)
)


class Packet(msgspec.Struct, frozen=True):
    """One packet."""

    type: PacketType
    name: str = ""
    body: bytes = b""
    """The message, encoded."""


def decode_packet(octets: bytes) -> Packet:
    """Take a packet apart, which comes without its length field; raises ViciError."""
    try:
        kind = PacketType(octets[0]) if octets else None
    except ValueError:
        kind = None
    if kind is None:
        raise ViciError("a packet of an unknown type")
    if kind not in _NAMED:
        return Packet(kind, body=octets[1:])
    end = 2 + (octets[1] if len(octets) > 1 else 0)
    if end > len(octets) or end == 2:
        raise ViciError("a packet without a name")
    try:
        return Packet(kind, octets[2:end].decode("ascii"), octets[end:])
    except UnicodeDecodeError:
        raise ViciError("the name of a packet is not ASCII") from None


def encode_event(name: str, message: Encodable) -> bytes:
    """One event as a packet. Raises ViciError."""
    return encode_packet(Packet(PacketType.EVENT, name, encode(message)))


def encode_packet(packet: Packet) -> bytes:
    """A packet with its length field. Raises ViciError if it is longer than any peer takes."""
    name = packet.name.encode("ascii")
    head = bytes((packet.type, len(name))) + name if packet.type in _NAMED else bytes((packet.type,))
    octets = len(head) + len(packet.body)
    if octets > MAX_PACKET_OCTETS:
        raise ViciError(f"a packet of {octets} octets")
    return LENGTH.pack(octets) + head + packet.body
