"""IKE_SA_INIT (RFC 7296 section 1.2): proposals, key exchange, nonces and NAT detection, all in the clear."""

from itertools import islice
from typing import Final

from cygnet.crypto.ke import KE
from cygnet.iana import ExchangeType, KeId, NotifyType
from cygnet.ike import fragments, tally
from cygnet.ike.answers import plain_notify, stateless_answer
from cygnet.ike.connections import Candidates, Connection
from cygnet.ike.effects import OfferRefused, PhaseDone, Send
from cygnet.ike.errors import (
    InvalidKePayload,
    InvalidSyntax,
    NoProposalChosen,
    PeerRefused,
    ProtocolViolation,
    error_notify,
)
from cygnet.ike.exchanges import ike_auth
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.handshake import Handshake
from cygnet.ike.nat import detect_nat, detection_notifies
from cygnet.ike.path import Path
from cygnet.ike.proposals import ProposalChoice, ike_suite
from cygnet.ike.puzzles import decode_challenge, solver_of
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.settings import Childless, Fragmentation
from cygnet.ike.states import SaState
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, NO_SPI, Header
from cygnet.wire.message import encode_message
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.key_exchange import KeyExchange
from cygnet.wire.payloads.nonce import Nonce
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.puzzle_solution import PuzzleSolution
from cygnet.wire.payloads.security_association import SecurityAssociation

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_AUTH_SENT = SaState.AUTH_SENT
_CHILDLESS_IKEV2_SUPPORTED = NotifyType.CHILDLESS_IKEV2_SUPPORTED
_COOKIE = NotifyType.COOKIE
_PUZZLE = NotifyType.PUZZLE
_IKE_SA_INIT = ExchangeType.IKE_SA_INIT
_IKEV2_FRAGMENTATION_SUPPORTED = NotifyType.IKEV2_FRAGMENTATION_SUPPORTED
_INVALID_KE_PAYLOAD = NotifyType.INVALID_KE_PAYLOAD
_NEVER_CHILDLESS = Childless.NEVER
_NO_FRAGMENTATION = Fragmentation.NO
_NO_KE = KeId.NONE
_REQUEST_IN = tally.REQUEST_IN[_IKE_SA_INIT]
_RESPONSE_OUT = tally.RESPONSE_OUT[_IKE_SA_INIT]

NONCE_OCTETS = 32
_PROPOSALS_TOLD: Final = 10
"""Of ours, to whoever wonders why a peer's are none of them."""
MAX_COOKIE_OCTETS = 64
_MAX_COOKIES_TAKEN = 3
"""Cookies that we return before we give the peer up: each may be a forgery, and each costs a round trip."""


_CHILDLESS = plain_notify(_CHILDLESS_IKEV2_SUPPORTED)
_FRAGMENTATION: tuple[Notify, ...] = (plain_notify(_IKEV2_FRAGMENTATION_SUPPORTED),)


def _agree_on_fragments(sa: IkeSa, parts: Parts, connection: Connection, turn: Turn) -> bool:
    """See whether the peer supports fragmentation, and we do (RFC 7383 section 2.3)."""
    wanted = connection.settings.fragmentation
    if wanted is _NO_FRAGMENTATION or not parts.has_notify(_IKEV2_FRAGMENTATION_SUPPORTED):
        return False
    fragments.agree(sa, wanted, turn.env.settings.fragment_size)
    return True


# As original responder.


def respond(header: Header, datagram: bytes, parts: Parts, path: Path, turn: Turn) -> IkeSa | None:
    """Answer the request of a new peer; the SA, half open, is the table's to keep.

    On an error the peer is told, None returned, and nothing kept.
    """
    try:
        nonce = parts.need(Nonce)
        offer, ke = parts.need(SecurityAssociation), parts.need(KeyExchange)
        candidates, choice = _choose(offer, path, turn)
        if choice.ke_method != ke.method:
            raise InvalidKePayload(choice.ke_method)
        suite = ike_suite(choice.transforms)
        if len(ke.data) != suite.ke.public_octets:
            raise InvalidSyntax("the public value has not the length of its key exchange method")
    except ProtocolViolation as error:
        refuse(header, error, path, turn)
        return None
    sa = IkeSa.as_responder(header.spi_i, turn.table.new_ike_spi(), path, turn.now)
    handshake = sa.handshake
    assert handshake is not None
    sa.suite = suite
    handshake.candidates, handshake.choice = candidates, choice
    handshake.peer_public, handshake.nonce_i = ke.data, nonce.data
    _accept(sa, handshake, header, datagram, parts, turn)
    return sa


