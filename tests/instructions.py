"""Counts bytecode instructions: what code costs, the same on every machine, however busy it is."""

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


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

    def __str__(self) -> str:
        rows = [f"{number:6} {name}" for name, number in self.by_function.most_common(25)]
        return "\n".join([f"{self.by_function.total():6} in all", *rows])
