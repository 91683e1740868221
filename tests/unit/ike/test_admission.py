"""Who is let in: the table of verdicts, and what is counted for whom."""

import random
from collections import Counter

import msgspec
import pytest

from cygnet.iana import ExchangeType, NotifyType, ProtocolId
from cygnet.ike.admission import ASK_COOKIE, ASK_PUZZLE, COST_AT_RISK, SERVE, SERVE_FEW, Admission, Load, Proof, judge
from cygnet.ike.cookies import COOKIE_OCTETS
from cygnet.ike.effects import Effect, Send
from cygnet.ike.environment import Environment
from cygnet.ike.handshake import Admitted
from cygnet.ike.nat import pack_address
from cygnet.ike.path import Path
from cygnet.ike.proposals import ike_suite, parse_proposal
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.settings import AdmissionSettings, Settings
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, NO_SPI, decode_header
from cygnet.wire.message import decode_message, encode_message
from cygnet.wire.payloads import Nonce, Notify, Payload

LIMITS = AdmissionSettings(
    cookie_threshold=10,
    cookie_threshold_ip=3,
    block_threshold=5,
    init_limit_half_open=20,
    init_limit_job_load=100,
    ike_sa_limit=50,
)
QUIET = Load(ike_sas=0, half_open=0, waiting=0, unproven=0, proven=0)


@pytest.mark.parametrize(
    ("changes", "unproven_gets", "proven_gets"),
    [
        ({}, SERVE, SERVE),
        ({"half_open": 9}, SERVE, SERVE),
        ({"half_open": 10}, ASK_COOKIE, SERVE),
        ({"unproven": 2}, SERVE, SERVE),
        ({"unproven": 3}, ASK_COOKIE, SERVE),
        ({"unproven": 1000}, ASK_COOKIE, SERVE),
        ({"proven": 4}, SERVE, SERVE),
        ({"proven": 5}, SERVE, "source_limit"),
        ({"waiting": 99}, SERVE, SERVE),
        ({"waiting": 100}, ASK_COOKIE, SERVE),
        ({"ike_sas": 49}, SERVE, SERVE),
        ({"ike_sas": 50}, ASK_COOKIE, "ike_sa_limit"),
        ({"half_open": 19}, ASK_COOKIE, SERVE),
        ({"half_open": 20}, ASK_COOKIE, "half_open_limit"),
        ({"is_out_of_memory": True}, ASK_COOKIE, "memory"),
        ({"half_open": 19, "known": 0}, SERVE, SERVE),
        ({"half_open": 19, "known": 9}, SERVE, SERVE),
        ({"half_open": 19, "known": 10}, ASK_COOKIE, SERVE),
        ({"unproven": 3, "known": 0}, ASK_COOKIE, SERVE),
        ({"at_risk": 10 * COST_AT_RISK - 1}, SERVE, SERVE),
        ({"at_risk": 10 * COST_AT_RISK}, ASK_COOKIE, SERVE),
        ({"at_risk": 10 * COST_AT_RISK, "known": 0}, ASK_COOKIE, SERVE),
        ({"waiting": 100, "known": 0}, ASK_COOKIE, SERVE),
        ({"ike_sas": 50, "known": 0}, ASK_COOKIE, "ike_sa_limit"),
        ({"half_open": 20, "known": 0}, ASK_COOKIE, "half_open_limit"),
        ({"is_out_of_memory": True, "known": 0}, ASK_COOKIE, "memory"),
    ],
)
def test_verdicts(changes: dict[str, int], unproven_gets: str, proven_gets: str) -> None:
    load = msgspec.structs.replace(QUIET, **changes)
    assert judge(load, LIMITS, Proof.NOTHING) == unproven_gets
    assert judge(load, LIMITS, Proof.COOKIE) == proven_gets


