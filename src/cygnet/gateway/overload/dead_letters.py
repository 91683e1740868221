"""What keeps coming for IKE_SAs that are not there, or that are past trying.

To take such a datagram from a socket, sort it and drop it costs five to ten microseconds: nothing, but at fifty
thousand a second a third of the processor. So while many come, the kernel is told what our SPIs look like
(`cygnet.ike.spi.SpiSeal`), and drops what never was one. Somebody who has had SPIs of ours, or has seen some of other
peers, can go on with those: what too much comes for, of which nothing is to be had, is barred one by one.

Nothing is kept out that would not be dropped here as well, whatever address it comes from. A small part of it, chosen
by chance, still gets in: by that it is seen whether it goes on.
"""

from collections.abc import Callable
from typing import Final

from cygnet.ike.spi import SpiSeal
from cygnet.net.shedding_filter import MAX_BARRED, SpiRules

REVIEW_S: Final = 0.5
LIMIT_PER_S: Final = 500
"""As many are dropped by the worker: half a percent of the processor."""
BURST: Final = 1024
"""As many between two reviews are too many already."""
LIMIT_EACH_PER_S: Final = 64
"""For one SPI. No peer repeats a request so often."""
HOLD_S: Final = 10.0
"""What stays out does so for this long after more came than is allowed."""
SAMPLE: Final = 1 / 1024
"""Which part of it is let in: of fifty thousand a second so few that it costs nothing, though each comes alone."""
MAX_COUNTED: Final = 4096
"""SPIs that are counted between two reviews."""


class DeadLetters:
    """Counts what comes for no IKE_SA of one worker, and has the kernel keep it out."""

    __slots__ = ("_barred", "_counts", "_limit", "_node", "_reviewed", "_seal", "_told", "_until", "came")

    def __init__(self, *, node: int, seal: SpiSeal, limit: Callable[[SpiRules | None], object], now: float) -> None:
        """`limit` tells the kernel which SPIs may get in; None for whatever comes."""
        self._node = node
        self._seal = seal
        self._limit = limit
        self._reviewed = now
        self._counts: dict[bytes, int] = {}
        self._until = now
        """How long what is not ours stays out."""
        self._barred: dict[int, float] = {}
        """Until when SPIs are barred, by their last words; those that were barred last at the end."""
        self._told: SpiRules | None = None
        self.came = 0
        """Since the last review."""

    def count(self, spi: bytes) -> None:
        """Something has come for an SPI of which nothing is to be had."""
        self.came += 1
        counts = self._counts
        if spi in counts:
            counts[spi] += 1
        elif len(counts) < MAX_COUNTED:
            counts[spi] = 1

    def review(self, now: float) -> None:
        """Look what has come, if it is time for that."""
        elapsed_s = now - self._reviewed
        if elapsed_s < REVIEW_S:
            if self.came >= BURST and self._until <= now:
                self._until = now + HOLD_S
                self._tell(now)
            return
        self._reviewed = now
        is_sampled = self._told is not None
        strays = self.came
        for spi, count in self._counts.items():
            is_ours = spi[0] == self._node and self._seal.is_on(spi)
            word = int.from_bytes(spi[4:], "big")
            # Each that got in of what stays out stands for those that did not.
            all_of_it = count
            if is_sampled and not (is_ours and word not in self._barred):
                all_of_it = round(count / SAMPLE)
                strays += all_of_it - count
            if is_ours and all_of_it > LIMIT_EACH_PER_S * elapsed_s:
                self._bar(word, now)
        if strays > LIMIT_PER_S * elapsed_s:
            self._until = now + HOLD_S
        for word, until in tuple(self._barred.items()):
            if until <= now:
                del self._barred[word]
        self.came = 0
        self._counts.clear()
        self._tell(now)

    def _tell(self, now: float) -> None:
        """Have the kernel know what to keep out, if that is something else than before."""
        rules = None
        if self._barred or self._until > now:
            rules = SpiRules(self._node, self._seal, tuple(sorted(self._barred)), SAMPLE)
        if rules != self._told:
            self._told = rules
            self._limit(rules)

    def _bar(self, word: int, now: float) -> None:
        self._barred.pop(word, None)
        if len(self._barred) >= MAX_BARRED:
            del self._barred[next(iter(self._barred))]
        self._barred[word] = now + HOLD_S
