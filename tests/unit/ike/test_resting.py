"""The map whose values sleep."""

import tracemalloc
from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cygnet.ike.resting import IDLE_S, MANY, PACKED_PER_CALL, RestingMap, exact_encoder


class Word:
    """A value that counts what is done to it."""

    def __init__(self, text: str, wakings: int = 0) -> None:
        self.text = text
        self.wakings = wakings
        self.is_busy = False


class Words:
    """Its codec."""

    def pack(self, key: bytes, value: Word, now: float) -> bytes | None:
        return None if value.is_busy else f"{value.wakings} {value.text}".encode()

    def unpack(self, key: bytes, record: bytes) -> Word:
        wakings, _, text = record.decode().partition(" ")
        return Word(text, int(wakings) + 1)

    def view(self, key: bytes, record: bytes) -> Word:
        return Word(record.decode().partition(" ")[2], -1)


def filled(*keys: bytes) -> RestingMap[Word]:
    words = RestingMap(Words())
    for key in keys:
        words[key] = Word(key.decode())
    return words


def let_rest(words: RestingMap[Word], start: float, seconds: float) -> float:
    """Call `rest` whenever it wants to be called; returns the time then."""
    now = start
    while (due := words.next_due()) is not None and max(due, now) <= start + seconds:
        now = max(due, now)
        words.rest(now)
    return start + seconds


def test_what_is_idle_sleeps_and_whoever_finds_it_finds_it_awake() -> None:
    words = filled(b"a")
    assert words.awake == 1
    now = let_rest(words, 100.0, 2 * IDLE_S)
    assert isinstance(words.look(b"a"), bytes) and words.awake == 0 and words.next_due() is None
    found = words[b"a"]
    assert (found.text, found.wakings) == ("a", 1) and words.get(b"a") is found and words.look(b"a") is found
    assert words.next_due() is not None
    let_rest(words, now, 0.9 * IDLE_S)
    assert words.look(b"a") is found, "it stays awake for a while"
    let_rest(words, now, 2 * IDLE_S)
    assert isinstance(words.look(b"a"), bytes)


def test_what_is_busy_stays_awake_until_it_is_not() -> None:
    words = filled(b"a")
    words[b"a"].is_busy = True
    now = let_rest(words, 100.0, 5 * IDLE_S)
    assert words.look(b"a") is words[b"a"] and words.awake == 1
    words[b"a"].is_busy = False
    let_rest(words, now, 2 * IDLE_S)
    assert isinstance(words.look(b"a"), bytes)


def test_a_view_wakes_nobody() -> None:
    words = filled(b"a", b"b")
    words.rest_all(1.0)
    words[b"b"].text = "changed"
    assert [view.text for view in words.views()] == ["a", "changed"]
    assert words.awake == 1 and isinstance(words.look(b"a"), bytes)
    assert words.view(b"c") is None and words.view(b"b") is words.look(b"b")


def test_views_may_be_taken_while_the_map_changes() -> None:
    words = filled(b"a", b"b", b"c")
    words.rest_all(1.0)
    seen = []
    for view in words.views():
        seen.append(view.text)
        words.pop(b"b", None)
        words[b"d"] = Word("d")
    assert seen == ["a", "c"]


def test_one_call_looks_at_a_bounded_number() -> None:
    words = filled(*(b"%d" % n for n in range(3 * PACKED_PER_CALL)))
    now = 100.0
    asleep = [0]
    while words.awake:
        due = words.next_due()
        assert due is not None
        now = max(now, due)
        words.rest(now)
        asleep.append(sum(isinstance(words.look(key), bytes) for key in words))
    assert max(b - a for a, b in pairwise(asleep)) == PACKED_PER_CALL
    assert asleep[-1] == len(words) == 3 * PACKED_PER_CALL


def test_where_many_come_they_sleep_sooner(rate: int = 3 * MANY) -> None:
    """However many come each second, no more are awake than a number and what comes while they are packed."""
    words = filled()
    turn_s = IDLE_S / 12
    for turn in range(40):
        for number in range(int(rate * turn_s)):
            words[b"%d %d" % (turn, number)] = Word("")
        let_rest(words, 100.0 + turn * turn_s, turn_s)
        assert words.awake <= MANY + rate * turn_s
    assert isinstance(words.look(b"30 0"), bytes) and not isinstance(words.look(b"39 0"), bytes)


def test_all_who_came_just_now_stay_awake_however_many() -> None:
    words = filled(*(b"%d" % number for number in range(2 * MANY)))
    words.rest(100.0)
    assert not words.has_tired and words.awake == 2 * MANY


def test_an_empty_map_wants_nothing() -> None:
    words = filled(b"a", b"b")
    words.rest_all(1.0)
    del words[b"a"]
    words.pop(b"b")
    assert not words and words.next_due() is None and words.awake == 0
    assert words.get(b"a") is None and words.pop(b"a", None) is None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.sampled_from("abc")),
            st.tuples(st.just("pop"), st.sampled_from("abc")),
            st.tuples(st.just("get"), st.sampled_from("abc")),
            st.tuples(st.just("rest"), st.sampled_from("abc")),
        )
    )
)
def test_it_is_a_mapping_whatever_sleeps(steps: list[tuple[str, str]]) -> None:
    words: RestingMap[Word] = RestingMap(Words(), idle_s=1.0)
    model: dict[bytes, str] = {}
    now = 0.0
    for number, (what, name) in enumerate(steps):
        key = name.encode()
        now += 0.3
        if what == "set":
            words[key] = Word(f"{name}{number}")
            model[key] = f"{name}{number}"
        elif what == "pop":
            gone = words.pop(key, None)
            assert (gone.text if gone is not None else None) == model.pop(key, None)
        elif what == "get":
            found = words.get(key)
            assert (found.text if found is not None else None) == model.get(key)
        else:
            words.rest(now)
        assert set(words) == set(model) and len(words) == len(model)
        awake = sum(not isinstance(words.look(each), bytes) for each in words)
        assert awake <= words.awake, "the sweep knows of all that is awake"
    let_rest(words, now, 5.0)
    assert all(isinstance(words.look(key), bytes) for key in words)
    assert {key: value.text for key, value in words.items()} == model


def test_records_take_no_more_memory_than_they_need() -> None:
    """Octets of msgspec's own encoder sit in a buffer up to half as large again."""
    encode = exact_encoder()
    value = [bytes(40)] * 8
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        records = [encode(value) for _ in range(200)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(msgspec.msgpack.decode(record) == value for record in records)
    assert (after - before) / len(records) < len(records[0]) + 60
