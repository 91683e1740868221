"""Chains of payloads, and whole messages."""

import pytest

from cygnet.iana import ExchangeType, NotifyType, PayloadType
from cygnet.wire.errors import IkeError, WireError, WireFault
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, HEADER_OCTETS, NO_SPI, decode_header
from cygnet.wire.message import (
    MAX_PAYLOADS,
    decode_message,
    decode_payloads,
    encode_message,
    encode_payloads,
    sole_encrypted,
)
from cygnet.wire.payloads import (
    Certificate,
    Encrypted,
    EncryptedFragment,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Unknown,
    VendorId,
)

SPI_I = b"initiatr"
SPI_R = b"respondr"
COOKIE = Notify(0, b"", NotifyType.COOKIE, b"\x5a" * 24)


def message(*payloads: Payload) -> bytes:
    return encode_message(
        spi_i=SPI_I,
        spi_r=SPI_R,
        exchange_type=ExchangeType.IKE_AUTH,
        flags=FLAG_INITIATOR,
        message_id=1,
        payloads=payloads,
    )


def test_a_whole_message_octet_by_octet() -> None:
    """A responder's demand for a cookie (RFC 7296 section 2.6)."""
    datagram = encode_message(
        spi_i=SPI_I,
        spi_r=NO_SPI,
        exchange_type=ExchangeType.IKE_SA_INIT,
        flags=FLAG_RESPONSE,
        message_id=0,
        payloads=(COOKIE,),
    )
    assert datagram == bytes.fromhex(
        SPI_I.hex() + "0000000000000000 29 20 22 20 00000000 0000003c 00 00 0020 00 00 4006" + "5a" * 24
    )
    decoded = decode_message(datagram)
    assert decoded.header == decode_header(datagram)
    assert decoded.payloads == (COOKIE,)


def test_the_chain_names_each_next_payload() -> None:
    first, octets = encode_payloads((KeyExchange(31, b"p"), Nonce(bytes(16)), VendorId(b"v")))
    assert first == PayloadType.KE
    assert octets == bytes.fromhex(
        "28 00 0009 001f 0000 70"  # KE, then a nonce
        "2b 00 0014" + "00" * 16 + "00 00 0005 76"  # nonce, then a vendor ID; vendor ID, then nothing
    )


def test_no_payloads() -> None:
    assert encode_payloads(()) == (0, b"")
    assert decode_payloads(0, b"") == ()
    assert decode_message(message()).payloads == ()


def test_the_encrypted_payload_is_the_tail_of_the_datagram() -> None:
    """What comes before the sealed body is the associated data, with every length already in place."""
    draft = message(COOKIE, Encrypted(PayloadType.IDI, bytes(40)))
    aad = draft[:-40]
    assert aad[-4:] == bytes.fromhex("23 00 002c")
    decoded = decode_message(aad + b"s" * 40)
    assert decoded.payloads == (COOKIE, Encrypted(PayloadType.IDI, b"s" * 40))
    assert decoded.header.next_payload == PayloadType.NOTIFY


def test_the_fragment_numbers_belong_to_the_associated_data() -> None:
    """RFC 7383 section 2.5."""
    draft = message(EncryptedFragment(PayloadType.IDI, 1, 2, bytes(40)))
    assert draft[:-40][-8:] == bytes.fromhex("23 00 0030 0001 0002")
    assert decode_message(draft).payloads == (EncryptedFragment(PayloadType.IDI, 1, 2, bytes(40)),)


@pytest.mark.parametrize("critical", ["00", "80", "ff"])
def test_the_critical_bit_of_a_known_payload_is_ignored(critical: str) -> None:
    """RFC 7296 section 2.5."""
    octets = bytes.fromhex(f"00 {critical} 0014" + "00" * 16)
    assert decode_payloads(PayloadType.NONCE, octets) == (Nonce(bytes(16)),)


@pytest.mark.parametrize("payload_type", [1, 32, PayloadType.GSPM, PayloadType.KD, 200, 255])
@pytest.mark.parametrize(("critical", "is_critical"), [("00", False), ("7f", False), ("80", True), ("ff", True)])
def test_an_unknown_payload_is_kept_with_its_critical_bit(payload_type: int, critical: str, is_critical: bool) -> None:
    octets = bytes.fromhex(f"28 {critical} 0006 abcd 00 00 0014" + "00" * 16)
    unknown = Unknown(payload_type, is_critical, b"\xab\xcd")
    assert decode_payloads(payload_type, octets) == (unknown, Nonce(bytes(16)))
    assert encode_payloads((unknown,)) == (
        payload_type,
        bytes.fromhex(f"00 {'80' if is_critical else '00'} 0006 abcd"),
    )


