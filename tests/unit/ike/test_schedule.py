"""What 50,000 tunnels ask of a gateway in each minute of a day: no minute is twice as busy as others.

The times are those of the functions that the core itself asks, each tunnel by itself, since none knows of another; how
they are wired together, `tests/sim/test_day.py` shows with fewer tunnels. Peers are as strongSwan with its defaults.
"""

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from cygnet.ike import nat
from cygnet.ike.connections import Connection
from cygnet.ike.effects import SendKeepalive
from cygnet.ike.environment import Environment
from cygnet.ike.lifetimes import FIRST_OF_MANY, REAUTH_OF_MANY, ChildLifetimes, IkeLifetimes, Lifetime
from cygnet.ike.message_id import wait_before
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.settings import ChildSettings, ConnectionSettings, RetransmitPolicy, Settings
from cygnet.ike.states import SaState
from cygnet.ike.table import IkeTable

TUNNELS = 50_000
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
PATH = Path("198.51.100.1", 4500, "192.0.2.1", 4500)
LIFETIMES = {
    "child": ChildLifetimes.of(ChildSettings("net")).time,
    "ike": IkeLifetimes.of(ConnectionSettings(name="rw")).rekey,
}
IN_ONE_MINUTE, IN_AN_HOUR = MINUTE, HOUR
"""How long it took to set all tunnels up."""


class Work:
    """How much was done in each minute, or in each of other spans of time."""

    def __init__(self, span: float = MINUTE) -> None:
        self.span = span
        self.done: dict[int, int] = {}

    def add(self, at: float, work: int = 1) -> None:
        number = int(at / self.span)
        self.done[number] = self.done.get(number, 0) + work

    def of(self, begin: float, end: float) -> list[int]:
        """From the span after the one that `begin` is in to the one before that of `end`."""
        return [self.done.get(number, 0) for number in range(int(begin / self.span) + 1, int(end / self.span))]

    def mean(self, begin: float, end: float) -> float:
        spans = self.of(begin, end)
        return sum(spans) / len(spans)


def arrivals(rng: random.Random, number: int, within: float) -> Iterator[float]:
    """When each of so many tunnels is set up."""
    return (within * rng.random() for _ in range(number))


def of_peer(lifetime: Lifetime, rng: random.Random) -> float:
    return lifetime.draw(rng.randbytes)[0]


@pytest.mark.parametrize("within", [IN_ONE_MINUTE, IN_AN_HOUR])
@pytest.mark.parametrize("kind", ["ike", "child", "reauth"])
def test_rekeyings_of_a_day(kind: str, within: float) -> None:
    """By whichever end's time comes first; of reauthentication only the gateway's is known."""
    rng = random.Random(f"{kind} {within}")
    number = TUNNELS
    if kind == "child":
        lifetime, number = ChildLifetimes.of(ChildSettings("net")).time, TUNNELS // 4
    elif kind == "ike":
        lifetime = IkeLifetimes.of(ConnectionSettings(name="rw")).rekey
    else:
        lifetime = IkeLifetimes.of(ConnectionSettings(name="rw", reauth_time_s=3 * HOUR)).reauth
    work = Work()
    for at in arrivals(rng, number, within):
        earliest = REAUTH_OF_MANY if kind == "reauth" else FIRST_OF_MANY
        while at < DAY:
            soft = lifetime.draw(rng.randbytes, earliest=earliest)[0]
            at += soft if kind == "reauth" else min(soft, of_peer(lifetime, rng))
            work.add(at)
            earliest = REAUTH_OF_MANY if kind == "reauth" else 0.0
    busiest, mean = max(work.of(0.0, DAY)), work.mean(lifetime.soft, DAY)
    assert busiest < 2 * mean
    assert 0.5 < mean * lifetime.soft / MINUTE / number < 1.6, "and they are done about as often as they are to be"


