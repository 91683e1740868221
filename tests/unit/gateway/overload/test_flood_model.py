"""What a flood from forged addresses leaves to honest peers: the real intake and the real watch over sources, with
modelled costs, a modelled filter and a fake clock.

Costs are those of a real worker. Of the flood only what gets in is an event of its own.
"""

import ipaddress
import random
import statistics
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count

import msgspec
import pytest
from tests.unit.gateway.overload.worker_model import WorkerModel

from cygnet.gateway.overload.intake import Intake, Standing
from cygnet.gateway.overload.newcomers import LINE_S, Entry
from cygnet.gateway.overload.suspects import REVIEW_S, STRANGERS_PER_S, SuspectSources
from cygnet.iana import ExchangeType, PayloadType
from cygnet.ike.known_sources import KnownSources, prefix_of
from cygnet.ike.path import Path
from cygnet.ike.settings import AdmissionSettings
from cygnet.net.endpoint import DATAGRAMS_PER_TURN
from cygnet.net.shedding_filter import Sources
from cygnet.wire.header import FLAG_INITIATOR, NO_SPI, encode_header

INIT_S, AUTH_S = 350e-6, 400e-6
RECEIVE_S = 12e-6
FLOOD_PER_S = 50_000
KERNEL_QUEUE = 4_000
ROUND_TRIP_S = 0.02
WAITS_S = (1.0, 2.0, 4.0)
"""Between the tries of a peer, which gives up after the last."""
HANDSHAKES_PER_S = 1 / (INIT_S + AUTH_S + 2 * RECEIVE_S)
TICK_S = 0.001
BEGIN_S, END_S = 2.5, 8.0
LIMITS = AdmissionSettings()
OFFICE = "192.0.2.1"
STRANGERS_COME_PER_S = 60.0
LOOP = 64


class Peer(msgspec.Struct, eq=False):
    remote: str
    spi: bytes
    started: float
    has_cookie: bool = False
    is_half_open: bool = False
    up: float = 0.0

    def datagram(self, exchange_type: int) -> bytes:
        return encode_header(
            spi_i=self.spi,
            spi_r=NO_SPI if exchange_type == ExchangeType.IKE_SA_INIT else self.spi,
            next_payload=PayloadType.NOTIFY if self.has_cookie else PayloadType.SA,
            exchange_type=exchange_type,
            flags=FLAG_INITIATOR,
            message_id=0,
            length=28,
        )


RUBBISH = Peer("", bytes(8), 0.0).datagram(ExchangeType.IKE_SA_INIT)[8:]
"""What the flood sends, but for the SPI."""


class Outcome(msgspec.Struct, frozen=True):
    known: list[float]
    """How long those at a known address took."""
    known_failed: int
    strangers: list[float]
    strangers_failed: int
    busy: list[float]
    """Of each interval between two reviews, to the end."""
    share: list[float]
    """Of strangers that the kernel lets in, in the same intervals."""

    def at_once(self) -> float:
        """The part of all strangers that came in with their first request."""
        return sum(delay < WAITS_S[0] for delay in self.strangers) / (len(self.strangers) + self.strangers_failed)


