import json
from typing import Any

import pytest

from cygnet.load.books import Timeline
from cygnet.load.options import LoadOptions, PingOptions
from cygnet.load.results import DIED, Measured, Results
from cygnet.load.samples import Samples
from cygnet.load.upkeep import Answers


def options(**changes: Any) -> LoadOptions:
    return LoadOptions(**{"target": "192.0.2.1", "secret": b"s", **changes})


def measured(delays: list[float], **changes: Any) -> Measured:
    """A process that started its attempts 0.1 s apart from 100.0 on."""
    octets = Samples(delays).to_octets()
    failures: dict[str, int] = changes.get("failures", {})
    attempted = len(delays) + sum(failures.values())
    found: dict[str, Any] = {
        "attempted": attempted,
        "failures": {},
        "delays": octets,
        "phases": {"ike_sa_init": octets, "ike_auth": octets},
        "first_packets": b"",
        "echo_failures": 0,
        "retransmits": {},
        "timeline": [],
        "suites": ["aes128gcm16-prfsha256-x25519 / aes128gcm16"],
        "last_start": 100.0 + 0.1 * (attempted - 1),
        "last_established": 102.0,
        "ended": 104.0,
        "cpu_s": 0.5,
        "busy_cpu_s": 0.4,
        "busy_waited_s": 0.0,
        "busy_s": 2.0,
        "kernel_drops": 0,
        "late_starts": 0,
        "lost": {},
        "deleted": 0,
        "delete_failures": 0,
        "counters": {},
        "is_interrupted": False,
    }
    return Measured(**{**found, **changes})


def results(*processes: Measured, **changes: Any) -> Results:
    found = Results(options(**{"processes": len(processes), **changes}), 100.0)
    for process in processes:
        found.add(process)
    return found


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"p50": 1, "p90": 1, "p99": 1, "max": 1}),
        (2, {"p50": 1, "p90": 2, "p99": 2, "max": 2}),
        (100, {"p50": 50, "p90": 90, "p99": 99, "max": 100}),
        (101, {"p50": 51, "p90": 91, "p99": 100, "max": 101}),
    ],
)
def test_percentiles_are_exact_by_nearest_rank(count: int, expected: dict[str, float]) -> None:
    assert Samples(n / 1000 for n in range(count, 0, -1)).percentiles_ms() == expected


def test_no_samples_have_no_percentiles() -> None:
    assert Samples().percentiles_ms() == {"p50": None, "p90": None, "p99": None, "max": None}


def test_processes_are_added_up() -> None:
    found = results(
        measured([0.010, 0.020], failures={"timeout_ike_sa_init": 1}, retransmits={"ike_auth": 2}, kernel_drops=1),
        measured([0.030], failures={"timeout_ike_sa_init": 1, "authentication_failed": 1}, last_established=103.0),
    )
    assert (found.attempted, found.established, found.failed) == (6, 3, 3)
    assert found.failures == {"timeout_ike_sa_init": 2, "authentication_failed": 1}
    assert found.delays.percentiles_ms() == {"p50": 20.0, "p90": 30.0, "p99": 30.0, "max": 30.0}
    assert (found.retransmits, found.kernel_drops, found.cpu_s) == ({"ike_auth": 2}, 1, 1.0)
    assert found.setup_rate == pytest.approx(3 / 3.0)
    assert found.attempt_rate == pytest.approx(5 / 0.2)
    assert found.duration_s == 4.0


def test_a_process_that_died_takes_its_attempts_with_it() -> None:
    found = results(measured([0.01]), processes=2)
    found.add_dead(5, 110.0)
    assert (found.attempted, found.established, found.failed) == (6, 1, 5)
    assert found.failures == {DIED: 5}
    assert not found.is_success(100.0)


def test_the_tester_is_the_limit_from_nine_tenths_of_its_cores() -> None:
    assert not results(measured([0.01], busy_cpu_s=1.79)).is_tester_limit
    assert results(measured([0.01], busy_cpu_s=1.80)).is_tester_limit


