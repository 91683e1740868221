"""What may be written into a message, and what comes out."""

import pytest

from cygnet.vici.message import Encodable, ViciError, decode, encode


def test_numbers_truths_and_texts_become_octets() -> None:
    message: Encodable = {"uniqueid": 7, "encap": True, "initiator": False, "state": "ESTABLISHED", "left-out": None}
    assert decode(encode(message)) == {
        "uniqueid": b"7",
        "encap": b"yes",
        "initiator": b"no",
        "state": b"ESTABLISHED",
    }


def test_an_empty_list_stays_a_list() -> None:
    assert decode(encode({"conns": ()})) == {"conns": []}


def test_lists_may_be_of_anything_that_can_be_a_value() -> None:
    assert decode(encode({"local-ts": ("10.0.0.0/8", b"\xff", 1)})) == {"local-ts": [b"10.0.0.0/8", b"\xff", b"1"]}


@pytest.mark.parametrize("message", [{"n" * 256: "v"}, {"name": b"v" * 65536}, {"list": [b"v" * 65536]}])
def test_what_has_no_room_is_an_error(message: dict[str, bytes]) -> None:
    with pytest.raises(ViciError):
        encode(message)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"\x02", "did not begin"),
        (b"\x01\x01a", "within a list or a section"),
        (b"\x04\x01a", "within a list or a section"),
        (b"\x04\x01a\x03\x01b\x00\x00", "no item"),
        (b"\x05\x00\x00", "unknown element"),
        (b"\x03\x01a\x00\x05x", "cut off"),
        (b"\x03\x02\xff\xff\x00\x00", "UTF-8"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(octets: bytes, why: str) -> None:
    with pytest.raises(ViciError, match=why):
        decode(octets)
