import pytest

from cygnet.ike.rate_limit import RateLimit


def test_as_many_at_once_as_in_a_second_and_then_so_many_a_second() -> None:
    limit = RateLimit(5)
    assert [limit.take(100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [limit.take(100.2), limit.take(100.2)] == [True, False]
    assert sum(limit.take(101.0 + n / 1000) for n in range(10_000)) == pytest.approx(5 * 10 + 4, abs=1)


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    limit = RateLimit(1)
    assert limit.take(50.0)
    assert not limit.take(50.0) and not limit.take(10.0)


def test_none_a_second_is_none() -> None:
    assert not any(RateLimit(0).take(float(n)) for n in range(100))
