"""A message of an IKE_SA that we have: whether it is in its window, who has sent it, and which exchange takes it.

Where errors of the peer become answers, or the end of its SA (RFC 7296 section 2.21). Fragments that are not complete
yet, and what is dropped, go no further than here.
"""

from cygnet.crypto.errors import CryptoError, InvalidKeyExchange
from cygnet.iana import ExchangeType, PayloadType
from cygnet.ike import nat, requests
from cygnet.ike.effects import HeldBack
from cygnet.ike.errors import (
    AddressAwaited,
    LocalError,
    PeerRefused,
    ProtocolViolation,
    Scope,
    error_notify,
)
from cygnet.ike.exchanges import create_child_sa, ike_auth, ike_sa_init, informational, mobike
from cygnet.ike.exchanges.parts import Parts, parts_of
from cygnet.ike.fragments import Fragments
from cygnet.ike.handshake import MALFORMED_PER_OPEN
from cygnet.ike.message_id import Arrival
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.states import SaState, is_request_allowed, is_response_allowed
from cygnet.ike.tally import REQUEST_IN, RESPONSE_IN
from cygnet.ike.tasks import DeleteIke
from cygnet.wire.errors import IkeError, WireError
from cygnet.wire.header import Header
from cygnet.wire.message import decode_message

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_HALF_OPEN = SaState.HALF_OPEN
_IKE_AUTH = ExchangeType.IKE_AUTH
_INFORMATIONAL = ExchangeType.INFORMATIONAL
_INIT_SENT = SaState.INIT_SENT
_NEW = Arrival.NEW
_REPEATED = Arrival.REPEATED
_SKF = PayloadType.SKF
_STALE = Arrival.STALE


_HARMLESS = frozenset(("fragment_duplicate", "fragment_of_fewer"))
"""Drops that a network may cause which repeats and reorders."""


def _drop(reason: str) -> str:
    return f'datagrams_dropped_total{{reason="{reason}"}}'


def receive_request(sa: IkeSa, header: Header, datagram: bytes, path: Path, turn: Turn, fragments: Fragments) -> bool:
    """Take a request; whether it may have changed what the SA does next, and when. Raises WireError for a drop.

    What is not taken changes nothing, nor does a message that says no more than that the peer lives: it makes no timer
    of the SA due earlier.
    """
    arrival = sa.message_ids.classify(header.message_id, datagram)
    if arrival is _REPEATED:
        fragments.answer_again(sa, turn)
        return False
    if arrival is not _NEW:
        _receive_old(sa, header, datagram, arrival, turn, fragments)
        return False
    if not is_request_allowed(sa.state, header.exchange_type):
        turn.env.count(_drop("exchange_not_allowed"))
        return False
    if sa.is_past_trying:
        turn.env.count(_drop("too_many_failures"))
        return False
    try:
        opened = fragments.open(sa, header, datagram, turn)
    except InvalidKeyExchange:
        # There will never be keys; and each further try would cost us the key exchange.
        turn.table.close(sa, "peer_invalid_key_exchange", turn)
        return False
    except CryptoError:
        _note_failures(sa, MALFORMED_PER_OPEN)
        turn.env.count(_drop("integrity"))
        return False
    except WireError as error:
        if error.reason not in _HARMLESS:
            _note_failures(sa, 1)
        raise
    if opened is None:
        return False
    # Authentic, and whole: before, anybody could make us count.
    sa.count(REQUEST_IN[header.exchange_type], turn)
    inner_type, plaintext, request = opened
    # From here on the peer holds the keys: what is wrong is answered (RFC 7296 section 2.21.3).
    has_moved = _note_alive(sa, path, turn)
    try:
        _run_request(sa, header, request, parts_of(inner_type, plaintext), turn)
    except ProtocolViolation as error:
        _fail_request(sa, header, request, error, turn)
    except AddressAwaited:
        if header.next_payload == _SKF:
            fragments.reopen(turn)
        turn.effects.append(HeldBack(sa.spi, datagram, path))
    return has_moved or plaintext != b""


def _note_failures(sa: IkeSa, number: int) -> None:
    """A request was not the peer's; that counts while it has not proven who it is."""
    if sa.handshake is not None:
        sa.handshake.failures += number


