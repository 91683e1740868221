"""Addresses that change while the tunnel stands (RFC 4555), between two cores; sections are those of that RFC."""

import random

import msgspec
import pytest
from tests.sim.world import (
    CLIENT,
    ESP,
    GATEWAY,
    Host,
    ListPool,
    Nat,
    Weather,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
    request,
    sa_of,
)

from cygnet.iana import ExchangeType, NotifyType, ProtocolId
from cygnet.ike.effects import MoveChild, SaMoved, Send
from cygnet.ike.nat import detection_digest, pack_address
from cygnet.ike.path import Path
from cygnet.ike.paths import candidate_paths
from cygnet.ike.protected import datagrams_of, open_message
from cygnet.ike.sa import IkeSa, MobikeRole
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import ChildSettings, Settings
from cygnet.ike.states import SaState
from cygnet.ike.tasks import Probe, RekeyIke
from cygnet.wire.header import decode_header
from cygnet.wire.message import decode_message, decode_payloads
from cygnet.wire.payloads import Encrypted, Payload
from cygnet.wire.payloads.notify import Notify

CLIENT_2, CLIENT_6 = "192.0.2.2", "2001:db8:1::1"
GATEWAY_2, GATEWAY_6 = "198.51.100.2", "2001:db8:2::1"
OUTSIDE = "203.0.113.1"
VICTIM = "203.0.113.77"


def notify(notify_type: NotifyType, data: bytes = b"") -> Notify:
    return Notify(ProtocolId.NONE, b"", notify_type, data)


UPDATE = notify(NotifyType.UPDATE_SA_ADDRESSES)


def set_up(
    world: World,
    *,
    gateway_addresses: tuple[str, ...] = (GATEWAY,),
    client_addresses: tuple[str, ...] = (CLIENT,),
    gateway: Settings | None = None,
    wait_s: float = 1.0,
    **client: object,
) -> tuple[Host, Host]:
    """A client and a gateway with a tunnel."""
    settings = gateway if gateway is not None else gateway_settings()
    server = Host(world, GATEWAY, settings, ListPool(counted(10)))
    server.set_addresses(*gateway_addresses)
    roamer = Host(world, CLIENT, client_settings())
    roamer.set_addresses(*client_addresses)
    roamer.initiate(server, client_connection(**{"mobike": True, **client}))
    world.run(wait_s)
    assert agree(roamer, server) and roamer.children
    return roamer, server


def esp_path(host: Host) -> Path:
    """Where the ESP of the one CHILD_SA goes."""
    (spi_in,) = host.children
    return host.paths[spi_in]


def assert_joined(client: Host, gateway: Host, client_address: str, gateway_address: str) -> None:
    """Both ends have both SAs on the path between these addresses, and nothing is under way any more."""
    assert agree(client, gateway)
    for host, local, remote in ((client, client_address, gateway_address), (gateway, gateway_address, client_address)):
        sa = sa_of(host)
        waiting = sa.message_ids.outstanding
        # It may just be asking whether the peer lives.
        assert sa.state == SaState.ESTABLISHED and not sa.pending and (waiting is None or waiting.task == Probe())
        assert (sa.path.local, sa.path.remote) == (local, remote)
        assert esp_path(host) == sa.path


# Setting up (sections 3.2 to 3.4).


def test_both_say_that_they_can_and_what_other_addresses_they_have(world: World) -> None:
    client, gateway = set_up(
        world, gateway_addresses=(GATEWAY, GATEWAY_2, GATEWAY_6), client_addresses=(CLIENT, CLIENT_6)
    )
    assert (sa_of(client).mobike, sa_of(gateway).mobike) == (MobikeRole.INITIATOR, MobikeRole.RESPONDER)
    assert sa_of(client).peer_addresses == (GATEWAY, GATEWAY_2, GATEWAY_6)
    # Section 3.3: on the NAT traversal ports, though there is no NAT and ESP is bare.
    assert sa_of(client).path == Path(CLIENT, 4500, GATEWAY, 4500)
    assert sa_of(gateway).path == Path(GATEWAY, 4500, CLIENT, 4500)
    assert not sa_of(client).is_udp_encapsulated and not sa_of(gateway).is_udp_encapsulated


