"""Answers outside of any IKE_SA: in the clear, and leaving nothing behind (RFC 7296 sections 1.5 and 2.6)."""

from cygnet.iana import NotifyType, ProtocolId
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, Header
from cygnet.wire.message import encode_message
from cygnet.wire.payloads.notify import Notify

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_NO_PROTOCOL = ProtocolId.NONE


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