def _accept(sa: IkeSa, handshake: Handshake, header: Header, datagram: bytes, parts: Parts, turn: Turn) -> None:
    """The response, once it is known what both ends agree on."""
    suite, choice, path = sa.suite, handshake.choice, sa.path
    likeliest = handshake.candidates.first
    assert suite is not None and choice is not None and likeliest is not None
    is_forced = likeliest.settings.encap
    detect_nat(sa, parts, path, header.spi_i, header.spi_r, is_forced=is_forced)
    extensions = _FRAGMENTATION if _agree_on_fragments(sa, parts, likeliest, turn) else ()
    if likeliest.settings.childless is not _NEVER_CHILDLESS:
        extensions = (*extensions, _CHILDLESS)
    handshake.nonce_r = turn.env.entropy(NONCE_OCTETS)
    handshake.key_pair = suite.ke.generate()
    handshake.init_request = datagram
    handshake.init_response = encode_message(
        spi_i=sa.spi_i,
        spi_r=sa.spi_r,
        exchange_type=_IKE_SA_INIT,
        flags=FLAG_RESPONSE,
        message_id=0,
        payloads=(
            choice.answer,
            KeyExchange(method=choice.ke_method, data=handshake.key_pair.public),
            Nonce(data=handshake.nonce_r),
            *detection_notifies(sa, path, turn, is_forced=is_forced),
            *extensions,
        ),
    )
    sa.message_ids.answered(datagram, handshake.init_response)
    turn.env.count(_REQUEST_IN)
    turn.env.count(_RESPONSE_OUT)
    turn.effects.append(Send(handshake.init_response, path))


def _choose(offer: SecurityAssociation, path: Path, turn: Turn) -> tuple[Candidates, ProposalChoice]:
    """The connections for this path from the first that accepts a proposal on, for IKE_AUTH to choose among."""
    candidates = turn.env.connections.on_path(path)
    for candidate in candidates.distinct():
        choice = candidate.negotiator.choose(offer)
        if choice is not None:
            return candidates.led_by(candidate), choice
    accepted = (proposal for each in candidates.distinct() for proposal in each.settings.proposals)
    turn.effects.append(OfferRefused(path, offer, tuple(islice(accepted, _PROPOSALS_TOLD))))
    raise NoProposalChosen("no connection for this address accepts one of the proposals")


def refuse(header: Header, error: ProtocolViolation, path: Path, turn: Turn) -> None:
    """Tell the peer of an error, unless that is kept for peers with keys: then the request is dropped and counted."""
    reason = error.notify.name.lower()
    if isinstance(error, InvalidSyntax):
        # RFC 7296 section 3.10.1: only in and for a message whose integrity was verified.
        turn.env.count(f'datagrams_dropped_total{{reason="{reason}"}}')
        return
    turn.env.count(f'ike_sa_init_refused_total{{reason="{reason}"}}')
    turn.effects.append(Send(stateless_answer(header, error_notify(error)), path))


# As original initiator.


def start(sa: IkeSa, turn: Turn) -> None:
    """Send the request, or send it anew with the cookie or the key exchange method that the responder wants."""
    handshake, connection = sa.handshake, sa.connection
    assert handshake is not None and connection is not None
    if not handshake.nonce_i:
        handshake.nonce_i = turn.env.entropy(NONCE_OCTETS)
        handshake.ke_method = connection.ke_methods[0]
    if handshake.key_pair is None:
        handshake.key_pair = turn.env.new_key_pair(KE[handshake.ke_method])
    first: tuple[Payload, ...] = (plain_notify(_COOKIE, handshake.cookie),) if handshake.cookie else ()
    if handshake.solution:
        first += (PuzzleSolution(handshake.solution),)
    handshake.init_request = encode_message(
        spi_i=sa.spi_i,
        spi_r=NO_SPI,
        exchange_type=_IKE_SA_INIT,
        flags=FLAG_INITIATOR,
        message_id=0,
        payloads=(
            *first,
            connection.ike_offer,
            KeyExchange(method=handshake.ke_method, data=handshake.key_pair.public),
            Nonce(data=handshake.nonce_i),
            *detection_notifies(sa, sa.path, turn, is_forced=connection.settings.encap),
            *(() if connection.settings.fragmentation is _NO_FRAGMENTATION else _FRAGMENTATION),
        ),
    )
    sa.send_first_request(_IKE_SA_INIT, handshake.init_request, turn)


