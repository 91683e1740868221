"""Rules of RFC 7296 that an implementation breaks without noticing, each with its section."""

from collections.abc import Callable

import msgspec
import pytest
from tests.sim.world import (
    CLIENT,
    CLIENT_ID,
    ESP,
    GATEWAY,
    IKE,
    Host,
    ListPool,
    Nat,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    drops,
    gateway_settings,
    request,
    sa_of,
)

from cygnet.auth.identity import parse_identity
from cygnet.iana import ExchangeType, NotifyType, PayloadType, ProtocolId
from cygnet.ike.effects import SaClosed, Send
from cygnet.ike.path import Path
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.protected import open_message
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import AdmissionSettings, AuthSettings, ChildSettings, ConnectionSettings
from cygnet.ike.states import SaState
from cygnet.wire.header import FLAG_INITIATOR, decode_header
from cygnet.wire.message import decode_message, decode_payloads, encode_message
from cygnet.wire.payloads import Encrypted, Payload
from cygnet.wire.payloads.delete import Delete
from cygnet.wire.payloads.key_exchange import KeyExchange
from cygnet.wire.payloads.nonce import Nonce
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.unknown import Unknown
from cygnet.wire.payloads.vendor_id import VendorId

ELSEWHERE = "203.0.113.77"
TO_GATEWAY = Path(GATEWAY, 500, CLIENT, 500)


def notify(notify_type: NotifyType) -> Notify:
    return Notify(ProtocolId.NONE, b"", notify_type, b"")


def first_request(world: World, change: Callable[[tuple[Payload, ...]], tuple[Payload, ...]] = tuple) -> bytes:
    """An IKE_SA_INIT request that a client would send, with its payloads changed."""
    silent = World(seed=world.rng.randrange(1 << 30))
    client = Host(silent, CLIENT, client_settings())
    client.initiate(Host(silent, GATEWAY, gateway_settings()), client_connection())
    header, payloads = decode_header(silent.sent[0][1].datagram), decode_message(silent.sent[0][1].datagram).payloads
    return encode_message(
        spi_i=header.spi_i,
        spi_r=header.spi_r,
        exchange_type=header.exchange_type,
        flags=header.flags,
        message_id=0,
        payloads=change(payloads),
    )


def replaced(payload: Payload) -> Callable[[tuple[Payload, ...]], tuple[Payload, ...]]:
    """Put this payload in the place of the one of its type."""
    return lambda payloads: tuple(payload if type(p) is type(payload) else p for p in payloads)


def answers(host: Host) -> list[bytes]:
    return [e.datagram for e in host.events if isinstance(e, Send)]


def test_two_peers_behind_one_nat_may_choose_the_same_spi(world: World, gateway: Host) -> None:
    """Section 2.1: initiator SPI and address don't tell a repetition from a new request; the whole message does."""
    one = first_request(world)
    header = decode_header(one)
    payloads = replaced(Nonce(bytes(32)))(decode_message(one).payloads)
    two = encode_message(
        spi_i=header.spi_i,
        spi_r=header.spi_r,
        exchange_type=header.exchange_type,
        flags=header.flags,
        message_id=0,
        payloads=payloads,
    )
    for datagram, port in ((one, 1024), (two, 1025), (one, 1024), (two, 1025)):
        gateway.receive(datagram, Path(GATEWAY, 500, ELSEWHERE, port))
    first, second, *again = answers(gateway)
    assert first != second
    assert again == [first, second]
    assert gateway.table.half_open == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda payloads: tuple(p for p in payloads if not isinstance(p, Nonce)),
        lambda payloads: (*payloads, Nonce(bytes(32))),
        replaced(KeyExchange(31, bytes(31))),
    ],
    ids=["no nonce", "two nonces", "short public value"],
)
def test_invalid_syntax_is_never_told_in_the_clear(
    world: World, gateway: Host, change: Callable[[tuple[Payload, ...]], tuple[Payload, ...]]
) -> None:
    """Section 3.10.1: only in and for a message whose integrity was verified."""
    gateway.receive(first_request(world, change), TO_GATEWAY)
    assert not answers(gateway) and not gateway.table.sas
    assert drops(gateway) == {"invalid_syntax": 1}


