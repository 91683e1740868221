from collections import Counter
from itertools import count

import pytest

from cygnet.gateway.overload.newcomers import (
    LINE_S,
    MARGIN,
    MEMORY_S,
    OVERFLOW_S,
    REVIEW_S,
    SMALLEST_SHARE,
    Newcomers,
    Pace,
    next_share,
)
from cygnet.ike.path import Path

PATH = Path("192.0.2.1", 500, "192.0.2.2", 500)
OTHER_PATH = Path("192.0.2.1", 500, "192.0.2.3", 500)
PATIENCE_S = 4.0


class Rig:
    def __init__(self, capacity: int = 100) -> None:
        self.counts: Counter[str] = Counter()
        self.shares: list[float] = []
        self.queue = Newcomers(
            capacity=capacity, patience_s=PATIENCE_S, count=self.count, limit_share=self.shares.append, now=0.0
        )

    def count(self, name: str, n: int = 1, /) -> None:
        self.counts[name] += n

    def put(self, *names: str, now: float = 0.0, path: Path = PATH) -> None:
        for name in names:
            self.queue.put((name.encode(), path), now)

    def take(self, now: float, wanted: int = 100) -> list[str]:
        return [octets.decode() for octets, _ in self.queue.take(now, wanted)]

    def dropped(self, reason: str) -> int:
        return self.counts[f'datagrams_dropped_total{{reason="{reason}"}}']


def test_a_short_line_is_served_in_its_order() -> None:
    rig = Rig()
    rig.put("a", "b", "c")
    assert rig.take(LINE_S, 2) == ["a", "b"]
    assert rig.take(LINE_S) == ["c"]
    assert rig.take(LINE_S) == []


def test_in_a_long_line_the_newest_is_served_first_until_it_is_short_again() -> None:
    rig = Rig()
    rig.put("a", "b")
    rig.put("c", "d", now=0.2)
    assert rig.take(LINE_S + 0.1, 3) == ["d", "c", "b"]
    rig.put("e", now=LINE_S + 0.1)
    assert rig.take(LINE_S + 0.1) == ["e", "a"]
    rig.put("f", "g", now=2.0)
    assert rig.take(2.0) == ["f", "g"]


def test_where_there_is_no_room_the_newest_is_served_first_though_nobody_gets_to_wait_long() -> None:
    """Many times the load: the oldest is pushed out before it has waited for as long as in a long line."""
    rig = Rig(capacity=4)
    rig.put("a", "b", "c", "d", "e", now=0.1)
    assert rig.dropped("queue_full") == 1
    assert rig.take(0.2, 2) == ["e", "d"]
    assert rig.take(0.1 + OVERFLOW_S, 2) == ["b", "c"], "and in their order again when that is over"


def test_and_the_kernel_is_told_of_it() -> None:
    rig = Rig(capacity=400)
    for turn in range(20):
        now = 0.011 * turn
        rig.put(*(f"{turn} {n}" for n in range(200)), now=now)
        rig.take(now, 2)
        rig.queue.review(now)
    assert rig.shares == [pytest.approx(MARGIN * 0.01, rel=0.1)]


def test_a_repetition_waits_once_and_in_its_place() -> None:
    rig = Rig()
    rig.put("a", "b")
    rig.put("a", now=LINE_S)
    assert (len(rig.queue), rig.dropped("waits_already")) == (2, 1)
    assert rig.take(LINE_S) == ["a", "b"]


def test_in_a_long_line_it_is_the_newest_and_waits_as_long() -> None:
    rig = Rig()
    rig.put("a", "b")
    rig.put("a", now=3.0)
    assert (len(rig.queue), rig.dropped("waits_already")) == (2, 1)
    assert rig.take(PATIENCE_S + 0.5) == ["a"]
    assert rig.dropped("too_late") == 1


