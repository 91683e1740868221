import gc
import logging
import weakref

import pytest

from cygnet.gateway.process.memory import LEAST_BUDGET_OCTETS, MemoryGuard, collect_young, memory_limit
from cygnet.observe.counters import Counters
from cygnet.observe.memory import MemoryBound

MIB = 1 << 20


class FakeMemory:
    """A process with as much memory as the test says."""

    def __init__(self, private: int = 50 * MIB, address_space: int = 300 * MIB) -> None:
        self.private = private
        self.address_space = address_space

    def private_octets(self) -> int:
        return self.private

    def address_space_octets(self) -> int:
        return self.address_space


class Rig:
    """A guard of one of two workers, with a budget of 100 MiB above the 50 that it has at its start."""

    def __init__(self, limit: int = 250 * MIB, address_space: int | None = None) -> None:
        self.memory = FakeMemory()
        self.counters = Counters.create(writers=1)
        self.guard = MemoryGuard(
            self.counters.writer(0), limit, workers=2, measure=self.memory, address_space=address_space
        )

    def is_full(self, used_mib: float, sas: int) -> bool:
        """What a look says with that much above the start."""
        self.memory.private = 50 * MIB + int(used_mib * MIB)
        is_full = self.guard.tick(sas)
        assert self.counters.value("workers_full") == is_full
        assert self.counters.value("memory_octets") == self.memory.private
        return is_full


def test_new_peers_are_taken_until_the_budget_is_used_up() -> None:
    rig = Rig()
    assert [rig.is_full(used, 1000) for used in (0, 99.9, 100, 120)] == [False, False, True, True]


def test_they_are_taken_again_below_the_low_water_mark_and_not_sooner() -> None:
    rig = Rig()
    assert [rig.is_full(used, 1000) for used in (100, 99, 91, 89, 91, 99, 100)] == [
        *(True, True, True),
        *(False, False, False),
        True,
    ]


def test_memory_that_ended_sas_leave_behind_is_used_again() -> None:
    """The interpreter keeps it: the number of SAs is what falls."""
    rig = Rig()
    assert rig.is_full(101, 1000)
    assert rig.is_full(101, 901)
    assert not rig.is_full(101, 900)
    assert not rig.is_full(101, 999)
    assert rig.is_full(101, 1000)


def test_growth_beyond_what_was_left_behind_is_growth() -> None:
    rig = Rig()
    assert rig.is_full(101, 1000)
    assert not rig.is_full(101, 500)
    assert rig.is_full(102, 600)


def test_a_limit_below_what_the_processes_need_leaves_room_for_some_peers() -> None:
    rig = Rig(limit=MIB)
    assert not rig.is_full(LEAST_BUDGET_OCTETS / MIB - 1, 10)
    assert rig.is_full(LEAST_BUDGET_OCTETS / MIB, 10)


def test_a_limit_of_the_address_space_is_kept_below() -> None:
    rig = Rig(limit=1 << 40, address_space=350 * MIB)
    assert [rig.is_full(used, 10) for used in (39, 41)] == [False, True]


def test_the_turning_points_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    with caplog.at_level(logging.WARNING):
        for used in (100, 105, 80, 70):
            rig.is_full(used, 1000)
    assert [record.getMessage() for record in caplog.records] == [
        "150 MiB of memory in use with 1000 IKE_SAs: new peers are refused; memory_limit is reached",
        "130 MiB of memory in use with 1000 IKE_SAs: new peers are taken again",
    ]


def test_auto_is_a_share_of_what_there_is() -> None:
    bound = MemoryBound(1000 * MIB, "cgroup")
    assert memory_limit(0, bound) == 800 * MIB
    assert memory_limit(5 * MIB, bound) == 5 * MIB


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_cycles_are_found_while_they_are_young_and_what_survives_is_left_alone() -> None:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        kept, dropped = Cycle(), weakref.ref(Cycle())
        assert dropped() is not None
        collect_young()
        assert dropped() is None
        assert not any(each is kept for generation in (0, 1) for each in gc.get_objects(generation))
    finally:
        if was_enabled:
            gc.enable()
