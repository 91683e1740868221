from cygnet.iana import ExchangeType, NotifyType
from cygnet.ike.answers import cookie_answer, plain_notify, stateless_answer
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, NO_SPI, VERSION_2, Header


def test_the_answer_to_a_flood_is_the_one_that_is_encoded() -> None:
    request = Header(b"initiate", NO_SPI, 33, VERSION_2, ExchangeType.IKE_SA_INIT, FLAG_INITIATOR, 0, 400)
    cookie = bytes(range(20))
    assert cookie_answer(b"initiate", cookie) == stateless_answer(request, plain_notify(NotifyType.COOKIE, cookie))


def test_flags_are_those_of_the_other_end() -> None:
    for flags, answered in ((FLAG_INITIATOR, FLAG_RESPONSE), (0, FLAG_RESPONSE | FLAG_INITIATOR)):
        request = Header(b"initiate", b"responde", 46, VERSION_2, ExchangeType.INFORMATIONAL, flags, 9, 100)
        assert stateless_answer(request, plain_notify(NotifyType.INVALID_IKE_SPI))[19] == answered
