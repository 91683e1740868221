"""A map of many dicts."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cygnet.ike import sharded_map
from cygnet.ike.sharded_map import SHARDS, SPLIT_AT, ShardedMap

MANY = 50 * SHARDS
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["set", "delete", "pop", "drop", "default", "look"]), st.integers(0, 30), st.integers()),
    max_size=200,
)


@given(OPERATIONS)
def test_it_is_a_mapping(operations: list[tuple[str, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded_map, "SPLIT_AT", 5)
        ours, plain = ShardedMap[int, int](), dict[int, int]()
        for what, key, value in operations:
            match what:
                case "set":
                    ours[key] = plain[key] = value
                case "delete" if key in plain:
                    del ours[key], plain[key]
                case "pop" if key in plain:
                    assert ours.pop(key) == plain.pop(key)
                case "drop":
                    assert ours.pop(key, None) == plain.pop(key, None)
                case "default":
                    assert ours.setdefault(key, value) == plain.setdefault(key, value)
                case _:
                    assert ours.get(key) == plain.get(key) and ours.get(key, 7) == plain.get(key, 7)
                    assert (key in ours) == (key in plain)
            assert len(ours) == len(plain) and bool(ours) == bool(plain)
        assert {key: ours[key] for key in ours} == plain
        for key in set(range(31)) - set(plain):
            for missing in (
                lambda key=key: ours[key],
                lambda key=key: ours.pop(key),
                lambda key=key: ours.__delitem__(key),
            ):
                with pytest.raises(KeyError):
                    missing()


KINDS: dict[str, Callable[[int], object]] = {
    "IKE SPIs": lambda n: b"\x01\x00" + random.Random(n).randbytes(6),
    "ESP SPIs": lambda n: b"\x01" + random.Random(n).randbytes(3),
    "identities": lambda n: b"\x00\x03c%d@example.org" % n,
    "addresses": lambda n: (0x0A400000 + n).to_bytes(4, "big"),
    "numbers of slots": lambda n: n,
    "sites": lambda n: (0x0A000000 >> 8) + n,
    "requests": lambda n: (hash(b"%d" % n), "192.0.2.1"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_dict_of_it_gets_large(kind: str) -> None:
    """One that is full moves all it has, and nobody is served meanwhile. Nor do keys have the same place in a dict."""
    found = ShardedMap[object, int]()
    for n in range(MANY):
        found[KINDS[kind](n)] = n
    sizes = [len(portion) for portion in found.portions()]
    assert len(sizes) == SHARDS and sum(sizes) == len(found)
    assert max(sizes) < 2 * len(found) / SHARDS
    places = {hash(key) & 63 for key in next(found.portions())}
    assert len(places) > 20, "a dict looks for a key by the low bits of its hash"


def test_few_are_in_the_order_of_their_coming() -> None:
    few = ShardedMap[bytes, int]()
    keys = [random.Random(n).randbytes(8) for n in range(SPLIT_AT)]
    for n, key in enumerate(keys):
        few[key] = n
    assert list(few) == keys


@pytest.mark.parametrize("before", [3, MANY])
def test_it_may_change_while_it_is_looked_through(before: int) -> None:
    """What stands all the time is seen once, also if the map grows out of its one dict meanwhile."""
    found = ShardedMap[int, int]()
    for n in range(before):
        found[n] = n
    seen: list[int] = []
    for number, portion in enumerate(found.portions()):
        seen += portion
        found.pop(number, None)
        for n in range(SPLIT_AT):
            found[(number + 1) * 1_000_000 + n] = n
    assert len(seen) == len(set(seen))
    assert set(range(SHARDS, before)) <= set(seen)


def test_an_empty_one_is_as_new() -> None:
    """A dict keeps the room that its entries had."""
    found = ShardedMap[int, int]()
    for n in range(MANY):
        found[n] = n
    for n in range(MANY - 1):
        del found[n]
    assert list(found) == [MANY - 1]
    assert found.pop(MANY - 1) == MANY - 1
    assert len(list(found.portions())) == 1 and not found