def _receive_old(
    sa: IkeSa, header: Header, datagram: bytes, arrival: Arrival, turn: Turn, fragments: Fragments
) -> None:
    """A request outside the window, or the last one in other fragments than before."""
    if arrival is not _STALE:
        raise WireError("message_id")
    try:
        fragments.stale(sa, header, datagram, turn)
    except CryptoError:
        turn.env.count(_drop("integrity"))


def _run_request(sa: IkeSa, header: Header, datagram: bytes, parts: Parts, turn: Turn) -> None:
    if header.exchange_type == _IKE_AUTH:
        ike_auth.respond(sa, datagram, parts, turn)
    elif header.exchange_type == _INFORMATIONAL:
        informational.respond(sa, datagram, parts, turn)
    else:
        create_child_sa.respond(sa, datagram, parts, turn)


def _fail_request(sa: IkeSa, header: Header, datagram: bytes, error: ProtocolViolation, turn: Turn) -> None:
    """Answer with the error; then end what it ends (RFC 7296 section 2.21)."""
    turn.env.count(f'requests_failed_total{{reason="{error.notify.name.lower()}"}}')
    sa.send_response(datagram, header.exchange_type, (error_notify(error),), turn)
    if error.scope is Scope.SA or sa.state == _HALF_OPEN:
        turn.table.close(sa, error.notify.name.lower(), turn, is_answered=True)


def receive_response(sa: IkeSa, header: Header, datagram: bytes, path: Path, turn: Turn, fragments: Fragments) -> None:
    """Take a response. Raises WireError for what is dropped."""
    if not sa.message_ids.is_awaited(header.message_id, header.exchange_type):
        turn.env.count(_drop("unexpected_response"))
        return
    if not is_response_allowed(sa.state, header.exchange_type):
        turn.env.count(_drop("exchange_not_allowed"))
        return
    if sa.state == _INIT_SENT:
        sa.count(RESPONSE_IN[header.exchange_type], turn)
        _finish_initial(sa, header, datagram, turn)
        return
    try:
        opened = fragments.open(sa, header, datagram, turn)
    except CryptoError:
        turn.env.count(_drop("integrity"))
        return
    if opened is None:
        return
    sa.count(RESPONSE_IN[header.exchange_type], turn)
    inner_type, plaintext, _ = opened
    _note_alive(sa, path, turn)
    try:
        parts = parts_of(inner_type, plaintext)
        if header.exchange_type == _IKE_AUTH:
            ike_auth.finish(sa, parts, turn)
        else:
            requests.finish(sa, parts, turn)
    except IkeError as error:
        _give_up(sa, error, turn)


def _finish_initial(sa: IkeSa, header: Header, datagram: bytes, turn: Turn) -> None:
    """IKE_SA_INIT's response is not authenticated: what doesn't decode is dropped, and a good one may come yet."""
    try:
        parts = Parts(decode_message(datagram, header).payloads)
        ike_sa_init.finish(sa, header, datagram, parts, turn)
    except WireError:
        raise
    except IkeError as error:
        _give_up(sa, error, turn)


def _give_up(sa: IkeSa, error: IkeError, turn: Turn) -> None:
    """A response ends the SA. If the peer may believe that it stands, it is told (RFC 7296 section 2.21.2)."""
    reason = _reason_of(error)
    peer_refused = isinstance(error, PeerRefused) and sa.message_ids.outstanding is not None
    if sa.state != _INIT_SENT and not peer_refused:
        sa.message_ids.response_received()
        sa.ending = reason
        turn.table.request(sa, DeleteIke(), turn)
    else:
        turn.table.close(sa, reason, turn)


def _note_alive(sa: IkeSa, path: Path, turn: Turn) -> bool:
    """An authenticated message has come: the peer lives, and if we return true, it came by another path than the SA's,
    which may have moved (RFC 7296 section 2.23)."""
    sa.last_inbound = turn.now
    if sa.path == path:
        return False
    if sa.mobike:
        mobike.heard_elsewhere(sa, path, turn)
    else:
        nat.follow(sa, path, turn)
    return True


def _reason_of(error: IkeError) -> str:
    """The counter's label for an error that ended an SA."""
    if isinstance(error, PeerRefused):
        return error.reason
    if isinstance(error, ProtocolViolation):
        return f"peer_{error.notify.name.lower()}"
    if isinstance(error, CryptoError):
        return "peer_invalid_key_exchange"
    return error.reason if isinstance(error, LocalError) else "peer_error"