@pytest.mark.parametrize(
    ("first", "octets", "fault"),
    [
        (0, "00", WireFault.TRAILING_OCTETS),
        (43, "", WireFault.TRUNCATED),
        (43, "00 00 00", WireFault.TRUNCATED),
        (43, "00 00 0000", WireFault.BAD_LENGTH),
        (43, "2b 00 0000", WireFault.BAD_LENGTH),
        (43, "2b 00 0003", WireFault.BAD_LENGTH),
        (43, "00 00 0005", WireFault.BAD_LENGTH),
        (43, "00 00 ffff 00", WireFault.BAD_LENGTH),
        (43, "00 00 0004 00", WireFault.TRAILING_OCTETS),
        (43, "2b 00 0004", WireFault.TRUNCATED),
        (46, "00 00 0004", WireFault.NESTED_ENCRYPTED),
        (53, "00 00 0008 0001 0001", WireFault.NESTED_ENCRYPTED),
        (46, "00 00 0004 00 00 0004", WireFault.ENCRYPTED_NOT_LAST),
        (46, "2b 00 0004 00 00 0004", WireFault.ENCRYPTED_NOT_LAST),
        (53, "00 00 0008 0001 0001 00", WireFault.ENCRYPTED_NOT_LAST),
        (40, "00 00 0004", WireFault.BAD_NONCE_LENGTH),
    ],
)
def test_a_broken_chain_is_refused(first: int, octets: str, fault: WireFault) -> None:
    with pytest.raises(WireError) as caught:
        decode_payloads(first, bytes.fromhex(octets))
    assert caught.value.reason == fault


def test_a_zero_length_payload_that_names_itself_does_not_loop() -> None:
    """A peer of ours once read such a datagram for ever, before any authentication."""
    datagram = message(VendorId(b""))
    looping = datagram[:HEADER_OCTETS] + bytes.fromhex("2b 00 0000")
    with pytest.raises(WireError) as caught:
        decode_message(looping)
    assert caught.value.reason == WireFault.BAD_LENGTH


def test_the_number_of_payloads_is_bounded() -> None:
    most = (VendorId(b""),) * MAX_PAYLOADS
    assert decode_payloads(*encode_payloads(most)) == most
    with pytest.raises(WireError) as caught:
        decode_payloads(*encode_payloads((*most, VendorId(b""))))
    assert caught.value.reason == WireFault.TOO_MANY_PAYLOADS


def test_a_payload_longer_than_its_length_field_is_not_encoded() -> None:
    first, octets = encode_payloads((VendorId(bytes(0xFFFB)),))
    assert decode_payloads(first, octets) == (VendorId(bytes(0xFFFB)),)
    with pytest.raises(WireError) as caught:
        encode_payloads((VendorId(bytes(0xFFFC)),))
    assert caught.value.reason == WireFault.TOO_LONG


def test_a_generic_header_may_hold_any_octets() -> None:
    """Some are percent signs: the type of a Certificate (37), and the length of a body of 33 octets."""
    payloads = (Nonce(bytes(33)), Certificate(4, b"%b"), Nonce(b"%" * 33))
    first, octets = encode_payloads(payloads)
    assert octets[:4] == b"%\x00\x00%"
    assert decode_payloads(first, octets) == payloads


@pytest.mark.parametrize("container", [Encrypted(0, b"sealed"), EncryptedFragment(0, 1, 1, b"sealed")])
def test_nothing_is_encoded_behind_a_container(container: Payload) -> None:
    with pytest.raises(WireError) as caught:
        encode_payloads((container, VendorId(b"")))
    assert caught.value.reason == WireFault.ENCRYPTED_NOT_LAST


def test_a_header_that_is_at_hand_is_not_decoded_again() -> None:
    datagram = message(COOKIE)
    header = decode_header(datagram)
    assert decode_message(datagram, header).header is header


def test_wire_errors_are_ike_errors() -> None:
    assert issubclass(WireError, IkeError)


SEALED = message(Encrypted(PayloadType.NONCE, bytes(24)))


@pytest.mark.parametrize("inner_type", [0, PayloadType.NONCE])
@pytest.mark.parametrize("octets", [0, 1, 24, 300])
def test_a_datagram_that_is_one_encrypted_payload_is_known_at_once(inner_type: int, octets: int) -> None:
    datagram = message(Encrypted(inner_type, bytes(octets)))
    assert sole_encrypted(datagram, decode_header(datagram)) == inner_type
    assert decode_message(datagram).payloads == (Encrypted(inner_type, bytes(octets)),)


@pytest.mark.parametrize(
    "datagram",
    [
        message(),
        message(COOKIE),
        message(COOKIE, Encrypted(PayloadType.NONCE, bytes(24))),
        message(EncryptedFragment(PayloadType.NONCE, 1, 2, bytes(24))),
        *(
            SEALED[:24] + length.to_bytes(4, "big") + SEALED[28:length]
            for length in range(HEADER_OCTETS, len(SEALED) - 1)
        ),
        *(SEALED[:30] + octets.to_bytes(2, "big") + SEALED[32:] for octets in range(60) if octets != 28),
    ],
)
def test_for_any_other_datagram_it_is_asked_what_it_is(datagram: bytes) -> None:
    """Other payloads before it, a fragment, and an Encrypted payload that is cut off, or says another length."""
    assert sole_encrypted(datagram, decode_header(datagram)) is None
