import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cygnet.observe.histogram import HISTOGRAM_WORDS, Histogram

durations = st.lists(st.floats(min_value=1e-6, max_value=4000), min_size=1, max_size=60)


@given(durations, st.floats(min_value=0, max_value=1))
def test_percentiles_are_those_of_the_sorted_list_within_three_percent(values: list[float], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = sorted(values)[max(math.ceil(q * len(values)), 1) - 1]
    assert histogram.percentile(q) == pytest.approx(exact, rel=0.03)


@given(durations, durations)
def test_merging_is_recording_both(left: list[float], right: list[float]) -> None:
    merged, both = Histogram(), Histogram()
    other = Histogram()
    for value in left:
        merged.record(value)
        both.record(value)
    for value in right:
        other.record(value)
        both.record(value)
    merged.merge(Histogram.from_octets(other.to_octets()))
    assert merged.to_octets() == both.to_octets()


def test_each_power_of_two_begins_a_new_bucket_without_a_gap() -> None:
    histogram = Histogram()
    values = [ns for power in range(42) for ns in (2**power - 1, 2**power, 2**power + 1)]
    for ns in values:
        histogram.record(ns / 1e9)
    assert histogram.count == len(values)
    for ns in values[9:]:
        single = Histogram()
        single.record(ns / 1e9)
        single.record(3600)
        assert single.percentile(0.5) == pytest.approx(ns / 1e9, rel=1 / 64, abs=1.5e-9)


def test_what_is_beyond_the_range_counts_at_its_end() -> None:
    histogram = Histogram()
    histogram.record(-1.0)
    histogram.record(1e9)
    assert histogram.count == 2
    assert histogram.percentile(0) == 0.0
    assert histogram.max_s == pytest.approx(2**42 / 1e9)
    assert histogram.percentile(1) == pytest.approx(2**42 / 1e9, rel=1 / 64)


def test_no_percentile_exceeds_the_maximum() -> None:
    histogram = Histogram()
    histogram.record(1.0)
    assert histogram.percentile(1) <= histogram.max_s == 1.0


def test_an_empty_histogram_has_no_percentiles() -> None:
    histogram = Histogram()
    assert math.isnan(histogram.percentile(0.5))
    assert (histogram.count, histogram.sum_s, histogram.max_s) == (0, 0.0, 0.0)


def test_cumulative_counts_and_sum() -> None:
    histogram = Histogram()
    for value in (0.001, 0.002, 0.004, 0.5, 2.0):
        histogram.record(value)
    assert histogram.cumulative([0.0005, 0.003, 1.0, 10.0]) == [0, 2, 4, 5]
    assert histogram.sum_s == pytest.approx(2.507)


def test_it_writes_into_the_words_it_is_given() -> None:
    words = memoryview(bytearray(8 * HISTOGRAM_WORDS)).cast("q")
    Histogram(words).record(0.25)
    assert Histogram(words).count == 1
    with pytest.raises(ValueError, match="words"):
        Histogram(words[1:])