@pytest.mark.parametrize("who", ["client", "gateway"])
def test_it_takes_two(world: World, who: str) -> None:
    if who == "client":
        client, gateway = set_up(world, mobike=False)
    else:
        client, gateway = set_up(world, gateway=change_connection(gateway_settings(), mobike=False))
    assert sa_of(client).mobike == sa_of(gateway).mobike == MobikeRole.NONE
    before = sa_of(client).path
    client.set_addresses(CLIENT_2)
    world.run(5.0)
    assert sa_of(client).path == before and not client.of_kind(SaMoved)


def test_a_list_of_addresses_is_bounded_and_holds_only_what_may_be_reached(world: World) -> None:
    client, gateway = set_up(world)
    many = [notify(NotifyType.ADDITIONAL_IP4_ADDRESS, bytes((198, 18, 0, n))) for n in range(1, 100)]
    none = ("0.0.0.0", "127.0.0.1", "224.0.0.1", "169.254.0.1")
    bad = [notify(NotifyType.ADDITIONAL_IP4_ADDRESS, pack_address(each)) for each in none]
    bad += [notify(NotifyType.ADDITIONAL_IP6_ADDRESS, b"short"), notify(NotifyType.ADDITIONAL_IP4_ADDRESS, bytes(16))]
    path = Path(CLIENT, 4500, GATEWAY, 4500)
    for datagram in datagrams_of(request(gateway, (*bad, *many))):
        client.receive(datagram, path)
    assert sa_of(client).peer_addresses == (GATEWAY, *(f"198.18.0.{n}" for n in range(1, 17)))
    sa_of(gateway).message_ids.next_id += 1
    client.receive(request(gateway, (notify(NotifyType.NO_ADDITIONAL_ADDRESSES),)), path)
    assert sa_of(client).peer_addresses == ()


def test_what_the_tunnel_is_for_is_no_way_to_make_it_up(world: World) -> None:
    """Neither told nor taken: ESP to such an address would go into the tunnel."""
    inner = (parse_selector("10.1.0.0/24"),)
    protected = change_connection(
        gateway_settings(), children=(ChildSettings(name="net", esp_proposals=ESP, local_ts=inner),)
    )
    child = ChildSettings(name="net", esp_proposals=ESP, remote_ts=inner)
    client, gateway = set_up(
        world, gateway=protected, gateway_addresses=("10.1.0.1", GATEWAY, GATEWAY_2), children=(child,)
    )
    assert sa_of(client).peer_addresses == (GATEWAY, GATEWAY_2)
    sa_of(client).peer_addresses += ("10.1.0.1",)
    assert {path.remote for path in candidate_paths(sa_of(client), client.env)} == {GATEWAY, GATEWAY_2}
    assert agree(client, gateway)


# The initiator moves (section 3.5).


def test_a_client_whose_address_goes_away_takes_its_tunnel_to_another(world: World) -> None:
    client, gateway = set_up(world)
    children = set(gateway.children)
    client.set_addresses(CLIENT, CLIENT_2)
    world.run(1.0)
    assert not client.of_kind(SaMoved), "a path that still stands is kept"
    client.set_addresses(CLIENT_2)
    world.run(1.0)
    assert_joined(client, gateway, CLIENT_2, GATEWAY)
    assert set(gateway.children) == children
    assert client.counters["address_updates_sent_total"] == gateway.counters["address_updates_received_total"] == 1
    assert gateway.counters["routability_checks_total"] == 1


@pytest.mark.parametrize("back", [False, True])
def test_from_ipv4_to_ipv6_and_back(world: World, back: bool) -> None:
    client, gateway = set_up(world, gateway_addresses=(GATEWAY, GATEWAY_6))
    client.set_addresses(CLIENT_6)
    world.run(1.0)
    assert_joined(client, gateway, CLIENT_6, GATEWAY_6)
    if back:
        client.set_addresses(CLIENT_2)
        world.run(1.0)
        assert_joined(client, gateway, CLIENT_2, GATEWAY)


