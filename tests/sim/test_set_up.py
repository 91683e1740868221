"""A road warrior and a gateway on a network that may be bad: the first tunnel, and what can go wrong with it."""

from collections import Counter
from functools import partial

import msgspec
import pytest
from tests.sim.world import (
    CLIENT,
    CLIENT_ID,
    ESP,
    GATEWAY,
    GATEWAY_ID,
    IKE,
    Host,
    ListPool,
    Nat,
    SlowPool,
    Weather,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
)

from cygnet.auth.identity import MAX_OCTETS, parse_identity
from cygnet.crypto.keywords import keyword_of
from cygnet.iana import CfgAttribute, ExchangeType, KeId, ProtocolId
from cygnet.ike.effects import AuthenticationRefused, HeldBack, OfferRefused, PhaseDone, Retransmitted, Send
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import AdmissionSettings, AuthSettings, ChildSettings, RetransmitPolicy, SharedSecret
from cygnet.ike.states import SaState
from cygnet.wire.header import decode_header
from cygnet.wire.payloads.configuration import ConfigurationAttribute


def make(world: World, gateway: object = None, client: object = None, addresses: int = 10) -> tuple[Host, Host]:
    settings = gateway if gateway is not None else gateway_settings()
    host = Host(world, GATEWAY, settings, ListPool(counted(addresses)))  # type: ignore[arg-type]
    return Host(world, CLIENT, client if client is not None else client_settings()), host  # type: ignore[arg-type]


def test_a_tunnel_comes_up_in_two_round_trips() -> None:
    world = World()
    client, gateway = make(world)
    client.initiate(gateway, client_connection())
    world.run(1.0)
    assert len(world.sent) == 4
    assert [e.phase for e in client.of_kind(PhaseDone)] == ["ike_sa_init", "ike_auth"]  # type: ignore[union-attr]
    assert agree(client, gateway)
    assert len(client.children) == len(gateway.children) == 1
    assert client.established[0].virtual_ips == gateway.established[0].virtual_ips == (bytes((10, 0, 0, 1)),)
    (child,) = client.children.values()
    assert [(t.start, t.end) for t in child.ts_local] == [(bytes((10, 0, 0, 1)),) * 2]
    assert not child.is_udp_encapsulated
    assert gateway.table.half_open == 0
    assert next(iter(gateway.table.sas.values())).handshake is None


def test_a_repeated_request_gets_the_same_answer_and_makes_no_second_sa() -> None:
    world = World(weather=Weather(duplication=1.0))
    client, gateway = make(world)
    client.initiate(gateway, client_connection())
    world.run(1.0)
    answers = [s.datagram for h, s in world.sent if h is gateway]
    assert len(answers) == 4
    assert len(set(answers)) == 2
    assert len(gateway.table.sas) == 1
    assert gateway.counters["responses_repeated_total"] == 2


def test_a_lost_request_is_sent_again_with_growing_waits_and_then_given_up() -> None:
    world = World(weather=Weather(loss=1.0))
    client, gateway = make(world, client=client_settings(retransmit=RetransmitPolicy(timeout_s=4.0, base=1.8, tries=5)))
    start = world.now
    client.initiate(gateway, client_connection())
    times = []
    world.tamper = lambda host, send: times.append(world.now - start) or ()  # type: ignore[func-returns-value]
    world.run(200.0)
    # 4 s, then each wait 1.8 times the one before; the wheel is late by a slot of 50 ms at most each time.
    assert times == pytest.approx([4.0, 11.2, 24.16, 47.49, 89.48], abs=0.3)
    assert client.closed == ["timeout_ike_sa_init"]
    assert len(client.of_kind(Retransmitted)) == 5
    assert not client.table.sas
    assert client.table.next_timer() is None