def test_a_tester_that_ran_or_waited_for_a_core_all_the_time_is_the_limit() -> None:
    assert not results(measured([0.01], busy_cpu_s=1.0, busy_waited_s=0.79)).is_tester_limit
    found = results(measured([0.01], busy_cpu_s=1.0, busy_waited_s=0.80))
    assert found.is_tester_limit
    assert (found.cpu_share, found.waited_share, found.busy_share) == pytest.approx((0.5, 0.4, 0.9))
    assert found.to_json()["tester"]["waited_share"] == 0.4


@pytest.mark.parametrize(
    ("failed", "echo_failures", "allowed", "expected"),
    [(0, 0, 0, True), (1, 0, 0, False), (1, 0, 25, True), (1, 0, 24, False), (0, 1, 0, False), (0, 1, 30, True)],
)
def test_success(failed: int, echo_failures: int, allowed: float, expected: bool) -> None:
    failures = {"no_proposal_chosen": failed} if failed else {}
    process = measured([0.01] * (4 - failed), failures=failures, echo_failures=echo_failures)
    assert results(process).is_success(allowed) is expected


def test_a_run_without_attempts_is_no_success() -> None:
    assert not Results(options(), 100.0).is_success()


def test_json_has_the_agreed_keys() -> None:
    ping = PingOptions(target=bytes(4))
    found = results(measured([0.0101234], first_packets=Samples([0.02]).to_octets()), ping=ping, count=1).to_json()
    assert found.keys() >= {
        *("attempted", "established", "failed", "duration_s", "attempt_rate", "setup_rate", "setup_delay_ms"),
        *("phases", "time_to_first_packet_ms", "retransmits", "failures", "suite", "target", "processes"),
        *("arrivals", "interrupted", "tester", "machine"),
    }
    assert found["setup_delay_ms"] == {"p50": 10.123, "p90": 10.123, "p99": 10.123, "max": 10.123}
    assert found["phases"].keys() == {"ike_sa_init", "ike_auth"}
    assert found["time_to_first_packet_ms"]["p50"] == 20.0
    assert found["tester"].keys() >= {"cpu_s", "cpu_us_per_tunnel", "kernel_drops", "late_starts"}
    assert found["target"] == "192.0.2.1:500"
    json.dumps(found)


def test_json_of_a_run_in_which_nothing_came_up() -> None:
    found = results(measured([], failures={"timeout_ike_sa_init": 3}, suites=[])).to_json()
    assert found["tester"]["cpu_us_per_tunnel"] is None
    assert found["setup_rate"] == 0.0
    assert found["suite"].startswith("aes128gcm16")
    json.dumps(found)


def test_without_pings_no_time_to_first_packet_is_claimed() -> None:
    assert "time_to_first_packet_ms" not in results(measured([0.01])).to_json()


def test_tunnels_are_counted_by_the_second_that_they_came_up_in() -> None:
    timeline = Timeline(100.0)
    for now in (99.9, 100.0, 100.9, 103.2):
        timeline.add(now)
    assert timeline.to_list() == [3, 0, 0, 1]
    found = results(measured([0.01], timeline=[3, 0, 0, 1]), measured([0.01], timeline=[1, 1])).to_json()
    assert found["established_per_second"] == [4, 1, 0, 1]


def test_retransmissions_are_told_by_exchange() -> None:
    first = measured([0.01], retransmits={"ike_sa_init": 2, "ike_auth": 1})
    found = results(first, measured([0.01], retransmits={"ike_auth": 1})).to_json()
    assert found["retransmits"] == 4
    assert found["retransmits_by_exchange"] == {"ike_sa_init": 2, "ike_auth": 2}


def test_liveness_checks_are_reported_only_where_they_were_made() -> None:
    checks = Answers(asked=5, delays=Samples([0.001, 0.002, 0.003]).to_octets(), overdue=1)
    assert "liveness_checks" not in results(measured([0.01], checks=checks)).to_json()
    found = results(measured([0.01], checks=checks), measured([0.01], checks=checks), dpd_s=1.0).to_json()
    assert found["liveness_checks"] == {
        "asked": 10,
        "answered": 6,
        "overdue": 2,
        "delay_ms": {"p50": 2.0, "p90": 3.0, "p99": 3.0, "max": 3.0},
    }
