"""The Encrypted payload around everything after IKE_SA_INIT (RFC 7296 section 3.14)."""

import struct

from cygnet.crypto.errors import IntegrityError
from cygnet.crypto.protection import PacketProtection
from cygnet.iana import PayloadType
from cygnet.wire.header import HEADER_OCTETS, VERSION_2
from cygnet.wire.message import encode_payloads
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.encrypted import Encrypted

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_SK = PayloadType.SK

_HEADER_AND_SK = struct.Struct(">8s8sBBBBIIBBH")
_SK_HEADER_OCTETS = 4


def seal_message(
    protection: PacketProtection,
    *,
    spi_i: bytes,
    spi_r: bytes,
    exchange_type: int,
    flags: int,
    message_id: int,
    payloads: tuple[Payload, ...],
) -> bytes:
    """A whole datagram whose payloads are all inside one Encrypted payload."""
    inner_type, chain = encode_payloads(payloads)
    pad_octets = -(len(chain) + 1) % protection.block_octets
    sk_octets = _SK_HEADER_OCTETS + protection.iv_octets + len(chain) + pad_octets + 1 + protection.icv_octets
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
    return aad + protection.seal(aad, chain + bytes(pad_octets) + bytes((pad_octets,)))


def open_message(protection: PacketProtection, datagram: bytes, encrypted: Encrypted) -> bytes:
    """The octets of the payload chain inside `encrypted`, the last payload of `datagram`.

    Raises IntegrityError if the peer, the holder of the keys, did not make it.
    """
    body = encrypted.body
    plaintext = protection.open(datagram[: len(datagram) - len(body)], body)
    pad_octets = plaintext[-1] if plaintext else 0
    if pad_octets >= len(plaintext):
        raise IntegrityError("the padding is longer than the plaintext")
    return plaintext[: len(plaintext) - pad_octets - 1]
