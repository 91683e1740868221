"""The anti-replay window of an inbound SA, and the high half of extended sequence numbers.

RFC 4303 section 3.4.3 and appendix A. A packet is looked at twice: `check` before its ICV is verified, so that a replay
costs no cryptography, and `accept` after, since a forged number must not move the window.
"""

from functools import lru_cache

from cygnet.esp.errors import REPLAYED, TOO_OLD, ReplayError

_LOW_MASK = 0xFFFFFFFF
_HALF_SPACE = 1 << 31
"""The window with which the high half is inferred where none is kept; RFC 4303 section 2.2.1 allows up to this much."""


@lru_cache(maxsize=16)
def _mask(size: int) -> int:
    """All bits of a window; cached so that many SAs hold one number."""
    return (1 << size) - 1


class ReplayWindow:
    """Which of the last `size` sequence numbers have been seen.

    `highest` is the right edge: the greatest number accepted so far. Bit n of the bitmap stands for `highest - n`. No
    sender uses the number 0 (RFC 4303 section 3.3.3), which is why it counts as seen from the start.
    """

    __slots__ = ("_bitmap", "_mask", "highest", "is_esn", "size")

    def __init__(self, size: int, *, is_esn: bool) -> None:
        """Make an empty window of `size` packets; 0 switches replay protection off."""
        self.size = size
        self.is_esn = is_esn
        self.highest = 0
        self._bitmap = 1
        self._mask = _mask(size)

    @property
    def seen(self) -> bytes:
        """The bitmap, most significant octet first."""
        return self._bitmap.to_bytes((self._bitmap.bit_length() + 7) // 8, "big")

    def restore(self, highest: int, seen: bytes) -> None:
        """Be as the window that these were of."""
        self.highest = highest
        self._bitmap = int.from_bytes(seen, "big")

    def check(self, low: int) -> int:
        """Give the whole sequence number of a packet from its low 32 bits, or raise ReplayError."""
        highest = self.highest
        sequence = self._infer(low) if self.is_esn else low
        distance = highest - sequence
        if distance < 0 or not self.size:
            return sequence
        if distance >= self.size:
            raise ReplayError(TOO_OLD)
        if self._bitmap >> distance & 1:
            raise ReplayError(REPLAYED)
        return sequence

    def accept(self, sequence: int) -> None:
        """Mark a number that `check` gave as seen, its packet being authentic now."""
        distance = sequence - self.highest
        if distance <= 0:
            self._bitmap |= (1 << -distance) & self._mask
            return
        self.highest = sequence
        # A leap may be of billions: nothing is left of the window then, and nothing is to be shifted.
        self._bitmap = (self._bitmap << distance | 1) & self._mask if distance < self.size else 1

    def _infer(self, low: int) -> int:
        """The 64-bit number that `low` most plausibly belongs to (RFC 4303 appendix A2.2)."""
        size = self.size or _HALF_SPACE
        top_low, high = self.highest & _LOW_MASK, self.highest >> 32
        bottom = top_low - size + 1
        if bottom >= 0:
            # Case A: the window lies within one subspace.
            if low < bottom:
                high += 1
        elif low >= bottom & _LOW_MASK:
            # Case B: the window reaches back into the subspace before.
            if not high:
                raise ReplayError(TOO_OLD)
            high -= 1
        return high << 32 | low
