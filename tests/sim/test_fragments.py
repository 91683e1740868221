"""Messages in fragments (RFC 7383): both roles, on bad paths, and against peers that abuse them."""

import itertools

import msgspec
import pytest
from tests.sim.world import (
    CLIENT,
    CLIENT_ID,
    GATEWAY,
    GATEWAY_ID,
    SECRET,
    Host,
    ListPool,
    SlowPool,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    drops,
    gateway_settings,
    packet_octets,
    request,
    sa_of,
)

from cygnet.auth.identity import Identity, parse_identity
from cygnet.iana import ExchangeType, PayloadType
from cygnet.ike import fragments
from cygnet.ike.effects import HeldBack, Retransmitted, Send
from cygnet.ike.path import Path
from cygnet.ike.protected import datagrams_of, seal_fragments
from cygnet.ike.sa import Turn
from cygnet.ike.settings import AuthSettings, Fragmentation, SharedSecret
from cygnet.wire.header import decode_header
from cygnet.wire.message import decode_message, encode_payloads
from cygnet.wire.payloads import EncryptedFragment
from cygnet.wire.payloads.vendor_id import VendorId

FROM_CLIENT = Path(GATEWAY, 500, CLIENT, 500)
LONG_ID = parse_identity("c" * 1100 + "@example.org")
LONG_GATEWAY_ID = parse_identity("g" * 1100 + ".example.org")


def fragment_of(send: Send) -> EncryptedFragment | None:
    payloads = decode_message(send.datagram).payloads
    return payloads[-1] if payloads and isinstance(payloads[-1], EncryptedFragment) else None


def cut(host: Host, largest_octets: int, octets: int = 500) -> list[bytes]:
    """The fragments of an authentic request of `host`, with the message ID that the peer expects."""
    sa = sa_of(host)
    sa.largest_octets = largest_octets
    return datagrams_of(request(host, (VendorId(bytes(octets)),)))


def held(host: Host) -> int:
    return host.table._fragments.held


def abandoned(host: Host, reason: str) -> int:
    return host.counters[f'reassemblies_abandoned_total{{reason="{reason}"}}']


def pair(world: World, *, client: Identity = CLIENT_ID, gateway: Identity = GATEWAY_ID) -> tuple[Host, Host]:
    """A client and a gateway of these names, at the default size of fragments; the first tunnel is under way."""
    settings = change_connection(
        gateway_settings(secrets=(SharedSecret(SECRET.secret),)), local=AuthSettings(id=gateway)
    )
    server = Host(world, GATEWAY, settings, ListPool(counted(10)))
    peer = Host(world, CLIENT, client_settings())
    remote = msgspec.structs.replace(client_connection().remote, id=gateway)
    peer.initiate(server, client_connection(local=AuthSettings(id=client), remote=remote))
    return peer, server


@pytest.mark.parametrize("size", [128, 160, 200])
def test_long_messages_go_in_fragments_both_ways(size: int) -> None:
    world = World()
    world.fragment_size = size
    client, gateway = pair(world)
    world.run(1.0)
    assert agree(client, gateway) and len(gateway.children) == 1
    protected = [s for _, s in world.sent if decode_header(s.datagram).exchange_type != ExchangeType.IKE_SA_INIT]
    assert all(packet_octets(send) <= size for send in protected)
    for host in (client, gateway):
        assert host.counters["messages_reassembled_total"] == 1
    for is_response in (False, True):
        pieces = [fragment_of(s) for s in protected if decode_header(s.datagram).is_response is is_response]
        total = len(pieces)
        assert total > 1
        assert [(p.number, p.total) for p in pieces if p] == [(n, total) for n in range(1, total + 1)]
        # RFC 7383 section 2.5: only the first says what is inside.
        first = PayloadType.IDR if is_response else PayloadType.IDI
        assert [p.inner_type for p in pieces if p] == [first] + [0] * (total - 1)
    for host, way in ((client, "in-resp"), (gateway, "in-req")):
        assert host.counters[f'ike_messages_total{{message="ike-auth-{way}"}}'] == 1, "one message in many fragments"


