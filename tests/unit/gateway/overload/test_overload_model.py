"""Goodput under many times the load that a worker can take: the real intake, with modelled costs and a fake clock.

The worker is ten times slower than a real one, its slices are ten times longer, and its queues hold as many seconds:
the ratios, and with them the result, are those of a real one at a tenth of the events.
"""

import math
import random
import statistics
from collections.abc import Sequence
from functools import cache

import msgspec
import pytest
from tests.unit.gateway.overload.worker_model import WorkerModel

from cygnet.gateway.overload.intake import Intake, Standing
from cygnet.gateway.overload.newcomers import Entry
from cygnet.iana import ExchangeType, PayloadType
from cygnet.ike.path import Path
from cygnet.net.endpoint import DATAGRAMS_PER_TURN
from cygnet.wire.header import FLAG_INITIATOR, NO_SPI, encode_header

INIT_S, AUTH_S = 0.0035, 0.0040
"""What the two exchanges of a handshake cost."""
RECEIVE_S = 0.00012
"""What it costs to take a datagram from a socket and to sort it."""
CAPACITY_PER_S = 1 / (INIT_S + AUTH_S + 2 * RECEIVE_S)
QUEUES = (819, 819, 409, 6)
KERNEL_QUEUE = 400
ROUND_TRIP_S = 0.05
WAITS_S = (4.0, 7.2, 13.0)
"""Between the tries of a peer, which gives up after the last."""
WARM_UP_S, END_S = 8.0, 30.0

PATH = Path("192.0.2.1", 500, "192.0.2.2", 500)


def datagram(number: int, exchange_type: int) -> bytes:
    """A request of peer `number`: IKE_SA_INIT, or IKE_AUTH with the responder's SPI, which is the same number."""
    spi = (number + 1).to_bytes(8, "big")
    return encode_header(
        spi_i=spi,
        spi_r=NO_SPI if exchange_type == ExchangeType.IKE_SA_INIT else spi,
        next_payload=PayloadType.SA,
        exchange_type=exchange_type,
        flags=FLAG_INITIATOR,
        message_id=0,
        length=28,
    )


class Peer(msgspec.Struct):
    number: int
    started: float
    is_half_open: bool = False
    is_up: bool = False


class Outcome(msgspec.Struct, frozen=True):
    goodput: float
    """Tunnels per second, after the warm-up."""
    median_delay_s: float
    """Of those that came up with their first try."""
    head_start: float
    """What had been spent before the warm-up was over on tunnels that came up later, as a part of the time after it."""
    slowest_s: float
    """Which 99 of 100 tunnels took less than, after the warm-up."""
    lost_auths: int
    """IKE_AUTHs that the kernel dropped."""
    idle: float
    """The part of the time in which the worker had nothing to do, after the warm-up."""
    least_share: float
    """The smallest share of new peers that the kernel was told to let in, after the warm-up."""


