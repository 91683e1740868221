"""IKE_AUTH (RFC 7296 section 1.2): both ends prove who they are, and set up the first CHILD_SA."""

from cygnet.auth.identity import Identity, matches
from cygnet.auth.psk import compute_psk_auth, verify_psk_auth
from cygnet.iana import AuthMethod, ExchangeType, IdType, NotifyType, ProtocolId
from cygnet.ike import transport_mode, uniqueness
from cygnet.ike.connections import choose_connection
from cygnet.ike.effects import AuthenticationRefused, ChildFailed, PhaseDone
from cygnet.ike.errors import (
    AuthenticationFailed,
    ChildlessUnsupported,
    InvalidSyntax,
    PeerRefused,
    ProtocolViolation,
    Scope,
    error_notify,
)
from cygnet.ike.exchanges import child as children
from cygnet.ike.exchanges import mobike, reauthentication, virtual_ip
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.handshake import Handshake
from cygnet.ike.nat import pack_address
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.settings import Childless, ConnectionSettings, Unique
from cygnet.ike.tasks import CreateChild, TakeOver
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.authentication import Authentication
from cygnet.wire.payloads.identification import IdentificationInitiator, IdentificationResponder
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.security_association import SecurityAssociation

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_ESP = ProtocolId.ESP
_FORCE_CHILDLESS = Childless.FORCE
_NEVER_CHILDLESS = Childless.NEVER
_PREFER = Childless.PREFER
_IKE_AUTH = ExchangeType.IKE_AUTH
_INITIAL_CONTACT = NotifyType.INITIAL_CONTACT
_IPV4_ADDR = IdType.IPV4_ADDR
_IPV6_ADDR = IdType.IPV6_ADDR
_NEVER_UNIQUE = Unique.NEVER
_NO_PROTOCOL = ProtocolId.NONE
_OF_CHILD_ALONE = frozenset(
    (
        NotifyType.NO_PROPOSAL_CHOSEN,
        NotifyType.SINGLE_PAIR_REQUIRED,
        NotifyType.NO_ADDITIONAL_SAS,
        NotifyType.TS_UNACCEPTABLE,
        NotifyType.INVALID_SELECTORS,
    )
)
"""What a peer may answer beside its AUTH without refusing the IKE_SA (RFC 7296 section 1.2). After the
others of that section, INTERNAL_ADDRESS_FAILURE and FAILED_CP_REQUIRED, we delete it, as we may: addresses are asked
for in IKE_AUTH alone, so without them it would be of no use."""
_SHARED_KEY_MESSAGE_INTEGRITY_CODE = AuthMethod.SHARED_KEY_MESSAGE_INTEGRITY_CODE


def _own_address(sa: IkeSa) -> Identity:
    """The identity of an end that has no other: its IP address."""
    id_type = _IPV6_ADDR if sa.path.is_ipv6 else _IPV4_ADDR
    return Identity(id_type, pack_address(sa.path.local))


def _failed(
    why: str, sa: IkeSa, turn: Turn, remote_id: Identity | None = None, local_id: Identity | None = None
) -> AuthenticationFailed:
    """The peer is told that it failed, the operator why."""
    turn.env.count(f'authentication_failures_total{{reason="{why}"}}')
    turn.effects.append(AuthenticationRefused(sa.spi, sa.name, sa.path, why, remote_id, local_id))
    return AuthenticationFailed(why)


def _check_auth(
    sa: IkeSa, parts: Parts, secret: bytes, remote_id: Identity, local_id: Identity, *, id_body: bytes, turn: Turn
) -> None:
    """Verify the peer's AUTH payload; raises AuthenticationFailed. Both identities are what the secret is for."""
    handshake, suite = sa.handshake, sa.suite
    assert handshake is not None and suite is not None and handshake.keys is not None
    auth = parts.find(Authentication)
    if auth is None:
        raise _failed("no_auth_payload", sa, turn, remote_id, local_id)
    if auth.method != _SHARED_KEY_MESSAGE_INTEGRITY_CODE:
        raise _failed("auth_method", sa, turn, remote_id, local_id)
    is_peer_initiator = not sa.is_original_initiator
    is_good = verify_psk_auth(
        auth.data,
        suite.prf,
        secret,
        sk_p=handshake.keys.sk_pi if is_peer_initiator else handshake.keys.sk_pr,
        message=handshake.init_request if is_peer_initiator else handshake.init_response,
        nonce=handshake.nonce_r if is_peer_initiator else handshake.nonce_i,
        id_body=id_body,
    )
    if not is_good:
        raise _failed("wrong_secret", sa, turn, remote_id, local_id)