def test_strongswan_s_spread_would_not_do() -> None:
    """What the first draw is for: with a `rand_time` that is set, it is kept to, and every hour has its minutes."""
    rng = random.Random(1)
    lifetime = ChildLifetimes.of(ChildSettings("net", rand_time_s=360.0)).time
    work = Work()
    for at in arrivals(rng, TUNNELS // 10, IN_ONE_MINUTE):
        while at < DAY / 4:
            soft = lifetime.draw(rng.randbytes, earliest=FIRST_OF_MANY)[0]
            assert lifetime.soft - 360.0 <= soft <= lifetime.soft
            at += soft
            work.add(at)
    assert max(work.of(0.0, DAY / 4)) > 4 * work.mean(HOUR, DAY / 4)


def standing(rng: random.Random, now: float, connection: Connection) -> IkeSa:
    """An IKE_SA that a peer has begun, as far as its timers care."""
    sa = IkeSa.as_responder(rng.randbytes(8), rng.randbytes(8), PATH, now)
    sa.handshake, sa.state, sa.connection, sa.established = None, SaState.ESTABLISHED, connection, now
    return sa


def checks(sa: IkeSa, end: float) -> Iterator[float]:
    """When its peer, which answers and says nothing else, is asked whether it lives."""
    while True:
        due = sa.liveness_due()
        assert due is not None
        if due >= end:
            return
        yield due
        sa.last_inbound = due
        sa.message_ids.next_id += 1


@pytest.mark.parametrize("delay", [30.0, 600.0])
@pytest.mark.parametrize("within", [0.0, IN_ONE_MINUTE, IN_AN_HOUR])
def test_liveness_checks(delay: float, within: float) -> None:
    """`within` 0: all peers, which had traffic, fall silent in the same moment, and live."""
    rng = random.Random(f"{delay} {within}")
    connection = Connection(ConnectionSettings(name="rw", dpd_delay_s=delay))
    number, end = TUNNELS // 8, within + 12 * delay
    # Of a short delay the seconds count.
    work = Work(min(MINUTE, delay / 10))
    for at in arrivals(rng, number, within):
        sa = standing(rng, at, connection)
        for due in checks(sa, end):
            assert sa.last_inbound < due <= sa.last_inbound + delay
            work.add(due)
    mean = work.mean(end - 5 * delay, end)
    assert max(work.of(0.0, end)) < 2 * mean
    assert 1.0 <= mean * delay / work.span / number < 1.4


@pytest.mark.parametrize("delay", [60.0, 1800.0])
@pytest.mark.parametrize("within", [IN_ONE_MINUTE, IN_AN_HOUR])
def test_all_the_work_of_a_day(delay: float, within: float) -> None:
    """Rekeying of both kinds and liveness checks together, each exchange as work. A peer that was rekeyed with has been
    heard, and so is asked later: what spreads the one must not gather the other."""
    rng = random.Random(f"day {delay} {within}")
    connection = Connection(ConnectionSettings(name="rw", dpd_delay_s=delay))
    lives = {kind: of.soft for kind, of in LIFETIMES.items()}
    work, asked = Work(), Work()
    end = DAY if delay > MINUTE else DAY / 8
    for at in arrivals(rng, TUNNELS // (20 if delay > MINUTE else 40), within):
        sa = standing(rng, at, connection)
        due = {
            kind: at + min(of.draw(rng.randbytes, earliest=FIRST_OF_MANY)[0], of_peer(of, rng))
            for kind, of in LIFETIMES.items()
        }
        while True:
            kind, rekeying = min(due.items(), key=lambda each: each[1])
            check = sa.liveness_due()
            assert check is not None
            now = min(rekeying, check)
            if now >= end:
                break
            sa.last_inbound = now
            sa.message_ids.next_id += 1
            if check < rekeying:
                asked.add(now)
                work.add(now)
                continue
            # The exchange that makes the new one, and the one that deletes the old.
            work.add(now, 2)
            due[kind] = now + min(of_peer(LIFETIMES[kind], rng), of_peer(LIFETIMES[kind], rng))
            if kind == "ike":
                sa.spi, sa.message_ids.next_id = rng.randbytes(8), 0
    steady = min(max(lives.values()), end / 2)
    for each in (work, asked):
        assert max(each.of(within, end)) < 2 * each.mean(steady, end)


@pytest.mark.parametrize("delay", [30.0, 600.0])
def test_all_are_found_dead_together(delay: float) -> None:
    """Asked, asked again with the times of retransmission, given up. A minute of that is no busier than twice an
    ordinary one, or, where it is seldom that peers are asked, than twice the mean minute of the search."""
    rng = random.Random(delay)
    connection = Connection(ConnectionSettings(name="rw", dpd_delay_s=delay))
    policy = RetransmitPolicy()
    ordinary, search = Work(), Work()
    first, last = 10 * delay, 0.0
    for tunnel in range(TUNNELS):
        sa = standing(rng, 0.0, connection)
        sa.last_inbound = -delay * rng.random()
        sa.message_ids.next_id = rng.randrange(256)
        if tunnel < TUNNELS // 10:
            for due in checks(sa, 10 * delay):
                ordinary.add(due, 10 * 2)
        sa.last_inbound = 0.0
        at = sa.liveness_due()
        assert at is not None
        first = min(first, at)
        for sent in range(1, policy.tries + 2):
            search.add(at)
            at += wait_before(sent, policy)
        search.add(at)
        last = max(last, at)
    usual = ordinary.mean(2 * delay, 10 * delay)
    assert max(search.of(-MINUTE, last + MINUTE)) < 2 * max(usual, search.mean(first - MINUTE, last + MINUTE))


def test_keepalives() -> None:
    """In each second, for peers that came in one."""
    rng = random.Random(5)
    env = Environment(Settings(), entropy=rng.randbytes, count=lambda name, n=1, /: None)
    turn = Turn(env, IkeTable(env), 0.0)
    connection = Connection(ConnectionSettings(name="rw"))
    work, begin, end = Work(1.0), 1000.0, 1200.0
    for _ in range(TUNNELS // 5):
        sa = standing(rng, begin, connection)
        sa.is_behind_nat = True
        turn.now = begin + rng.random()
        nat.begin_keepalives(sa, turn)
        begun, times = turn.now, []
        while sa.keepalive_due < end:
            turn.now = sa.keepalive_due
            nat.keep_alive(sa, turn)
            times.append(turn.now)
        assert times[0] <= begun + env.settings.keep_alive_s
        assert all(later - earlier == pytest.approx(env.settings.keep_alive_s) for earlier, later in pairwise(times))
        for at in times:
            work.add(at)
    assert len(turn.effects) == sum(work.done.values()) and isinstance(turn.effects[0], SendKeepalive)
    assert max(work.of(begin, end)) < 1.5 * work.mean(begin + 2.0, end)


@pytest.mark.parametrize(
    ("settings", "earliest", "low", "high"),
    [
        ({}, 0.0, 3240.0, 3600.0),
        ({}, FIRST_OF_MANY, 360.0, 3240.0),
        ({"rand_time_s": 60.0}, FIRST_OF_MANY, 3540.0, 3600.0),
        ({"rand_time_s": 0.0}, FIRST_OF_MANY, 3600.0, 3600.0),
        ({"life_time_s": 3600.0}, 0.0, 3600.0, 3600.0),
        ({"rekey_time_s": 0.0}, FIRST_OF_MANY, float("inf"), float("inf")),
    ],
)
def test_limits_are_drawn_from(settings: dict[str, float], earliest: float, low: float, high: float) -> None:
    lifetime = ChildLifetimes.of(ChildSettings("net", **settings)).time  # type: ignore[arg-type]
    softs = sorted(
        lifetime.draw(lambda octets, drawn=drawn: drawn * octets, earliest=earliest)[0]  # type: ignore[misc]
        for drawn in (b"\0", b"\xff")
    )
    assert softs == [pytest.approx(low, rel=1e-6), pytest.approx(high, rel=1e-6)]
