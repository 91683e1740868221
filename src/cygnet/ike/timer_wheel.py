"""Timers of all IKE_SAs: a wheel that holds SPIs, not closures, and never scans.

An SPI may be in a slot that its SA no longer cares for: cancelling is leaving it there. Whoever turns the wheel asks
the SA whether it is really due, and puts it back if it is not.

That is for slots that soon come up. What is far ahead, such as a rekeying in four hours, is taken out: else all who
came and went in those hours would still be in the wheel. And far ahead there are fewer slots, each for a fifth of a
second: what is in one comes up so much earlier at most, to be put back.
"""

import heapq

from cygnet.ike.sharded_map import ShardedMap

_SLOTS_PER_SECOND = 20
FAR_S = 60.0
"""What is farther ahead can be taken out: neither retransmissions nor half-open SAs nor most liveness checks."""
_FAR_SLOTS = int(FAR_S * _SLOTS_PER_SECOND)
_FAR_WIDTH = 4
"""So many slots are one there: fewer in all, and what is in one is still soon looked through."""


class TimerWheel:
    """Slots of 50 ms, made when first used."""

    __slots__ = ("_heap", "_size", "_slots", "_turned")

    def __init__(self) -> None:
        self._slots = ShardedMap[int, list[bytes]]()
        self._heap: list[int] = []
        self._size = 0
        self._turned = 0
        """The slot up to which it was turned last."""

    @staticmethod
    def slot_of(due: float) -> int:
        """The number of the slot for `due`: the one after it, since a timer may be late by a slot, but never early."""
        return int(due * _SLOTS_PER_SECOND) + 1

    def add(self, spi: bytes, due: float) -> int:
        """Put an SPI into the slot of `due` (seconds, monotonic); returns the slot's number. O(1) for a slot in use."""
        number = self.slot_of(due)
        if number - self._turned > _FAR_SLOTS:
            number -= number % _FAR_WIDTH
        self._size += 1
        slot = self._slots.get(number)
        if slot is None:
            self._slots[number] = [spi]
            heapq.heappush(self._heap, number)
        else:
            slot.append(spi)
        return number

    def discard(self, spi: bytes, number: int) -> None:
        """An SPI need not come up in the slot of that number, in which it is; it still does if that is soon."""
        if number - self._turned > _FAR_SLOTS:
            self._slots[number].remove(spi)
            self._size -= 1

    @staticmethod
    def is_before(due: float, number: int) -> bool:
        """Whether the slot of `due` comes up before that of a number."""
        return due * _SLOTS_PER_SECOND < number - 1

    @staticmethod
    def is_ahead(number: int, now: float) -> bool:
        """Whether the slot of that number has not come up yet."""
        return number > now * _SLOTS_PER_SECOND

    def __len__(self) -> int:
        """The SPIs in it, those left behind included."""
        return self._size

    def next_due(self) -> float | None:
        """When the first slot comes up, in seconds; None if the wheel is empty."""
        return self._heap[0] / _SLOTS_PER_SECOND if self._heap else None

    def take_due(self, now: float) -> list[bytes]:
        """Remove and return the SPIs of every slot that has come up."""
        due: list[bytes] = []
        self._turned = int(now * _SLOTS_PER_SECOND)
        while self._heap and self._heap[0] <= now * _SLOTS_PER_SECOND:
            due += self._slots.pop(heapq.heappop(self._heap))
        self._size -= len(due)
        return due