def _own_auth(sa: IkeSa, secret: bytes, id_body: bytes) -> Authentication:
    handshake, suite = sa.handshake, sa.suite
    assert handshake is not None and suite is not None and handshake.keys is not None
    ours = sa.is_original_initiator
    data = compute_psk_auth(
        suite.prf,
        secret,
        sk_p=handshake.keys.sk_pi if ours else handshake.keys.sk_pr,
        message=handshake.init_request if ours else handshake.init_response,
        nonce=handshake.nonce_r if ours else handshake.nonce_i,
        id_body=id_body,
    )
    return Authentication(method=_SHARED_KEY_MESSAGE_INTEGRITY_CODE, data=data)


# As original responder.


def respond(sa: IkeSa, datagram: bytes, parts: Parts, turn: Turn) -> None:
    """Answer the request. Raises ProtocolViolation with scope SA; what only fails the CHILD_SA is answered here."""
    handshake = sa.handshake
    assert handshake is not None
    mobike.check_nats(parts, sa.path)
    id_i = parts.need(IdentificationInitiator)
    asked = parts.find(IdentificationResponder)
    remote_id = Identity(id_i.id_type, id_i.data)
    asked_id = Identity(asked.id_type, asked.data) if asked is not None else None
    connection = choose_connection(handshake.candidates, remote_id, asked_id, handshake.choice)
    if connection is None:
        raise _failed("no_connection", sa, turn, remote_id, asked_id)
    own = connection.settings.local.id
    own_id = (asked_id or _own_address(sa)) if own.is_pattern else own
    secret = turn.env.secrets.find(own_id, remote_id)
    if secret is None:
        raise _failed("no_secret", sa, turn, remote_id, own_id)
    _check_auth(sa, parts, secret, remote_id, own_id, id_body=id_i.body, turn=turn)
    sa.connection = connection
    sa.local_id, sa.remote_id = own_id, remote_id
    id_r = IdentificationResponder(id_type=own_id.id_type, data=own_id.data)
    auth = _own_auth(sa, secret, id_r.body)
    is_alone = parts.has_notify(_INITIAL_CONTACT)
    if uniqueness.is_refused(sa, turn, is_alone=is_alone):
        raise _failed("not_unique", sa, turn, remote_id, own_id)
    answer = (*_answer_child(sa, parts, turn), *mobike.answer_offer(sa, parts, turn))
    turn.table.established(sa, turn)
    uniqueness.enforce(sa, turn, is_alone=is_alone)
    sa.send_response(datagram, _IKE_AUTH, (id_r, auth, *answer, *reauthentication.announce(sa, turn)), turn)


