import pytest

from cygnet.ike.rate_limit import RateLimit


def test_as_many_at_once_as_in_a_second_and_then_so_many_a_second() -> None:
    limit = RateLimit()
    assert [limit.take(100.0, 5) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [limit.take(100.2, 5), limit.take(100.2, 5)] == [True, False]
    assert sum(limit.take(101.0 + n / 1000, 5) for n in range(10_000)) == pytest.approx(5 * 10 + 4, abs=1)


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    limit = RateLimit()
    assert limit.take(50.0, 1)
    assert not limit.take(50.0, 1) and not limit.take(10.0, 1)


def test_none_a_second_is_none() -> None:
    limit = RateLimit()
    assert not any(limit.take(float(n), 0) for n in range(100))


def test_the_rate_may_change() -> None:
    limit = RateLimit()
    assert not limit.take(10.0, 0)
    assert [limit.take(10.0, 2) for _ in range(3)] == [True, True, False]
    assert [limit.take(11.0, 1) for _ in range(3)] == [True, False, False]
