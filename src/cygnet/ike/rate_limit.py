"""So many a second, and no more: what bounds answers that nobody can be held to account for."""

import math


class RateLimit:
    """Lets so many things pass each second on average, and at most as many at once."""

    __slots__ = ("_at", "_credit")

    def __init__(self) -> None:
        self._credit = 0.0
        self._at = -math.inf

    def take(self, now: float, per_s: float) -> bool:
        """Whether one more may pass, of `per_s` each second; 0 lets nothing pass, and what it is may change.

        `now` is in seconds of a monotonic clock.
        """
        if not per_s:
            return False
        self._credit = min(per_s, self._credit + max(0.0, now - self._at) * per_s)
        self._at = now
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True