def test_a_peer_with_one_address_can_t_be_reached_by_the_other_family(world: World) -> None:
    client, gateway = set_up(world)
    client.set_addresses(CLIENT_6)
    world.run(5.0)
    assert not client.of_kind(SaMoved) and sa_of(client).state == SaState.ESTABLISHED
    client.set_addresses(CLIENT_2)
    world.run(1.0)
    assert_joined(client, gateway, CLIENT_2, GATEWAY)


def test_behind_another_nat_or_none_esp_goes_in_udp_or_bare(world: World) -> None:
    world.nats.append(Nat(CLIENT_2, OUTSIDE))
    client, gateway = set_up(world)
    assert not sa_of(gateway).is_udp_encapsulated
    client.set_addresses(CLIENT_2)
    world.run(1.0)
    for host in (client, gateway):
        assert sa_of(host).is_udp_encapsulated
        assert isinstance(last := host.of_kind(MoveChild)[-1], MoveChild) and last.is_udp_encapsulated
    assert sa_of(client).is_behind_nat and sa_of(gateway).is_peer_behind_nat
    assert esp_path(gateway).remote == OUTSIDE and sa_of(client).keepalive_due

    client.set_addresses(CLIENT)
    world.run(1.0)
    assert_joined(client, gateway, CLIENT, GATEWAY)
    for host in (client, gateway):
        assert not sa_of(host).is_udp_encapsulated
        assert isinstance(last := host.of_kind(MoveChild)[-1], MoveChild) and not last.is_udp_encapsulated
    assert not sa_of(client).keepalive_due


def test_an_address_that_changes_again_before_the_answer_is_told_again(world: World) -> None:
    client, gateway = set_up(world)
    client.set_addresses(CLIENT_2)
    world.run(0.005)
    client.set_addresses(CLIENT)
    world.run(2.0)
    assert_joined(client, gateway, CLIENT, GATEWAY)
    assert client.counters["address_updates_sent_total"] == 2


@pytest.mark.parametrize("is_update", [True, False], ids=["update", "check"])
def test_what_is_not_answered_before_the_ike_sa_is_rekeyed_is_asked_in_the_new_one(
    world: World, is_update: bool
) -> None:
    """The update, or the check of the new address, is lost; the peer rekeys the IKE_SA, and ends the old one."""
    client, gateway = set_up(world, client_addresses=(CLIENT, CLIENT_2))
    asks, rekeys = (client, gateway) if is_update else (gateway, client)
    world.tamper = lambda host, send: (send,) if host is not asks or decode_header(send.datagram).is_response else ()
    client.carry_out(client.table.move(sa_of(client).spi, Path(CLIENT_2, 4500, GATEWAY, 4500), world.now))
    world.run(0.1)
    rekeys.carry_out(rekeys.table.order(sa_of(rekeys).spi, RekeyIke(), world.now))
    world.run(0.5)
    assert agree(client, gateway) and sa_of(client).is_original_initiator is not is_update
    world.tamper = lambda host, send: (send,)
    world.run(10.0)
    assert_joined(client, gateway, CLIENT_2, GATEWAY)


def test_the_configured_addresses_are_not_left_for_others(world: World) -> None:
    client, gateway = set_up(world, local_addrs=(CLIENT, CLIENT_2))
    client.set_addresses(VICTIM, CLIENT)
    world.run(1.0)
    assert not client.of_kind(SaMoved)
    client.set_addresses(VICTIM, CLIENT_2)
    world.run(1.0)
    assert_joined(client, gateway, CLIENT_2, GATEWAY)


def test_a_change_of_the_list_alone_is_told(world: World) -> None:
    client, _ = set_up(world)
    sent = len(world.sent)
    client.set_addresses(CLIENT, CLIENT_6)
    world.run(1.0)
    assert len(world.sent) == sent + 2, "a request and its answer"
    client.carry_out(client.table.roam(world.now, is_list_new=False))
    world.run(1.0)
    assert len(world.sent) == sent + 2


