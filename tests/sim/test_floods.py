"""Floods: what each datagram of one may cost us, counted in what was computed and kept for it."""

import random
from collections.abc import Callable

import msgspec
import pytest
from tests.sim.world import (
    CLIENT,
    GATEWAY,
    Host,
    ListPool,
    World,
    agree,
    client_connection,
    client_settings,
    counted,
    drops,
    gateway_settings,
    sa_of,
)

from cygnet.crypto.keymat import derive_ike_keys
from cygnet.iana import ExchangeType, NotifyType
from cygnet.ike.effects import Send
from cygnet.ike.handshake import MALFORMED_PER_OPEN, MAX_FAILED_OPENS
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa
from cygnet.ike.settings import AdmissionSettings
from cygnet.observe.metrics import METRICS
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, decode_header
from cygnet.wire.message import decode_message, encode_message
from cygnet.wire.payloads import Encrypted, EncryptedFragment, Notify, Payload

SERIES = {series for metric in METRICS for series in metric.series}


def attacker(number: int) -> Path:
    return Path(GATEWAY, 500, f"203.0.113.{number % 250 + 1}", 500 + number)


def answers(host: Host) -> list[Send]:
    return [event for event in host.events if isinstance(event, Send)]


def half_open(world: World, gateway: Host) -> tuple[Host, IkeSa]:
    """A client whose IKE_AUTH is on its way, and the gateway's SA of it."""
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(0.025)
    return client, sa_of(gateway)


def rubbish(sa: IkeSa, body: Payload, exchange_type: int = ExchangeType.IKE_AUTH, message_id: int = 1) -> bytes:
    return encode_message(
        spi_i=sa.spi_i,
        spi_r=sa.spi_r,
        exchange_type=exchange_type,
        flags=FLAG_INITIATOR,
        message_id=message_id,
        payloads=(body,),
    )


