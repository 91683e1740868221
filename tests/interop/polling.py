"""Waiting for what a real daemon does in its own time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.1


def eventually(check: Callable[[], T], *, timeout_s: float = 5.0, what: str = "") -> T:
    """Call `check` until what it returns is true, and return that.

    `what` names the condition in the AssertionError that is raised after `timeout_s` seconds. An
    AssertionError from `check` itself counts as "not yet" and becomes the cause of the final one; any other
    exception ends the waiting.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = FIRST_PAUSE_S
    while True:
        failure: AssertionError | None = None
        value: T | None = None
        try:
            value = check()
            if value:
                return value
        except AssertionError as exc:
            failure = exc
        if time.monotonic() >= deadline:
            raise AssertionError(
                f"not within {timeout_s:g} s: {what or getattr(check, '__name__', 'condition')}; "
                f"the last answer was {failure or value!r}"
            ) from failure
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
