"""Answers outside of any IKE_SA: in the clear, and leaving nothing behind (RFC 7296 sections 1.5 and 2.6)."""

import struct
from functools import lru_cache
from typing import Final

from cygnet.iana import ExchangeType, NotifyType, PayloadType, ProtocolId
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, HEADER_OCTETS, NO_SPI, VERSION_2, Header
from cygnet.wire.message import encode_message
from cygnet.wire.payloads.notify import Notify

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_NO_PROTOCOL = ProtocolId.NONE
_COOKIE: Final = int(NotifyType.COOKIE)
_IKE_SA_INIT: Final = int(ExchangeType.IKE_SA_INIT)
_NOTIFY: Final = int(PayloadType.NOTIFY)

_AFTER_SPI_AND_NOTIFY: Final = struct.Struct("!8sBBBBIIBBHBBH")
_NOTIFY_OCTETS: Final = 8


def plain_notify(notify_type: NotifyType, data: bytes = b"") -> Notify:
    """A notify that is about no SA."""
    return Notify(protocol_id=_NO_PROTOCOL, spi=b"", notify_type=notify_type, data=data)


def stateless_answer(request: Header, *notifies: Notify) -> bytes:
    """The datagram that answers a request with these notifies: SPIs, exchange and message ID are the request's."""
    return encode_message(
        spi_i=request.spi_i,
        spi_r=request.spi_r,
        exchange_type=request.exchange_type,
        flags=FLAG_RESPONSE if request.is_initiator else FLAG_RESPONSE | FLAG_INITIATOR,
        message_id=request.message_id,
        payloads=notifies,
    )


@lru_cache(maxsize=4)
def _before_cookie(cookie_octets: int) -> bytes:
    """What stands between the initiator's SPI and a cookie of that length: the rest of the header and the notify."""
    octets = _NOTIFY_OCTETS + cookie_octets
    length = HEADER_OCTETS + octets
    header = (NO_SPI, _NOTIFY, VERSION_2, _IKE_SA_INIT, FLAG_RESPONSE, 0, length)
    return _AFTER_SPI_AND_NOTIFY.pack(*header, 0, 0, octets, 0, 0, _COOKIE)


def cookie_answer(spi_i: bytes, cookie: bytes) -> bytes:
    """The same as `stateless_answer` with a cookie alone: what a flood gets, so made in one step."""
    return spi_i + _before_cookie(len(cookie)) + cookie
