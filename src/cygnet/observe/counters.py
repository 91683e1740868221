"""Counters: named words in shared memory, a row for each worker, summed by whoever reads.

    counters = Counters.create(writers=workers + 1)     # in the supervisor, before it forks
    count = counters.writer(0).count                    # in worker 0
    count("cookies_sent_total")
    counters.value("cookies_sent_total")                # anywhere: the sum over all rows

A worker that restarts goes on with its row: counters keep what it had counted, and it sets its gauges to
zero.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from cygnet.observe.histogram import HISTOGRAM_WORDS, Histogram
from cygnet.observe.metrics import METRICS, OTHER, Kind, Metric
from cygnet.observe.shared_words import SharedWords, UnreadableWords


class Count(Protocol):
    """Adds `n` to a series. A label's unlisted value counts as `other`; no such metric is a KeyError."""

    def __call__(self, name: str, n: int = 1, /) -> None: ...


class Layout:
    """Which word of a row is which series."""

    __slots__ = ("first_word", "metrics", "words")

    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self.metrics = metrics
        self.first_word: dict[str, int] = {}
        """By the series' name; a histogram's first of many."""
        self.words = 0
        for metric in metrics:
            for series in metric.series:
                if series in self.first_word:
                    raise ValueError(f"two metrics are called {series}")
                self.first_word[series] = self.words
                self.words += HISTOGRAM_WORDS if metric.kind is Kind.HISTOGRAM else 1

    def resolve(self, name: str) -> int:
        """The word of a series that has no name of its own: `other`'s, of the same metric."""
        family, bracket, rest = name.partition("{")
        label, _, _ = rest.partition("=")
        try:
            return self.first_word[f'{family}{{{label}="{OTHER}"}}' if bracket else family]
        except KeyError:
            raise KeyError(f"no metric is called {name}") from None

    def of_kind(self, *kinds: Kind) -> list[str]:
        """The names of all series of these kinds, in the order of the table."""
        return [series for metric in self.metrics if metric.kind in kinds for series in metric.series]


class CounterWriter:
    """One row, and the only hand that writes to it."""

    __slots__ = ("_layout", "_numbers", "_row", "count")

    def __init__(self, layout: Layout, row: "memoryview[int]") -> None:
        self._layout = layout
        self._row = row
        # The truth is a list; the shared word is only ever stored to, which is cheaper than to read it back.
        self._numbers: list[int] = row.tolist()
        self.count: Count = self._counting(layout.first_word, layout.resolve)

    def _counting(self, index_of: Mapping[str, int], resolve: Callable[[str], int]) -> Count:
        """`count` as a closure: it runs ten times in a handshake, and attributes are dear."""
        numbers = self._numbers
        row = self._row

        def count(name: str, n: int = 1, /) -> None:
            try:
                index = index_of[name]
            except KeyError:
                index = resolve(name)
            row[index] = numbers[index] = numbers[index] + n

        return count

    def by_label(self, family: str) -> Count:
        """`count` for one labelled metric, which takes the label's value as its name: `dropped("replay")`."""
        metric = next((m for m in self._layout.metrics if m.name == family and m.label), None)
        if metric is None:
            raise KeyError(f"no labelled metric is called {family}")
        first = self._layout.first_word[metric.series[0]]
        index_of = {value: first + offset for offset, value in enumerate(metric.values)}

        def resolve(value: str) -> int:
            if OTHER not in index_of:
                raise KeyError(f"{family} has no {metric.label} {value}")
            return index_of[OTHER]

        return self._counting(index_of, resolve)

    def set(self, name: str, value: int) -> None:
        """Give a gauge its value, or a counter that somebody else counts, such as the kernel."""
        index = self._layout.first_word[name]
        self._row[index] = self._numbers[index] = value

    def value(self, name: str) -> int:
        """What this row says."""
        return self._numbers[self._layout.first_word[name]]

    def reset_gauges(self) -> None:
        """Set all gauges to zero: a worker that starts has nothing yet."""
        for series in self._layout.of_kind(Kind.GAUGE):
            self.set(series, 0)

    def histogram(self, name: str) -> Histogram:
        """The histogram of that name, to record to."""
        return Histogram(_histogram_words(self._layout, self._row, name))


class Counters:
    """All rows."""

    __slots__ = ("_layout", "_rows", "_shared")

    def __init__(self, shared: SharedWords, layout: Layout) -> None:
        self._shared = shared
        self._layout = layout
        self._rows = [shared.row(index) for index in range(shared.rows)]

    @classmethod
    def create(cls, *, writers: int, metrics: tuple[Metric, ...] = METRICS, path: Path | None = None) -> "Counters":
        """New counters, all zero, for this process and its forks; with `path`, for others to read."""
        layout = Layout(metrics)
        description = msgspec.json.encode(metrics)
        return cls(SharedWords.create(rows=writers, words=layout.words, description=description, path=path), layout)

    @classmethod
    def open(cls, path: Path) -> "Counters":
        """The counters of another process, to be read; OSError, or UnreadableWords."""
        shared = SharedWords.open(path)
        try:
            layout = Layout(msgspec.json.decode(shared.description, type=tuple[Metric, ...]))
            if shared.rows and len(shared.row(0)) < layout.words:
                raise UnreadableWords("damaged")
        except (msgspec.MsgspecError, ValueError) as exc:
            shared.close()
            raise UnreadableWords("damaged") from exc
        except UnreadableWords:
            shared.close()
            raise
        return cls(shared, layout)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is counted here."""
        return self._layout.metrics

    @property
    def writers(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def writer(self, index: int) -> CounterWriter:
        """The row of one process. Ask for it once, in that process."""
        return CounterWriter(self._layout, self._rows[index])

    def value(self, name: str) -> int:
        """The sum of a series over all rows; KeyError if there is none."""
        index = self._layout.first_word[name]
        return sum(row[index] for row in self._rows)

    def value_of(self, writer: int, name: str) -> int:
        """What one row says."""
        return self._rows[writer][self._layout.first_word[name]]

    def values(self) -> dict[str, int]:
        """All counters and gauges, summed, in the order of the table."""
        return {name: self.value(name) for name in self._layout.of_kind(Kind.COUNTER, Kind.GAUGE)}

    def histogram(self, name: str) -> Histogram:
        """A copy of a histogram as it is now, over all rows."""
        merged = Histogram()
        for row in self._rows:
            merged.merge(Histogram(_histogram_words(self._layout, row, name)))
        return merged

    def close(self) -> None:
        """Let go of the memory. Writers must be gone."""
        for row in self._rows:
            row.release()
        self._rows.clear()
        self._shared.close()


def _histogram_words(layout: Layout, row: "memoryview[int]", name: str) -> "memoryview[int]":
    if name not in layout.of_kind(Kind.HISTOGRAM):
        raise KeyError(f"no histogram is called {name}")
    first = layout.first_word[name]
    return row[first : first + HISTOGRAM_WORDS]