@pytest.mark.parametrize(
    ("changes", "with_cookie", "unsolved"),
    [
        ({"half_open": 14}, SERVE, SERVE),
        ({"half_open": 15}, ASK_PUZZLE, SERVE_FEW),
        ({"proven": 2}, SERVE, SERVE),
        ({"proven": 3}, ASK_PUZZLE, SERVE_FEW),
        ({"proven": 5}, "source_limit", "source_limit"),
        ({"half_open": 20}, "half_open_limit", "half_open_limit"),
    ],
)
def test_verdicts_with_puzzles(changes: dict[str, int], with_cookie: str, unsolved: str) -> None:
    limits = msgspec.structs.replace(LIMITS, puzzle_threshold=15, puzzle_threshold_ip=3)
    load = msgspec.structs.replace(QUIET, **changes)
    assert judge(load, limits, Proof.COOKIE) == with_cookie
    assert judge(load, limits, Proof.UNSOLVED) == unsolved
    assert judge(load, limits, Proof.SOLVED) == (SERVE if with_cookie == ASK_PUZZLE else with_cookie)


def test_a_limit_of_zero_is_none() -> None:
    free = AdmissionSettings(
        block_threshold=0, init_limit_job_load=0, ike_sa_limit=0, init_limit_half_open=1000, puzzle_threshold_ip=0
    )
    crowd = Load(ike_sas=10**7, half_open=999, waiting=10**6, unproven=0, proven=900)
    assert judge(crowd, free, Proof.NOTHING) == SERVE
    assert judge(crowd, free, Proof.COOKIE) == SERVE


class Door:
    """An admission, and peers that knock at it."""

    def __init__(self, limits: AdmissionSettings, group: str = "x25519") -> None:
        self.suite = ike_suite(parse_proposal(ProtocolId.IKE, f"aes128gcm16-prfsha256-{group}").transforms)
        self.counters: Counter[str] = Counter()
        rng = random.Random(1)
        self.env = Environment(
            Settings(admission=limits),
            entropy=rng.randbytes,
            count=self._count,
            waiting=lambda: self.waiting,
        )
        self.waiting = 0
        self.admission = Admission(self.env)
        self.answers: list[Effect] = []
        self.spis = iter(range(1, 10**6))

    def _count(self, name: str, n: int = 1, /) -> None:
        self.counters[name] += n

    def knock(self, remote: str, cookie: bytes = b"", spi: int = 0) -> IkeSa | None:
        """A peer's IKE_SA_INIT; its half-open SA if it is let in."""
        path = Path("198.51.100.1", 500, remote, 500)
        spi_i = (spi or next(self.spis)).to_bytes(8, "big")
        first: tuple[Payload, ...] = (Notify(0, b"", NotifyType.COOKIE, cookie),) if cookie else ()
        octets = encode_message(
            spi_i=spi_i,
            spi_r=NO_SPI,
            exchange_type=ExchangeType.IKE_SA_INIT,
            flags=FLAG_INITIATOR,
            message_id=0,
            payloads=(*first, Nonce(bytes(32))),
        )
        turn = Turn(self.env, None, 0.0, path)  # type: ignore[arg-type]
        admitted = self.admission.admit(decode_header(octets), octets, path, turn, 0)
        self.answers += turn.effects
        if admitted is None:
            return None
        sa = IkeSa.as_responder(spi_i, spi_i, path, 0.0)
        sa.suite = self.suite
        self.admission.entered(sa, admitted, 0.0)
        return sa

    def come_in(self, remote: str) -> None:
        """A peer authenticates itself."""
        sa = self.knock(remote)
        assert sa is not None
        self.admission.established(sa)

    def ask(self, remote: str) -> bool:
        """Whether a peer is asked for a cookie at once, among many."""
        octets = encode_message(
            spi_i=next(self.spis).to_bytes(8, "big"),
            spi_r=NO_SPI,
            exchange_type=ExchangeType.IKE_SA_INIT,
            flags=FLAG_INITIATOR,
            message_id=0,
            payloads=(Nonce(bytes(32)),),
        )
        path = Path("198.51.100.1", 500, remote, 500)
        return self.admission.asks_all(0) and self.admission.ask(octets, path, 0, 0.0) is not None

    def cookie(self, remote: str, spi: int) -> bytes:
        """What a peer that is asked for a cookie is to return."""
        assert self.knock(remote, spi=spi) is None
        answer = self.answers[-1]
        assert isinstance(answer, Send)
        message = decode_message(answer.datagram)
        assert message.header.flags == FLAG_RESPONSE and message.header.spi_r == NO_SPI
        (notify,) = message.payloads
        assert isinstance(notify, Notify) and notify.notify_type == NotifyType.COOKIE
        return notify.data


