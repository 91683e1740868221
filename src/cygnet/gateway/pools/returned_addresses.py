"""Addresses that peers have given back: whoever gave one back last finds it free for longest.

What `OrderedDict` does too; but that moves all it has when it is full, which keeps a worker from serving for tens of
milliseconds when 100,000 peers go.
"""

from cygnet.ike.sharded_map import ShardedMap


class ReturnedAddresses:
    """Numbers in the order of their coming. Each step takes the same time, however many there are."""

    __slots__ = ("_links", "_newest", "_oldest")

    def __init__(self) -> None:
        self._links = ShardedMap[int, tuple[int | None, int | None]]()
        """Which one came before each, and which one after it."""
        self._oldest: int | None = None
        self._newest: int | None = None

    def __contains__(self, address: int) -> bool:
        return address in self._links

    def add(self, address: int) -> None:
        """One that is not there has come."""
        before = self._newest
        self._links[address] = (before, None)
        self._join(before, address)
        self._newest = address

    def discard(self, address: int) -> bool:
        """Take one out; whether it was there."""
        links = self._links.pop(address, None)
        if links is None:
            return False
        before, after = links
        self._join(before, after)
        if after is None:
            self._newest = before
        else:
            self._links[after] = (before, self._links[after][1])
        return True

    def take_oldest(self) -> int | None:
        """Take out the one that has been there for longest; None if there is none."""
        oldest = self._oldest
        if oldest is not None:
            self.discard(oldest)
        return oldest

    def _join(self, before: int | None, after: int | None) -> None:
        if before is None:
            self._oldest = after
        else:
            self._links[before] = (self._links[before][0], after)
