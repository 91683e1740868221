"""The header, against the layout of RFC 7296 section 3.1."""

import pytest

from cygnet.iana import ExchangeType, PayloadType
from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.header import (
    FLAG_INITIATOR,
    FLAG_RESPONSE,
    FLAG_VERSION,
    HEADER_OCTETS,
    NO_SPI,
    Header,
    decode_header,
    encode_header,
)

OCTETS = bytes.fromhex("0102030405060708 1112131415161718 2e 20 23 08 00000001 0000001c")


def test_layout() -> None:
    header = decode_header(OCTETS)
    assert header == Header(
        spi_i=bytes.fromhex("0102030405060708"),
        spi_r=bytes.fromhex("1112131415161718"),
        next_payload=PayloadType.SK,
        version=0x20,
        exchange_type=ExchangeType.IKE_AUTH,
        flags=FLAG_INITIATOR,
        message_id=1,
        length=HEADER_OCTETS,
    )
    encoded = encode_header(
        spi_i=header.spi_i,
        spi_r=header.spi_r,
        next_payload=header.next_payload,
        exchange_type=header.exchange_type,
        flags=header.flags,
        message_id=header.message_id,
        length=header.length,
    )
    assert encoded == OCTETS


@pytest.mark.parametrize(
    ("flags", "is_initiator", "is_response"),
    [
        (0, False, False),
        (FLAG_INITIATOR, True, False),
        (FLAG_RESPONSE, False, True),
        (FLAG_INITIATOR | FLAG_RESPONSE | FLAG_VERSION, True, True),
        (0xFF & ~FLAG_INITIATOR, False, True),
        (0xFF & ~FLAG_RESPONSE, True, False),
    ],
)
def test_flags(flags: int, is_initiator: bool, is_response: bool) -> None:
    header = decode_header(OCTETS[:19] + bytes((flags,)) + OCTETS[20:])
    assert (header.is_initiator, header.is_response) == (is_initiator, is_response)


def test_other_versions_are_for_the_caller_to_refuse() -> None:
    assert decode_header(OCTETS[:17] + b"\x31" + OCTETS[18:]).major_version == 3


@pytest.mark.parametrize(
    ("datagram", "fault"),
    [
        (b"", WireFault.TRUNCATED),
        (OCTETS[:-1], WireFault.TRUNCATED),
        (OCTETS + b"\0", WireFault.BAD_LENGTH),
        (OCTETS[:-1] + b"\x1b", WireFault.BAD_LENGTH),
        (OCTETS[:-4] + b"\xff\xff\xff\xff", WireFault.BAD_LENGTH),
    ],
)
def test_refused(datagram: bytes, fault: WireFault) -> None:
    with pytest.raises(WireError) as caught:
        decode_header(datagram)
    assert caught.value.reason == fault
    assert str(caught.value) == fault.value


@pytest.mark.parametrize(("spi_i", "spi_r"), [(b"short", NO_SPI), (NO_SPI, bytes(9))])
def test_an_spi_of_another_size_is_neither_padded_nor_cut(spi_i: bytes, spi_r: bytes) -> None:
    with pytest.raises(WireError) as caught:
        encode_header(spi_i=spi_i, spi_r=spi_r, next_payload=0, exchange_type=37, flags=0, message_id=0, length=28)
    assert caught.value.reason == WireFault.BAD_SPI_SIZE
