"""The Encrypted payload around a message (RFC 7296 section 3.14)."""

import os

import pytest

from cygnet.crypto.encr import ENCR
from cygnet.crypto.errors import IntegrityError
from cygnet.crypto.integ import INTEG
from cygnet.crypto.protection import PacketProtection, make_protection
from cygnet.iana import EncrId, IntegId, PayloadType
from cygnet.ike.protected import datagrams_of, is_fragmented, open_message, seal_message
from cygnet.wire.message import decode_message, decode_payloads, encode_payloads
from cygnet.wire.payloads import Encrypted, EncryptedFragment, Payload
from cygnet.wire.payloads.vendor_id import VendorId

VENDOR = VendorId.payload_type
SPI_I, SPI_R = b"initiatr", b"respondr"
SUITES = {
    "aead": (EncrId.AES_GCM_16, None),
    "chacha": (EncrId.CHACHA20_POLY1305, None),
    "cbc": (EncrId.AES_CBC, IntegId.HMAC_SHA2_256_128),
    "ctr": (EncrId.AES_CTR, IntegId.HMAC_SHA1_96),
}


@pytest.fixture(params=SUITES.values(), ids=list(SUITES))
def protection(request: pytest.FixtureRequest) -> PacketProtection:
    encr_id, integ_id = request.param
    encr, integ = ENCR[encr_id], INTEG[integ_id] if integ_id is not None else None
    key_bits = 0 if encr_id == EncrId.CHACHA20_POLY1305 else 128
    return make_protection(
        encr,
        key_bits,
        integ,
        encr_key=bytes(range(encr.key_octets(key_bits))),
        integ_key=bytes(integ.key_octets) if integ else b"",
        entropy=os.urandom,
    )


def seal(protection: PacketProtection, *payloads: Payload) -> bytes:
    return seal_message(
        protection, spi_i=SPI_I, spi_r=SPI_R, exchange_type=37, flags=8, message_id=7, payloads=payloads
    )


def encrypted_of(datagram: bytes) -> Encrypted:
    (payload,) = decode_message(datagram).payloads
    assert isinstance(payload, Encrypted)
    return payload


@pytest.mark.parametrize("octets", [None, *range(20), 255, 300])
def test_what_is_sealed_opens_again(protection: PacketProtection, octets: int | None) -> None:
    payloads = () if octets is None else (VendorId(bytes(octets)),)
    datagram = seal(protection, *payloads)
    message = decode_message(datagram)
    header = message.header
    assert (header.spi_i, header.spi_r, header.exchange_type, header.flags, header.message_id) == (
        SPI_I,
        SPI_R,
        37,
        8,
        7,
    )
    encrypted = encrypted_of(datagram)
    assert encrypted.inner_type == (PayloadType.VENDOR_ID if payloads else 0)
    assert decode_payloads(encrypted.inner_type, open_message(protection, datagram, encrypted)) == payloads


def test_every_octet_is_covered(protection: PacketProtection) -> None:
    datagram = seal(protection, VendorId(b"hello"))
    body = encrypted_of(datagram).body
    for at in range(len(datagram)):
        octets = bytearray(datagram)
        octets[at] ^= 1
        changed = Encrypted(PayloadType.VENDOR_ID, bytes(octets[-len(body) :]))
        with pytest.raises(IntegrityError):
            open_message(protection, bytes(octets), changed)


@pytest.mark.parametrize("octets", range(0, 80, 7))
def test_too_short_a_body_is_no_message(protection: PacketProtection, octets: int) -> None:
    datagram = seal(protection, VendorId(b"hello"))[:32] + bytes(octets)
    with pytest.raises(IntegrityError):
        open_message(protection, datagram, Encrypted(PayloadType.VENDOR_ID, bytes(octets)))


@pytest.mark.parametrize("pad_octets", [0, 3, 255])
def test_the_sender_chooses_the_padding(pad_octets: int) -> None:
    """Section 3.14: any length that makes up a whole number of blocks, and any octets in it."""
    encr = ENCR[EncrId.AES_GCM_16]
    protection = make_protection(encr, 128, None, encr_key=bytes(20), integ_key=b"", entropy=os.urandom)
    inner_type, chain = encode_payloads((VendorId(b"x"),))
    for claimed, is_good in ((pad_octets, True), (len(chain) + pad_octets + 1, False)):
        if claimed > 255:
            continue
        plaintext = chain + b"\xaa" * pad_octets + bytes((claimed,))
        body = protection.seal(b"aad", plaintext)
        if is_good:
            assert open_message(protection, b"aad" + body, Encrypted(inner_type, body)) == chain
        else:
            with pytest.raises(IntegrityError):
                open_message(protection, b"aad" + body, Encrypted(inner_type, body))


def test_a_sealed_message_without_plaintext_is_refused() -> None:
    """Not even a Pad Length."""
    protection = make_protection(
        ENCR[EncrId.AES_GCM_16], 128, None, encr_key=bytes(20), integ_key=b"", entropy=os.urandom
    )
    body = protection.seal(b"aad", b"")
    with pytest.raises(IntegrityError):
        open_message(protection, b"aad" + body, Encrypted(0, body))


@pytest.mark.parametrize("largest", [1, 130, 200, 500])
@pytest.mark.parametrize("octets", [150, 500, 3000])
def test_a_long_message_is_sealed_in_fragments(protection: PacketProtection, octets: int, largest: int) -> None:
    """RFC 7383 section 2.5: each opens by itself, and together they are the message."""
    payloads: tuple[Payload, ...] = (VendorId(os.urandom(octets)), VendorId(b"last"))
    flight = seal_message(
        protection,
        spi_i=SPI_I,
        spi_r=SPI_R,
        exchange_type=37,
        flags=8,
        message_id=7,
        payloads=payloads,
        largest_octets=largest,
    )
    datagrams = datagrams_of(flight)
    assert b"".join(datagrams) == flight
    assert is_fragmented(flight) == (len(datagrams) > 1)
    if not is_fragmented(flight):
        assert len(flight) <= largest
        return
    chain = b""
    for number, datagram in enumerate(datagrams, 1):
        assert len(datagram) <= max(largest, 28 + 8 + protection.overhead + 32)
        (piece,) = decode_message(datagram).payloads
        assert isinstance(piece, EncryptedFragment)
        assert (piece.number, piece.total) == (number, len(datagrams))
        assert piece.inner_type == (VENDOR if number == 1 else 0)
        chain += open_message(protection, datagram, piece)
    assert decode_payloads(VENDOR, chain) == payloads


def test_a_message_that_fits_goes_whole(protection: PacketProtection) -> None:
    whole = seal(protection, VendorId(bytes(300)))
    assert datagrams_of(whole) == [whole] and not is_fragmented(whole)
    again = seal_message(
        protection,
        spi_i=SPI_I,
        spi_r=SPI_R,
        exchange_type=37,
        flags=8,
        message_id=7,
        payloads=(VendorId(bytes(300)),),
        largest_octets=len(whole),
    )
    assert not is_fragmented(again) and len(again) == len(whole)