def test_a_critical_unknown_payload_in_ike_sa_init_is_named(world: World, gateway: Host) -> None:
    """Section 2.5: the response to the request says which payload was not understood."""
    gateway.receive(first_request(world, lambda payloads: (*payloads, Unknown(200, True, b""))), TO_GATEWAY)
    (answer,) = answers(gateway)
    assert decode_message(answer).payloads == (
        Notify(ProtocolId.NONE, b"", NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xc8"),
    )
    assert not gateway.table.sas


def test_a_response_goes_where_its_request_came_from(client: Host, gateway: Host) -> None:
    """Section 2.11: also without a NAT between, where the SA's own path stays."""
    elsewhere = Path(GATEWAY, 4500, CLIENT, 4500)
    gateway.receive(request(client, ()), elsewhere)
    assert [e.path for e in gateway.events if isinstance(e, Send)][-1] == elsewhere
    assert sa_of(gateway).path == TO_GATEWAY


def test_a_connection_is_not_entered_with_algorithms_of_another(world: World) -> None:
    """Section 2.7: the identity chooses among the connections that allow what IKE_SA_INIT agreed on."""
    weak = (parse_proposal(ProtocolId.IKE, "aes128-sha1-modp1024"),)
    legacy = ConnectionSettings(
        name="legacy", proposals=weak, remote=AuthSettings(id=parse_identity("*@legacy.example"))
    )
    settings = gateway_settings()
    gateway = Host(world, GATEWAY, gateway_settings(connections=(legacy, *settings.connections)), ListPool(counted(1)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(proposals=weak))
    world.run(1.0)
    assert client.closed == ["authentication_failed"]
    assert not gateway.children
    client.initiate(gateway, client_connection(proposals=IKE))
    world.run(1.0)
    assert agree(client, gateway) and client.children


def test_an_initiator_that_rejects_our_proof_ends_the_sa(client: Host, gateway: Host) -> None:
    """Section 2.21.2: it may say so in an INFORMATIONAL request without a Delete, as strongSwan does."""
    gateway.receive(request(client, (notify(NotifyType.AUTHENTICATION_FAILED),)), TO_GATEWAY)
    assert gateway.closed == ["authentication_failed"]
    assert not gateway.table.sas and not gateway.children and not gateway.pool.used
    assert decode_header(answers(gateway)[-1]).is_response


def test_invalid_syntax_in_a_response_ends_the_sa(world: World, gateway: Host) -> None:
    """Section 2.21.3: it is fatal at both ends, without a Delete."""
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(dpd_delay_s=10.0))
    world.run(1.0)
    gateway.is_down = True
    world.run(10.0)
    sa = sa_of(gateway)
    payloads = (notify(NotifyType.INVALID_SYNTAX),)
    client.receive(
        sa.seal(ExchangeType.INFORMATIONAL, sa.message_ids.expected_id, payloads, is_response=True),
        Path(CLIENT, 500, GATEWAY, 500),
    )
    assert client.closed == ["invalid_syntax"]
    assert not client.table.sas and not client.children


def test_an_sa_that_got_no_address_counts_as_never_established(world: World) -> None:
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool())
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    assert [(e.reason, e.was_established) for e in client.events if isinstance(e, SaClosed)] == [
        ("internal_address_failure", False)
    ]
    assert gateway.closed == ["deleted_by_peer"]


def test_without_a_secret_nothing_follows_ike_sa_init(world: World, gateway: Host) -> None:
    """A peer whose IKE_AUTH request is still to come believes in no SA: there is nothing to delete."""
    client = Host(world, CLIENT, client_settings(secrets=()))
    client.initiate(gateway, client_connection())
    world.run(1.0)
    assert client.closed == ["peer_authentication_failed"]
    assert [decode_header(send.datagram).exchange_type for _, send in world.sent] == [ExchangeType.IKE_SA_INIT] * 2


def test_initial_contact_is_about_a_pair_of_identities(world: World) -> None:
    """Section 2.4: "the only IKE SA currently active between the authenticated identities"."""
    connections = tuple(
        msgspec.structs.replace(
            gateway_settings().connections[0], name=name, local=AuthSettings(id=parse_identity(f"{name}.example.org"))
        )
        for name in ("one", "two")
    )
    gateway = Host(world, GATEWAY, gateway_settings(connections=connections), ListPool(counted(10)))
    hosts = []
    for number, name in enumerate(("one", "two", "two")):
        hosts.append(Host(world, f"192.0.2.{number + 1}", client_settings()))
        hosts[-1].initiate(gateway, client_connection(remote=AuthSettings(id=parse_identity(f"{name}.example.org"))))
        world.run(1.0)
    gateway.receive(request(hosts[2], (notify(NotifyType.INITIAL_CONTACT),)), Path(GATEWAY, 500, "192.0.2.3", 500))
    left = {sa.path.remote for sa in gateway.table.sas.values()}
    assert left == {"192.0.2.1", "192.0.2.3"}
    (contact,) = gateway.initial_contacts
    assert (contact.local_id, contact.remote_id) == (parse_identity("two.example.org"), CLIENT_ID)