def test_a_virtual_address_is_no_way_out(world: World) -> None:
    client, gateway = set_up(world)
    (virtual,) = sa_of(client).virtual_ips
    inner = ".".join(map(str, virtual))
    client.set_addresses(inner, CLIENT_2)
    world.run(1.0)
    assert_joined(client, gateway, CLIENT_2, GATEWAY)


def test_when_the_gateway_is_silent_its_other_addresses_are_tried(world: World) -> None:
    """Sections 3.10 and 3.11: the request goes out on all paths, and then an update on the one that was answered."""
    client, gateway = set_up(world, gateway_addresses=(GATEWAY, GATEWAY_2, GATEWAY_6), dpd_delay_s=10.0)
    world.unreachable.add(GATEWAY)
    world.run(25.0)
    assert_joined(client, gateway, CLIENT, GATEWAY_2)
    assert client.closed == [] == gateway.closed


def test_when_nothing_answers_the_peer_is_dead(world: World) -> None:
    client, _ = set_up(world, gateway_addresses=(GATEWAY, GATEWAY_2), dpd_delay_s=10.0)
    world.unreachable |= {GATEWAY, GATEWAY_2}
    world.run(60.0)
    assert client.closed == ["timeout_informational"]
    assert client.table.roam(world.now, is_list_new=True) == [] and client.table.next_timer() is None


def test_a_gateway_that_refuses_an_address_is_not_asked_for_ever(world: World) -> None:
    settings = change_connection(gateway_settings(), remote_addrs=(f"{CLIENT}/32", f"{CLIENT_6}/128"))
    client, gateway = set_up(world, gateway=settings, gateway_addresses=(GATEWAY, GATEWAY_6))
    client.set_addresses(CLIENT_2, CLIENT_6)
    world.run(5.0)
    assert_joined(client, gateway, CLIENT_6, GATEWAY_6)
    assert gateway.counters['address_updates_refused_total{reason="unacceptable_addresses"}'] == 1

    client.set_addresses(CLIENT_2)
    sent = len(world.sent)
    world.run(60.0)
    assert sa_of(gateway).state == SaState.ESTABLISHED
    assert len(world.sent) - sent <= 4, "one path, tried once"


# The responder (sections 3.5, 3.7, 3.9).


def at_gateway(sa: IkeSa, remote: str, port: int = 4500) -> Path:
    return Path(sa.path.local, sa.path.local_port, remote, port)


def send_from(client: Host, gateway: Host, source: str, *payloads: Payload) -> None:
    """An authentic request of the client that seems to come from elsewhere."""
    datagram = request(client, payloads)
    sa_of(client).message_ids.next_id += 1
    gateway.receive(datagram, at_gateway(sa_of(gateway), source))


def test_traffic_goes_to_a_new_address_only_after_the_peer_has_answered_there(world: World) -> None:
    client, gateway = set_up(world)
    client.set_addresses(CLIENT_2)
    world.run(0.0101)
    assert sa_of(gateway).path.remote == CLIENT_2
    assert esp_path(gateway).remote == CLIENT, "the check is under way"
    world.run(0.1)
    assert esp_path(gateway).remote == CLIENT_2


def test_without_the_check_it_goes_there_at_once(world: World) -> None:
    client, gateway = set_up(world, gateway=change_connection(gateway_settings(), mobike_check=False))
    client.set_addresses(CLIENT_2)
    world.run(0.0101)
    assert esp_path(gateway).remote == CLIENT_2
    world.run(1.0)
    assert gateway.counters["routability_checks_total"] == 0


