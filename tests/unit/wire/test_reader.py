"""The reader: nothing read twice, nothing read past the end, nothing left over."""

import pytest

from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.reader import Reader


def test_reads_in_network_byte_order() -> None:
    reader = Reader(bytes(range(1, 13)))
    assert (reader.u8(), reader.u16(), reader.u32()) == (0x01, 0x0203, 0x04050607)
    assert reader.octets(2) == b"\x08\x09"
    assert reader.remaining == 3
    assert reader.rest() == b"\x0a\x0b\x0c"
    reader.finish()


def test_octets_are_copies_even_of_a_view() -> None:
    buffer = bytearray(b"abcd")
    octets = Reader(memoryview(buffer)).octets(2)
    buffer[0] = 0
    assert octets == b"ab"


def test_a_sub_reader_ends_where_it_is_told() -> None:
    reader = Reader(b"\x02abc")
    with reader.sub(reader.u8()) as inner:
        assert inner.octets(2) == b"ab"
        with pytest.raises(WireError):
            inner.u8()
    assert reader.rest() == b"c"


def test_leaving_a_sub_reader_checks_that_all_was_read() -> None:
    reader = Reader(b"ab")
    with pytest.raises(WireError) as caught, reader.sub(2) as inner:
        inner.u8()
    assert caught.value.reason == WireFault.TRAILING_OCTETS


def test_leaving_with_an_error_keeps_that_error() -> None:
    with pytest.raises(KeyError), Reader(b"ab"):
        raise KeyError


@pytest.mark.parametrize("count", [-1, 3, 1 << 40])
def test_a_refused_read_does_not_move(count: int) -> None:
    reader = Reader(b"ab")
    for read in (reader.octets, reader.sub):
        with pytest.raises(WireError) as caught:
            read(count)
        assert caught.value.reason == WireFault.TRUNCATED
    with pytest.raises(WireError):
        reader.u32()
    assert reader.u16() == 0x6162