class Model(WorkerModel):
    """Honest peers, a flood, a kernel with a filter, and a worker."""

    def __init__(
        self,
        *,
        load: Callable[[float], float] = lambda now: 0.0,
        can_measure: bool = True,
        answer_s: float = 6e-6,
        flood_per_s: float = FLOOD_PER_S,
        tester_s: float | None = None,
    ) -> None:
        """`load`: as which part of the worker's time peers at a known address come, at each time. With `tester_s` they
        come from a tester instead that has LOOP of them at a time, and needs so long for each.
        """
        super().__init__(receive_s=RECEIVE_S, datagrams_per_turn=DATAGRAMS_PER_TURN)
        self.looked = self.looked_idle_s = 0.0
        self.rng = random.Random(5)
        self.load = load
        self.flood_per_s = flood_per_s
        self.tester_s = tester_s
        self.tester_free = 0.0
        """When the tester is done with what it has to do so far."""
        self.can_measure = can_measure
        self.answer_s = answer_s
        self.peers: dict[bytes, Peer] = {}
        self.forged = count()
        self.busy: list[float] = []
        self.shares: list[float] = []
        self.known = KnownSources(LIMITS)
        self.known.add(prefix_of(ipaddress.ip_address(OFFICE).packed, LIMITS))
        self.filter: Sources | None = None
        self.suspects = SuspectSources(
            LIMITS,
            limit=self.set_filter,
            cookie_tags=lambda: (b"tag1", b"tag2"),
            known=self.known,
            spare=self.spare,
            secret=7,
            now=0.0,
        )
        self.intake = Intake(
            standing_of_sa=self.standing_of,
            has_cookie=self.has_cookie,
            ask_cookies=self.ask_cookies,
            serve=self.serve,
            count=lambda name, n=1, /: None,
            again=self.scheduled.append,
            clock=lambda: self.now,
        )

    def set_filter(self, ipv4: Sources, ipv6: Sources) -> None:
        self.filter = ipv4

    def spare(self, now: float) -> float:
        part = (self.idle_s - self.looked_idle_s) / (now - self.looked)
        self.looked, self.looked_idle_s = now, self.idle_s
        self.busy.append(1 - part)
        self.shares.append(self.suspects.share_of_strangers())
        return part if self.can_measure else 0.0

    # What comes.

    def gets_in(self, remote: str, *, has_cookie: bool) -> bool:
        told = self.filter
        if told is None or has_cookie or told.strangers_share >= 1:
            return True
        is_known = told.keys.key(ipaddress.ip_address(remote).packed) in told.trusted
        return is_known or self.rng.random() < told.strangers_share

    def arrive(self, octets: bytes, remote: str) -> None:
        if len(self.kernel) < KERNEL_QUEUE:
            self.kernel.append((octets, Path("192.0.2.2", 500, remote, 500)))

    def flood(self) -> None:
        share = self.filter.strangers_share if self.filter is not None else 1.0
        wanted = self.flood_per_s * TICK_S * share
        for _ in range(int(wanted) + (self.rng.random() < wanted % 1)):
            number = next(self.forged)
            remote = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            self.arrive(number.to_bytes(8, "big") + RUBBISH, remote)
        self.at(self.now + TICK_S, self.flood)

    def begin(self, *, is_known: bool) -> None:
        number = len(self.peers)
        remote = OFFICE if is_known else str(ipaddress.ip_address(0x64000000 + number))
        peer = Peer(remote, (1 << 40 | number).to_bytes(8, "big"), self.now)
        self.peers[peer.spi] = peer
        self.send(peer, ExchangeType.IKE_SA_INIT, 0)
        if is_known and self.tester_s is not None:
            return
        rate = self.load(self.now) * HANDSHAKES_PER_S if is_known else STRANGERS_COME_PER_S
        self.at(self.now + self.rng.expovariate(rate), lambda: self.begin(is_known=is_known))

    def begin_next(self) -> None:
        """One of the tester's peers is done: it begins another when it has the time."""
        assert self.tester_s is not None
        self.tester_free = max(self.tester_free, self.now) + self.tester_s
        self.at(self.tester_free + ROUND_TRIP_S, lambda: self.begin(is_known=True))

    def send(self, peer: Peer, exchange_type: int, tries: int) -> None:
        is_init = exchange_type == ExchangeType.IKE_SA_INIT
        if tries == len(WAITS_S) or peer.up or (is_init and peer.is_half_open):
            if tries == len(WAITS_S) and not peer.up and not peer.is_half_open and self.tester_s is not None:
                self.begin_next()
            return
        if not is_init or self.gets_in(peer.remote, has_cookie=peer.has_cookie):
            self.arrive(peer.datagram(exchange_type), peer.remote)
        self.at(self.now + WAITS_S[tries], lambda: self.send(peer, exchange_type, tries + 1))

    # What the worker does.

    def standing_of(self, spi: bytes) -> Standing:
        return Standing.ESTABLISHED if self.peers[spi].up else Standing.UNDER_WAY

    def has_cookie(self, octets: bytes, path: Path, now: float) -> bool:
        self.suspects.returned(path.remote)
        return True

    def ask_cookies(self, requests: list[Entry], now: float) -> list[Entry]:
        others = []
        for octets, path in requests:
            if path.remote == OFFICE:
                others.append((octets, path))
                continue
            self.now += self.answer_s
            self.suspects.asked(path.remote)
            peer = self.peers.get(octets[:8])
            if peer is not None:
                self.at(self.now + ROUND_TRIP_S, lambda peer=peer: self.return_cookie(peer))  # type: ignore[misc]
        self.suspects.review(self.now)
        return others

    def return_cookie(self, peer: Peer) -> None:
        peer.has_cookie = True
        self.send(peer, ExchangeType.IKE_SA_INIT, 0)

    def serve(self, batch: Sequence[Entry], now: float) -> None:
        for octets, path in batch:
            peer = self.peers[octets[:8]]
            if octets[18] == ExchangeType.IKE_SA_INIT:
                if not peer.is_half_open:
                    self.now += INIT_S
                    peer.is_half_open = True
                    self.at(
                        self.now + ROUND_TRIP_S,
                        lambda peer=peer: self.send(peer, ExchangeType.IKE_AUTH, 0),  # type: ignore[misc]
                    )
            elif not peer.up:
                self.now += AUTH_S
                peer.up = self.now
                self.known.add(prefix_of(ipaddress.ip_address(path.remote).packed, LIMITS))
                if peer.remote == OFFICE and self.tester_s is not None:
                    self.begin_next()

    def run(self) -> Outcome:
        self.at(0.0, self.flood)
        for _ in range(1 if self.tester_s is None else LOOP):
            self.at(0.0, lambda: self.begin(is_known=True))
        self.at(0.0, lambda: self.begin(is_known=False))
        self.run_until(END_S)
        # Those that came when the limits were in force, and have had the time for two tries since.
        looked_at = [peer for peer in self.peers.values() if BEGIN_S < peer.started < END_S - 2.5]
        known = [peer for peer in looked_at if peer.remote == OFFICE]
        strangers = [peer for peer in looked_at if peer.remote != OFFICE]
        return Outcome(
            [peer.up - peer.started for peer in known if peer.up],
            sum(not peer.up for peer in known),
            [peer.up - peer.started for peer in strangers if peer.up],
            sum(not peer.up for peer in strangers),
            self.busy,
            self.shares,
        )


