"""The Encrypted payload around everything after IKE_SA_INIT (RFC 7296 section 3.14), and its fragments (RFC 7383).

What goes out for one message is a *flight*: the datagram, or one datagram for each fragment, one behind the other in
the same octets. Each says its length in its header, so a flight is taken apart where it is sent, and everybody else
treats it as the one string of octets that it nearly always is.
"""

import struct

from cygnet.crypto.errors import IntegrityError
from cygnet.crypto.protection import PacketProtection
from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.header import HEADER_OCTETS, VERSION_2
from cygnet.wire.message import encode_payloads
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.encrypted import Encrypted
from cygnet.wire.payloads.encrypted_fragment import EncryptedFragment

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_SK = PayloadType.SK
_SKF = PayloadType.SKF

_HEADER_AND_SK = struct.Struct(">8s8sBBBBIIBBH")
_HEADER_AND_SKF = struct.Struct(">8s8sBBBBIIBBHHH")
_SK_HEADER_OCTETS = 4
SOLE_BODY_OFFSET = HEADER_OCTETS + _SK_HEADER_OCTETS
"""Of the body of an Encrypted payload that is all there is in a datagram (`sole_encrypted`)."""
_SKF_HEADER_OCTETS = 8
_NEXT_PAYLOAD_OFFSET = 16
_LENGTH = struct.Struct(">I")
_LENGTH_OFFSET = 24
_PADDINGS = tuple(bytes(octets) + bytes((octets,)) for octets in range(256))
"""Padding and Pad Length, by the octets of the padding."""
_LEAST_SHARE = 16
"""Octets of a message that a fragment has at least, however small it is asked to be."""
_MAX_TOTAL = 0xFFFF


def seal_message(
    protection: PacketProtection,
    *,
    spi_i: bytes,
    spi_r: bytes,
    exchange_type: int,
    flags: int,
    message_id: int,
    payloads: tuple[Payload, ...],
    largest_octets: int = 0,
) -> bytes:
    """A whole datagram whose payloads are all inside one Encrypted payload.

    If that were longer than `largest_octets` (0 sets no limit), the fragments of it: a flight.
    """
    inner_type, chain = encode_payloads(payloads)
    plaintext = chain + _PADDINGS[-(len(chain) + 1) % protection.block_octets]
    sk_octets = _SK_HEADER_OCTETS + protection.overhead + len(plaintext)
    if 0 < largest_octets < HEADER_OCTETS + sk_octets:
        return seal_fragments(
            protection,
            spi_i=spi_i,
            spi_r=spi_r,
            exchange_type=exchange_type,
            flags=flags,
            message_id=message_id,
            inner_type=inner_type,
            chain=chain,
            largest_octets=largest_octets,
        )
    aad = _HEADER_AND_SK.pack(
        spi_i,
        spi_r,
        _SK,
        VERSION_2,
        exchange_type,
        flags,
        message_id,
        HEADER_OCTETS + sk_octets,
        inner_type,
        0,
        sk_octets,
    )
    return aad + protection.seal(aad, plaintext)


def seal_fragments(
    protection: PacketProtection,
    *,
    spi_i: bytes,
    spi_r: bytes,
    exchange_type: int,
    flags: int,
    message_id: int,
    inner_type: int,
    chain: bytes,
    largest_octets: int,
) -> bytes:
    """A flight of fragments that hold the payloads of `chain`, each datagram of at most `largest_octets`.

    RFC 7383 section 2.5: each is protected like a message of its own, and only the first names the type of the first
    payload inside. Raises WireError for more fragments than can be numbered.
    """
    block = protection.block_octets
    room = largest_octets - HEADER_OCTETS - _SKF_HEADER_OCTETS - protection.overhead
    share = max(room // block * block - 1, _LEAST_SHARE)
    total = -(-len(chain) // share)
    if total > _MAX_TOTAL:
        raise WireError(WireFault.TOO_LONG)
    flight = bytearray()
    for number in range(1, total + 1):
        piece = chain[(number - 1) * share : number * share]
        plaintext = piece + _PADDINGS[-(len(piece) + 1) % block]
        skf_octets = _SKF_HEADER_OCTETS + protection.overhead + len(plaintext)
        aad = _HEADER_AND_SKF.pack(
            spi_i,
            spi_r,
            _SKF,
            VERSION_2,
            exchange_type,
            flags,
            message_id,
            HEADER_OCTETS + skf_octets,
            inner_type if number == 1 else 0,
            0,
            skf_octets,
            number,
            total,
        )
        flight += aad
        flight += protection.seal(aad, plaintext)
    return bytes(flight)


def is_fragmented(flight: bytes) -> bool:
    """Whether a flight (or a datagram) is made of fragments."""
    return flight[_NEXT_PAYLOAD_OFFSET] == _SKF


def datagrams_of(flight: bytes) -> list[bytes]:
    """The datagrams of a flight that we have made."""
    datagrams = []
    while flight:
        (length,) = _LENGTH.unpack_from(flight, _LENGTH_OFFSET)
        datagrams.append(flight[:length])
        flight = flight[length:]
    return datagrams


def open_message(protection: PacketProtection, datagram: bytes, encrypted: Encrypted | EncryptedFragment) -> bytes:
    """The octets of the payload chain inside `encrypted`, the last payload of `datagram`; of a fragment, its share.

    Raises IntegrityError if the peer, the holder of the keys, did not make it.
    """
    return open_body(protection, datagram, len(datagram) - len(encrypted.body))


def open_body(protection: PacketProtection, datagram: bytes, start: int = SOLE_BODY_OFFSET) -> bytes:
    """The same by where the body of the payload begins: where it does if nothing else is before it, say."""
    plaintext = protection.open(datagram[:start], datagram[start:])
    octets = len(plaintext)
    if not octets or plaintext[-1] >= octets:
        raise IntegrityError("the padding is longer than the plaintext")
    return plaintext[: octets - plaintext[-1] - 1]