def test_initial_requests_with_ever_new_spis_cost_no_more_than_the_threshold_lets_in(world: World) -> None:
    limits = AdmissionSettings(cookie_threshold=20)
    gateway = Host(world, GATEWAY, gateway_settings(admission=limits), ListPool(counted(10)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    request = next(send.datagram for host, send in world.sent if host is client)
    keys = entropy_calls(gateway)
    for number in range(2000):
        gateway.receive(world.rng.randbytes(8) + request[8:], attacker(number))
    assert gateway.table.half_open == 20 and len(gateway.table.sas) == 20
    assert gateway.counters["cookies_sent_total"] == 1980
    # SPI and nonce for each that was let in; the secret of the cookies is older.
    assert len(keys) <= 2 * 20 + 2
    world.run(1.0)
    assert agree_on_one(client, gateway), "an honest peer comes in all the same"


def test_where_peers_have_come_from_before_they_come_in_as_if_there_were_no_flood(world: World) -> None:
    limits = AdmissionSettings(cookie_threshold=20)
    gateway = Host(world, GATEWAY, gateway_settings(admission=limits), ListPool(counted(10)))
    first = Host(world, CLIENT, client_settings())
    first.initiate(gateway, client_connection())
    request = next(send.datagram for host, send in world.sent if host is first)
    world.run(1.0)
    for number in range(100):
        gateway.receive(world.rng.randbytes(8) + request[8:], attacker(number))
    assert gateway.table.half_open == 20
    first.initiate(gateway, client_connection())
    world.run(1.0)
    assert len(first.table.sas) == 2
    assert "cookies_accepted_total" not in gateway.counters
    stranger = Host(world, "192.0.2.77", client_settings())
    stranger.initiate(gateway, client_connection())
    world.run(1.0)
    assert gateway.counters["cookies_accepted_total"] == 1, "others return one"
    assert gateway.table.half_open == 20


def entropy_calls(host: Host) -> list[int]:
    calls: list[int] = []
    draw = host.env.entropy

    def entropy(octets: int) -> bytes:
        calls.append(octets)
        return draw(octets)

    host.env.entropy = entropy
    return calls


def agree_on_one(client: Host, gateway: Host) -> bool:
    ours = {(sa.spi_i, sa.spi_r) for sa in client.table.sas.values()}
    return len(ours) == 1 and ours <= {(sa.spi_i, sa.spi_r) for sa in gateway.table.sas.values()}


def test_rubbish_for_a_half_open_sa_costs_one_key_exchange_and_few_decryptions(
    world: World, gateway: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    derived = []

    def counting(*args: object, **kwargs: object) -> object:
        derived.append(args)
        return derive_ike_keys(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("cygnet.ike.sa.derive_ike_keys", counting)
    client, sa = half_open(world, gateway)
    client.is_down = True
    derived.clear()
    rng = random.Random(1)
    for number in range(1000):
        gateway.receive(rubbish(sa, Encrypted(inner_type=35, body=rng.randbytes(200))), attacker(number))
    assert len(derived) == 1
    assert drops(gateway) == {"integrity": MAX_FAILED_OPENS, "too_many_failures": 1000 - MAX_FAILED_OPENS}
    assert not answers(gateway)[1:], "nothing but the answer to IKE_SA_INIT has left"
    world.run(31.0)
    assert not gateway.table.sas and not gateway.table.half_open


@pytest.mark.parametrize("is_agreed", [True, False])
def test_fragments_that_cannot_be_the_peers_count_like_other_rubbish(
    world: World, gateway: Host, is_agreed: bool
) -> None:
    client, sa = half_open(world, gateway)
    client.is_down = True
    sa.largest_octets = 1280 if is_agreed else 0
    for number in range(500):
        piece = EncryptedFragment(inner_type=35, number=1, total=3, body=world.rng.randbytes(200))
        gateway.receive(rubbish(sa, piece), attacker(number))
    reason, tries = ("integrity", 1) if is_agreed else ("fragment_unexpected", MALFORMED_PER_OPEN)
    tries *= MAX_FAILED_OPENS
    assert drops(gateway) == {reason: tries, "too_many_failures": 500 - tries}


def test_fragments_that_the_network_repeats_do_not_keep_the_peer_out(world: World) -> None:
    world.fragment_size = 150
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(10)))
    client, _ = half_open(world, gateway)
    first = next(s for s in answers(client) if decode_header(s.datagram).exchange_type == ExchangeType.IKE_AUTH)
    for _ in range(3 * MAX_FAILED_OPENS):
        gateway.receive(first.datagram, Path(GATEWAY, 500, CLIENT, 500))
    assert drops(gateway) == {"fragment_duplicate": 3 * MAX_FAILED_OPENS - 1}
    world.run(1.0)
    assert agree_on_one(client, gateway)


def test_some_rubbish_does_not_keep_the_peer_out(world: World, gateway: Host) -> None:
    client, sa = half_open(world, gateway)
    rng = random.Random(1)
    for number in range(MAX_FAILED_OPENS - 1):
        gateway.receive(rubbish(sa, Encrypted(inner_type=35, body=rng.randbytes(200))), attacker(number))
    world.run(1.0)
    assert agree(client, gateway) and client.children


@pytest.mark.parametrize("state", ["half_open", "established"])
def test_rubbish_fragments_are_kept_nowhere(world: World, gateway: Host, state: str) -> None:
    _, sa = half_open(world, gateway)
    if state == "established":
        world.run(1.0)
    kept = len(answers(gateway))
    rng = random.Random(1)
    exchange_type = ExchangeType.IKE_AUTH if state == "half_open" else ExchangeType.INFORMATIONAL
    for number in range(500):
        fragment = EncryptedFragment(inner_type=35, number=number + 1, total=0xFFFF, body=rng.randbytes(400))
        gateway.receive(rubbish(sa, fragment, exchange_type, message_id=sa.message_ids.expected_id), attacker(number))
    assert sum(drops(gateway).values()) == 500
    assert all(f'datagrams_dropped_total{{reason="{reason}"}}' in SERIES for reason in drops(gateway))
    assert len(answers(gateway)) == kept


def informational(number: int, *, is_response: bool = False) -> bytes:
    """A message for an SA of which nobody knows."""
    return encode_message(
        spi_i=number.to_bytes(8, "big"),
        spi_r=(1 << 63 | number).to_bytes(8, "big"),
        exchange_type=ExchangeType.INFORMATIONAL,
        flags=FLAG_INITIATOR | (FLAG_RESPONSE if is_response else 0),
        message_id=7,
        payloads=(Encrypted(inner_type=0, body=bytes(60)),),
    )


def flood(gateway: Host, make: Callable[[int], bytes]) -> None:
    for number in range(1, 1001):
        gateway.receive(make(number), attacker(number))


def test_strays_are_counted_and_left_at_that(world: World, gateway: Host) -> None:
    flood(gateway, informational)
    assert drops(gateway) == {"unknown_spi": 1000}
    assert not gateway.events and gateway.table.next_timer() is None


def test_a_few_requests_a_second_for_unknown_sas_are_answered_if_asked_for(world: World) -> None:
    """RFC 7296 section 2.21.4."""
    gateway = Host(world, GATEWAY, gateway_settings(invalid_ike_spi_rate=3))
    flood(gateway, informational)
    assert len(answers(gateway)) == 3 == gateway.counters["invalid_ike_spi_sent_total"]
    assert drops(gateway) == {"unknown_spi": 1000}
    answer, request = answers(gateway)[0], informational(1)
    header, asked = decode_header(answer.datagram), decode_header(request)
    assert (header.spi_i, header.spi_r) == (asked.spi_i, asked.spi_r)
    assert (header.exchange_type, header.message_id, header.flags) == (asked.exchange_type, 7, FLAG_RESPONSE)
    (notify,) = decode_message(answer.datagram).payloads
    assert notify == Notify(0, b"", NotifyType.INVALID_IKE_SPI, b"")
    assert answer.path == attacker(1) and len(answer.datagram) < len(request)
    world.now += 1.0
    flood(gateway, informational)
    assert len(answers(gateway)) == 6


def test_a_response_for_an_unknown_sa_is_never_answered(world: World) -> None:
    gateway = Host(world, GATEWAY, gateway_settings(invalid_ike_spi_rate=3))
    flood(gateway, lambda number: informational(number, is_response=True))
    assert not answers(gateway)


class TestAskedTogether:
    """`ask_cookies` gives a crowd what `receive` gives each of them."""

    LIMITS = AdmissionSettings(cookie_threshold=0)

    @pytest.fixture
    def asking(self, world: World) -> Host:
        settings = gateway_settings()
        return Host(world, GATEWAY, msgspec.structs.replace(settings, admission=self.LIMITS), ListPool(counted(10)))

    @pytest.fixture
    def request_octets(self, world: World) -> bytes:
        """What a client begins with, to somebody who does not answer."""
        client = Host(world, CLIENT, client_settings())
        client.initiate(Host(world, "192.0.2.99", gateway_settings()), client_connection())
        return answers(client)[0].datagram

    def test_the_cookie_is_that_of_receive(self, world: World, asking: Host, request_octets: bytes) -> None:
        sent, others = asking.table.ask_cookies(
            [(request_octets, attacker(1)), (request_octets, attacker(2))], world.now
        )
        assert not others
        for number, (answer, path) in enumerate(sent, start=1):
            assert path == attacker(number)
            (effect,) = asking.table.receive(request_octets, path, world.now)
            assert isinstance(effect, Send)
            assert effect.datagram == answer
        assert asking.counters["cookies_sent_total"] == 4

    def test_who_is_not_asked_is_left(self, world: World, gateway: Host, request_octets: bytes) -> None:
        """While there is no need for cookies, and one that repeats what was answered with an SA."""
        batch = [(request_octets, attacker(1))]
        assert gateway.table.ask_cookies(batch, world.now) == ([], batch)
        gateway.table.receive(*batch[0], world.now)
        gateway.env.settings = msgspec.structs.replace(gateway.env.settings, admission=self.LIMITS)
        assert gateway.table.ask_cookies(batch, world.now) == ([], batch)
        assert len(gateway.table.ask_cookies([(request_octets, attacker(2))], world.now)[0]) == 1

    @pytest.mark.parametrize("seed", range(4))
    def test_whatever_is_asked_would_have_been_asked(
        self, world: World, asking: Host, request_octets: bytes, seed: int
    ) -> None:
        """Mutated requests: either `receive` says the same, or it is left to it."""
        rng = random.Random(seed)
        asked = 0
        for _ in range(500):
            mutated = bytearray(request_octets)
            for _ in range(rng.randrange(1, 4)):
                mutated[rng.randrange(40)] = rng.choice((0, 1, 0x20, 0x21, 0x28, 0xFF, rng.randrange(256)))
            octets = bytes(mutated[: rng.choice((len(mutated), len(mutated), rng.randrange(len(mutated))))])
            sent, others = asking.table.ask_cookies([(octets, attacker(1))], world.now)
            assert len(sent) + len(others) == 1
            if sent:
                asked += 1
                (effect,) = asking.table.receive(octets, attacker(1), world.now)
                assert isinstance(effect, Send)
                assert effect.datagram == sent[0][0]
        assert asked > 20