@pytest.mark.parametrize("seed", range(60))
def test_bad_weather(seed: int) -> None:
    """Loss, duplication and reordering: in the end both sides agree, or neither holds anything."""
    world = World(seed, Weather(loss=0.25, duplication=0.3, delay=0.02, jitter=3.0))
    client, gateway = make(world, gateway=gateway_settings(half_open_timeout_s=30.0), addresses=40)
    for number in range(20):
        identity = parse_identity(f"c{number}@example.org")
        local = msgspec.structs.replace(client_connection().local, id=identity)
        connection = client_connection(local=local)
        world.at(world.rng.random() * 5, partial(client.initiate, gateway, connection))
    world.run(60.0)
    assert gateway.table.half_open == 0
    up = {(s.spi_i, s.spi_r) for s in client.table.sas.values() if s.state == SaState.ESTABLISHED}
    theirs = {(s.spi_i, s.spi_r) for s in gateway.table.sas.values()}
    # The gateway may be left with an SA whose last answer never arrived; liveness checks are for those.
    assert up <= theirs
    assert len(up) >= 15
    assert len(gateway.pool.used) == len(theirs)
    world.weather = Weather()
    for spi in list(client.table.sas):
        client.delete(spi)
    world.run(5.0)
    assert not client.table.sas and not client.children
    assert {(s.spi_i, s.spi_r) for s in gateway.table.sas.values()} == theirs - up
    assert len(gateway.pool.used) == len(theirs - up)


def test_a_wrong_secret_ends_in_authentication_failed_and_no_sa() -> None:
    world = World()
    client, gateway = make(world, client=client_settings(secrets=(SharedSecret(b"another secret"),)))
    client.initiate(gateway, client_connection())
    world.run(1.0)
    assert client.closed == ["authentication_failed"]
    assert gateway.closed == ["authentication_failed"]
    assert gateway.counters['authentication_failures_total{reason="wrong_secret"}'] == 1
    [told] = gateway.of_kind(AuthenticationRefused)
    assert isinstance(told, AuthenticationRefused) and (told.why, told.path.remote) == ("wrong_secret", CLIENT)
    assert (told.remote_id, told.local_id) == (CLIENT_ID, GATEWAY_ID)
    assert not client.table.sas and not gateway.table.sas and not gateway.pool.used
    assert gateway.table.half_open == 0


def test_the_refusal_is_repeated_when_it_was_lost() -> None:
    world = World()
    client, gateway = make(world, client=client_settings(secrets=(SharedSecret(b"another secret"),)))
    lost: list[Send] = []

    def lose_first_refusal(host: Host, send: Send) -> tuple[Send, ...]:
        if host is gateway and decode_header(send.datagram).exchange_type == ExchangeType.IKE_AUTH and not lost:
            lost.append(send)
            return ()
        return (send,)

    world.tamper = lose_first_refusal
    client.initiate(gateway, client_connection())
    world.run(5.0)
    assert client.closed == ["authentication_failed"]
    assert len(lost) == 1


def test_a_gateway_with_the_wrong_secret_is_refused_and_told() -> None:
    """The initiator checks the responder too: a responder that only repeats our proof gets nowhere."""
    world = World()
    client, gateway = make(world)
    client.initiate(
        gateway,
        client_connection(
            remote=msgspec.structs.replace(client_connection().remote, id=parse_identity("other.example.org"))
        ),
    )
    world.run(1.0)
    assert client.closed == ["authentication_failed"]
    assert gateway.counters['authentication_failures_total{reason="no_connection"}'] == 1


def test_another_key_exchange_method_is_asked_for_and_used() -> None:
    world = World()
    both = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519-ecp256"),)
    wanted = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-ecp256"),)
    client, gateway = make(world, gateway=change_connection(gateway_settings(), proposals=wanted))
    client.initiate(gateway, client_connection(proposals=both))
    world.run(1.0)
    assert agree(client, gateway)
    (sa,) = client.table.sas.values()
    assert sa.suite is not None and sa.suite.ke.id == KeId.ECP_256
    assert gateway.counters['ike_sa_init_refused_total{reason="invalid_ke_payload"}'] == 1