def finish(sa: IkeSa, header: Header, datagram: bytes, parts: Parts, turn: Turn) -> None:
    """Take the response: begin again, give up, or go on with IKE_AUTH.

    Nothing of it is authenticated yet; a forger needs to have seen our SPI. Raises IkeError if it can't be accepted.
    """
    handshake, connection = sa.handshake, sa.connection
    assert handshake is not None and connection is not None
    if _begins_again(sa, parts, turn):
        return
    refusal = parts.error()
    if refusal is not None:
        raise refusal
    choice = connection.negotiator.accept(parts.need(SecurityAssociation))
    ke = parts.need(KeyExchange)
    if choice.ke_method != handshake.ke_method or ke.method != handshake.ke_method:
        raise InvalidSyntax("the response is for another key exchange method than ours")
    if header.spi_r == NO_SPI:
        raise InvalidSyntax("the response has no responder SPI")
    sa.message_ids.response_received()
    sa.spi_r = header.spi_r
    sa.suite = ike_suite(choice.transforms)
    handshake.init_response = datagram
    handshake.peer_public = ke.data
    handshake.nonce_r = parts.need(Nonce).data
    _agree_on_fragments(sa, parts, connection, turn)
    handshake.takes_childless = parts.has_notify(_CHILDLESS_IKEV2_SUPPORTED)
    settings = connection.settings
    can_encapsulate = detect_nat(sa, parts, sa.path, header.spi_i, header.spi_r, is_forced=settings.encap)
    # RFC 4555 section 3.3: with MOBIKE even where there is no NAT, since the next path may lead through one.
    if sa.is_udp_encapsulated or (settings.mobike and can_encapsulate):
        sa.path = _floated(sa, connection, turn)
    sa.derive_keys(turn.env)
    turn.effects.append(PhaseDone(sa.spi, "ike_sa_init"))
    ike_auth.start(sa, turn)
    sa.state = _AUTH_SENT


def _floated(sa: IkeSa, connection: Connection, turn: Turn) -> Path:
    """The path on the NAT traversal ports, where ESP in UDP goes too (RFC 7296 section 2.23)."""
    path = sa.path
    return Path(
        path.local,
        turn.env.natt_ports.get(path.local_port, path.local_port),
        path.remote,
        connection.settings.remote_natt_port,
    )


def _begins_again(sa: IkeSa, parts: Parts, turn: Turn) -> bool:
    handshake, connection = sa.handshake, sa.connection
    assert handshake is not None and connection is not None
    for cookie in parts.notify_data(_COOKIE)[:1]:
        if not 1 <= len(cookie) <= MAX_COOKIE_OCTETS:
            raise InvalidSyntax("a cookie has 1 to 64 octets")
        handshake.cookies_taken += 1
        if handshake.cookies_taken > _MAX_COOKIES_TAKEN:
            raise PeerRefused(_COOKIE)
        handshake.cookie, handshake.solution = cookie, b""
        if _begins_to_solve(sa, cookie, parts, turn):
            return True
        turn.env.count("cookies_returned_total")
        return _restart(sa, turn)
    for data in parts.notify_data(_INVALID_KE_PAYLOAD)[:1]:
        method = int.from_bytes(data, "big") if len(data) == 2 else _NO_KE
        tried = (*handshake.ke_methods_tried, handshake.ke_method)
        # Only a method that we offered, and each once: a forged answer must not send us round for ever.
        if method not in connection.ke_methods or method in tried:
            raise PeerRefused(_INVALID_KE_PAYLOAD)
        handshake.ke_methods_tried = tried
        handshake.ke_method = method
        handshake.key_pair = None
        return _restart(sa, turn)
    return False


def _begins_to_solve(sa: IkeSa, cookie: bytes, parts: Parts, turn: Turn) -> bool:
    """Whether the cookie came with a puzzle (RFC 8019 section 7.1.2) that we solve before we return it."""
    for data in parts.notify_data(_PUZZLE)[:1]:
        challenge = decode_challenge(data)
        solver = solver_of(cookie, challenge, turn.env.settings.puzzle_effort) if challenge is not None else None
        if solver is None:
            turn.env.count("puzzles_declined_total")
            return False
        # Nothing is outstanding meanwhile: what else comes in answer to the first request is dropped.
        sa.message_ids.restart()
        turn.table.solve(sa, solver)
        return True
    return False


def solved(sa: IkeSa, solution: bytes, turn: Turn) -> None:
    """Return the cookie with the solution of its puzzle."""
    assert sa.handshake is not None
    sa.handshake.solution = solution
    turn.env.count("puzzles_solved_total")
    turn.env.count("cookies_returned_total")
    start(sa, turn)


def _restart(sa: IkeSa, turn: Turn) -> bool:
    sa.message_ids.restart()
    start(sa, turn)
    return True