def test_a_move_to_an_address_that_does_not_answer_ends_the_sa_and_costs_others_nothing(world: World) -> None:
    client, gateway = set_up(world)
    client.initiate(gateway, client_connection(mobike=True))
    world.run(1.0)
    spi, other = gateway.table.sas
    sa = gateway.table.sas[spi]
    theirs = next(each for each in client.table.sas.values() if each.spi_r == spi)
    datagram = theirs.seal(ExchangeType.INFORMATIONAL, theirs.message_ids.next_id, (UPDATE,), is_response=False)
    client.is_down = True
    sent = len(world.sent)
    gateway.receive(datagram, at_gateway(sa, VICTIM))
    world.run(200.0)
    to_victim = [send for _, send in world.sent[sent:] if send.path.remote == VICTIM]
    assert len(to_victim) == 7, "the answer, the check, and five retransmissions"
    assert all(path.remote == CLIENT for path in gateway.paths.values()), "no traffic"
    assert gateway.closed == ["timeout_informational"]
    assert list(gateway.table.sas) == [other]


def test_a_wrong_cookie_closes_the_sa(world: World) -> None:
    """Section 3.7: the answer comes from somebody who has not seen the question."""
    client, gateway = set_up(world)
    send_from(client, gateway, VICTIM, UPDATE)
    theirs = sa_of(client)
    lie = theirs.seal(ExchangeType.INFORMATIONAL, 0, (notify(NotifyType.COOKIE2, bytes(16)),), is_response=True)
    gateway.receive(lie, at_gateway(sa_of(gateway), VICTIM))
    assert gateway.closed == ["cookie2_mismatch"] and not gateway.of_kind(MoveChild)


def test_a_peer_that_moves_on_while_it_is_checked_is_checked_again(world: World) -> None:
    client, gateway = set_up(world)
    client.set_addresses(CLIENT_2)
    world.run(0.0101)
    client.set_addresses("192.0.2.3")
    world.run(1.0)
    assert_joined(client, gateway, "192.0.2.3", GATEWAY)
    assert gateway.counters["routability_checks_total"] == 2
    assert CLIENT_2 not in {e.path.remote for e in gateway.of_kind(MoveChild) if isinstance(e, MoveChild)}


def test_a_flood_of_updates_costs_two_datagrams_each_and_no_memory(world: World) -> None:
    client, gateway = set_up(world)
    sent = len(world.sent)
    client.is_down = True
    for n in range(1000):
        send_from(client, gateway, VICTIM if n % 2 else CLIENT_2, UPDATE)
    assert len(world.sent) - sent <= 2 * 1000 + 1
    sa = sa_of(gateway)
    assert len(sa.pending) <= 1 and gateway.counters["routability_checks_total"] == 1
    assert not gateway.of_kind(MoveChild) and gateway.table.timers < 5


def test_ike_without_an_update_moves_nothing_even_behind_a_nat(world: World) -> None:
    """Section 3.8: so that a path can be tested without a change."""
    world.nats.append(Nat(CLIENT, OUTSIDE))
    client, gateway = set_up(world)
    before = sa_of(gateway).path
    send_from(client, gateway, VICTIM)
    send_from(client, gateway, VICTIM, notify(NotifyType.NO_ADDITIONAL_ADDRESSES))
    assert sa_of(gateway).path == before
    (spi_in,) = gateway.children
    gateway.carry_out(gateway.table.follow(spi_in, at_gateway(sa_of(gateway), OUTSIDE, 40099), world.now))
    assert sa_of(gateway).path.remote_port == 40099, "ESP may"


def test_a_mapping_that_changed_in_silence_is_seen_by_a_liveness_check(world: World) -> None:
    """Section 3.8: the answer says where the responder sees us, and an update follows."""
    nat = Nat(CLIENT, OUTSIDE)
    world.nats.append(nat)
    client, gateway = set_up(world, dpd_delay_s=5.0)
    world.run(6.0)
    before = sa_of(gateway).path.remote_port
    assert client.counters["liveness_checks_total"]
    updates = client.counters["address_updates_sent_total"]
    assert updates == 0
    nat.rebind()
    world.run(12.0)
    assert client.counters["address_updates_sent_total"] - updates == 1
    after = esp_path(gateway)
    assert after == sa_of(gateway).path and after.remote_port != before
    assert nat.back[OUTSIDE, after.remote_port] == (CLIENT, 4500)


