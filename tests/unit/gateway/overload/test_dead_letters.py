import os

import pytest

from cygnet.gateway.overload.dead_letters import (
    BURST,
    HOLD_S,
    LIMIT_EACH_PER_S,
    LIMIT_PER_S,
    MAX_COUNTED,
    REVIEW_S,
    SAMPLE,
    DeadLetters,
)
from cygnet.ike.spi import SpiSeal, new_ike_spi
from cygnet.net.shedding_filter import MAX_BARRED, SpiRules

NODE = 2
SEAL = SpiSeal.from_octets(bytes(range(16)))
MANY, FEW = int(LIMIT_EACH_PER_S * REVIEW_S) + 1, int(LIMIT_EACH_PER_S * REVIEW_S) - 1


def ours(drawn: int) -> bytes:
    return new_ike_spi(NODE, 0, lambda octets: drawn.to_bytes(octets, "big"), SEAL)


def rules(*barred: int) -> SpiRules:
    return SpiRules(NODE, SEAL, barred, SAMPLE)


class Rig:
    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[SpiRules | None] = []
        self.letters = DeadLetters(node=NODE, seal=SEAL, limit=self.told.append, now=0.0)

    def interval(self, spis: list[bytes], times: int = 1) -> None:
        """So much has come; then a review."""
        for spi in spis:
            for _ in range(times):
                self.letters.count(spi)
        self.now += REVIEW_S
        self.letters.review(self.now)

    def rest(self, seconds: float) -> None:
        for _ in range(int(seconds / REVIEW_S)):
            self.interval([])


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_few_strays_are_left_to_the_worker(rig: Rig) -> None:
    for _ in range(5):
        rig.interval([os.urandom(8) for _ in range(int(LIMIT_PER_S * REVIEW_S) - 1)])
    assert rig.told == []


def test_when_many_come_what_is_not_ours_stays_out(rig: Rig) -> None:
    rig.interval([os.urandom(8) for _ in range(30_000)])
    assert rig.told == [rules()]


def test_a_burst_is_not_waited_for(rig: Rig) -> None:
    rig.now += 0.01
    for number in range(BURST):
        rig.letters.review(rig.now)
        assert rig.told == [], number
        rig.letters.count(os.urandom(8))
    rig.letters.review(rig.now)
    assert rig.told == [rules()]
    rig.letters.count(ours(9))
    rig.letters.review(rig.now)
    assert rig.told == [rules()]


def test_for_as_long_as_they_come_by_the_sample_that_gets_in(rig: Rig) -> None:
    rig.interval([os.urandom(8) for _ in range(30_000)])
    for _ in range(int(3 * HOLD_S / REVIEW_S)):
        rig.interval([os.urandom(8) for _ in range(round(30_000 * SAMPLE))])
    assert rig.told == [rules()]
    rig.rest(HOLD_S - REVIEW_S)
    assert rig.told == [rules()], "they may come again"
    rig.rest(2 * REVIEW_S)
    assert rig.told[1:] == [None]
    rig.interval([os.urandom(8) for _ in range(30_000)])
    assert rig.told[2:] == [rules()]


def test_what_is_barred_stays_so_by_the_sample_that_gets_in(rig: Rig) -> None:
    rig.interval([ours(9), ours(5)], MANY)
    for _ in range(int(3 * HOLD_S / REVIEW_S)):
        rig.interval([ours(9)])
    assert rig.told[-1] == rules(9), "and what nothing comes for does not"


def test_what_is_not_barred_is_no_sample(rig: Rig) -> None:
    rig.interval([ours(9)], MANY)
    rig.interval([ours(5)], FEW)
    assert rig.told == [rules(9)]


def test_spis_of_ours_that_too_much_comes_for_are_barred_for_a_while(rig: Rig) -> None:
    rig.interval([ours(9), ours(5)], MANY)
    assert rig.told == [rules(5, 9)]
    rig.rest(HOLD_S + REVIEW_S)
    assert rig.told[1:] == [None]


def test_peers_that_ask_for_lost_sas_are_not(rig: Rig) -> None:
    """A worker has died, and its peers notice, each by itself."""
    for _ in range(5):
        rig.interval([ours(n) for n in range(1000)], FEW)
    assert rig.told == [rules()], "nothing is barred"


def test_what_is_not_ours_is_never_barred(rig: Rig) -> None:
    elsewhere = new_ike_spi(NODE + 1, 0, os.urandom, SEAL)
    rig.interval([bytes(8), b"whatever", elsewhere], MANY)
    assert rig.told == []


def test_there_is_room_for_so_many(rig: Rig) -> None:
    rig.interval([ours(n) for n in range(MAX_BARRED)], MANY)
    rig.interval([ours(n) for n in range(MAX_BARRED, MAX_BARRED + 10)], MANY)
    assert rig.told[-1] == rules(*range(10, MAX_BARRED + 10)), "the oldest make room"


def test_no_more_are_counted_than_there_is_room_for(rig: Rig) -> None:
    rig.interval([ours(n) for n in range(MAX_COUNTED)])
    for n in range(MAX_COUNTED + 10):
        rig.letters.count(ours(n))
    assert rig.letters.came == MAX_COUNTED + 10
    rig.interval([ours(MAX_COUNTED + 1)], MANY)
    assert rig.told[-1] == rules(), "and who was not counted is not barred"
