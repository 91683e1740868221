import ipaddress

import pytest

from cygnet.gateway.overload.suspects import (
    HOLD_S,
    LET_IN_PER_S,
    LIMIT_PER_S,
    MAX_SOURCES,
    REVIEW_S,
    STRANGERS_PER_S,
    SuspectSources,
    allowance,
)
from cygnet.ike.known_sources import KnownSources, prefix_of
from cygnet.ike.settings import AdmissionSettings
from cygnet.net.shedding_filter import MAX_SUSPECTS, MAX_TRUSTED, Sources

HONEST, BAD, BAD6 = "192.0.2.1", "203.0.113.9", "2001:db8::9"
FEW, MANY = int(LIMIT_PER_S * REVIEW_S) - 1, 1000


class Rig:
    def __init__(self, limits: AdmissionSettings | None = None) -> None:
        self.now = 0.0
        self.told: list[tuple[Sources, Sources]] = []
        self.tags = (b"new.", b"old.")
        self.spare = 0.0
        self.looks: list[float] = []
        self.limits = limits or AdmissionSettings()
        self.known = KnownSources(self.limits)
        self.sources = SuspectSources(
            self.limits,
            limit=lambda ipv4, ipv6: self.told.append((ipv4, ipv6)),
            cookie_tags=lambda: self.tags,
            known=self.known,
            spare=self.look,
            secret=7,
            now=0.0,
        )

    def look(self, now: float) -> float:
        """How much time the worker has to spare."""
        self.looks.append(now)
        return self.spare

    def trust(self, remote: str) -> None:
        """A peer authenticates itself."""
        self.known.add(prefix_of(ipaddress.ip_address(remote).packed, self.limits))

    def configure(self, limits: AdmissionSettings) -> None:
        self.limits = limits
        self.known.configure(limits)
        self.sources.configure(limits)

    def interval(self, asked: dict[str, int], returned: dict[str, int] | None = None) -> None:
        """So many cookies went out, and so many came back; then a review."""
        for remote, times in asked.items():
            for _ in range(times):
                self.sources.asked(remote)
        for remote, times in (returned or {}).items():
            for _ in range(times):
                self.sources.returned(remote)
        self.now += REVIEW_S
        self.sources.review(self.now)

    def is_suspect(self, remote: str) -> bool:
        if not self.told:
            return False
        suspects = self.told[-1][":" in remote]
        return suspects.keys.key(ipaddress.ip_address(remote).packed) in suspects.suspects

    def flooded(self, share: float) -> int:
        """What gets in of 50,000 a second."""
        return round(50_000 * REVIEW_S * share)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("remote", [BAD, BAD6])
def test_who_never_returns_a_cookie_is_suspect_within_two_reviews(rig: Rig, remote: str) -> None:
    rig.interval({remote: MANY, HONEST: 10}, {HONEST: 10})
    assert not rig.told
    rig.interval({remote: MANY, HONEST: 10}, {HONEST: 10})
    assert rig.is_suspect(remote)
    assert not rig.is_suspect(HONEST)
    assert len(rig.sources) == 1
    assert rig.told[-1][0].cookie_tags == rig.tags


def test_a_crowd_that_returns_them_is_not_however_late_within_the_interval(rig: Rig) -> None:
    rig.interval({HONEST: MANY})
    rig.interval({HONEST: MANY}, {HONEST: MANY})
    rig.interval({}, {HONEST: MANY})
    assert not rig.told


def test_who_asks_for_few_is_not(rig: Rig) -> None:
    for _ in range(5):
        rig.interval({BAD: FEW})
    assert not rig.told


