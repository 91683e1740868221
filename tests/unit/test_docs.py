"""What the documents say is there is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COVERAGE = (ROOT / "docs" / "rfc-coverage.md").read_text()

_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_PATH = re.compile(r"`([\w/]+\.py)`")
_ROW = re.compile(r"^\| (?!section|RFC)[^-].*\|$", re.MULTILINE)


@cache
def functions_of(path: Path) -> frozenset[str]:
    """The names of all functions and methods in a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds))


@pytest.mark.parametrize(("path", "name"), sorted(set(_TEST.findall(COVERAGE))))
def test_a_test_that_the_coverage_names_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions_of(ROOT / path)


@pytest.mark.parametrize("path", sorted(set(_PATH.findall(COVERAGE))))
def test_a_file_that_the_coverage_names_exists(path: str) -> None:
    assert (ROOT if path.startswith("tests/") else ROOT / "src" / "cygnet").joinpath(path).is_file()


def test_every_row_has_a_test_or_says_why_not() -> None:
    rows = _ROW.findall(COVERAGE)
    assert len(rows) > 100
    silent = [row for row in rows if "::test_" not in row and "not yet" not in row and "not sent" not in row]
    assert not silent