@cache
def outcome(load: float, *, can_measure: bool = True, answer_s: float = 6e-6) -> Outcome:
    return Model(load=lambda now: load, can_measure=can_measure, answer_s=answer_s).run()


@pytest.mark.parametrize("load", [0.05, 0.5, 0.7])
def test_peers_at_a_known_address_come_in_as_if_there_was_no_flood(load: float) -> None:
    found = outcome(load)
    assert found.known_failed == 0
    assert statistics.median(found.known) < 3 * ROUND_TRIP_S
    assert max(found.known) < WAITS_S[0], "nobody had to try twice"


@pytest.mark.parametrize("load", [0.7, 0.9])
def test_a_worker_with_little_time_left_lets_in_as_many_strangers_as_always(load: float) -> None:
    """It may be full for its honest peers before it is for itself: they pay for what takes its core's caches."""
    found = outcome(load)
    assert FLOOD_PER_S * found.share[-1] == pytest.approx(STRANGERS_PER_S, rel=0.3)


@pytest.mark.parametrize(("load", "times"), [(0.05, 4), (0.5, 1.5)])
def test_what_nobody_wants_is_spent_on_strangers(load: float, times: float) -> None:
    measured, blind = outcome(load), outcome(load, can_measure=False)
    assert FLOOD_PER_S * blind.share[-1] == pytest.approx(STRANGERS_PER_S, rel=0.3)
    assert measured.share[-1] > times * blind.share[-1]
    assert measured.at_once() > times * blind.at_once()
    assert measured.at_once() == pytest.approx(measured.share[-1], abs=0.15)


@pytest.mark.parametrize(("load", "answer_s"), [(0.05, 6e-6), (0.5, 6e-6), (0.5, 0.0), (0.3, 30e-6)])
def test_and_at_least_half_of_it_is_left_whatever_an_answer_costs(load: float, answer_s: float) -> None:
    found = outcome(load, answer_s=answer_s)
    later = found.busy[len(found.busy) // 2 :]
    left = 1 - statistics.mean(later)
    assert 0.45 * (1 - load) < left < 0.85 * (1 - load)
    assert max(later) - min(later) < 0.25, "and it does not swing"


def test_when_a_crowd_comes_strangers_wait_again_and_the_crowd_does_not() -> None:
    rise_s = 4.0
    model = Model(load=lambda now: 0.1 if now < rise_s else 0.8, can_measure=True, answer_s=6e-6)
    found = model.run()
    before, after = found.share[-round((END_S - rise_s + 1.0) / REVIEW_S)], found.share[-1]
    assert FLOOD_PER_S * after == pytest.approx(STRANGERS_PER_S, rel=0.4) and before > 3 * after
    assert found.known_failed == 0
    assert max(found.known) < WAITS_S[0]
    assert statistics.quantiles(found.known, n=100)[97] < LINE_S + 3 * ROUND_TRIP_S


class Careless(Model):
    """With a worker that takes all its time for left over."""

    def spare(self, now: float) -> float:
        return 1.0


@cache
def closed_loop(tester_s: float, *, flood_per_s: float = FLOOD_PER_S, kind: type[Model] = Model) -> float:
    """Tunnels a second that peers at a known address set up, as many at a time as a tester has."""
    model = kind(flood_per_s=flood_per_s, tester_s=tester_s)
    model.run()
    return sum(BEGIN_S < peer.up < END_S for peer in model.peers.values() if peer.remote == OFFICE) / (END_S - BEGIN_S)


@pytest.mark.parametrize("tester_s", [0.0, 1.1 / HANDSHAKES_PER_S, 2.0 / HANDSHAKES_PER_S])
def test_peers_at_a_known_address_that_come_again_and_again_keep_their_rate(tester_s: float) -> None:
    """Their tester could do many times what the worker can, nine tenths of it, or half."""
    assert closed_loop(tester_s) > 0.93 * closed_loop(tester_s, flood_per_s=0.0)


def test_and_would_not_if_strangers_were_given_more_than_is_left() -> None:
    assert closed_loop(0.0, kind=Careless) < 0.75 * closed_loop(0.0, flood_per_s=0.0)