def test_a_flood_with_the_address_of_a_crowd_hides_in_it(rig: Rig) -> None:
    """Nobody is held back for what is less than honest peers send."""
    for _ in range(5):
        rig.interval({HONEST: MANY + MANY // 2}, {HONEST: MANY})
    assert not rig.told


def test_as_many_are_let_in_as_is_meant(rig: Rig) -> None:
    for _ in range(12):
        rig.interval({BAD: rig.flooded(rig.sources.share)})
    assert rig.flooded(rig.sources.share) / REVIEW_S == pytest.approx(LET_IN_PER_S, rel=0.3)
    told = len(rig.told)
    for _ in range(10):
        rig.interval({BAD: rig.flooded(rig.sources.share)})
    assert len(rig.told) == told, "what is right is left alone"


def test_their_share_is_right_from_the_beginning(rig: Rig) -> None:
    for _ in range(2):
        rig.interval({BAD: rig.flooded(1.0)})
    assert rig.is_suspect(BAD)
    assert rig.flooded(rig.sources.share) / REVIEW_S == pytest.approx(LET_IN_PER_S, rel=0.3)


def test_what_looks_like_a_cookie_counts_no_longer_when_many_are_wrong(rig: Rig) -> None:
    """Somebody has received a cookie himself, and sends what it begins with from other addresses."""
    for _ in range(3):
        rig.interval({BAD: MANY})
    assert rig.told[-1][False].cookie_tags == rig.tags
    for _ in range(int(STRANGERS_PER_S * REVIEW_S) + 1):
        rig.sources.wrong()
    rig.interval({BAD: MANY})
    assert rig.told[-1][False].cookie_tags == ()
    for _ in range(int(HOLD_S / REVIEW_S) + 1):
        for _ in range(int(STRANGERS_PER_S * REVIEW_S) - 1):
            rig.sources.wrong()
        rig.interval({BAD: MANY})
    assert rig.told[-1][False].cookie_tags == rig.tags


def test_the_share_grows_when_the_flood_is_over_and_the_suspect_is_none_after_a_while(rig: Rig) -> None:
    for _ in range(8):
        rig.interval({BAD: rig.flooded(rig.sources.share)})
    assert rig.sources.share < 0.05
    for _ in range(int(HOLD_S / REVIEW_S) + 2):
        rig.interval({})
    assert rig.sources.share == 1.0
    assert len(rig.sources) == 0
    assert not rig.is_suspect(BAD)


def test_one_that_returns_its_cookies_is_let_off_at_once(rig: Rig) -> None:
    for _ in range(3):
        rig.interval({BAD: MANY})
    rig.interval({BAD: 4})
    rig.interval({BAD: 4}, {BAD: 8})
    assert not rig.is_suspect(BAD)


def test_the_kernel_hears_of_new_tags(rig: Rig) -> None:
    for _ in range(4):
        rig.interval({BAD: rig.flooded(rig.sources.share)})
    rig.tags = (b"next", b"new.")
    rig.interval({BAD: rig.flooded(rig.sources.share)})
    assert rig.told[-1][0].cookie_tags == rig.tags


def test_prefixes_are_told_apart_as_the_settings_say(rig: Rig) -> None:
    other = "203.0.113.10"
    for _ in range(2):
        rig.interval({BAD: MANY})
    assert not rig.is_suspect(other)
    rig.configure(AdmissionSettings(source_prefix_ipv4=24))
    for _ in range(2):
        rig.interval({BAD: MANY})
    assert rig.is_suspect(other)


def test_who_was_told_apart_otherwise_is_let_in_at_once(rig: Rig) -> None:
    """The kernel would keep them out for ever: nothing else is told when there is nobody to tell of."""
    for _ in range(4):
        rig.interval({BAD: MANY, BAD6: MANY})
    rig.configure(AdmissionSettings(source_prefix_ipv4=24))
    assert not rig.told[-1][False].suspects
    assert rig.is_suspect(BAD6), "of the other family nothing has changed"
    told = len(rig.told)
    rig.configure(AdmissionSettings(source_prefix_ipv4=24))
    assert len(rig.told) == told


def test_cookies_that_came_back_in_quiet_times_are_no_credit_for_later(rig: Rig) -> None:
    for _ in range(3):
        rig.interval({}, {BAD: MANY})
    rig.interval({})
    for _ in range(2):
        rig.interval({BAD: MANY})
    assert rig.is_suspect(BAD)


def test_memory_and_the_filter_are_bounded(rig: Rig) -> None:
    addresses = [str(ipaddress.ip_address(0x0A000000 + n)) for n in range(2 * MAX_SOURCES)]
    for _ in range(2):
        rig.interval(dict.fromkeys(addresses, FEW + 2))
    assert len(rig.sources) == MAX_SUSPECTS
    assert rig.told[-1][0].suspects == tuple(sorted(rig.told[-1][0].suspects))
    for _ in range(int(HOLD_S / REVIEW_S) + 2):
        rig.interval({})
    assert all(not family.sources for family in rig.sources._families.values())


def test_of_prefixes_that_cannot_become_suspects_nothing_is_kept(rig: Rig) -> None:
    """A forged flood has thousands of addresses in each interval, of which none will be seen again."""
    rig.trust(HONEST)
    rig.interval({HONEST: 1, BAD: MANY} | {f"10.0.{n >> 8}.{n & 255}": FEW for n in range(2000)})
    ipv4, ipv6 = rig.sources._families.values()
    assert len(ipv4.sources) == 2, "the known one and the one that was asked often"
    assert not ipv6.sources


def test_addresses_of_one_prefix_that_are_few_each_are_many_together(rig: Rig) -> None:
    for _ in range(2):
        rig.interval({f"2001:db8::{n:x}": 1 for n in range(MANY)})
    assert rig.is_suspect(BAD6)
    assert len(rig.sources) == 1


@pytest.mark.parametrize("let_in", [0, 4_000, 10_000, 40_000])
def test_without_time_to_spare_strangers_get_what_they_always_get(let_in: float) -> None:
    assert allowance(let_in, 0.0) == STRANGERS_PER_S


@pytest.mark.parametrize("answer_s", [5e-6, 18e-6, 40e-6])
@pytest.mark.parametrize("wanted", [0.0, 0.5])
def test_strangers_are_given_a_part_of_what_is_left_to_all(wanted: float, answer_s: float) -> None:
    """`wanted`: what the worker needs for others. What an answer really costs need not be known."""
    let_in = float(STRANGERS_PER_S)
    for _ in range(30):
        before, let_in = let_in, allowance(let_in, 1 - wanted - let_in * answer_s)
    assert let_in == pytest.approx(before, rel=0.01), "it comes to rest"
    assert let_in > STRANGERS_PER_S
    assert let_in * answer_s < 0.6 * (1 - wanted)


@pytest.mark.parametrize(
    ("wanted", "times"), [(0.0, 5.3), (0.3, 3.1), (0.5, 1.85), (0.66, 1.0), (0.8, 1.0), (1.0, 1.0)]
)
def test_the_more_a_worker_has_to_do_the_smaller_a_part_of_the_rest_they_get(wanted: float, times: float) -> None:
    let_in = float(STRANGERS_PER_S)
    for _ in range(30):
        let_in = allowance(let_in, max(0.0, 1 - wanted - let_in * 18e-6))
    assert let_in / STRANGERS_PER_S == pytest.approx(times, rel=0.06)


class TestStrangers:
    """A flood from addresses that are never the same twice."""

    KNOWN = "198.51.100.7"
    forged: int

    def flood(self, rig: Rig, intervals: int, honest: dict[str, int] | None = None, per_s: int = 50_000) -> None:
        """So much comes of each family's forged addresses as the kernel lets in, and all of what is honest."""
        for _ in range(intervals):
            for _ in range(round(per_s * REVIEW_S * rig.sources.share_of_strangers())):
                self.forged = (self.forged + 1) % (1 << 24)
                rig.sources.asked(f"10.{self.forged >> 16}.{self.forged >> 8 & 255}.{self.forged & 255}")
            rig.interval(honest or {}, honest)

    def setup_method(self) -> None:
        self.forged = 0

    def test_so_many_are_let_in_as_is_meant(self, rig: Rig) -> None:
        self.flood(rig, 6)
        share = rig.sources.share_of_strangers()
        assert 50_000 * share == pytest.approx(STRANGERS_PER_S, rel=0.3)
        assert rig.told[-1][False].strangers_share == share
        assert rig.told[-1][False].cookie_tags == rig.tags
        assert len(rig.sources) == 0, "nobody is suspect"
        told = len(rig.told)
        self.flood(rig, 6)
        assert len(rig.told) == told, "what is right is left alone"

    def test_more_of_them_where_there_is_time_to_spare(self, rig: Rig) -> None:
        assert not rig.looks
        self.flood(rig, 4)
        rig.spare = 0.6
        self.flood(rig, 8)
        assert rig.sources.share_of_strangers() > 0.2
        rig.spare = 0.0
        self.flood(rig, 1)
        assert 50_000 * rig.sources.share_of_strangers() == pytest.approx(STRANGERS_PER_S, rel=0.3), "no longer"

    def test_nobody_looks_for_time_to_spare_without_a_flood(self, rig: Rig) -> None:
        for _ in range(5):
            rig.interval({HONEST: MANY}, {HONEST: MANY})
        assert not rig.looks

    def test_those_of_the_other_family_all_get_in(self, rig: Rig) -> None:
        self.flood(rig, 6)
        assert rig.told[-1][True].strangers_share == 1.0
        assert rig.sources.share_of_strangers(is_ipv6=True) == 1.0

    def test_a_crowd_that_returns_its_cookies_all_gets_in(self, rig: Rig) -> None:
        crowd = {str(ipaddress.ip_address(0x0A000000 + n)): 1 for n in range(int(2 * STRANGERS_PER_S * REVIEW_S))}
        rig.interval(crowd)
        for _ in range(5):
            rig.interval(crowd, crowd)
        assert not rig.told

    def test_where_peers_have_authenticated_themselves_nobody_is_a_stranger(self, rig: Rig) -> None:
        rig.trust(self.KNOWN)
        self.flood(rig, 3, {self.KNOWN: 100})
        sources = rig.told[-1][False]
        assert sources.trusted == (sources.keys.key(ipaddress.ip_address(self.KNOWN).packed),)
        rig.trust(HONEST)
        self.flood(rig, 1, {self.KNOWN: 100})
        assert len(rig.told[-1][False].trusted) == 2, "who has come meanwhile"

    def test_what_trusted_ones_return_does_not_hide_a_flood(self, rig: Rig) -> None:
        rig.trust(self.KNOWN)
        self.flood(rig, 6, {self.KNOWN: 40_000})
        assert rig.sources.share_of_strangers() < 0.2

    def test_who_forges_a_trusted_address_makes_a_suspect_of_it(self, rig: Rig) -> None:
        rig.trust(BAD)
        for _ in range(3):
            rig.interval({BAD: MANY})
        assert rig.is_suspect(BAD)

    def test_when_it_is_over_all_get_in_at_once_and_the_filter_goes_later(self, rig: Rig) -> None:
        rig.trust(self.KNOWN)
        self.flood(rig, 6)
        rig.interval({HONEST: 3}, {HONEST: 3})
        assert rig.sources.share_of_strangers() == 1.0
        assert rig.sources.limits_strangers, "it may come again"
        for _ in range(int(HOLD_S / REVIEW_S) + 2):
            rig.interval({})
        assert not rig.sources.limits_strangers
        assert not any(sources.is_needed or sources.trusted for sources in rig.told[-1])

    def test_while_there_is_no_time_to_ask_the_share_stays(self, rig: Rig) -> None:
        self.flood(rig, 6)
        share = rig.sources.share_of_strangers()
        for _ in range(4):
            rig.interval({})
        assert rig.sources.share_of_strangers() == share

    def test_only_the_last_ones_are_trusted(self, rig: Rig) -> None:
        for n in range(MAX_TRUSTED + 5):
            rig.trust(str(ipaddress.ip_address(0xC0000000 + n)))
        self.flood(rig, 3)
        assert rig.told[-1][False].trusted == tuple(range(0xC0000005, 0xC0000000 + MAX_TRUSTED + 5))

    def test_told_apart_by_other_prefixes_they_begin_anew(self, rig: Rig) -> None:
        rig.trust(self.KNOWN)
        self.flood(rig, 6)
        rig.configure(AdmissionSettings(source_prefix_ipv4=24))
        assert not rig.told[-1][False].is_needed
        self.flood(rig, 3)
        assert rig.told[-1][False].trusted == (0xC6336400,), "the address is known still"

    def test_the_kernel_hears_of_new_tags(self, rig: Rig) -> None:
        self.flood(rig, 6)
        rig.tags = (b"next", b"new.")
        self.flood(rig, 1)
        assert rig.told[-1][False].cookie_tags == rig.tags