def test_no_common_proposal() -> None:
    world = World()
    client, gateway = make(world)
    client.initiate(gateway, client_connection(proposals=(parse_proposal(ProtocolId.IKE, "aes256-sha512-modp2048"),)))
    world.run(1.0)
    assert client.closed == ["no_proposal_chosen"]
    assert not gateway.table.sas
    [told] = gateway.of_kind(OfferRefused)
    assert isinstance(told, OfferRefused) and (told.path.remote, told.proposals) == (CLIENT, IKE)
    assert [keyword_of(*each) for each in _transforms(told)] == ["aes256", "prfsha512", "sha512", "modp2048"]


def _transforms(told: OfferRefused) -> list[tuple[int, int, int]]:
    return [(t.type, t.id, t.key_bits) for proposal in told.offer.proposals for t in proposal.transforms]


def test_under_load_a_cookie_is_asked_for_and_nothing_kept_before_it_comes() -> None:
    world = World()
    client, gateway = make(world, gateway=gateway_settings(admission=AdmissionSettings(cookie_threshold=0)))
    client.initiate(gateway, client_connection())
    world.run(0.015)
    assert gateway.counters["cookies_sent_total"] == 1
    assert not gateway.table.sas and gateway.table.half_open == 0
    world.run(1.0)
    assert agree(client, gateway) and len(gateway.table.sas) == 1
    assert gateway.counters["cookies_accepted_total"] == 1


def test_a_cookie_is_good_only_for_the_address_it_was_made_for() -> None:
    world = World()
    client, gateway = make(world, gateway=gateway_settings(admission=AdmissionSettings(cookie_threshold=0)))
    thief = Host(world, "203.0.113.9", client_settings())
    client.initiate(gateway, client_connection())

    def replay(host: Host, send: Send) -> tuple[Send, ...]:
        if host is client:
            path = msgspec.structs.replace(send.path, local=thief.address)
            return (Send(send.datagram, path),)
        return (send,)

    world.run(0.015)
    world.tamper = replay
    world.run(0.02)
    assert gateway.counters["cookies_rejected_total"] == 1
    assert not gateway.table.sas


def test_the_half_open_limit_refuses_new_peers_until_there_is_room() -> None:
    world = World()
    limits = AdmissionSettings(init_limit_half_open=1)
    client, gateway = make(world, gateway=gateway_settings(admission=limits, half_open_timeout_s=4.0))
    silent = Host(world, "192.0.2.2", client_settings())
    silent.initiate(gateway, client_connection())
    silent.is_down = True
    world.run(0.5)
    spi = client.initiate(gateway, client_connection())
    world.run(0.5)
    assert gateway.counters["cookies_sent_total"] == 1, "it proves its address meanwhile"
    assert gateway.counters['datagrams_dropped_total{reason="half_open_limit"}'] == 1
    assert gateway.table.half_open == 1
    world.run(10.0)
    assert client.table.sas[spi].state == SaState.ESTABLISHED, "it comes in when it tries again"
    assert gateway.closed == ["half_open_timeout"]


def test_the_limit_of_ike_sas_refuses_new_peers_and_keeps_the_old() -> None:
    world = World()
    client, gateway = make(world, gateway=gateway_settings(admission=AdmissionSettings(ike_sa_limit=1)))
    first = client.initiate(gateway, client_connection())
    world.run(0.5)
    second = client.initiate(gateway, client_connection())
    world.run(1.0)
    assert gateway.counters['datagrams_dropped_total{reason="ike_sa_limit"}'] >= 1
    assert client.table.sas[first].state == SaState.ESTABLISHED and len(gateway.table.sas) == 1
    client.delete(first)
    world.run(5.0)
    assert client.table.sas[second].state == SaState.ESTABLISHED, "it comes in when it tries again"