def test_the_same_octets_from_elsewhere_are_another_peer() -> None:
    rig = Rig()
    rig.put("a")
    rig.put("a", path=OTHER_PATH)
    assert rig.take(0.0) == ["a", "a"]


def test_what_was_served_may_come_again() -> None:
    rig = Rig()
    rig.put("a")
    rig.take(0.0)
    rig.put("a", now=1.0)
    assert rig.take(1.0) == ["a"]
    assert rig.dropped("waits_already") == 0


def test_a_full_queue_drops_the_oldest_and_says_whether_it_was_too_late_anyway() -> None:
    rig = Rig(capacity=2)
    rig.put("a", "b")
    rig.put("c", now=1.0)
    assert rig.dropped("queue_full") == 1
    rig.put("d", now=PATIENCE_S + 0.5)
    assert rig.dropped("too_late") == 1
    assert rig.take(PATIENCE_S + 0.5) == ["d", "c"]


def test_all_that_is_older_than_one_that_is_too_late_is_too_late() -> None:
    rig = Rig()
    rig.put("a", "b", "c")
    assert rig.take(PATIENCE_S + 0.1) == []
    assert (len(rig.queue), rig.dropped("too_late")) == (0, 3)


class TestNextShare:
    @staticmethod
    def pace(*, served: int, offered: float, elapsed_s: float = 1.25 * REVIEW_S) -> Pace:
        found = Pace()
        found.note(served=served, offered=offered, elapsed_s=elapsed_s)
        return found

    @pytest.mark.parametrize(
        ("share", "offered", "served", "waiting", "expected"),
        [
            (1.0, 100, 100, 0, 1.0),
            # All of 2000 that wait can be served in time: 400 are, each second.
            (1.0, 500, 100, 400, 1.0),
            (1.0, 1000, 100, 900, MARGIN * 0.1),
            # 1.25 times as many come as are served: the share is right.
            (0.1, 1250, 100, 900, 0.1),
            (0.1, 2500, 100, 900, 0.05),
            (0.1, 1000, 100, 900, 0.125),
            (0.1, 1000, 100, 0, 0.1 * 2**1.25),
            (0.8, 100, 100, 0, 1.0),
            # Nobody was let in, or nobody new is served, since we are busy with finishing: nothing is known.
            (0.1, 0, 100, 900, 0.1),
            (0.5, 1000, 0, 900, 0.5),
            # Little more than we can take comes: the queue can have it all.
            (1.0, 110, 100, 900, 1.0),
        ],
    )
    def test_it_follows_what_is_served(
        self, share: float, offered: float, served: int, waiting: int, expected: float
    ) -> None:
        found = next_share(
            share,
            self.pace(served=served, offered=offered),
            waiting=waiting,
            is_overload=True,
            elapsed_s=1.25 * REVIEW_S,
        )
        assert found == pytest.approx(expected)

    def test_it_is_no_smaller_than_a_filter_can_tell(self) -> None:
        pace = self.pace(served=1, offered=1e6)
        assert next_share(1.0, pace, waiting=900, is_overload=True, elapsed_s=REVIEW_S) == SMALLEST_SHARE

    def test_those_who_have_just_come_are_no_overload(self) -> None:
        assert next_share(1.0, Pace(), waiting=900, is_overload=False, elapsed_s=60.0) == 1.0

    def test_once_a_flood_is_over_all_are_let_in_soon_however_seldom_anybody_looks(self) -> None:
        pace = self.pace(served=100, offered=1e5)
        often = seldom = SMALLEST_SHARE
        for _ in range(10):
            often = next_share(often, pace, waiting=0, is_overload=False, elapsed_s=REVIEW_S)
        for _ in range(2):
            seldom = next_share(seldom, pace, waiting=0, is_overload=False, elapsed_s=5 * REVIEW_S)
        assert often == pytest.approx(seldom) == pytest.approx(1.0)
        assert next_share(often, pace, waiting=0, is_overload=False, elapsed_s=1e6) == 1.0

    def test_what_was_long_ago_counts_little(self) -> None:
        pace = self.pace(served=1000, offered=1000)
        for _ in range(round(4 * MEMORY_S / REVIEW_S)):
            pace.note(served=10, offered=200, elapsed_s=REVIEW_S)
        found = next_share(1.0, pace, waiting=900, is_overload=True, elapsed_s=REVIEW_S)
        assert found == pytest.approx(MARGIN * 0.05, rel=0.2)


