"""What the other layers count has a row in the table: they know counters by name only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import cygnet
from cygnet.observe.metrics import METRICS, Kind, by_reason, counter
from cygnet.wire.errors import WireFault

SOURCES = Path(cygnet.__file__).parent
SERIES = frozenset(series for metric in METRICS for series in metric.series)
FAMILIES = frozenset(metric.name for metric in METRICS)


def _counted(tree: ast.AST) -> Iterator[ast.expr]:
    """The first argument of everything that is called `count` or `_count`, and of `_drop` within it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("count", "_count"):
                yield node.args[0]


def test_every_name_that_the_sources_count_is_a_metric() -> None:
    unknown, found = [], 0
    for path in SOURCES.rglob("*.py"):
        # These count by a label alone, for a table of their own, or only characters.
        if path.parent.name in ("dataplane", "load", "config", "cli"):
            continue
        for name in _counted(ast.parse(path.read_text())):
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                found += 1
                if name.value not in SERIES:
                    unknown.append(f"{path.name}: {name.value}")
            elif isinstance(name, ast.JoinedStr) and isinstance(name.values[0], ast.Constant):
                found += 1
                family, bracket, _ = str(name.values[0].value).partition("{")
                if not bracket or family not in FAMILIES:
                    unknown.append(f"{path.name}: {family}")
    assert unknown == []
    assert found > 5


def test_every_label_that_a_data_plane_counts_is_listed() -> None:
    (events,) = (metric for metric in METRICS if metric.name == "dataplane_events_total")
    counted = {
        str(name.value)
        for path in (SOURCES / "dataplane").glob("*.py")
        for name in _counted(ast.parse(path.read_text()))
        if isinstance(name, ast.Constant)
    }
    assert counted
    assert counted <= set(events.values)


def test_every_reason_to_refuse_octets_is_listed() -> None:
    (dropped,) = (metric for metric in METRICS if metric.name == "datagrams_dropped_total")
    assert {str(fault) for fault in WireFault} <= set(dropped.values)


def test_every_reason_of_the_core_is_listed() -> None:
    (dropped,) = (metric for metric in METRICS if metric.name == "datagrams_dropped_total")
    reasons = set()
    for path in (SOURCES / "ike").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_drop":
                reasons |= {
                    part.value
                    for part in ast.walk(node.args[0])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    assert reasons
    assert reasons <= set(dropped.values)


def test_names_follow_prometheus() -> None:
    for metric in METRICS:
        assert metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.name.isidentifier()
        assert metric.name.islower()


def test_series_carry_the_label() -> None:
    assert counter("a_total", "A.").series == ("a_total",)
    assert by_reason("b_total", "B.", ("x",)).series == ('b_total{reason="x"}', 'b_total{reason="other"}')
