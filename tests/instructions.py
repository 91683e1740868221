"""Counts bytecode instructions: what code costs, the same on every machine, however busy it is."""

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import pytest

P = ParamSpec("P")
R = TypeVar("R")

not_traced = pytest.mark.skipif(
    sys.gettrace() is not None, reason="a debugger or a measurement of coverage traces already"
)


class Instructions:
    """Counts the instructions of our functions, by function."""

    def __init__(self) -> None:
        self.by_function: Counter[str] = Counter()

    def counting(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, counted."""

        def counted_function(*args: P.args, **kwargs: P.kwargs) -> R:
            before = sys.gettrace()
            sys.settrace(self._trace)
            try:
                return function(*args, **kwargs)
            finally:
                sys.settrace(before)

        return counted_function

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if "/cygnet/" not in frame.f_code.co_filename:
            return None
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            self.by_function[f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}"] += 1
        return self._trace

    def only(self, package: str) -> "Instructions":
        """What functions of that package do themselves."""
        some = Instructions()
        some.by_function.update({name: n for name, n in self.by_function.items() if name.startswith(f"{package}.")})
        return some

    def __str__(self) -> str:
        rows = [f"{number:6} {name}" for name, number in self.by_function.most_common(25)]
        return "\n".join([f"{self.by_function.total():6} in all", *rows])


def assert_within(instructions: Instructions, limit: int, times: int = 1) -> None:
    """What was done so many times has cost no more than that each time; and something, so it was counted."""
    assert 500 < instructions.by_function.total() / times <= limit, str(instructions)