def test_an_initiator_behind_a_nat_does_not_follow_its_responder(world: World) -> None:
    """Section 2.23: who is behind a NAT itself would let anybody on the way redirect it."""
    world.nats.append(Nat(inside=CLIENT, outside="203.0.113.1"))
    gateway = Host(world, GATEWAY, change_connection(gateway_settings(), encap=True), ListPool(counted(1)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    before = dict(client.paths)
    client.receive(request(gateway, ()), Path(CLIENT, 4500, ELSEWHERE, 4500))
    assert client.paths == before
    assert sa_of(client).path.remote == GATEWAY


def test_an_oversized_ike_sa_init_is_dropped_before_it_is_taken_apart(world: World, gateway: Host) -> None:
    """What a half-open SA keeps of an unverified peer is bounded in octets, not only in number."""
    bulk = VendorId(bytes(60_000))
    gateway.receive(first_request(world, lambda payloads: (*payloads, bulk)), TO_GATEWAY)
    assert drops(gateway) == {"too_long": 1}
    assert not gateway.table.sas and not answers(gateway)


def test_a_public_value_that_is_none_ends_the_half_open_sa(world: World, gateway: Host) -> None:
    """RFC 7748 section 6: all zeros give no secret. Trying again for each IKE_AUTH would be work for an attacker."""
    gateway.receive(first_request(world, replaced(KeyExchange(31, bytes(32)))), TO_GATEWAY)
    sa = sa_of(gateway)
    rubbish = encode_message(
        spi_i=sa.spi_i,
        spi_r=sa.spi_r,
        exchange_type=ExchangeType.IKE_AUTH,
        flags=FLAG_INITIATOR,
        message_id=1,
        payloads=(Unknown(PayloadType.SK, False, bytes(60)),),
    )
    gateway.receive(rubbish, TO_GATEWAY)
    assert gateway.closed == ["peer_invalid_key_exchange"]
    assert gateway.table.half_open == 0


def test_a_handshake_with_losses_leaves_no_timers_behind(world: World, gateway: Host) -> None:
    client = Host(world, CLIENT, client_settings())
    lost: list[Send] = []
    world.tamper = lambda host, send: (send,) if len(lost) >= 3 else (lost.append(send), ())[1]  # type: ignore[func-returns-value]
    client.initiate(gateway, client_connection(dpd_delay_s=10.0))
    world.run(200.0)
    assert sa_of(client).state == SaState.ESTABLISHED and client.counters["liveness_checks_total"] >= 10
    assert client.table.timers == 1


def test_more_selectors_than_a_payload_holds_are_narrowed_further(world: World) -> None:
    """Section 2.9: any subset will do. An answer too long to be encoded would leave the peer waiting."""
    nets = tuple(parse_selector(f"10.{n}.0.0/16") for n in range(8))
    child = ChildSettings(name="net", esp_proposals=ESP, local_ts=nets)
    gateway = Host(world, GATEWAY, change_connection(gateway_settings(), children=(child,)), ListPool(counted(1)))
    client = Host(world, CLIENT, client_settings())
    ports = tuple(parse_selector(f"0.0.0.0/0[tcp/{port}]") for port in range(1, 65))
    client.initiate(
        gateway, client_connection(children=(ChildSettings(name="net", esp_proposals=ESP, remote_ts=ports),))
    )
    world.run(1.0)
    assert agree(client, gateway) and client.children


def test_a_deleted_child_is_answered_with_the_other_half_of_the_pair(client: Host, gateway: Host) -> None:
    """Section 1.4.1: each end names its inbound SPI. One that is gone already is not named."""
    (theirs,), (ours,) = client.children, gateway.children
    deleted = Delete(ProtocolId.ESP, (b"gone", theirs, theirs))
    gateway.receive(request(client, (deleted,)), TO_GATEWAY)
    sa = sa_of(client)
    assert sa.incoming is not None
    (encrypted,) = decode_message(answers(gateway)[-1]).payloads
    assert isinstance(encrypted, Encrypted)
    chain = open_message(sa.incoming, answers(gateway)[-1], encrypted)
    assert decode_payloads(encrypted.inner_type, chain) == (Delete(ProtocolId.ESP, (ours,)),)
    assert not gateway.children and sa_of(gateway).state == SaState.ESTABLISHED


def test_the_second_try_differs_by_the_cookie_alone(world: World) -> None:
    """Section 2.6: the cookie goes first, and all else stays as it was."""
    gateway = Host(
        world, GATEWAY, gateway_settings(admission=AdmissionSettings(cookie_threshold=0)), ListPool(counted(1))
    )
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    first, second = (decode_message(send.datagram).payloads for host, send in world.sent[:3] if host is client)
    assert isinstance(second[0], Notify) and second[0].notify_type == NotifyType.COOKIE
    assert second[1:] == first


def test_a_cookie_stays_when_the_group_changes(world: World) -> None:
    """Section 2.6.1: or a responder under load asks for it once more."""
    wanted = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-ecp256"),)
    both = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519-ecp256"),)
    settings = change_connection(gateway_settings(admission=AdmissionSettings(cookie_threshold=0)), proposals=wanted)
    gateway = Host(world, GATEWAY, settings, ListPool(counted(1)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(proposals=both))
    world.run(1.0)
    assert agree(client, gateway) and client.children
    assert gateway.counters["cookies_sent_total"] == 1 and gateway.counters["cookies_accepted_total"] == 2