def test_without_memory_new_peers_get_a_cookie_at_most_and_the_others_are_kept() -> None:
    world = World()
    client, gateway = make(world)
    first = client.initiate(gateway, client_connection())
    second = client.initiate(gateway, client_connection())
    world.run(0.02)
    assert gateway.table.half_open == 2
    gateway.table.admission.is_out_of_memory = True
    late = client.initiate(gateway, client_connection())
    world.run(0.5)
    assert gateway.counters["cookies_sent_total"] == 1
    assert gateway.counters['datagrams_dropped_total{reason="memory"}'] == 1, "when it came back with the cookie"
    assert [client.table.sas[spi].state for spi in (first, second)] == [SaState.ESTABLISHED] * 2
    assert client.table.sas[late].state == SaState.INIT_SENT
    gateway.table.admission.is_out_of_memory = False
    world.run(5.0)
    assert client.table.sas[late].state == SaState.ESTABLISHED


def test_a_peer_that_never_comes_back_is_forgotten() -> None:
    world = World()
    client, gateway = make(world)
    client.initiate(gateway, client_connection())
    client.is_down = True
    world.run(29.0)
    assert gateway.table.half_open == 1
    world.run(2.0)
    assert gateway.table.half_open == 0 and not gateway.table.sas
    assert gateway.closed == ["half_open_timeout"]
    assert gateway.table.next_timer() is None


def test_an_empty_pool_fails_the_child_and_says_so() -> None:
    world = World()
    client, gateway = make(world, addresses=0)
    client.initiate(gateway, client_connection())
    world.run(2.0)
    assert client.closed == ["internal_address_failure"]
    assert gateway.counters['child_sas_refused_total{reason="internal_address_failure"}'] == 1
    assert gateway.closed == ["deleted_by_peer"], "the initiator has no use for an IKE_SA alone, and says so"


def test_a_request_that_waits_for_an_address_is_answered_when_there_is_one() -> None:
    world = World()
    pool = SlowPool()
    client = Host(world, CLIENT, client_settings())
    gateway = Host(world, GATEWAY, gateway_settings(), pool)
    client.initiate(gateway, client_connection())
    world.run(1.0)
    (held,) = gateway.of_kind(HeldBack)
    assert isinstance(held, HeldBack)
    assert not client.established and not client.closed and not gateway.established
    gateway.receive(held.datagram, held.path)
    assert len(gateway.of_kind(HeldBack)) == 2, "it may wait for longer"
    pool.free.append(bytes((10, 3, 0, 7)))
    gateway.receive(held.datagram, held.path)
    world.run(1.0)
    assert agree(client, gateway)
    assert client.established[0].virtual_ips == (bytes((10, 3, 0, 7)),)
    assert not client.of_kind(Retransmitted)
    gateway.receive(held.datagram, held.path)
    assert pool.used == {bytes((10, 3, 0, 7))}, "handed in once more it is a repetition"


def test_selectors_are_narrowed_to_what_both_allow() -> None:
    world = World()
    child = ChildSettings(name="net", esp_proposals=ESP, local_ts=(parse_selector("10.9.0.0/16"),))
    client, gateway = make(world, gateway=change_connection(gateway_settings(), children=(child,)))
    client.initiate(gateway, client_connection())
    world.run(1.0)
    (installed,) = client.children.values()
    assert [(t.start, t.end) for t in installed.ts_remote] == [(bytes((10, 9, 0, 0)), bytes((10, 9, 255, 255)))]
    assert agree(client, gateway)


TOLD = (
    ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_DNS, bytes((9, 9, 9, 9))),
    ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_SUBNET, bytes((10, 1, 0, 0, 255, 255, 0, 0))),
    ConfigurationAttribute(CfgAttribute.INTERNAL_IP6_SUBNET, bytes.fromhex("fd01" + "00" * 14 + "40")),
    ConfigurationAttribute(CfgAttribute.INTERNAL_DNS_DOMAIN, b"corp.example.org"),
)


