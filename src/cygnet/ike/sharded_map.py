"""A map that never keeps its user waiting: many dicts, each of which grows by itself.

A dict that is full moves all of its entries to a larger place, within the one insertion that comes then. With 175,000
entries, which are scattered over the memory, that takes some tens of milliseconds, and a worker has several such dicts,
all of which are full at about the same time. It comes again whenever as many have gone and come as there was room for.
A dict with a thousand entries takes a tenth of a millisecond.
"""

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Final, Generic, TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")

SHARDS: Final = 251
"""A prime: a dict finds its place for a key by the low bits of the hash, which must not be the same in all of it."""
SPLIT_AT: Final = 512
"""Up to so many entries are one dict, and in the order of their coming, which people like to see."""


class ShardedMap(Generic[K, V]):
    """A mapping, as far as its users need one."""

    __slots__ = ("_most", "_number", "_shards")

    def __init__(self) -> None:
        self._shards: list[dict[K, V]] = [{}]
        self._number = 1
        self._most = SPLIT_AT
        """Entries of one dict."""

    def __len__(self) -> int:
        """It looks at each dict: some tens of microseconds, too much for every datagram or tunnel."""
        return sum(map(len, self._shards))

    def __bool__(self) -> bool:
        return any(self._shards)

    def has_more_than(self, number: int) -> bool:
        """Whether `len` is more than a small number, without counting all."""
        found = 0
        for shard in self._shards:
            found += len(shard)
            if found > number:
                return True
        return False

    def __iter__(self) -> Iterator[K]:
        """All keys: for those who are done within one turn. Others take `portions`."""
        return chain.from_iterable(self._shards)

    def __reversed__(self) -> Iterator[K]:
        """All keys, from the last to the first."""
        return chain.from_iterable(map(reversed, reversed(self._shards)))

    def portions(self) -> Iterator[list[K]]:
        """All keys, some hundreds at a time. The map may change meanwhile: what does not go is among them once."""
        for shard in self._shards:
            yield list(shard)

    def __contains__(self, key: object) -> bool:
        return key in self._shards[hash(key) % self._number]

    def __getitem__(self, key: K) -> V:
        return self._shards[hash(key) % self._number][key]

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    def get(self, key: K, default: V | None = None) -> V | None:
        """The value; `default` if there is none."""
        return self._shards[hash(key) % self._number].get(key, default)

    def __setitem__(self, key: K, value: V) -> None:
        shard = self._shards[hash(key) % self._number]
        shard[key] = value
        if len(shard) > self._most:
            self._split()

    def setdefault(self, key: K, value: V) -> V:
        """The value that is there; `value`, which is there from now on, if there was none."""
        shard = self._shards[hash(key) % self._number]
        found = shard.setdefault(key, value)
        if len(shard) > self._most:
            self._split()
        return found

    def __delitem__(self, key: K) -> None:
        shard = self._shards[hash(key) % self._number]
        del shard[key]
        if not shard:
            self._shrink()

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, default: None, /) -> V | None: ...
    def pop(self, key: K, /, *default: None) -> V | None:
        """Take the value out; None, or without it KeyError, if there is none."""
        shard = self._shards[hash(key) % self._number]
        value = shard.pop(key, *default)
        if not shard:
            self._shrink()
        return value

    def _split(self) -> None:
        (whole,) = self._shards
        shards: list[dict[K, V]] = [{} for _ in range(SHARDS)]
        for key, value in whole.items():
            shards[hash(key) % SHARDS][key] = value
        self._shards, self._number, self._most = shards, SHARDS, sys.maxsize

    def _shrink(self) -> None:
        """One dict is empty: if they all are, begin anew. A dict keeps the room that its entries had."""
        if not self:
            self._shards, self._number, self._most = [{}], 1, SPLIT_AT
