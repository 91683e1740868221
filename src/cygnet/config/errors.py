"""What is wrong with a configuration, and where."""

from collections.abc import Iterable
from typing import Final

import msgspec

from cygnet.wire.errors import IkeError

_SHOWN_CHARACTERS: Final = 64


def quote(text: str) -> str:
    """Text of a configuration in double quotes, cut where it is long, for a message of one line."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return f'"{one_line(shown)}"'


def one_line(text: str) -> str:
    """The text with line ends and other characters that don't print as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


class Problem(msgspec.Struct, frozen=True, order=True):
    """One finding. Lines and columns count from 1; both are 0 where the finding is about the whole file."""

    file: str
    line: int
    column: int
    message: str
    is_warning: bool = False

    def __str__(self) -> str:
        """One line, in the form that compilers use and editors understand."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {'warning: ' if self.is_warning else ''}{self.message}"


class ConfigError(IkeError):
    """A configuration can't be used. `problems` holds everything that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