def test_ipv4_and_ipv6_addresses_together() -> None:
    world = World()
    v6 = bytes.fromhex("fd00" + "00" * 13 + "01")
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool([*counted(1), v6], TOLD))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(vips=(bytes(4), bytes(16))))
    world.run(1.0)
    assert client.established[0].virtual_ips == (bytes((10, 0, 0, 1)), v6)
    # Whoever has set it up hears what the pools tell; the responder knows it.
    assert client.established[0].attributes == TOLD
    assert gateway.established[0].attributes == ()
    (child,) = client.children.values()
    assert {t.start for t in child.ts_local} == {bytes((10, 0, 0, 1)), v6}
    assert agree(client, gateway)


def test_behind_a_nat_both_float_and_encapsulate() -> None:
    world = World()
    world.nats.append(Nat(inside=CLIENT, outside="203.0.113.1"))
    client, gateway = make(world)
    client.initiate(gateway, client_connection())
    world.run(1.0)
    (ours,), (theirs,) = client.children.values(), gateway.children.values()
    assert ours.is_udp_encapsulated and theirs.is_udp_encapsulated
    assert (ours.path.local_port, ours.path.remote_port) == (4500, 4500)
    assert (theirs.path.remote, theirs.path.local_port) == ("203.0.113.1", 4500)


def test_a_nat_that_rebinds_is_followed_on_the_next_authenticated_message() -> None:
    world = World()
    nat = Nat(inside=CLIENT, outside="203.0.113.1")
    world.nats.append(nat)
    client, gateway = make(world)
    client.initiate(gateway, client_connection(dpd_delay_s=10.0))
    world.run(1.0)
    (spi_in,) = gateway.children
    before = gateway.paths[spi_in]
    nat.rebind()
    world.run(15.0)
    after = gateway.paths[spi_in]
    assert after != before and after.remote == "203.0.113.1"
    assert client.counters["liveness_checks_total"] >= 1
    assert not client.closed and not gateway.closed


def test_encapsulation_can_be_forced() -> None:
    world = World()
    client, gateway = make(world)
    client.initiate(gateway, client_connection(encap=True))
    world.run(1.0)
    assert all(c.is_udp_encapsulated for h in (client, gateway) for c in h.children.values())


@pytest.mark.parametrize("side", ["client", "gateway"])
def test_delete_from_either_side(side: str) -> None:
    world = World()
    client, gateway = make(world)
    client.initiate(gateway, client_connection())
    world.run(1.0)
    deleter, other = (client, gateway) if side == "client" else (gateway, client)
    deleter.delete(next(iter(deleter.table.sas)))
    world.run(1.0)
    assert deleter.closed == ["deleted"] and other.closed == ["deleted_by_peer"]
    assert not (client.table.sas or gateway.table.sas or client.children or gateway.children or gateway.pool.used)


def test_both_sides_delete_at_once() -> None:
    world = World()
    client, gateway = make(world)
    client.initiate(gateway, client_connection())
    world.run(1.0)
    for host in (client, gateway):
        host.delete(next(iter(host.table.sas)))
    world.run(60.0)
    assert not (client.table.sas or gateway.table.sas or client.children or gateway.children)


def test_a_dead_peer_is_found_and_its_address_freed() -> None:
    world = World()
    settings = change_connection(gateway_settings(), dpd_delay_s=30.0)
    client, gateway = make(world, gateway=settings)
    client.initiate(gateway, client_connection())
    world.run(1.0)
    client.is_down = True
    world.run(29.0 + 170.0)
    assert gateway.closed == ["timeout_informational"]
    assert not gateway.table.sas and not gateway.pool.used and not gateway.children


