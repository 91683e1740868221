"""The names under which messages are counted: each message of an IKE_SA once, by exchange, direction and role.

Retransmissions count elsewhere, and so does what was dropped.
"""

from collections.abc import Mapping
from typing import Final

from cygnet.iana import ExchangeType

_EXCHANGES: Final = {
    ExchangeType.IKE_SA_INIT: "ike-init",
    ExchangeType.IKE_AUTH: "ike-auth",
    ExchangeType.CREATE_CHILD_SA: "create-child",
    ExchangeType.INFORMATIONAL: "info",
}


def _names(way: str) -> Mapping[int, str]:
    return {int(kind): f'ike_messages_total{{message="{name}-{way}"}}' for kind, name in _EXCHANGES.items()}


REQUEST_IN: Final = _names("in-req")
REQUEST_OUT: Final = _names("out-req")
RESPONSE_IN: Final = _names("in-resp")
RESPONSE_OUT: Final = _names("out-resp")
