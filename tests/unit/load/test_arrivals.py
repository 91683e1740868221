from itertools import islice

import pytest

from cygnet.load.arrivals import ClosedLoop, OpenLoop, constant_arrivals, of_process, poisson_arrivals


def test_constant_arrivals_are_evenly_spaced_and_do_not_drift() -> None:
    assert list(islice(constant_arrivals(4.0), 4)) == [0.0, 0.25, 0.5, 0.75]
    assert next(islice(constant_arrivals(3.0), 3_000_000, None)) == 1_000_000.0


def test_poisson_arrivals_have_the_rate_and_the_variance_of_a_poisson_process() -> None:
    arrivals = list(islice(poisson_arrivals(100.0, seed=7), 20_000))
    gaps = [b - a for a, b in zip([0.0, *arrivals], arrivals, strict=False)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.01, rel=0.03)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance == pytest.approx(mean**2, rel=0.08)


def test_poisson_arrivals_follow_from_the_seed() -> None:
    first, same, other = (list(islice(poisson_arrivals(10.0, seed), 5)) for seed in (1, 1, 2))
    assert first == same != other


def test_the_processes_have_the_arrivals_of_their_attempts() -> None:
    assert list(islice(of_process(constant_arrivals(1.0), 2, 3), 3)) == [2.0, 5.0, 8.0]


def test_an_open_loop_goes_on_whatever_becomes_of_attempts() -> None:
    loop = OpenLoop(constant_arrivals(2.0), 100.0)
    assert loop.due() == 100.0
    assert loop.due() == 100.0
    loop.take()
    assert loop.due() == 100.5
    loop.ended(900.0)
    assert loop.due() == 100.5


def test_a_closed_loop_starts_only_what_has_a_place() -> None:
    loop = ClosedLoop(2, 100.0)
    loop.take()
    assert loop.due() == 100.0
    loop.take()
    assert loop.due() is None


def test_a_closed_loop_means_the_next_to_start_when_a_place_became_free() -> None:
    loop = ClosedLoop(1, 100.0)
    loop.take()
    loop.ended(103.5)
    assert loop.due() == 103.5