def test_peers_that_fell_silent_together_are_not_all_asked_together() -> None:
    world = World()
    gateway = Host(world, GATEWAY, change_connection(gateway_settings(), dpd_delay_s=40.0), ListPool(counted(200)))
    client = Host(world, CLIENT, client_settings())
    for _ in range(200):
        client.initiate(gateway, client_connection())
    world.run(1.0)
    assert len(gateway.table.sas) == 200
    asked: Counter[int] = Counter()
    world.tamper = lambda host, send: asked.update([int(world.now)]) or (send,) if host is gateway else (send,)
    start = world.now
    world.run(40.0)
    assert sum(asked.values()) == gateway.counters["liveness_checks_total"] == 200
    assert start + 19 <= min(asked) and max(asked) <= start + 40, "never later than dpd_delay says"
    assert max(asked.values()) < 40, "spread over twenty seconds"


def test_traffic_counts_as_life() -> None:
    world = World()
    settings = change_connection(gateway_settings(), dpd_delay_s=30.0)
    client, gateway = make(world, gateway=settings)
    gateway.env.last_traffic = lambda spi_in: world.now - 1.0
    client.initiate(gateway, client_connection())
    world.run(120.0)
    assert "liveness_checks_total" not in gateway.counters


def test_initial_contact_closes_what_the_peer_has_forgotten() -> None:
    world = World()
    client, gateway = make(world)
    client.initiate(gateway, client_connection())
    world.run(1.0)
    (old,) = gateway.table.sas
    identity = gateway.table.sas[old].remote_id
    client.initiate(gateway, client_connection())
    world.run(1.0)
    assert len(gateway.table.sas) == 2
    new = next(spi for spi in gateway.table.sas if spi != old)
    gateway.carry_out(gateway.table.drop_peer(identity, new, world.now))
    assert set(gateway.table.sas) == {new}
    assert gateway.closed == ["initial_contact"]


def test_an_initiator_that_restarts_has_its_old_sa_forgotten() -> None:
    world = World()
    client, gateway = make(world)
    client.initiate(gateway, client_connection())
    world.run(1.0)
    restarted = Host(world, CLIENT, client_settings(), sends_initial_contact=True)
    restarted.initiate(gateway, client_connection())
    world.run(1.0)
    assert gateway.closed == ["initial_contact"]
    assert agree(restarted, gateway) and len(gateway.table.sas) == 1


def test_a_second_sa_with_the_same_peer_is_no_initial_contact() -> None:
    world = World()
    _, gateway = make(world)
    client = Host(world, CLIENT, client_settings(), sends_initial_contact=True)
    for _ in range(2):
        client.initiate(gateway, client_connection())
        world.run(1.0)
    assert len(gateway.table.sas) == 2 and agree(client, gateway)


def test_the_delete_after_a_failed_set_up_is_repeated_until_it_is_heard() -> None:
    world = World()
    client, gateway = make(world, addresses=0)
    deletes: list[Send] = []

    def lose_first_delete(host: Host, send: Send) -> tuple[Send, ...]:
        if host is client and decode_header(send.datagram).exchange_type == ExchangeType.INFORMATIONAL:
            deletes.append(send)
            return (send,) if len(deletes) > 1 else ()
        return (send,)

    world.tamper = lose_first_delete
    client.initiate(gateway, client_connection())
    world.run(5.0)
    assert client.closed == ["internal_address_failure"] and gateway.closed == ["deleted_by_peer"]
    assert not client.established


@pytest.mark.parametrize("fragment_size", [1280, 0])
def test_two_identities_as_long_as_may_be_fit_into_the_messages(fragment_size: int) -> None:
    # `SECRET` is anybody's.
    ours, theirs = (parse_identity("keyid:#" + octet * MAX_OCTETS) for octet in ("aa", "bb"))
    world = World()
    settings = change_connection(
        gateway_settings(fragment_size=fragment_size), local=AuthSettings(id=ours), remote=AuthSettings(id=theirs)
    )
    client, gateway = make(world, settings, client_settings(fragment_size=fragment_size))
    client.initiate(gateway, client_connection(local=AuthSettings(id=theirs), remote=AuthSettings(id=ours)))
    world.run(1.0)
    assert agree(client, gateway)
