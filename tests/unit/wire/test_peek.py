"""Looking at one payload finds what taking the message apart finds, and is as hard to break."""

import pytest
from hypothesis import given
from tests.property.strategies_wire import chains, mutated

from cygnet.iana import ExchangeType, NotifyType
from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.header import FLAG_INITIATOR, NO_SPI
from cygnet.wire.message import decode_message, encode_message
from cygnet.wire.payloads import Nonce, Notify, Payload, VendorId
from cygnet.wire.peek import MAX_PEEKED, peek_cookie, peek_nonce

NONCE = Nonce(bytes(range(32)))
COOKIE = Notify(0, b"", NotifyType.COOKIE, b"a cookie")


def message(*payloads: Payload) -> bytes:
    return encode_message(
        spi_i=b"initiate",
        spi_r=NO_SPI,
        exchange_type=ExchangeType.IKE_SA_INIT,
        flags=FLAG_INITIATOR,
        message_id=0,
        payloads=payloads,
    )


@given(chains)
def test_the_nonce_is_the_first_that_decoding_finds(chain: tuple[Payload, ...]) -> None:
    octets = message(*chain)
    found = next((p.data for p in decode_message(octets).payloads if isinstance(p, Nonce)), None)
    if found is None:
        with pytest.raises(WireError):
            peek_nonce(octets)
    else:
        assert peek_nonce(octets) == found


@given(chains)
def test_the_cookie_is_what_decoding_finds_in_front(chain: tuple[Payload, ...]) -> None:
    octets = message(COOKIE, *chain)
    assert peek_cookie(octets) == COOKIE.data
    first = decode_message(message(*chain)).payloads[:1]
    is_cookie = bool(first) and isinstance(first[0], Notify) and first[0].notify_type == NotifyType.COOKIE
    assert peek_cookie(message(*chain)) == (first[0].data if is_cookie else b"")  # type: ignore[union-attr]


@given(mutated(message(COOKIE, VendorId(b"v"), NONCE)))
def test_octets_that_are_nearly_right_raise_nothing_else(octets: bytes) -> None:
    for peek in (peek_cookie, peek_nonce):
        try:
            assert peek(octets) in octets
        except WireError as error:
            assert error.reason in tuple(WireFault)


def test_a_cookie_that_does_not_stand_first_is_none() -> None:
    assert peek_cookie(message(NONCE, COOKIE)) == b""


def test_a_nonce_behind_a_crowd_of_payloads_is_not_looked_for() -> None:
    crowd = [VendorId(b"")] * (MAX_PEEKED - 1)
    assert peek_nonce(message(*crowd, NONCE)) == NONCE.data
    with pytest.raises(WireError, match="no_nonce"):
        peek_nonce(message(*crowd, VendorId(b""), NONCE))


@pytest.mark.parametrize("length", [15, 257])
def test_a_nonce_of_a_length_that_is_not_allowed(length: int) -> None:
    octets = bytearray(message(VendorId(bytes(length))))
    octets[16] = 40
    with pytest.raises(WireError, match="bad_nonce_length"):
        peek_nonce(bytes(octets))