def test_one_source_is_asked_for_cookies_while_others_are_served() -> None:
    door = Door(LIMITS)
    for _ in range(3):
        assert door.knock("192.0.2.1")
    assert door.knock("192.0.2.1") is None
    assert door.counters["cookies_sent_total"] == 1
    assert door.knock("192.0.2.2")


def test_who_returns_its_cookie_is_let_in_whatever_others_sent_with_its_address() -> None:
    door = Door(LIMITS)
    while door.knock("192.0.2.1"):
        pass
    assert door.knock("192.0.2.1", door.cookie("192.0.2.1", 77), 77)
    assert door.counters["cookies_accepted_total"] == 1


def test_a_source_is_blocked_by_what_it_leaves_half_open_and_let_in_again_when_that_ends() -> None:
    door = Door(msgspec.structs.replace(LIMITS, cookie_threshold=0))
    spis = range(1000, 1005)
    sas = [door.knock("2001:db8::1", door.cookie("2001:db8::1", spi), spi) for spi in spis]
    assert all(sas)
    # Another host of the same /64.
    assert door.knock("2001:db8::2", door.cookie("2001:db8::2", 2000), 2000) is None
    assert door.counters['datagrams_dropped_total{reason="source_limit"}'] == 1
    assert door.knock("2001:db8:0:1::2", door.cookie("2001:db8:0:1::2", 2001), 2001)
    assert sas[0] is not None
    door.admission.left(sas[0])
    assert door.knock("2001:db8::2", door.cookie("2001:db8::2", 2002), 2002)


def test_counts_vanish_with_the_sas_they_are_of() -> None:
    door = Door(AdmissionSettings())
    sas = [door.knock(f"192.0.2.{n % 7}") for n in range(40)]
    cookies = Door(AdmissionSettings(cookie_threshold=0))
    proven = [
        cookies.knock(f"192.0.2.{n % 7}", cookies.cookie(f"192.0.2.{n % 7}", 5000 + n), 5000 + n) for n in range(40)
    ]
    for each, house in ((sas, door), (proven, cookies)):
        assert house.admission.half_open == 40
        for sa in each:
            assert sa is not None
            house.admission.left(sa)
        assert house.admission.half_open == 0
        assert not house.admission._unproven and not house.admission._proven
        assert house.admission._at_risk == [0, 0]


class TestWhatIsAtRisk:
    def served(self, door: Door, third_octet: int = 0) -> int:
        """How many strangers are served before one is asked for a cookie."""
        served = 0
        while door.knock(f"203.0.{third_octet}.{served % 250}"):
            served += 1
        return served

    @pytest.mark.parametrize(
        ("group", "served"), [("x25519", 1000), ("modp2048", 1000), ("modp4096", 267), ("modp8192", 71)]
    )
    def test_strangers_are_asked_the_sooner_the_more_a_key_exchange_costs(self, group: str, served: int) -> None:
        door = Door(AdmissionSettings(), group)
        assert self.served(door) == served
        assert door.ask("203.0.113.1")

    def test_whoever_wants_no_cookies_has_none(self) -> None:
        door = Door(AdmissionSettings(cookie_threshold=10**6, cookie_threshold_ip=10**6), "modp8192")
        assert all(door.knock(f"203.0.113.{n % 250}") for n in range(2000))

    def test_peers_at_known_addresses_are_not_for_what_was_computed_for_strangers(self) -> None:
        door = Door(AdmissionSettings(), "modp4096")
        door.come_in(KNOWN)
        self.served(door)
        assert door.knock(KNOWN) and not door.ask(KNOWN)

    def test_but_for_what_was_computed_for_them(self) -> None:
        door = Door(AdmissionSettings(), "modp8192")
        door.come_in(KNOWN)
        while door.knock(KNOWN):
            pass
        assert door.admission._known_unproven == 71
        assert self.served(door) == 71

    def test_what_brought_a_cookie_is_not_at_risk(self) -> None:
        door = Door(AdmissionSettings(), "modp8192")
        self.served(door)
        for n in range(100):
            assert door.knock(f"203.0.113.{n}", door.cookie(f"203.0.113.{n}", 5000 + n), 5000 + n)
        assert door.admission._at_risk[False] == 71 * 57