@pytest.mark.parametrize("who", ["client", "gateway"])
def test_without_the_consent_of_both_there_are_no_fragments(who: str) -> None:
    world = World()
    world.fragment_size = 128
    no = Fragmentation.NO
    settings = change_connection(gateway_settings(), fragmentation=no) if who == "gateway" else gateway_settings()
    gateway = Host(world, GATEWAY, settings, ListPool(counted(10)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(fragmentation=no) if who == "client" else client_connection())
    world.run(1.0)
    assert agree(client, gateway) and len(world.sent) == 4
    for datagram in cut(client, 100):
        gateway.receive(datagram, FROM_CLIENT)
    assert set(drops(gateway)) == {"fragment_unexpected"}
    assert held(gateway) == 0


def test_accept_takes_fragments_and_makes_none() -> None:
    world = World()
    world.fragment_size = 128
    settings = change_connection(gateway_settings(), fragmentation=Fragmentation.ACCEPT)
    gateway = Host(world, GATEWAY, settings, ListPool(counted(10)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    assert agree(client, gateway)
    assert gateway.counters["messages_reassembled_total"] == 1
    assert not any(fragment_of(send) for host, send in world.sent if host is gateway)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_fragments_does_not_matter(client: Host, gateway: Host, order: tuple[int, ...]) -> None:
    pieces = cut(client, 280)
    assert len(pieces) == 3
    for index in order:
        gateway.receive(pieces[index], FROM_CLIENT)
    assert sa_of(gateway).message_ids.expected_id == 3
    assert held(gateway) == 0 and not drops(gateway)


def test_duplicates_are_dropped(client: Host, gateway: Host) -> None:
    first, *others = cut(client, 100)
    for _ in range(3):
        gateway.receive(first, FROM_CLIENT)
    assert drops(gateway) == {"fragment_duplicate": 2}
    for datagram in others:
        gateway.receive(datagram, FROM_CLIENT)
    assert sa_of(gateway).message_ids.expected_id == 3


def test_more_fragments_begin_anew_and_fewer_are_dropped(client: Host, gateway: Host) -> None:
    """Section 2.6: a message that is cut smaller replaces what came of its larger pieces; never the two are mixed."""
    few, many = cut(client, 280), cut(client, 100)
    assert 1 < len(few) < len(many)
    gateway.receive(few[0], FROM_CLIENT)
    gateway.receive(many[1], FROM_CLIENT)
    assert abandoned(gateway, "superseded") == 1
    for datagram in few[1:]:
        gateway.receive(datagram, FROM_CLIENT)
    assert drops(gateway) == {"fragment_of_fewer": len(few) - 1}
    for datagram in many[2:]:
        gateway.receive(datagram, FROM_CLIENT)
    assert sa_of(gateway).message_ids.expected_id == 2
    gateway.receive(many[0], FROM_CLIENT)
    assert sa_of(gateway).message_ids.expected_id == 3


@pytest.mark.parametrize(("number", "total"), [(0, 3), (4, 3), (0, 0), (1, 0)])
def test_impossible_numbers_are_dropped(client: Host, gateway: Host, number: int, total: int) -> None:
    octets = bytearray(cut(client, 280)[0])
    octets[32:36] = number.to_bytes(2, "big") + total.to_bytes(2, "big")
    gateway.receive(bytes(octets), FROM_CLIENT)
    assert drops(gateway) == {"bad_fragment_number": 1}
    assert held(gateway) == 0


def test_a_forged_fragment_is_dropped_and_nothing_of_it_kept(client: Host, gateway: Host) -> None:
    pieces = cut(client, 100)
    for datagram in pieces[:-1]:
        gateway.receive(datagram, FROM_CLIENT)
    before = held(gateway)
    for forged in (pieces[-1][:-1] + bytes((pieces[-1][-1] ^ 1,)), _renumbered(pieces[0], 2, 0xFF)):
        gateway.receive(forged, Path(GATEWAY, 500, "203.0.113.66", 500))
    assert drops(gateway) == {"integrity": 2}
    assert held(gateway) == before
    counted_before = gateway.counters['ike_messages_total{message="info-in-req"}']
    gateway.receive(pieces[-1], FROM_CLIENT)
    assert gateway.counters['ike_messages_total{message="info-in-req"}'] == counted_before + 1
    assert counted_before == 0, "what was not authentic, or not whole, is no message"
    assert sa_of(gateway).message_ids.expected_id == 3


def _renumbered(datagram: bytes, number: int, total: int) -> bytes:
    return datagram[:32] + number.to_bytes(2, "big") + total.to_bytes(2, "big") + datagram[36:]


def test_only_the_first_fragment_of_a_repeated_request_is_answered(client: Host, gateway: Host) -> None:
    """Section 2.6.1: otherwise each fragment would bring the whole answer."""
    pieces = cut(client, 100)
    for datagram in pieces:
        gateway.receive(datagram, FROM_CLIENT)
    answer = gateway.of_kind(Send)[-1]
    before = len(gateway.of_kind(Send))
    for datagram in pieces[1:]:
        gateway.receive(datagram, FROM_CLIENT)
    assert len(gateway.of_kind(Send)) == before
    assert drops(gateway) == {"fragment_repeated": len(pieces) - 1}
    gateway.receive(pieces[0], FROM_CLIENT)
    assert gateway.of_kind(Send)[before:] == [answer]
    assert gateway.counters["responses_repeated_total"] == 1
    assert sa_of(gateway).message_ids.expected_id == 3


def test_a_request_that_comes_again_in_other_fragments_is_answered_and_not_run_again(
    client: Host, gateway: Host
) -> None:
    """It came whole, its answer was lost, and the peer tries smaller fragments."""
    sa_of(client).largest_octets = 0
    gateway.receive(request(client, (VendorId(bytes(500)),)), FROM_CLIENT)
    answer = gateway.of_kind(Send)[-1]
    pieces = cut(client, 100)
    for _ in range(2):
        gateway.receive(pieces[0], FROM_CLIENT)
    assert gateway.of_kind(Send)[-2:] == [answer, answer]
    assert gateway.counters["responses_repeated_total"] == 2
    assert sa_of(gateway).message_ids.expected_id == 3
    forged = pieces[0][:-1] + bytes((pieces[0][-1] ^ 1,))
    before = len(gateway.events)
    gateway.receive(forged, Path(GATEWAY, 500, "203.0.113.66", 500))
    assert gateway.events[before:] == [], "nobody else can have answers sent somewhere"
    assert drops(gateway) == {"integrity": 1}


def test_a_retransmission_brings_what_was_missing() -> None:
    world = World()
    world.fragment_size = 160
    client, gateway = pair(world)
    lost: list[int] = []

    def lose_every_other_once(host: Host, send: Send) -> tuple[Send, ...]:
        piece = fragment_of(send)
        if host is client and piece is not None and piece.number % 2 and piece.number not in lost:
            lost.append(piece.number)
            return ()
        return (send,)

    world.tamper = lose_every_other_once
    world.run(5.0)
    assert lost and agree(client, gateway)
    assert gateway.counters["messages_reassembled_total"] == 1
    assert drops(gateway)["fragment_duplicate"] > 0


def test_a_request_that_is_held_back_keeps_its_fragments_until_it_is_served() -> None:
    world = World()
    world.fragment_size = 160
    pool = SlowPool()
    client = Host(world, CLIENT, client_settings())
    gateway = Host(world, GATEWAY, gateway_settings(), pool)
    client.initiate(gateway, client_connection())
    world.run(0.5)
    octets = held(gateway)
    (back,) = gateway.of_kind(HeldBack)
    assert isinstance(back, HeldBack)
    for _ in range(3):
        gateway.receive(back.datagram, back.path)
        assert held(gateway) == octets > 0
    assert gateway.of_kind(HeldBack) == [back] * 4
    pool.free.append(bytes((10, 3, 0, 7)))
    gateway.receive(back.datagram, back.path)
    world.run(0.5)
    assert agree(client, gateway)
    assert held(gateway) == 0 and not client.of_kind(Retransmitted)


def test_a_path_too_narrow_for_our_requests_is_met_with_smaller_fragments() -> None:
    """Section 2.5.2. What is sent has 1280 octets at most, and the path takes 600."""
    world = World()
    world.mtu = 600
    client, gateway = pair(world, client=LONG_ID)
    world.run(10.0)
    assert agree(client, gateway) and len(gateway.children) == 1
    assert client.counters["messages_cut_smaller_total"] == 1
    assert client.counters["retransmissions_total"] == 2
    # It is remembered: the next long message gets through at once.
    pieces = datagrams_of(request(client, (VendorId(bytes(900)),)))
    assert len(pieces) == 2 and max(map(len, pieces)) <= 576 - 32


def test_a_path_too_narrow_for_our_answers_is_met_with_smaller_fragments() -> None:
    """A responder has no timer: it sees that its answers don't arrive by the requests that come again."""
    world = World()
    world.mtu = 600
    client, gateway = pair(world, gateway=LONG_GATEWAY_ID)
    # The request names the gateway, so it is as long; let it through as it is.
    world.mtu = 0xFFFF
    world.tamper = lambda host, send: () if host is gateway and packet_octets(send) > 600 else (send,)
    world.run(20.0)
    assert agree(client, gateway) and len(gateway.children) == 1
    assert gateway.counters["messages_cut_smaller_total"] == 1
    assert gateway.counters['requests_failed_total{reason="invalid_syntax"}'] == 0
    assert len(gateway.established) == 1


def test_a_message_that_is_not_cut_into_more_pieces_stays_as_it_is() -> None:
    """The peer tells two cuts apart by their number alone: with as many, it would mix them."""
    world = World()
    world.fragment_size = 600
    client, gateway = pair(world)
    world.run(1.0)
    gateway.is_down = True
    sa = sa_of(client)
    turn = Turn(client.env, client.table, world.now)
    sa.send_request(ExchangeType.INFORMATIONAL, (VendorId(bytes(900)),), turn)
    client.carry_out(turn.effects)
    client.table.schedule(sa)
    first = [send.datagram for _, send in world.sent[-2:]]
    world.run(6.0)
    assert client.counters["retransmissions_total"] >= 3
    assert client.counters["messages_cut_smaller_total"] == 0
    assert [send.datagram for _, send in world.sent[-2:]] == first


def test_a_message_that_is_never_completed_is_forgotten(client: Host, gateway: Host, world: World) -> None:
    for datagram in cut(client, 100)[1:]:
        gateway.receive(datagram, FROM_CLIENT)
    assert held(gateway) > 0
    assert gateway.table.next_timer() is not None
    world.run(61.0)
    assert held(gateway) == 0 and abandoned(gateway, "timeout") == 1
    assert agree(client, gateway)


def test_with_its_sa_an_incomplete_message_goes(client: Host, gateway: Host, world: World) -> None:
    pieces = cut(client, 100)
    for datagram in pieces[:-1]:
        gateway.receive(datagram, FROM_CLIENT)
    gateway.delete(sa_of(gateway).spi)
    world.run(1.0)
    assert not gateway.table.sas and held(gateway) == 0
    assert abandoned(gateway, "closed") == 1


def test_a_message_is_bounded_in_fragments_and_octets(client: Host, gateway: Host, world: World) -> None:
    sa = sa_of(client)
    assert sa.outgoing is not None

    def flight(octets: int, largest: int) -> list[bytes]:
        inner, chain = encode_payloads([VendorId(bytes(32000)) for _ in range(octets // 32000)])
        assert sa.outgoing is not None
        return datagrams_of(
            seal_fragments(
                sa.outgoing,
                spi_i=sa.spi_i,
                spi_r=sa.spi_r,
                exchange_type=ExchangeType.INFORMATIONAL,
                flags=8,
                message_id=sa.message_ids.next_id,
                inner_type=inner,
                chain=chain,
                largest_octets=largest,
            )
        )

    many = flight(64000, 120)
    assert len(many) > fragments.MAX_FRAGMENTS
    for datagram in many:
        gateway.receive(datagram, FROM_CLIENT)
    assert drops(gateway) == {"fragment_limit": len(many)}
    assert held(gateway) == 0
    for datagram in flight(96000, 1200):
        gateway.receive(datagram, FROM_CLIENT)
        assert held(gateway) <= fragments.MAX_MESSAGE_OCTETS + fragments.MAX_FRAGMENTS * 200
    assert abandoned(gateway, "limit") == 1
    world.run(61.0)
    for datagram in flight(64000, 1200):
        gateway.receive(datagram, FROM_CLIENT)
    assert sa_of(gateway).message_ids.expected_id == 3, "what is within the bounds still gets through"


def test_a_flood_from_half_open_sas_does_not_touch_what_established_peers_have_begun(
    client: Host, gateway: Host, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fragments, "MAX_HELD_OCTETS", 4000)
    pieces = cut(client, 100)
    for datagram in pieces[:-1]:
        gateway.receive(datagram, FROM_CLIENT)
    before = held(gateway)
    flood = 0
    for number in range(20):
        attacker = Host(world, f"203.0.113.{number + 1}", client_settings(fragment_size=128))

        def all_but_the_last(host: Host, send: Send) -> tuple[Send, ...]:
            piece = fragment_of(send)
            return () if piece is not None and piece.number == piece.total else (send,)

        world.tamper = all_but_the_last
        attacker.initiate(gateway, client_connection())
        world.run(0.1)
        attacker.is_down = True
        flood += 1
        assert held(gateway) <= before + 4000
    assert gateway.table.half_open == flood
    assert abandoned(gateway, "limit") >= flood // 2
    gateway.receive(pieces[-1], FROM_CLIENT)
    assert gateway.counters["messages_reassembled_total"] == 1
    world.run(31.0)
    assert held(gateway) == 0 and gateway.table.half_open == 0
