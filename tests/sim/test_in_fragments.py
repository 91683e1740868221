"""The other simulations once more, with everything that is protected in the smallest fragments."""

from types import ModuleType

import pytest
from tests.sim import test_hostile, test_rules, test_set_up
from tests.sim.world import World

SIZE = 120
"""Octets of an IP packet: leaves 27 of the message in a fragment."""

COUNT_DATAGRAMS = {
    "test_unknown_spis",
    "test_a_tunnel_comes_up_in_two_round_trips",
    "test_a_repeated_request_gets_the_same_answer_and_makes_no_second_sa",
}
"""Tests that are about the number of datagrams, and so hold only for whole messages."""


@pytest.fixture(autouse=True)
def _small_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "fragment_size", SIZE)


def _tests_of(module: ModuleType) -> dict[str, object]:
    return {name: each for name, each in vars(module).items() if name.startswith("test_")}


ABOUT_TIMERS = {"test_peers_that_fell_silent_together_are_not_all_asked_together"}
"""Tests whose messages matter only by when they are sent."""


for _module in (test_hostile, test_rules, test_set_up):
    globals().update(
        {name: test for name, test in _tests_of(_module).items() if name not in COUNT_DATAGRAMS | ABOUT_TIMERS}
    )