def _answer_child(sa: IkeSa, parts: Parts, turn: Turn) -> tuple[Payload, ...]:
    """The rest of the answer: the CHILD_SA, or why there is none (RFC 7296 section 1.2, 2.21.2)."""
    handshake, connection = sa.handshake, sa.connection
    assert handshake is not None and connection is not None
    reply: tuple[Payload, ...] = ()
    is_childless = connection.settings.childless is not _NEVER_CHILDLESS and parts.find(SecurityAssociation) is None
    if connection.settings.childless is _FORCE_CHILDLESS and not is_childless:
        raise InvalidSyntax("this connection begins without a CHILD_SA")
    try:
        sa.virtual_ips, reply = virtual_ip.assign(connection, sa.remote_id, parts, turn)
        sa.has_leases = bool(sa.virtual_ips)
        if is_childless:
            return reply
        agreed = children.choose(sa, parts, is_first=True, takes_transport=turn.env.takes_transport)
    except ProtocolViolation as error:
        if error.scope is not Scope.CHILD:
            virtual_ip.release(sa.remote_id, sa.virtual_ips, turn)
            sa.virtual_ips, sa.has_leases = (), False
            raise
        # The IKE_SA stands all the same, and so does its address: for the CHILD_SA that is asked for in it next.
        children.refuse(sa, parts, error, turn)
        return (*reply, error_notify(error))
    spi_in = turn.table.new_child_spi(sa)
    nonce_i, nonce_r = handshake.nonce_i, handshake.nonce_r
    # A peer that authenticates itself anew has the old CHILD_SA, and does not know of this one before our answer comes.
    yields = _may_have_another(sa, turn)
    children.install(sa, agreed, spi_in, turn, nonce_i=nonce_i, nonce_r=nonce_r, is_initiator=False, yields=yields)
    return (*reply, *children.answer(agreed, spi_in))


def _may_have_another(sa: IkeSa, turn: Turn) -> bool:
    """Whether the peer may have an IKE_SA besides this one, here or with another worker.

    Of a peer with a virtual address that is known, and most have none; of others it is not.
    """
    if turn.table.has_other(sa.remote_id):
        return True
    env = turn.env
    return env.workers > 1 and (not sa.has_leases or any(map(env.addresses.is_handed_over, sa.virtual_ips)))


# As original initiator.


def start(sa: IkeSa, turn: Turn) -> None:
    """Send the request.

    Raises AuthenticationFailed if we have no secret for the peer, ChildlessUnsupported if it wants a CHILD_SA now,
    TransportUnavailable if that is to be in transport mode and can't be.
    """
    handshake, connection = sa.handshake, sa.connection
    assert handshake is not None and connection is not None
    settings = connection.settings
    own_id = _own_address(sa) if settings.local.id.is_pattern else settings.local.id
    secret = turn.env.secrets.find(own_id, settings.remote.id)
    if secret is None:
        raise _failed("no_secret", sa, turn, settings.remote.id, own_id)
    id_i = IdentificationInitiator(id_type=own_id.id_type, data=own_id.data)
    wanted = settings.remote.id
    id_r = () if wanted.is_pattern else (IdentificationResponder(id_type=wanted.id_type, data=wanted.data),)
    child: tuple[Payload, ...] = ()
    _put_child_off(sa, handshake, settings.childless)
    if handshake.child is not None:
        transport_mode.check(sa, handshake.child, turn.env)
        handshake.spi_in = turn.table.new_child_spi(sa)
        is_transport = transport_mode.is_wanted(handshake.child)
        child = children.offer(
            sa, handshake.child, handshake.spi_in, is_transport=is_transport, is_first=True, flow=handshake.flow
        )
    # RFC 7296 section 2.4: the peer may forget what it has of us from before a crash.
    handshake.says_alone = _is_initial_contact(settings, turn)
    contact = (Notify(_NO_PROTOCOL, b"", _INITIAL_CONTACT, b""),) if handshake.says_alone else ()
    payloads: tuple[Payload, ...] = (
        id_i,
        *contact,
        *id_r,
        _own_auth(sa, secret, id_i.body),
        *virtual_ip.request(handshake.vips or settings.vips),
        *child,
        *mobike.offer(sa, turn),
    )
    sa.send_request(_IKE_AUTH, payloads, turn)


def _put_child_off(sa: IkeSa, handshake: Handshake, policy: Childless) -> None:
    """See whether the IKE_SA begins without a CHILD_SA; one that it was to begin with is set up in it then."""
    child = handshake.child
    if (
        child is not None
        and policy is not _FORCE_CHILDLESS
        and (policy is not _PREFER or not handshake.takes_childless)
    ):
        return
    if not handshake.takes_childless:
        # RFC 6023 section 3: such a request is for peers only that have said that they take it.
        raise ChildlessUnsupported("the peer does not support an IKE_SA without a CHILD_SA")
    if child is not None:
        handshake.child = None
        sa.pending = (CreateChild(child.settings.name, flow=handshake.flow), *sa.pending)


