"""Durations, all of them kept, so that percentiles are exact."""

import math
from array import array
from collections.abc import Iterable
from typing import Final

PERCENTILES: Final = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}


class Samples:
    """Durations in seconds: eight octets each."""

    __slots__ = ("_seconds", "add")

    def __init__(self, seconds: Iterable[float] = ()) -> None:
        self._seconds = array("d", seconds)
        self.add = self._seconds.append
        """Keep one more."""

    def __len__(self) -> int:
        return len(self._seconds)

    def extend(self, octets: bytes) -> None:
        """Add what another process's `to_octets` made."""
        self._seconds.frombytes(octets)

    def to_octets(self) -> bytes:
        """All of them, in this machine's byte order."""
        return self._seconds.tobytes()

    def percentiles_ms(self) -> dict[str, float | None]:
        """The `PERCENTILES` by nearest rank, in milliseconds; None where there are no samples."""
        ordered = sorted(self._seconds)
        if not ordered:
            return dict.fromkeys(PERCENTILES)
        ranks = {name: max(1, math.ceil(share * len(ordered))) for name, share in PERCENTILES.items()}
        return {name: round(ordered[rank - 1] * 1000, 3) for name, rank in ranks.items()}
