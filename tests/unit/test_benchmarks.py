"""What benchmarks make of several measurements on a machine that changes its speed meanwhile."""

import pytest
from benchmarks.attack import Figures, summarise
from benchmarks.overload import Capacity, combined, compared, course


def figures(rate: float, *, speed: float = 1.0, gateway_cpu: float = 0.5) -> Figures:
    return Figures(
        setup_rate=rate * speed,
        attempted=100,
        failed=0,
        p50_ms=1.0,
        p99_ms=2.0,
        gateway_cpu=gateway_cpu,
        memory_growth_octets=0,
        tunnels=100,
        flood_per_s=50_000.0,
        flood_cpu=0.3,
        speed=speed,
        tester_cpu=0.5,
        drops={},
    )


class TestAttack:
    def test_a_machine_that_gets_slower_does_not_change_a_ratio(self) -> None:
        rounds = [(figures(1000, speed=1 / n), figures(900, speed=1 / n)) for n in (1, 1.4, 2)]
        found = summarise(rounds, is_open=False)
        assert found["ratio"] == found["ratio_per_cpu"] == found["ratio_without_machine"] == 0.9
        assert found["spread"] == [0.9, 0.9]
        assert found["machine"] == 1.0

    def test_one_round_in_which_it_was_disturbed_counts_little_and_is_seen(self) -> None:
        disturbed = (figures(1000), figures(900, speed=0.3))
        found = summarise([(figures(1000), figures(900)), disturbed, (figures(1000), figures(880))], is_open=False)
        assert found["ratio"] == 0.88
        assert found["spread"] == [0.575, 0.89]
        assert found["ratio_without_machine"] == 0.9

    def test_what_the_gateway_does_for_a_flood_on_its_own_core_counts_for_each_second_of_it(self) -> None:
        found = summarise([(figures(1000, gateway_cpu=0.5), figures(1000, gateway_cpu=0.8))], is_open=False)
        assert found["ratio"] == 1.0
        assert found["ratio_per_cpu"] == pytest.approx(0.625)

    def test_a_round_in_which_nobody_came_up_without_the_flood_says_nothing(self) -> None:
        assert summarise([(figures(0), figures(900))], is_open=False)["ratio"] is None


class TestOverload:
    def test_levels_are_measured_up_and_down_in_turn(self) -> None:
        assert list(course([0.5, 1, 10], 3)) == [0.5, 1, 10, 10, 1, 0.5, 0.5, 1, 10]

    def test_of_several_rounds_the_median_counts_but_of_what_must_not_happen_the_worst(self) -> None:
        rounds = [
            {"goodput": 500.0, "tester_is_limit": False, "base": {"lost": {}}, "under_way": {"lost_at_most": 0.0}},
            {
                "goodput": 90.0,
                "tester_is_limit": True,
                "base": {"lost": {"dpd": 2}},
                "under_way": {"lost_at_most": 0.3},
            },
            {"goodput": 510.0, "tester_is_limit": False, "base": {"lost": {}}, "under_way": {"lost_at_most": 0.1}},
        ]
        assert combined(rounds) == {
            "goodput": 500.0,
            "tester_is_limit": True,
            "base": {"lost": {"dpd": 2}},
            "under_way": {"lost_at_most": 0.3},
        }

    def test_a_level_is_compared_with_the_capacity_before_and_after_it(self) -> None:
        level = {"goodput": 190.0, "goodput_per_unit": 0.38, "machine_speed": 500.0, "offered": 2000.0}
        found = compared(level, Capacity(180.0, 0.36), Capacity(220.0, 0.44))
        assert found["capacity"] == 200.0 and found["offered_over_capacity"] == 10.0
        assert found["kept"] == found["kept_without_machine"] == 0.95

    def test_a_machine_that_was_slower_meanwhile_is_taken_out(self) -> None:
        level = {"goodput": 100.0, "goodput_per_unit": 0.4, "machine_speed": 250.0, "offered": 2000.0}
        found = compared(level, Capacity(200.0, 0.4), Capacity(200.0, 0.4))
        assert (found["kept"], found["kept_without_machine"]) == (0.5, 1.0)

    def test_no_more_can_come_up_than_was_offered(self) -> None:
        level = {"goodput": 99.0, "goodput_per_unit": 0.198, "machine_speed": 500.0, "offered": 100.0}
        found = compared(level, Capacity(200.0, 0.4), Capacity(200.0, 0.4))
        assert found["kept"] == found["kept_without_machine"] == 0.99

    def test_what_was_not_measured_in_a_round_is_left_to_the_others(self) -> None:
        assert combined([{"p50": None, "series": [1, 2]}, {"p50": 3.0, "series": []}]) == {"p50": 3.0, "series": [1, 2]}
        assert combined([{"p50": None}, {"p50": None}]) == {"p50": None}
