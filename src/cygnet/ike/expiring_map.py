"""A map whose entries all live equally long: the first in is the first out, and nothing is ever searched."""

from collections import deque
from typing import Final, Generic, TypeVar

from cygnet.ike.sharded_map import ShardedMap

K = TypeVar("K")
V = TypeVar("V")

TOGETHER_S: Final = 0.05
"""How long what has expired may wait for what does next. Thousands expire in a second where as many peers came in one,
and to be woken for each by itself costs three times as much as to forget it."""


class ExpiringMap(Generic[K, V]):
    """Entries live `life_s` seconds, or until `capacity` more came after them. A key stands in it once at a time."""

    __slots__ = ("_capacity", "_entries", "_order", "life_s")

    def __init__(self, life_s: float, capacity: int = 0) -> None:
        """`capacity` 0 sets no bound: then something else has to."""
        self.life_s = life_s
        """Of what is added from now on. Nothing expires before what was added before it."""
        self._capacity = capacity
        self._entries = ShardedMap[K, V]()
        self._order: deque[tuple[float, K]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The entry of that key; None if there is none, or no more."""
        return self._entries.get(key)

    def put(self, key: K, value: V, now: float) -> None:
        """Add an entry whose key is not in the map; `now` never goes back."""
        if self._capacity and len(self._order) >= self._capacity:
            del self._entries[self._order.popleft()[1]]
        self._entries[key] = value
        self._order.append((now + self.life_s, key))

    def next_due(self) -> float | None:
        """When `take_expired` wants to be called, a moment after the oldest entry expires; None if the map is empty."""
        return self._order[0][0] + TOGETHER_S if self._order else None

    def take_expired(self, now: float) -> list[V]:
        """Remove and return what has expired by `now`, the oldest first."""
        expired = []
        while self._order and self._order[0][0] <= now:
            expired.append(self._entries.pop(self._order.popleft()[1]))
        return expired
