"""Entries come out in the order in which they went in, by time or for want of room."""

from cygnet.ike.expiring_map import TOGETHER_S, ExpiringMap


def test_an_entry_lives_for_its_time() -> None:
    found: ExpiringMap[str, int] = ExpiringMap(10.0)
    assert found.next_due() is None
    found.put("a", 1, 100.0)
    found.put("b", 2, 104.0)
    assert found.next_due() == 110.0 + TOGETHER_S
    assert found.take_expired(109.9) == []
    assert found.take_expired(110.0) == [1]
    assert (found.get("a"), found.get("b"), found.next_due()) == (None, 2, 114.0 + TOGETHER_S)
    assert found.take_expired(200.0) == [2]
    assert len(found) == 0


def test_a_full_map_forgets_the_oldest() -> None:
    found: ExpiringMap[str, int] = ExpiringMap(10.0, capacity=2)
    for number, key in enumerate("abc"):
        found.put(key, number, 100.0)
    assert (len(found), found.get("a"), found.get("b"), found.get("c")) == (2, None, 1, 2)


def test_a_key_may_come_back_once_it_is_gone() -> None:
    found: ExpiringMap[str, int] = ExpiringMap(10.0)
    found.put("a", 1, 100.0)
    found.take_expired(110.0)
    found.put("a", 2, 110.0)
    assert found.take_expired(119.0) == []
    assert found.get("a") == 2


def test_another_life_is_that_of_what_comes_and_nothing_overtakes() -> None:
    found: ExpiringMap[str, int] = ExpiringMap(10.0)
    found.put("a", 1, 100.0)
    found.life_s = 2.0
    found.put("b", 2, 101.0)
    assert found.take_expired(109.0) == []
    assert found.take_expired(110.0) == [1, 2]
    found.put("c", 3, 110.0)
    assert found.take_expired(112.0) == [3]


def test_what_expires_within_a_moment_is_forgotten_together() -> None:
    found: ExpiringMap[int, float] = ExpiringMap(10.0)
    for number in range(1000):
        found.put(number, 110.0 + number / 1000, 100.0 + number / 1000)
    wakes = 0
    while (now := found.next_due()) is not None:
        wakes += 1
        gone = found.take_expired(now)
        assert gone and all(now - TOGETHER_S - 1e-9 <= due <= now for due in gone)
    assert len(found) == 0
    assert wakes <= 1 / TOGETHER_S + 1