class Model(WorkerModel):
    """Peers, a network, a kernel queue, and a worker."""

    def __init__(self, factor: float, *, can_shed: bool, held_up_s: float) -> None:
        """`held_up_s`: what peers send in so long a time arrives together at its end, from their second request on."""
        super().__init__(receive_s=RECEIVE_S, datagrams_per_turn=DATAGRAMS_PER_TURN)
        self.rng = random.Random(5)
        self.share = 1.0
        self.shares: list[float] = []
        self.can_shed = can_shed
        self.held_up_s = held_up_s
        self.rate = factor * CAPACITY_PER_S
        self.peers: dict[bytes, Peer] = {}
        self.up: list[tuple[float, float]] = []
        self.lost_auths = 0
        self.intake = Intake(
            standing_of_sa=self.standing_of,
            has_cookie=lambda octets, path, now: False,
            ask_cookies=lambda requests, now: requests,
            serve=self.serve,
            count=lambda name, n=1, /: None,
            again=self.scheduled.append,
            limit_share=self.limit_share,
            clock=lambda: self.now,
            capacity=QUEUES,
            slice_s=0.05,
        )

    def limit_share(self, share: float) -> None:
        if self.now > WARM_UP_S:
            self.shares.append(share)
        if self.can_shed:
            self.share = share

    def standing_of(self, spi: bytes) -> Standing:
        peer = self.peers[spi]
        if peer.is_up:
            return Standing.ESTABLISHED
        return Standing.UNDER_WAY if peer.is_half_open else Standing.NEW

    def arrive(self, octets: bytes) -> None:
        """A datagram comes to the socket."""
        is_new = octets[18] == ExchangeType.IKE_SA_INIT
        if is_new and self.rng.random() >= self.share:
            return
        if len(self.kernel) < KERNEL_QUEUE:
            self.kernel.append((octets, PATH))
        elif not is_new:
            self.lost_auths += 1

    def begin(self) -> None:
        """A peer arrives, and sees to it that the next one does."""
        peer = Peer(len(self.peers), self.now)
        self.peers[(peer.number + 1).to_bytes(8, "big")] = peer
        self.send_init(peer, 0)
        self.at(self.now + self.rng.expovariate(self.rate), self.begin)

    def send_init(self, peer: Peer, tries: int) -> None:
        if not peer.is_half_open and tries < len(WAITS_S):
            self.arrive(datagram(peer.number, ExchangeType.IKE_SA_INIT))
            self.at(self.now + WAITS_S[tries], lambda: self.send_init(peer, tries + 1))

    def send_auth(self, peer: Peer, tries: int) -> None:
        if not peer.is_up and tries < len(WAITS_S):
            self.arrive(datagram(peer.number, ExchangeType.IKE_AUTH))
            self.at(self.now + WAITS_S[tries], lambda: self.send_auth(peer, tries + 1))

    def arrival(self) -> float:
        """When a peer's answer to what it gets now arrives."""
        earliest = self.now + ROUND_TRIP_S
        return math.ceil(earliest / self.held_up_s) * self.held_up_s if self.held_up_s else earliest

    def serve(self, batch: Sequence[Entry], now: float) -> None:
        for octets, _ in batch:
            peer = self.peers[octets[:8]]
            if octets[18] == ExchangeType.IKE_SA_INIT:
                if not peer.is_half_open:
                    self.now += INIT_S
                    peer.is_half_open = True
                    self.at(self.arrival(), lambda peer=peer: self.send_auth(peer, 0))  # type: ignore[misc]
            elif not peer.is_up:
                self.now += AUTH_S
                peer.is_up = True
                self.up.append((self.now, self.now - peer.started))

    def run(self) -> Outcome:
        self.at(0.0, self.begin)
        self.run_until(WARM_UP_S)
        idle_s = self.idle_s
        half_done = sum(peer.is_half_open and not peer.is_up for peer in self.peers.values())
        self.run_until(END_S)
        delays = sorted(delay for when, delay in self.up if when > WARM_UP_S and delay < WAITS_S[0])
        slowest_s = statistics.quantiles((delay for when, delay in self.up if when > WARM_UP_S), n=100)[98]
        goodput = sum(when > WARM_UP_S for when, _ in self.up) / (self.now - WARM_UP_S)
        idle = (self.idle_s - idle_s) / (self.now - WARM_UP_S)
        head_start = half_done * (INIT_S + 2 * RECEIVE_S) / (self.now - WARM_UP_S)
        least_share = min(self.shares, default=1.0)
        return Outcome(goodput, delays[len(delays) // 2], head_start, slowest_s, self.lost_auths, idle, least_share)


@cache
def outcome(factor: float, *, can_shed: bool = True, held_up_s: float = 0.0) -> Outcome:
    return Model(factor, can_shed=can_shed, held_up_s=held_up_s).run()


def test_below_its_capacity_everybody_gets_in_at_once() -> None:
    found = outcome(0.5)
    assert found.goodput == pytest.approx(0.5 * CAPACITY_PER_S, rel=0.05)
    assert found.median_delay_s < 2 * ROUND_TRIP_S


@pytest.mark.parametrize("factor", [1.5, 2, 5, 10])
def test_goodput_stays_what_it_is_at_best(factor: float) -> None:
    found = outcome(factor)
    assert 0.95 * CAPACITY_PER_S <= found.goodput <= (1 + found.head_start) * CAPACITY_PER_S
    assert found.lost_auths == 0


@pytest.mark.parametrize(("factor", "held_up_s"), [(1, 0.3), (1, 1.0), (2, 0.3), (5, 1.0), (10, 0.3)])
def test_nor_does_it_fall_when_peers_come_back_in_bursts(factor: float, held_up_s: float) -> None:
    """A network or a host that is busy holds their second requests up, and sends them together. While those are served
    no new peer is. That is no reason to let none in: soon nobody would be left to be served."""
    found = outcome(factor, held_up_s=held_up_s)
    assert found.goodput >= 0.95 * CAPACITY_PER_S
    assert found.idle < (0.05 if factor == 1 else 0.01)
    assert found.least_share > 0.25 / factor
    assert found.lost_auths == 0


def test_peers_that_come_back_in_bursts_need_not_try_again_where_there_is_no_overload() -> None:
    """Those of a burst wait for each other, a second at most: who came first must not wait for those who come next."""
    assert outcome(0.9, held_up_s=1.0).slowest_s < 2 * 1.0


@pytest.mark.parametrize("factor", [2, 10])
def test_who_gets_in_does_so_soon(factor: float) -> None:
    """The queue of new peers never empties, and would take three seconds to get through in its order."""
    assert outcome(factor).median_delay_s < 0.5


def test_without_help_from_the_kernel_receiving_alone_takes_its_share() -> None:
    """What the filter is for; and the model would notice if goodput fell."""
    assert outcome(10, can_shed=False).goodput < 0.85 * CAPACITY_PER_S
