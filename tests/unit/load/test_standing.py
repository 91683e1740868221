"""The tunnels of one process that stand."""

import random

import pytest

from cygnet.load import standing
from cygnet.load.standing import StandingTunnels


def test_they_come_and_go() -> None:
    tunnels = StandingTunnels(keeps_order=False)
    tunnels.add(b"1", b"one")
    tunnels.add(b"2", b"two")
    assert len(tunnels) == 2 and sorted(tunnels) == [b"1", b"2"] and b"1" in tunnels and b"3" not in tunnels
    assert (tunnels.take(b"1"), tunnels.take(b"1")) == (b"one", None)
    assert list(tunnels) == [b"2"]


@pytest.mark.parametrize("slack", [0, 1024])
def test_the_oldest_goes_first(slack: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a dict that is asked for its first key; but that looks through all the places that have become empty."""
    monkeypatch.setattr(standing, "SLACK", slack)
    rng = random.Random(slack)
    tunnels, plain = StandingTunnels(keeps_order=True), dict[bytes, bytes]()
    for number in range(3000):
        spi = b"%d" % number
        if plain and rng.random() < 0.5:
            old = rng.choice(list(plain))
            assert tunnels.take(old) == plain.pop(old)
        tunnels.add(spi, spi)
        plain[spi] = spi
        if rng.random() < 0.4:
            oldest = next(iter(plain))
            assert tunnels.take_oldest() == oldest
            del plain[oldest]
        assert len(tunnels) == len(plain)
    while plain:
        oldest = next(iter(plain))
        assert tunnels.take_oldest() == oldest
        del plain[oldest]
    assert tunnels.take_oldest() is None


def test_rekeyed_ones_leave_nothing_behind() -> None:
    tunnels = StandingTunnels(keeps_order=True)
    tunnels.add(b"first", b"")
    for number in range(10 * standing.SLACK):
        tunnels.add(b"%d" % number, b"")
        tunnels.take(b"%d" % number)
    assert tunnels._order is not None and len(tunnels._order) < 2 * standing.SLACK
    assert tunnels.take_oldest() == b"first"