def test_a_share_does_not_follow_the_turns_in_which_none_or_many_are_served() -> None:
    """Handshakes under way come first, and they come in bursts."""
    rig = Rig(capacity=4096)
    names = map(str, count())
    now = 0.0
    for turn in range(20):
        rig.put(*(next(names) for _ in range(round(400 * rig.queue.share))), now=now)
        rig.take(now, 80 if turn % 2 else 0)
        now += 1.01 * REVIEW_S
        rig.queue.review(now)
    assert rig.shares[-1] == pytest.approx(MARGIN * 0.1, rel=0.3)
    assert max(rig.shares[-8:]) < 1.6 * min(rig.shares[-8:])


def test_what_was_served_before_a_pause_says_nothing_of_now() -> None:
    """A storm of which the worker could serve little has been over for a minute; of the next one it can serve most."""
    rig = Rig(capacity=4096)
    names = map(str, count())
    now = 0.0
    least = []
    for offered, served in ((2000, 10), (400, 300)):
        before = len(rig.shares)
        for _ in range(20):
            rig.put(*(next(names) for _ in range(round(offered * rig.queue.share))), now=now)
            rig.take(now, served)
            now += 1.01 * REVIEW_S
            rig.queue.review(now)
        least.append(min(rig.shares[before:], default=1.0))
        rig.take(now, 4096)
        now += 60.0
        rig.queue.review(now)
    assert least[0] < 0.02 and least[1] > 0.7
    assert rig.queue.share == 1.0


def test_the_first_peers_after_a_pause_are_let_in() -> None:
    """Nobody was served since the last review, because nobody was there."""
    rig = Rig()
    rig.put("a", now=60.0)
    rig.queue.review(60.0)
    assert rig.shares == []


def test_the_kernel_is_not_told_of_each_small_change() -> None:
    """A filter is dear to make, and chance alone makes the share a little larger or smaller each time."""
    rig = Rig(capacity=4096)
    names = map(str, count())
    now, come, served = 0.0, (390, 410, 380, 420, 400), (42, 38, 41, 39, 40)
    for turn in range(50):
        rig.put(*(next(names) for _ in range(round(come[turn % 5] * rig.queue.share))), now=now)
        rig.take(now, served[turn % 4])
        now += 1.01 * REVIEW_S
        rig.queue.review(now)
    assert rig.queue.share == pytest.approx(MARGIN * 0.1, rel=0.15)
    assert len(rig.shares) < 10
    rig.queue.take(now, 4096)
    while rig.queue.share < 1.0 and now < 60.0:
        now += 1.01 * REVIEW_S
        rig.queue.review(now)
    assert rig.shares[-1] == 1.0, "all are let in in the end"


def test_the_share_is_set_at_most_so_often_and_only_when_it_changes() -> None:
    rig = Rig(capacity=1000)
    rig.put(*map(str, range(1000)))
    rig.take(0.0, 50)
    rig.queue.review(REVIEW_S - 0.01)
    assert rig.shares == []
    rig.queue.review(LINE_S + 0.01)
    assert rig.shares == [pytest.approx(MARGIN * 0.05)]
    rig.queue.take(LINE_S, 1000)
    for n in range(1, 7):
        rig.queue.review(LINE_S + 0.02 + n * 1.01 * REVIEW_S)
    assert rig.shares[-1] == 1.0
    assert len(rig.shares) == 5
