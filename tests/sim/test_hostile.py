"""What an attacker can send: each is counted by its reason, none raises, none costs an SA."""

import random

import msgspec
import pytest
from tests.sim.world import (
    CLIENT,
    GATEWAY,
    Host,
    World,
    agree,
    client_connection,
    client_settings,
    drops,
    gateway_settings,
    request,
    sa_of,
)

from cygnet.iana import ExchangeType, NotifyType, PayloadType
from cygnet.ike.effects import Effect, Send
from cygnet.ike.path import Path
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, decode_header
from cygnet.wire.message import decode_message, encode_message
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.unknown import Unknown

ATTACKER = Path(GATEWAY, 500, "203.0.113.66", 500)


@pytest.mark.parametrize("seed", range(4))
def test_a_flood_of_random_octets(world: World, client: Host, gateway: Host, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(3000):
        gateway.receive(rng.randbytes(rng.randrange(120)), ATTACKER)
    assert sum(drops(gateway).values()) == 3000
    assert agree(client, gateway)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_handshakes(world: World, client: Host, gateway: Host, seed: int) -> None:
    """Real messages with octets changed, cut off or doubled, to SAs in every state."""
    rng = random.Random(seed)
    Host(world, "192.0.2.2", client_settings()).initiate(gateway, client_connection())
    world.run(0.015)
    corpus = [send for _, send in world.sent]
    for _ in range(1500):
        send = rng.choice(corpus)
        octets = bytearray(send.datagram)
        for _ in range(rng.randrange(1, 4)):
            octets[rng.randrange(len(octets))] = rng.randrange(256)
        if rng.random() < 0.3:
            del octets[rng.randrange(len(octets)) :]
        target = world.hosts[send.path.remote]
        arrived = Path(send.path.remote, 500, send.path.local, 500)
        # The length field is set right in half of them, or nothing would get past it.
        if rng.random() < 0.5 and len(octets) >= 28:
            octets[24:28] = len(octets).to_bytes(4, "big")
        target.receive(bytes(octets), arrived)
    world.run(60.0)
    assert sa_of(client).spi_i in {sa.spi_i for sa in gateway.table.sas.values()}
    assert gateway.table.half_open == 0


@pytest.mark.parametrize("version", [0x10, 0x30, 0xF0])
def test_wrong_versions(gateway: Host, client: Host, world: World, version: int) -> None:
    octets = bytearray(world.sent[0][1].datagram)
    octets[17] = version
    before = len(gateway.events)
    gateway.receive(bytes(octets), ATTACKER)
    assert drops(gateway) == {"version": 1}
    answers = [e for e in gateway.events[before:] if isinstance(e, Send)]
    # A later version is told what we speak; IKEv1 has no such notify.
    assert len(answers) == (1 if version > 0x20 else 0)
    for answer in answers:
        (notify,) = decode_message(answer.datagram).payloads
        assert isinstance(notify, Notify) and notify.notify_type == NotifyType.INVALID_MAJOR_VERSION


def test_unknown_spis(client: Host, gateway: Host, world: World) -> None:
    for send in [s for h, s in world.sent if h is client][1:]:
        octets = bytearray(send.datagram)
        octets[10] ^= 1
        gateway.receive(bytes(octets), ATTACKER)
    assert drops(gateway) == {"unknown_spi": 1}


def test_a_datagram_that_came_to_the_wrong_worker_is_told_apart(client: Host, gateway: Host, world: World) -> None:
    """Steering must never bring one; so this count is what shows that it doesn't."""
    gateway.env.workers = 2
    for worker in (0, 1, 2, 3):
        octets = bytearray(world.sent[-1][1].datagram)
        octets[8:16] = bytes((1, worker)) + b"nobody"
        octets[19] = FLAG_INITIATOR
        gateway.receive(bytes(octets), ATTACKER)
    assert drops(gateway) == {"unknown_spi": 2, "other_worker": 2}


def test_a_message_reflected_to_its_sender(client: Host, gateway: Host, world: World) -> None:
    """Keys differ by direction, and roles by the Initiator flag: our own message is no message to us."""
    ours = next(s for h, s in world.sent if h is client and decode_header(s.datagram).exchange_type == 35)
    client.receive(ours.datagram, Path(CLIENT, 500, GATEWAY, 500))
    assert drops(client) == {"unknown_spi": 1}


def test_a_request_with_a_broken_icv_changes_nothing(client: Host, gateway: Host) -> None:
    octets = bytearray(request(client, ()))
    octets[-1] ^= 1
    expected = sa_of(gateway).message_ids.expected_id
    gateway.receive(bytes(octets), ATTACKER)
    assert drops(gateway) == {"integrity": 1}
    assert sa_of(gateway).message_ids.expected_id == expected
    assert sa_of(gateway).path.remote == CLIENT


def test_replayed_requests_are_never_run_twice(client: Host, gateway: Host, world: World) -> None:
    first = request(client, ())
    path = Path(GATEWAY, 500, CLIENT, 500)
    gateway.receive(first, path)
    answers = [e.datagram for e in gateway.of_kind(Send)]  # type: ignore[union-attr]
    gateway.receive(first, path)
    again = [e.datagram for e in gateway.of_kind(Send)]  # type: ignore[union-attr]
    assert again == [*answers, answers[-1]], "the last request is answered again, octet for octet"
    sa_of(client).message_ids.next_id += 1
    gateway.receive(request(client, ()), path)
    gateway.receive(first, path)
    assert drops(gateway) == {"stale_request": 1}


def test_a_request_beyond_the_window(client: Host, gateway: Host) -> None:
    sa_of(client).message_ids.next_id += 5
    gateway.receive(request(client, ()), Path(GATEWAY, 500, CLIENT, 500))
    assert drops(gateway) == {"message_id": 1}


def test_a_response_that_nobody_asked_for(client: Host, gateway: Host) -> None:
    sa = sa_of(client)
    response = sa.seal(ExchangeType.INFORMATIONAL, 0, (), is_response=True)
    gateway.receive(response, Path(GATEWAY, 500, CLIENT, 500))
    assert drops(gateway) == {"unexpected_response": 1}


def test_a_critical_unknown_payload_is_refused_and_the_sa_stays(client: Host, gateway: Host, world: World) -> None:
    octets = request(client, (Unknown(payload_type=200, is_critical=True, body=b"?"),))
    gateway.receive(octets, Path(GATEWAY, 500, CLIENT, 500))
    assert gateway.counters['requests_failed_total{reason="unsupported_critical_payload"}'] == 1
    assert agree(client, gateway)


def test_an_unknown_payload_that_is_not_critical_is_passed_over(client: Host, gateway: Host) -> None:
    octets = request(client, (Unknown(payload_type=200, is_critical=False, body=b"?"),))
    gateway.receive(octets, Path(GATEWAY, 500, CLIENT, 500))
    assert not [name for name in gateway.counters if name.startswith("requests_failed")]


def test_ike_auth_again_on_an_established_sa(client: Host, gateway: Host) -> None:
    gateway.receive(request(client, (), ExchangeType.IKE_AUTH), Path(GATEWAY, 500, CLIENT, 500))
    assert drops(gateway) == {"exchange_not_allowed": 1}


def test_garbage_that_decrypts_ends_the_sa_with_invalid_syntax(client: Host, gateway: Host) -> None:
    """Who holds the keys and sends nonsense is broken: RFC 7296 section 2.21.3 lets the SA go."""
    octets = request(client, (Unknown(payload_type=int(PayloadType.KE), is_critical=False, body=b""),))
    gateway.receive(octets, Path(GATEWAY, 500, CLIENT, 500))
    assert gateway.counters['requests_failed_total{reason="invalid_syntax"}'] == 1
    assert not gateway.table.sas and not gateway.children and not gateway.pool.used


def test_ike_auth_rubbish_for_a_half_open_sa_does_not_spoil_it(world: World, gateway: Host) -> None:
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(0.025)
    sa = sa_of(gateway)
    rng = random.Random(1)
    for _ in range(50):
        rubbish = encode_message(
            spi_i=sa.spi_i,
            spi_r=sa.spi_r,
            exchange_type=ExchangeType.IKE_AUTH,
            flags=FLAG_INITIATOR,
            message_id=1,
            payloads=(Unknown(payload_type=200, is_critical=False, body=rng.randbytes(100)),),
        )
        gateway.receive(rubbish, ATTACKER)
    assert drops(gateway) == {"not_encrypted": 50}
    world.run(1.0)
    assert agree(client, gateway) and client.children


def test_forged_refusals_of_ike_sa_init_with_a_guessed_spi(world: World, gateway: Host) -> None:
    """Without our SPI a forger can't end a handshake."""
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    forged = encode_message(
        spi_i=bytes(range(1, 9)),
        spi_r=bytes(8),
        exchange_type=ExchangeType.IKE_SA_INIT,
        flags=FLAG_RESPONSE,
        message_id=0,
        payloads=(Notify(0, b"", NotifyType.NO_PROPOSAL_CHOSEN, b""),),
    )
    client.receive(forged, Path(CLIENT, 500, GATEWAY, 500))
    world.run(1.0)
    assert agree(client, gateway) and client.children


def test_a_responder_that_asks_for_cookies_for_ever_is_given_up(world: World) -> None:
    client = Host(world, CLIENT, client_settings())
    server = Host(world, GATEWAY, gateway_settings())
    server.is_down = True

    def ask(host: Host, send: Send) -> tuple[Send, ...]:
        header = decode_header(send.datagram)
        answer = encode_message(
            spi_i=header.spi_i,
            spi_r=bytes(8),
            exchange_type=ExchangeType.IKE_SA_INIT,
            flags=FLAG_RESPONSE,
            message_id=0,
            payloads=(Notify(0, b"", NotifyType.COOKIE, world.rng.randbytes(20)),),
        )
        world.at(0.01, lambda: client.receive(answer, Path(CLIENT, 500, GATEWAY, 500)))
        return ()

    world.tamper = ask
    client.initiate(server, client_connection())
    world.run(5.0)
    assert client.closed == ["cookie"]
    assert len(world.sent) == 4


def test_a_forged_key_exchange_method_is_not_followed(world: World) -> None:
    client = Host(world, CLIENT, client_settings())
    server = Host(world, GATEWAY, gateway_settings())
    server.is_down = True
    spi = client.initiate(server, client_connection())
    answer = encode_message(
        spi_i=spi,
        spi_r=bytes(8),
        exchange_type=ExchangeType.IKE_SA_INIT,
        flags=FLAG_RESPONSE,
        message_id=0,
        payloads=(Notify(0, b"", NotifyType.INVALID_KE_PAYLOAD, (2).to_bytes(2, "big")),),
    )
    client.receive(answer, Path(CLIENT, 500, GATEWAY, 500))
    assert client.closed == ["invalid_ke_payload"]


def test_an_internal_error_costs_one_sa(world: World, client: Host, gateway: Host) -> None:
    other = Host(world, "192.0.2.2", client_settings())
    other.initiate(gateway, client_connection())
    world.run(1.0)
    assert len(gateway.table.sas) == 2
    gateway.receive(request(client, ()), Path(GATEWAY, 500, CLIENT, 500))
    serving = gateway.table.serving
    assert serving is not None
    effects: list[Effect] = gateway.table.abort(serving, world.now)
    gateway.carry_out(effects)
    assert len(gateway.table.sas) == 1
    assert gateway.closed == ["internal_error"]


def test_selectors_by_the_thousand_cost_a_bounded_time(world: World) -> None:
    from cygnet.ike.selectors import MAX_SELECTORS, host_selector, narrow

    offered = tuple(host_selector(bytes((10, n >> 16, n >> 8 & 255, n & 255))) for n in range(5000))
    policy = (msgspec.structs.replace(host_selector(bytes(4)), end=b"\xff" * 4),)
    assert len(narrow(policy, offered)) == MAX_SELECTORS
