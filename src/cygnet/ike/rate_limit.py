"""So many a second, and no more: what bounds answers that nobody can be held to account for."""


class RateLimit:
    """Lets `per_s` things pass each second on average, and at most as many at once; 0 lets nothing pass."""

    __slots__ = ("_at", "_credit", "_per_s")

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._credit = per_s
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more may pass; `now` is in seconds of a monotonic clock."""
        self._credit = min(self._per_s, self._credit + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True