def _is_initial_contact(settings: ConnectionSettings, turn: Turn) -> bool:
    """Whether this is to be our only IKE_SA with the peer: it is on this worker, and then goes on all of them."""
    peer = settings.remote.id
    return (
        turn.env.sends_initial_contact
        and settings.unique is not _NEVER_UNIQUE
        and not peer.is_pattern
        and not turn.env.connections.has_several(settings)
        and not turn.table.has_other(peer)
    )


def finish(sa: IkeSa, parts: Parts, turn: Turn) -> None:
    """Take the response: the IKE_SA is established, and the CHILD_SA with it unless that is refused.

    Raises IkeError if the peer refuses, or is not who it should be; the table gives up the SA then, and tells
    the peer if it may believe that the SA stands.
    """
    handshake, connection = sa.handshake, sa.connection
    assert handshake is not None and connection is not None
    refusal = parts.error()
    id_r = parts.find(IdentificationResponder)
    if id_r is None or parts.find(Authentication) is None:
        if refusal is not None:
            raise refusal
        raise _failed("no_auth_payload", sa, turn)
    own = connection.settings.local.id
    own_id = _own_address(sa) if own.is_pattern else own
    remote_id = Identity(id_r.id_type, id_r.data)
    if matches(connection.settings.remote.id, remote_id) is None:
        raise _failed("peer_identity", sa, turn, remote_id, own_id)
    secret = turn.env.secrets.find(own_id, remote_id)
    if secret is None:
        raise _failed("no_secret", sa, turn, remote_id, own_id)
    _check_auth(sa, parts, secret, remote_id, own_id, id_body=id_r.body, turn=turn)
    sa.message_ids.response_received()
    sa.local_id, sa.remote_id = own_id, remote_id
    turn.effects.append(PhaseDone(sa.spi, "ike_auth"))
    if refusal is not None and not _is_of_child_alone(sa, refusal):
        raise refusal
    mobike.accept(sa, parts, turn)
    is_declined = False
    if handshake.child is None or refusal is not None:
        sa.virtual_ips, told = virtual_ip.received(parts)
        _note_refused(sa, refusal, turn)
    else:
        is_transport = transport_mode.is_wanted(handshake.child)
        agreed = children.accept(sa, handshake.child, parts, is_transport=is_transport, is_first=True)
        sa.virtual_ips, told = virtual_ip.received(parts)
        is_declined = children.note_declined(sa, agreed, turn, is_transport=is_transport)
        children.install(
            sa,
            agreed,
            handshake.spi_in,
            turn,
            nonce_i=handshake.nonce_i,
            nonce_r=handshake.nonce_r,
            is_initiator=True,
            is_outbound=not is_declined,
        )
    turn.table.established(sa, turn, told)
    if is_declined:
        children.close_new(sa, handshake.spi_in, turn)
    if handshake.says_alone:
        uniqueness.said_initial_contact(sa, turn)
    reauthentication.obey(sa, parts, turn)


def _is_of_child_alone(sa: IkeSa, refusal: PeerRefused) -> bool:
    """Whether the IKE_SA stands after that: not if it is to take the place of one that has the CHILD_SA."""
    is_to_take_over = any(isinstance(task, TakeOver) for task in sa.pending)
    return refusal.notify_type in _OF_CHILD_ALONE and not is_to_take_over


def _note_refused(sa: IkeSa, refusal: PeerRefused | None, turn: Turn) -> None:
    """The peer will not have the CHILD_SA that the IKE_SA was to begin with, if it was to begin with one."""
    handshake = sa.handshake
    assert handshake is not None
    if refusal is not None and handshake.child is not None:
        turn.table.release_child_spi(handshake.spi_in)
        turn.effects.append(ChildFailed(sa.spi, handshake.child.settings.name, refusal.reason))
