"""Latency histograms: log-linear, of fixed size, in plain words that may be shared memory.

Durations count in nanoseconds. Below 64 ns each has a bucket of its own; above, every power of two is cut
into 32 buckets of equal width, so a value read back from a bucket's middle is off by at most 1/64 (1.6 %).
The range ends at 2^42 ns, 73 minutes; what is longer counts as that. There is one writer; readers look at the
same words at any time.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

_STEPS: Final = 32
_STEPS_BITS: Final = 5
_MAX_BITS: Final = 42
_MAX_NS: Final = (1 << _MAX_BITS) - 1
_BUCKETS: Final = _STEPS * (_MAX_BITS - _STEPS_BITS + 1)
_SUM: Final = 0
_MAX: Final = 1
_FIRST: Final = 2
_NS_PER_S: Final = 1_000_000_000

HISTOGRAM_WORDS: Final = _FIRST + _BUCKETS
"""Signed 64-bit words that a histogram takes: sum and maximum in ns, then the buckets."""


class Histogram:
    """A view of `HISTOGRAM_WORDS` words (a memoryview of format "q"), or of words of its own."""

    __slots__ = ("_words",)

    def __init__(self, words: "memoryview[int] | None" = None) -> None:
        if words is None:
            words = memoryview(bytearray(8 * HISTOGRAM_WORDS)).cast("q")
        if len(words) != HISTOGRAM_WORDS:
            raise ValueError(f"a histogram has {HISTOGRAM_WORDS} words, not {len(words)}")
        self._words = words

    def record(self, seconds: float) -> None:
        """Count one duration; a negative one is 0."""
        ns = int(seconds * _NS_PER_S)
        if ns < 0:
            ns = 0
        elif ns > _MAX_NS:
            ns = _MAX_NS
        shift = ns.bit_length() - _STEPS_BITS - 1
        index = ns if shift <= 0 else _STEPS * shift + (ns >> shift)
        words = self._words
        words[_FIRST + index] += 1
        words[_SUM] += ns
        if ns > words[_MAX]:
            words[_MAX] = ns

    @property
    def count(self) -> int:
        """How many durations were recorded."""
        return sum(self._words[_FIRST:])

    @property
    def sum_s(self) -> float:
        """All durations together, in seconds."""
        return self._words[_SUM] / _NS_PER_S

    @property
    def max_s(self) -> float:
        """The longest duration, exactly; 0.0 if there is none."""
        return self._words[_MAX] / _NS_PER_S

    def percentile(self, q: float) -> float:
        """The seconds that a share `q` (0 to 1) does not exceed, by nearest rank; NaN if there are none."""
        return self.percentiles((q,))[0]

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """`percentile` of several shares, in one pass over the words as they are now."""
        buckets = self._words[_FIRST:].tolist()
        total = sum(buckets)
        if not total:
            return [math.nan] * len(shares)
        found: dict[int, float] = {}
        wanted = sorted({self._rank(q, total) for q in shares}, reverse=True)
        seen = 0
        for index, n in enumerate(buckets):
            seen += n
            while wanted and wanted[-1] <= seen:
                found[wanted.pop()] = min(_middle_ns(index), self._words[_MAX]) / _NS_PER_S
        return [found[self._rank(q, total)] for q in shares]

    def cumulative(self, bounds_s: Iterable[float]) -> list[int]:
        """How many durations do not exceed each bound, in seconds: a Prometheus histogram's counts."""
        buckets = self._words[_FIRST:].tolist()
        counts: list[int] = []
        for bound in bounds_s:
            bound_ns = bound * _NS_PER_S
            counts.append(sum(n for index, n in enumerate(buckets) if n and _middle_ns(index) <= bound_ns))
        return counts

    def merge(self, other: "Histogram") -> None:
        """Add what `other` has recorded."""
        words = self._words
        longest = max(words[_MAX], other._words[_MAX])
        for index, n in enumerate(other._words.tolist()):
            if n:
                words[index] += n
        words[_MAX] = longest

    def to_octets(self) -> bytes:
        """A copy of the words, in this machine's byte order, to hand to another process."""
        return self._words.tobytes()

    @classmethod
    def from_octets(cls, octets: bytes) -> "Histogram":
        """What `to_octets` made, as a histogram of its own."""
        return cls(memoryview(bytearray(octets)).cast("q"))

    @staticmethod
    def _rank(q: float, total: int) -> int:
        return min(max(math.ceil(q * total), 1), total)


def _middle_ns(index: int) -> int:
    """The middle of a bucket."""
    if index < 2 * _STEPS:
        return index
    shift = index // _STEPS - 1
    return ((index - _STEPS * shift) << shift) + (1 << shift >> 1)
