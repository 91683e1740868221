"""Counters as Prometheus reads them (text exposition format 0.0.4)."""

from typing import Final

from cygnet.observe.counters import Counters
from cygnet.observe.metrics import Kind

PREFIX: Final = "cygnet_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

BUCKETS_S: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Upper bounds of the exposed buckets; the histograms themselves are finer."""


def render(counters: Counters) -> str:
    """Every metric with its help and type, summed over the writers."""
    lines: list[str] = []
    for metric in counters.metrics:
        name = PREFIX + metric.name
        lines.append(f"# HELP {name} {metric.help}")
        lines.append(f"# TYPE {name} {metric.kind.value}")
        if metric.kind is Kind.HISTOGRAM:
            histogram = counters.histogram(metric.name)
            total = histogram.count
            lines += [
                f'{name}_bucket{{le="{bound:g}"}} {n}'
                for bound, n in zip(BUCKETS_S, histogram.cumulative(BUCKETS_S), strict=True)
            ]
            lines += [
                f'{name}_bucket{{le="+Inf"}} {total}',
                f"{name}_sum {histogram.sum_s:.9g}",
                f"{name}_count {total}",
            ]
        else:
            lines += [f"{PREFIX}{series} {counters.value(series)}" for series in metric.series]
    return "\n".join(lines) + "\n"