KNOWN, NEIGHBOUR = "192.0.2.9", "192.0.2.10"


class TestWhereAPeerHasAuthenticatedItself:
    def flooded(self, *known: str, limits: AdmissionSettings = LIMITS) -> Door:
        """A gateway at which strangers have left as many half open as make it ask everybody for cookies."""
        door = Door(limits)
        for remote in known:
            door.come_in(remote)
        stranger = 0
        while door.knock(f"203.0.113.{stranger}"):
            stranger += 1
        assert stranger == LIMITS.cookie_threshold
        return door

    def test_peers_need_no_cookie_for_what_strangers_leave_half_open(self) -> None:
        door = self.flooded(KNOWN)
        assert door.knock(KNOWN)
        assert not door.ask(KNOWN)
        assert door.ask(NEIGHBOUR), "somebody else does"
        assert door.knock(NEIGHBOUR) is None

    def test_forged_addresses_do_not_drive_those_in_use_out_of_a_cache(self) -> None:
        door = self.flooded(KNOWN)
        before = pack_address.cache_info().currsize
        assert all(door.ask(f"203.1.{n >> 8}.{n & 255}") for n in range(500))
        assert pack_address.cache_info().currsize == before

    def test_they_do_for_what_is_left_half_open_there(self) -> None:
        door = self.flooded(KNOWN)
        for _ in range(LIMITS.cookie_threshold_ip):
            assert door.knock(KNOWN)
        assert door.ask(KNOWN)
        assert door.knock(KNOWN) is None

    def test_with_its_address_and_that_of_others_no_more_is_to_be_had_than_by_strangers(self) -> None:
        """Who knows who the peers are, and forges their addresses."""
        peers = [f"192.0.2.{n}" for n in range(1, 10)]
        door = self.flooded(*peers, limits=msgspec.structs.replace(LIMITS, init_limit_half_open=1000))
        served = sum(door.knock(remote) is not None for _ in range(LIMITS.cookie_threshold) for remote in peers)
        assert served == LIMITS.cookie_threshold
        assert all(map(door.ask, peers))

    def test_those_that_come_in_or_give_up_make_room_for_others(self) -> None:
        door = self.flooded(KNOWN, NEIGHBOUR)
        for _ in range(20):
            first, second = door.knock(KNOWN), door.knock(NEIGHBOUR)
            assert first is not None and second is not None
            door.admission.established(first)
            door.admission.left(second)
        assert door.admission._known_unproven == 0

    def test_a_threshold_of_zero_asks_them_too(self) -> None:
        door = Door(msgspec.structs.replace(LIMITS, cookie_threshold=0))
        door.admission.known.add(pack_address(KNOWN))
        assert door.ask(KNOWN)
        assert door.knock(KNOWN) is None

    def test_a_cookie_alone_makes_nobody_known(self) -> None:
        door = self.flooded()
        assert door.knock(KNOWN, door.cookie(KNOWN, 77), 77)
        assert door.ask(KNOWN)

    def test_who_returns_a_cookie_counts_as_others_that_did(self) -> None:
        door = self.flooded(KNOWN)
        for _ in range(LIMITS.cookie_threshold_ip):
            door.knock(KNOWN)
        sa = door.knock(KNOWN, door.cookie(KNOWN, 77), 77)
        assert sa is not None
        door.admission.established(sa)
        assert door.admission._known_unproven == LIMITS.cookie_threshold_ip


def test_the_queue_of_new_peers_counts_as_load() -> None:
    door = Door(LIMITS)
    door.waiting = 99
    assert door.knock("192.0.2.1")
    door.waiting = 100
    assert door.knock("192.0.2.2") is None
    assert door.counters["cookies_sent_total"] == 1


def test_a_wrong_cookie_is_none_and_does_no_harm_in_quiet_times() -> None:
    door = Door(LIMITS)
    assert door.knock("192.0.2.1", b"rubbish")
    assert door.counters == {"cookies_rejected_total": 1}
    sa = door.knock("192.0.2.1", b"x" * COOKIE_OCTETS)
    assert sa is not None and sa.handshake is not None
    assert sa.handshake.admitted == Admitted(pack_address("192.0.2.1"), False)
