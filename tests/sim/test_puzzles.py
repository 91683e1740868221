"""Puzzles in IKE_SA_INIT (RFC 8019), both roles."""

from tests.sim.world import (
    CLIENT,
    GATEWAY,
    IKE,
    Host,
    ListPool,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    drops,
    gateway_settings,
)

from cygnet.iana import NotifyType, ProtocolId
from cygnet.ike.effects import Send
from cygnet.ike.path import Path
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.settings import AdmissionSettings, Settings
from cygnet.wire.message import decode_message
from cygnet.wire.payloads import KeyExchange, Notify, Payload, PuzzleSolution

# From the first half-open SA on: a cookie, and a puzzle once that is returned.
WARY = AdmissionSettings(
    cookie_threshold=0, puzzle_threshold=1, puzzle_difficulty=6, puzzle_max_difficulty=6, puzzle_unsolved_rate=0
)


def wary_gateway(world: World, limits: AdmissionSettings = WARY, settings: Settings | None = None) -> Host:
    """A gateway with one peer that stays half open."""
    settings = settings if settings is not None else gateway_settings(admission=limits)
    gateway = Host(world, GATEWAY, settings, ListPool(counted(10)))
    silent = Host(world, "192.0.2.250", client_settings())
    silent.initiate(gateway, client_connection())
    world.run(0.035)
    silent.is_down = True
    world.run(0.1)
    assert gateway.table.half_open == 1
    world.sent.clear()
    gateway.counters.clear()
    return gateway


def from_host(world: World, host: Host) -> list[tuple[Payload, ...]]:
    return [decode_message(send.datagram).payloads for sender, send in world.sent if sender is host]


def test_a_puzzle_comes_after_the_cookie_and_is_solved() -> None:
    world = World()
    gateway = wary_gateway(world)
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    assert len(client.established) == 1 and client.children
    assert gateway.counters["puzzles_sent_total"] == gateway.counters["puzzles_accepted_total"] == 1
    assert client.counters["puzzles_solved_total"] == 1
    challenge = from_host(world, gateway)[1]
    assert [p.notify_type for p in challenge if isinstance(p, Notify)] == [NotifyType.COOKIE, NotifyType.PUZZLE]
    assert len(challenge) == 2
    # RFC 8019 section 7.1.2: the cookie, then the solution, then all that was sent before.
    first, _, third = from_host(world, client)[:3]
    cookie, solution = third[:2]
    assert cookie == challenge[0]
    assert isinstance(solution, PuzzleSolution) and third[2:] == first


def test_nothing_is_asked_for_while_it_is_solved() -> None:
    """Nothing is outstanding then, and there are no keys yet."""
    world = World()
    gateway = wary_gateway(world)
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(), further=("lan",))
    world.run(1.0)
    assert client.counters["puzzles_solved_total"] == 1 and client.children
    assert client.closed == []


