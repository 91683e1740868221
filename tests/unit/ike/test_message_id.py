"""The two windows of an IKE_SA (RFC 7296 sections 2.1 to 2.3)."""

from collections import Counter

import pytest

from cygnet.ike.message_id import Arrival, MessageIds, wait_before
from cygnet.ike.settings import RetransmitPolicy

POLICY = RetransmitPolicy(timeout_s=1.0, base=2.0, tries=2)


@pytest.mark.parametrize(
    ("message_id", "datagram", "arrival"),
    [
        (2, b"any", Arrival.NEW),
        (1, b"second", Arrival.REPEATED),
        (1, b"other", Arrival.STALE),
        (0, b"first", Arrival.STALE),
        (3, b"any", Arrival.BEYOND),
        (0xFFFFFFFF, b"any", Arrival.BEYOND),
    ],
)
def test_a_request_is_placed_by_its_id_and_octets(message_id: int, datagram: bytes, arrival: Arrival) -> None:
    ids = MessageIds()
    ids.answered(b"first", b"one")
    ids.answered(b"second", b"two")
    assert ids.classify(message_id, datagram) is arrival
    assert ids.cached_response == b"two"


def test_before_any_answer_nothing_is_a_repetition() -> None:
    ids = MessageIds()
    assert ids.classify(0, b"first") is Arrival.NEW
    assert ids.last_words() is None
    ids.answered(b"first", b"one")
    words = ids.last_words()
    assert words is not None and (words.request_hash, words.response) == (hash(b"first"), b"one")


def test_a_response_is_awaited_for_one_id_and_exchange() -> None:
    ids = MessageIds()
    assert not ids.is_awaited(0, 37)
    ids.sent(37, b"request", POLICY, 0.0)
    assert ids.is_awaited(0, 37)
    assert not ids.is_awaited(0, 36) and not ids.is_awaited(1, 37)
    ids.response_received()
    assert not ids.is_awaited(0, 37)
    ids.sent(36, b"request", POLICY, 0.0)
    assert ids.is_awaited(1, 36)


def test_the_request_is_sent_again_octet_for_octet_until_the_tries_are_used_up() -> None:
    ids = MessageIds()
    ids.sent(34, b"request", POLICY, 10.0)
    dues, datagrams = [], []
    while ids.outstanding is not None:
        now = ids.outstanding.due
        dues.append(now)
        datagram = ids.retransmit(POLICY, now)
        if datagram is None:
            break
        datagrams.append(datagram)
    assert dues == [11.0, 13.0, 17.0]
    assert datagrams == [b"request"] * POLICY.tries


def test_restarting_begins_at_zero_again() -> None:
    ids = MessageIds()
    ids.sent(34, b"request", POLICY, 0.0)
    ids.restart()
    ids.sent(34, b"request with a cookie", POLICY, 0.0)
    assert ids.outstanding is not None and ids.outstanding.message_id == 0


@pytest.mark.parametrize(("limit_s", "waits"), [(0.0, [4.0, 7.2, 12.96, 23.328]), (10.0, [4.0, 7.2, 10.0, 10.0])])
def test_waits_grow_up_to_the_limit(limit_s: float, waits: list[float]) -> None:
    policy = RetransmitPolicy(limit_s=limit_s)
    assert [wait_before(sent, policy) for sent in range(1, 5)] == pytest.approx(waits)


def test_jitter_makes_waits_shorter_and_different_for_each_sa_and_time() -> None:
    """A thousand peers that lose the gateway together must not come back in step."""
    policy = RetransmitPolicy(jitter=50.0)
    spis = [bytes((n >> 8, n & 255)) * 8 for n in range(1000)]
    for sent in (1, 2, 5):
        longest = wait_before(sent, RetransmitPolicy())
        waits = [wait_before(sent, policy, spi) for spi in spis]
        assert all(longest / 2 < wait <= longest for wait in waits)
        tenths = Counter(int(10 * (wait / longest - 0.5) / 0.5) for wait in waits)
        assert min(tenths[n] for n in range(10)) > 50, "spread evenly, and the more the longer the wait"
    order = [sorted(spis, key=lambda spi: wait_before(sent, policy, spi)) for sent in (1, 2)]
    assert order[0] != order[1]
