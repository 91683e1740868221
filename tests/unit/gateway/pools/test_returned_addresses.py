"""Addresses in the order in which they came back."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from cygnet.gateway.pools.returned_addresses import ReturnedAddresses

OPERATIONS = st.lists(st.tuples(st.sampled_from(["add", "discard", "oldest"]), st.integers(0, 9)), max_size=100)


@given(OPERATIONS)
def test_it_is_an_ordered_set(operations: list[tuple[str, int]]) -> None:
    ours, plain = ReturnedAddresses(), OrderedDict[int, None]()
    for what, address in operations:
        if what == "add" and address not in plain:
            ours.add(address)
            plain[address] = None
        elif what == "discard":
            assert ours.discard(address) == (address in plain)
            plain.pop(address, None)
        elif what == "oldest":
            assert ours.take_oldest() == (plain.popitem(last=False)[0] if plain else None)
        assert [each for each in range(10) if each in ours] == sorted(plain)
    while plain:
        assert ours.take_oldest() == plain.popitem(last=False)[0]
    assert ours.take_oldest() is None