def test_without_load_there_is_none() -> None:
    world = World()
    gateway = Host(world, GATEWAY, gateway_settings(admission=WARY), ListPool(counted(10)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    assert agree(client, gateway)
    assert gateway.counters["cookies_accepted_total"] == 1 and not gateway.counters["puzzles_sent_total"]


def test_a_peer_that_knows_no_puzzles_is_let_in_at_a_limited_rate() -> None:
    """RFC 8019 section 7.1.5; to such a peer the answer is a cookie with a notify that it ignores."""
    world = World()
    limits = AdmissionSettings(
        cookie_threshold=0, puzzle_threshold=1, puzzle_difficulty=6, puzzle_max_difficulty=6, puzzle_unsolved_rate=2
    )
    gateway = wary_gateway(world, limits)
    clients = [Host(world, f"192.0.2.{n}", client_settings(puzzle_effort=0)) for n in range(1, 7)]
    for client in clients:
        client.initiate(gateway, client_connection())
    world.run(0.5)
    assert sum(len(client.established) for client in clients) == 2
    assert drops(gateway) == {"puzzle_unsolved": 4}
    assert clients[0].counters["puzzles_declined_total"] == 1
    world.run(20.0)
    assert sum(len(client.established) for client in clients) == 6, "the others try again by themselves"


def test_a_peer_without_its_solution_is_dropped_where_none_may_pass() -> None:
    world = World()
    gateway = wary_gateway(world)
    client = Host(world, CLIENT, client_settings(puzzle_effort=5))
    client.initiate(gateway, client_connection())
    world.run(0.5)
    assert drops(gateway) == {"puzzle_unsolved": 1} and not client.established


def solved_request(world: World, gateway: Host) -> bytes:
    """The third request of a client, whose solution is good; the client is down."""
    client = Host(world, CLIENT, client_settings())
    caught: list[bytes] = []

    def catch(host: Host, send: Send) -> tuple[Send, ...]:
        is_solved = host is client and any(
            isinstance(p, PuzzleSolution) for p in decode_message(send.datagram).payloads
        )
        if is_solved:
            caught.append(send.datagram)
            client.is_down = True
        return () if is_solved else (send,)

    world.tamper = catch
    client.initiate(gateway, client_connection())
    world.run(1.0)
    world.tamper = lambda host, send: (send,)
    return caught[0]


def test_a_solution_lets_one_sa_in() -> None:
    """Who has solved one puzzle can't spend it on a hundred SAs by changing what the cookie doesn't cover."""
    world = World()
    gateway = wary_gateway(world)
    request = solved_request(world, gateway)
    path = Path(GATEWAY, 500, CLIENT, 500)
    public = next(p for p in decode_message(request).payloads if isinstance(p, KeyExchange)).data
    for number in range(20):
        gateway.receive(request.replace(public, bytes((number,)) + public[1:]), path)
    assert gateway.table.half_open == 2
    assert gateway.counters["puzzles_accepted_total"] == 1 and gateway.counters["puzzles_rejected_total"] == 19


def test_a_wrong_solution_is_none() -> None:
    world = World()
    gateway = wary_gateway(world)
    request = solved_request(world, gateway)
    solution = next(p for p in decode_message(request).payloads if isinstance(p, PuzzleSolution)).data
    gateway.receive(request.replace(solution, solution[::-1]), Path(GATEWAY, 500, CLIENT, 500))
    assert gateway.table.half_open == 1
    assert gateway.counters["puzzles_rejected_total"] == 1 and drops(gateway) == {"puzzle_unsolved": 1}


def test_a_solution_is_good_for_one_address_alone() -> None:
    world = World()
    gateway = wary_gateway(world)
    request = solved_request(world, gateway)
    gateway.receive(request, Path(GATEWAY, 500, "203.0.113.9", 500))
    assert gateway.table.half_open == 1 and gateway.counters["cookies_rejected_total"] == 1


def test_the_solution_stays_when_the_group_changes() -> None:
    wanted = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519"),)
    both = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-ecp256-x25519"),)
    assert wanted == IKE
    world = World()
    gateway = wary_gateway(world)
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(proposals=both))
    world.run(1.0)
    assert len(client.established) == 1
    assert gateway.counters["puzzles_sent_total"] == 1 and gateway.counters["puzzles_accepted_total"] == 2


def test_without_a_prf_in_common_the_answer_is_no_proposal_chosen() -> None:
    """RFC 8019 section 7.1.1.2."""
    world = World()
    gateway = wary_gateway(world, settings=change_connection(gateway_settings(admission=WARY), proposals=IKE))
    client = Host(world, CLIENT, client_settings())

    def unknown_prf(host: Host, send: Send) -> tuple[Send, ...]:
        # Transform type 2, ID 5 (PRF_HMAC_SHA2_256) -> 1005.
        octets = send.datagram
        return (Send(octets.replace(bytes.fromhex("02000005"), bytes.fromhex("020003ed")), send.path),)

    world.tamper = lambda host, send: unknown_prf(host, send) if host is client else (send,)
    client.initiate(gateway, client_connection())
    world.run(0.5)
    assert client.closed == ["no_proposal_chosen"]
    assert not gateway.counters["puzzles_sent_total"]


def test_other_sas_are_served_while_a_puzzle_is_solved() -> None:
    """A slice of work at a time: what arrives between two slices is handled."""
    world = World()
    limits = AdmissionSettings(cookie_threshold=0, puzzle_threshold=1, puzzle_difficulty=11, puzzle_max_difficulty=11)
    gateway = wary_gateway(world, limits)
    client = Host(world, CLIENT, client_settings())
    spi = client.initiate(gateway, client_connection())
    # The world runs a host's timers as soon as they are due, so this one's are left alone from its second answer on.
    world.tamper = lambda host, send: () if host is gateway and gateway.counters["puzzles_sent_total"] else (send,)
    world.run(0.5)
    answer = next(send for host, send in reversed(world.sent) if host is gateway)
    now = world.now
    client.carry_out(client.table.receive(answer.datagram, Path(CLIENT, 500, GATEWAY, 500), now))
    client.carry_out(client.table.handle_timers(now))
    assert client.table.next_timer() == 0.0, "there is more to do at once"
    assert not client.table.sas[spi].message_ids.outstanding
    client.carry_out(client.table.delete(spi, now))
    client.carry_out(client.table.handle_timers(now))
    assert not client.table._puzzles and client.closed == ["abandoned"]
