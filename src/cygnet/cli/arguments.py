"""Types of command-line arguments: each reads one, or says in one line what is wrong with it."""

import argparse
import math
from collections.abc import Callable
from typing import Final, TypeVar

_T = TypeVar("_T")
_MAX_DIGITS: Final = 18
"""No number here has more, and Python refuses to read some thousands of them."""
_LONGEST_S: Final = 365 * 86400.0
"""Times beyond a year are mistakes, and far beyond it event loops can't wait."""


def by(parse: Callable[[str], _T]) -> Callable[[str], _T]:
    """A parser that raises ValueError with a text for the user, as argparse wants it."""

    def typed(text: str) -> _T:
        try:
            return parse(text)
        except UnicodeEncodeError:
            raise argparse.ArgumentTypeError(f"{text!a} is no UTF-8 text") from None
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from None

    return typed


def filled(parse: Callable[[str], _T]) -> Callable[[str], _T]:
    """The same, for what would be taken for the default if it were empty, as a variable may be that is not set."""

    def typed(text: str) -> _T:
        if not text.strip(", "):
            raise argparse.ArgumentTypeError(f'"{text}" is empty: leave the option out for the default')
        return by(parse)(text)

    return typed


def file(text: str) -> str:
    """The name of a file, whether there is one or not."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name is no file")
    return text


def whole_number(text: str) -> int | None:
    """The number that a row of ASCII digits stands for; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """Whole numbers within bounds."""

    def parse(text: str) -> int:
        found = whole_number(text)
        if found is None or found < low or (high is not None and found > high):
            bounds = f"of {low} or more" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f'"{text}" is no whole number {bounds}')
        return found

    return parse


def number(*, low: float = 0.0, is_low_allowed: bool = False, high: float = math.inf) -> Callable[[str], float]:
    """Numbers within bounds; the lower one itself is out unless it is allowed."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f'"{text}" is no number')
        if value < low or value > high or (value == low and not is_low_allowed):
            above = f"{low:g} or more" if is_low_allowed else f"more than {low:g}"
            below = f", at most {high:.15g}" if math.isfinite(high) else ""
            raise argparse.ArgumentTypeError(f'"{text}" must be {above}{below}')
        return value

    return parse


def seconds(*, is_zero_allowed: bool = False) -> Callable[[str], float]:
    """Times of up to a year."""
    return number(is_low_allowed=is_zero_allowed, high=_LONGEST_S)
