"""Any octets are a vici message, or ViciError; what we encode is what strongSwan's client encodes and we decode."""

import pytest
import vici.protocol
from hypothesis import given
from hypothesis import strategies as st

from cygnet.vici.message import MAX_DEPTH, Section, ViciError, decode, encode
from cygnet.vici.packet import LENGTH, Packet, PacketType, decode_packet, encode_packet

_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(
    lambda name: len(name.encode()) <= 255
)
_VALUES = st.binary(max_size=300)
_SECTIONS: st.SearchStrategy[Section] = st.recursive(
    st.dictionaries(_NAMES, _VALUES | st.lists(_VALUES, max_size=4), max_size=4),
    lambda inner: st.dictionaries(_NAMES, _VALUES | st.lists(_VALUES, max_size=4) | inner, max_size=4),
    max_leaves=8,
)


@given(_SECTIONS)
def test_a_message_survives_the_round_trip(message: Section) -> None:
    assert decode(encode(message)) == message


@given(_SECTIONS)
def test_it_is_the_encoding_of_strongswans_own_client(message: Section) -> None:
    assert encode(message) == vici.protocol.Message.serialize(message)


@given(st.binary(max_size=200))
def test_any_octets_decode_or_raise_one_error(octets: bytes) -> None:
    try:
        message = decode(octets)
    except ViciError:
        return
    assert decode(encode(message)) == message


@given(
    st.lists(st.sampled_from([b"\x01\x01a", b"\x02", b"\x03\x01b\x00\x01x", b"\x04\x01c", b"\x05\x00\x01y", b"\x06"]))
)
def test_elements_in_any_order_decode_or_raise_one_error(elements: list[bytes]) -> None:
    try:
        decode(b"".join(elements))
    except ViciError:
        pass


@given(st.binary(max_size=80))
def test_any_octets_are_a_packet_or_raise_one_error(octets: bytes) -> None:
    try:
        packet = decode_packet(octets)
    except ViciError:
        return
    encoded = encode_packet(packet)
    assert LENGTH.unpack(encoded[:4])[0] == len(encoded) - 4
    assert decode_packet(encoded[4:]) == packet


def test_depth_is_bounded() -> None:
    decode(b"\x01\x01a" * MAX_DEPTH + b"\x02" * MAX_DEPTH)
    with pytest.raises(ViciError, match="within each other"):
        decode(b"\x01\x01a" * (MAX_DEPTH + 1))


def test_every_packet_type_survives_the_round_trip() -> None:
    for kind in PacketType:
        is_named = kind in (0, 3, 4, 7)
        packet = Packet(kind, "version" if is_named else "", b"x")
        assert decode_packet(encode_packet(packet)[4:]) == packet
