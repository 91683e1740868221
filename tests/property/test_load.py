"""Schedules, plans and percentiles of the load tester, for any rate, seed and number of processes."""

from itertools import chain, islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from cygnet.load.arrivals import ClosedLoop, constant_arrivals, of_process, poisson_arrivals
from cygnet.load.plan import attempt_number, share_of, sources_of
from cygnet.load.samples import Samples

RATES = st.floats(min_value=1e-3, max_value=1e6)
PROCESSES = st.integers(1, 20)


@given(RATES, st.integers(0, 2**64))
def test_arrivals_never_go_back(rate: float, seed: int) -> None:
    for arrivals in (constant_arrivals(rate), poisson_arrivals(rate, seed)):
        assert all(0 <= a <= b for a, b in pairwise(islice(arrivals, 200)))


@given(RATES, st.integers(0, 2**64), PROCESSES)
def test_the_processes_have_together_what_one_would_have(rate: float, seed: int, processes: int) -> None:
    whole = list(islice(poisson_arrivals(rate, seed), 100))
    parts = [
        list(islice(of_process(poisson_arrivals(rate, seed), p, processes), share_of(100, p, processes)))
        for p in range(processes)
    ]
    assert sorted(chain(*parts)) == whole


@given(st.integers(0, 500), PROCESSES)
def test_every_attempt_belongs_to_one_process(count: int, processes: int) -> None:
    numbers = [
        attempt_number(index, process, processes)
        for process in range(processes)
        for index in range(share_of(count, process, processes))
    ]
    assert sorted(numbers) == list(range(count))


@given(st.integers(1, 12), st.integers(1, 12), PROCESSES)
def test_no_fixed_port_has_two_owners(addresses: int, pairs: int, processes: int) -> None:
    names = [f"127.0.0.{n}" for n in range(1, addresses + 1)]
    ports = [(20000 + 2 * n, 20001 + 2 * n) for n in range(pairs)]
    owned = [
        source
        for process in range(min(processes, addresses * pairs))
        for source in sources_of(names, ports, process=process, processes=processes)
    ]
    assert len(owned) == len(set(owned))
    if processes <= addresses * pairs:
        assert len(owned) == addresses * pairs


@given(st.integers(1, 10), st.lists(st.booleans(), max_size=60))
def test_a_closed_loop_never_has_more_under_way_than_allowed(concurrency: int, ends: list[bool]) -> None:
    loop, under_way, now = ClosedLoop(concurrency, 0.0), 0, 0.0
    for is_end in ends:
        now += 1.0
        if is_end and under_way:
            loop.ended(now)
            under_way -= 1
        elif loop.due() is not None:
            loop.take()
            under_way += 1
        assert under_way <= concurrency
        assert (loop.due() is None) == (under_way == concurrency)


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=300))
def test_percentiles_are_durations_that_occurred(seconds: list[float]) -> None:
    found = Samples(seconds).percentiles_ms()
    occurred = {round(s * 1000, 3) for s in seconds}
    values = [value for value in found.values() if value is not None]
    assert len(values) == 4
    assert set(values) <= occurred
    assert values == sorted(values)
    assert found["max"] == max(occurred)
    assert sum(s * 1000 <= values[0] + 1e-3 for s in seconds) * 2 >= len(seconds)


@given(st.lists(st.floats(0, 1e4)), st.lists(st.floats(0, 1e4)))
def test_merged_samples_are_all_samples(one: list[float], other: list[float]) -> None:
    merged = Samples(one)
    merged.extend(Samples(other).to_octets())
    assert merged.percentiles_ms() == Samples(one + other).percentiles_ms()