def test_the_responder_does_not_take_an_update_from_an_initiator_s_place(world: World) -> None:
    client, gateway = set_up(world)
    before = sa_of(client).path
    client.receive(request(gateway, (UPDATE,)), msgspec.structs.replace(before, remote=VICTIM))
    assert sa_of(client).path == before


def no_nats(source: str, destination: str, port: int = 4500) -> Notify:
    ports = port.to_bytes(2, "big") * 2
    return notify(NotifyType.NO_NATS_ALLOWED, pack_address(source) + pack_address(destination) + ports)


def test_a_nat_that_is_not_allowed_is_told_and_nothing_changes(world: World) -> None:
    client, gateway = set_up(world)
    before = sa_of(gateway).path
    send_from(client, gateway, VICTIM, UPDATE, no_nats(CLIENT_2, GATEWAY))
    assert sa_of(gateway).path == before
    assert gateway.counters['address_updates_refused_total{reason="unexpected_nat_detected"}'] == 1
    send_from(client, gateway, CLIENT_2, UPDATE, no_nats(CLIENT_2, GATEWAY))
    assert sa_of(gateway).path.remote == CLIENT_2


def answers_to(client: Host, gateway: Host, *payloads: Payload) -> tuple[Payload, ...]:
    """What the gateway answers to a request of the client."""
    send_from(client, gateway, CLIENT, *payloads)
    answer = next(e.datagram for e in reversed(gateway.events) if isinstance(e, Send))
    (encrypted,) = decode_message(answer).payloads
    incoming = sa_of(client).incoming
    assert isinstance(encrypted, Encrypted) and incoming is not None
    return decode_payloads(encrypted.inner_type, open_message(incoming, answer, encrypted))


@pytest.mark.parametrize(("octets", "is_returned"), [(7, False), (8, True), (64, True), (65, False)])
def test_a_cookie_is_returned_as_it_is(world: World, octets: int, is_returned: bool) -> None:
    client, gateway = set_up(world)
    cookie = notify(NotifyType.COOKIE2, bytes(range(octets)))
    assert answers_to(client, gateway, cookie) == ((cookie,) if is_returned else ())


def test_nat_detection_is_answered_by_what_was_seen(world: World) -> None:
    client, gateway = set_up(world)
    sa = sa_of(client)
    asked = notify(NotifyType.NAT_DETECTION_SOURCE_IP, bytes(20)), notify(NotifyType.NAT_DETECTION_DESTINATION_IP)
    assert answers_to(client, gateway, *asked) == (
        notify(NotifyType.NAT_DETECTION_SOURCE_IP, detection_digest(sa.spi_i, sa.spi_r, GATEWAY, 4500)),
        notify(NotifyType.NAT_DETECTION_DESTINATION_IP, detection_digest(sa.spi_i, sa.spi_r, CLIENT, 4500)),
    )
    assert not sa_of(gateway).is_udp_encapsulated, "asking alone changes nothing"


# Bad weather.


@pytest.mark.parametrize("seed", range(20))
def test_moves_in_bad_weather_end_with_both_on_one_path(seed: int) -> None:
    world = World(seed, Weather(delay=0.05))
    world.nats.append(Nat(CLIENT_2, OUTSIDE))
    client, gateway = set_up(world, gateway_addresses=(GATEWAY, GATEWAY_2, GATEWAY_6), wait_s=5.0, dpd_delay_s=20.0)
    world.weather = Weather(loss=0.2, duplication=0.1, delay=0.05, jitter=0.3)
    rng = random.Random(seed)
    for _ in range(12):
        client.set_addresses(*rng.sample((CLIENT, CLIENT_2, CLIENT_6, "192.0.2.3"), rng.randint(1, 3)))
        world.run(rng.choice((0.02, 0.2, 2.0, 10.0)))
    world.weather = Weather()
    client.set_addresses(CLIENT, CLIENT_6)
    world.run(40.0)
    assert not client.closed and not gateway.closed
    path = sa_of(client).path
    assert_joined(client, gateway, path.local, path.remote)
    assert path.local in (CLIENT, CLIENT_6)
    assert not sa_of(client).is_udp_encapsulated and not sa_of(gateway).is_udp_encapsulated
