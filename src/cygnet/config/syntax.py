"""The syntax of `swanctl.conf`: text to a tree of sections, with the place of every name and value.

    statements := ( section | setting | include )*
    section    := name [ ":" reference ( "," reference )* ] "{" statements "}"
    setting    := name "=" [ part+ ] end-of-line        parts are joined by one space
    part       := word | '"' characters '"'
    include    := "include" pattern end-of-line

A comment runs from `#` to the end of its line. In quotes, a backslash gives n, r and t their usual meaning, joins lines
when it ends one, and takes any other character as it is. Sections of one name add up, and a later value replaces an
earlier one, within a file and across included files. An error ends its line only, so that one run finds them all.
Messages don't repeat the text they are about: what looks like a misplaced name may be the rest of a secret.
"""

import glob
import os
import re
from bisect import bisect_right
from pathlib import Path
from typing import Final, NamedTuple

from cygnet.config.defaults import MAX_INCLUDE_DEPTH, MAX_PROBLEMS, MAX_SECTION_DEPTH
from cygnet.config.errors import ConfigError, Problem, one_line

_BLANK: Final = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_NAME: Final = re.compile(r'[^#{}:.,="\r\n\t ]+')
_REFERENCE: Final = re.compile(r'[^#{}:.,="\r\n\t ]+(?:\.[^#{}:.,="\r\n\t ]+)*')
_PLAIN: Final = re.compile(
    r"""(?: [ \t\r\n]++ | \#[^\n]*+ )*+
    (?: (?P<close> \} )
      | (?!include[ \t]) (?P<name> [^#{}:.,="\r\n\t ]++ ) [ \t\r\n]*+
        (?: = [ \t\r]*+ (?P<value> [^#}"\r\n\t ]++ ) [ \t\r]*+ (?= \n ) | (?P<open> \{ ) )
    )""",
    re.VERBOSE,
)
"""What nearly every statement is, with the blanks and comments before it: a section that begins or ends, or a key with
one word."""
_INCLUDE: Final = re.compile(r"include[ \t]++(?=[^=])")
_INDENT: Final = re.compile(r"[ \t\r]*")
_STRING: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_WORD: Final = re.compile(r'[^#}"\r\n\t ]+')
INCLUDE_PATTERN: Final = re.compile(r'(?:"(?:[^"\\]++|\\.)*+"|\\["#} ]|[^"#}\r\n\t ])+', re.DOTALL)
_PATTERN_PART: Final = re.compile(r'"(?P<quoted>(?:[^"\\]++|\\.)*+)"|\\(?P<escaped>["#} ])|(?P<plain>.)', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(\r?\n|.)|\r", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "\n": "", "\r\n": ""}
_STATEMENT_END: Final = re.compile(r"[^\n{}]*")


class Source:
    """One file that was read: its name as shown to people, and its text."""

    __slots__ = ("_line_starts", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._line_starts: list[int] = []

    def locate(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of a character."""
        if not self._line_starts:
            self._line_starts = [0, *(match.end() for match in re.finditer("\n", self.text))]
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1


class Position(NamedTuple):
    """A character of a source; turned into line and column only when a message needs them."""

    source: Source
    offset: int

    def problem(self, message: str, *, is_warning: bool = False) -> Problem:
        """A finding about what stands here."""
        line, column = self.source.locate(self.offset)
        return Problem(self.source.name, line, column, one_line(message), is_warning)

    def __repr__(self) -> str:
        return f"Position({self.source.name!r}, {self.offset})"


class Setting(NamedTuple):
    """A key's value; None after `key =`, which stands for the default even where a value would be inherited."""

    value: str | None
    name_position: Position
    value_position: Position


class Reference(NamedTuple):
    """A section that another inherits from, by its full name."""

    name: str
    position: Position


class Section:
    """A section: settings and sections by name, in the order of the file, and what it inherits from."""

    __slots__ = ("name", "position", "references", "sections", "settings")

    def __init__(self, name: str, position: Position) -> None:
        self.name = name
        self.position = position
        self.settings: dict[str, Setting] = {}
        self.sections: dict[str, Section] = {}
        self.references: list[Reference] = []

    def __repr__(self) -> str:
        return f"Section({self.name!r}, settings={list(self.settings)}, sections={list(self.sections)})"


def parse_file(path: str) -> Section:
    """Read a file with everything it includes. Raises ConfigError, with all the errors of syntax found.

    The result is the unnamed section that holds the outermost ones; references are not resolved yet.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as exc:
        raise ConfigError([Problem(path, 0, 0, reading_failed(exc))]) from exc
    return parse_text(text, path)


def parse_text(text: str, name: str = "<text>") -> Section:
    """Like `parse_file`, for text that is at hand; includes are relative to the folder of `name`."""
    problems: list[Problem] = []
    root = Section("", Position(Source(name, text), 0))
    _Parser(root.position.source, problems, (os.path.realpath(name),)).parse_into(root, 0)
    if problems:
        raise ConfigError(sorted(problems[:MAX_PROBLEMS]))
    return root


class _Parser:
    """Parses one source. Sections that are open are a stack, so deep nesting costs no recursion.

    `included_by` are the real paths of the files that led here, with that of the source itself as the last.
    """

    __slots__ = ("_included_by", "_offset", "_problems", "_source", "_stack", "_text")

    def __init__(self, source: Source, problems: list[Problem], included_by: tuple[str, ...]) -> None:
        self._source = source
        self._text = source.text
        self._problems = problems
        self._included_by = included_by
        self._offset = 0
        self._stack: list[Section] = []

    def parse_into(self, section: Section, depth: int) -> None:
        """Add the statements of the source to `section`, which is itself at `depth`."""
        self._stack = [section]
        while len(self._problems) < MAX_PROBLEMS:
            if self._parse_plain(depth):
                continue
            self._skip_blank()
            if self._offset >= len(self._text):
                break
            if self._text[self._offset] == "}":
                self._close_section()
            else:
                self._parse_statement(depth)
        for unclosed in self._stack[1:]:
            self._problems.append(unclosed.position.problem(f"section {unclosed.name} is not closed: }} is missing"))

    def _parse_plain(self, depth: int) -> bool:
        """Parse one of the statements that nearly all are; whether it was one."""
        match = _PLAIN.match(self._text, self._offset)
        if match is None:
            return False
        kind = match.lastgroup
        self._offset = match.end()
        if kind == "value":
            source = self._source
            name, value = match.group("name", "value")
            start, first = Position(source, match.start("name")), Position(source, match.start("value"))
            self._stack[-1].settings[name] = Setting(value, start, first)
        elif kind == "open":
            self._offset -= 1
            self._open_section(match["name"], match.start("name"), [], depth)
        else:
            self._offset -= 1
            self._close_section()
        return True

    def _parse_statement(self, depth: int) -> None:
        start = self._offset
        if match := _INCLUDE.match(self._text, start):
            self._offset = match.end()
            self._parse_include(start, depth)
            return
        match = _NAME.match(self._text, start)
        if match is None:
            self._fail(start, "a name is expected here")
            return
        self._offset = end = match.end()
        self._skip_blank()
        char = self._text[self._offset : self._offset + 1]
        if char == "=":
            self._offset += 1
            self._parse_value(match[0], start)
        elif char == "{":
            self._open_section(match[0], start, [], depth)
        elif char == ":":
            self._offset += 1
            self._parse_references(match[0], start, depth)
        elif char == ".":
            self._fail(self._offset, "a name can't hold a dot")
        else:
            self._offset = end
            self._fail(start, "this name is followed by neither = nor {")

    def _parse_references(self, name: str, start: int, depth: int) -> None:
        references: list[Reference] = []
        while True:
            self._skip_blank()
            match = _REFERENCE.match(self._text, self._offset)
            if match is None:
                self._fail(self._offset, "the name of a section to inherit from is expected here")
                return
            references.append(Reference(match[0], Position(self._source, self._offset)))
            self._offset = match.end()
            self._skip_blank()
            char = self._text[self._offset : self._offset + 1]
            if char == "{":
                self._open_section(name, start, references, depth)
                return
            if char != ",":
                self._fail(self._offset, "{ is expected after the sections to inherit from")
                return
            self._offset += 1

    def _open_section(self, name: str, start: int, references: list[Reference], depth: int) -> None:
        self._offset += 1
        parent = self._stack[-1]
        if depth + len(self._stack) > MAX_SECTION_DEPTH:
            self._problems.append(Position(self._source, start).problem("sections are nested too deeply"))
            self._stack.append(Section(name, Position(self._source, start)))
            return
        section = parent.sections.get(name)
        if section is None:
            section = parent.sections[name] = Section(name, Position(self._source, start))
        section.references.extend(references)
        self._stack.append(section)

    def _close_section(self) -> None:
        if len(self._stack) > 1:
            self._stack.pop()
            self._offset += 1
        else:
            self._problems.append(Position(self._source, self._offset).problem("} closes no section of this file"))
            self._offset += 1

    def _parse_value(self, name: str, start: int) -> None:
        parts: list[str] = []
        first = -1
        while True:
            match = _INDENT.match(self._text, self._offset)
            self._offset = match.end() if match else self._offset
            if first < 0:
                first = self._offset
            if self._text[self._offset : self._offset + 1] in ("", "\n", "#", "}"):
                break
            if match := _STRING.match(self._text, self._offset):
                parts.append(unescape(match[1]))
            elif match := _WORD.match(self._text, self._offset):
                parts.append(match[0])
            else:
                self._fail(self._offset, "the quote that opens here is not closed")
                return
            self._offset = match.end()
        value = " ".join(parts) if parts else None
        setting = Setting(value, Position(self._source, start), Position(self._source, first))
        self._stack[-1].settings[name] = setting

    def _parse_include(self, start: int, depth: int) -> None:
        position = Position(self._source, start)
        match = INCLUDE_PATTERN.match(self._text, self._offset)
        if match is None:
            self._fail(start, "include is followed by no file name")
            return
        self._offset = match.end()
        if len(self._included_by) > MAX_INCLUDE_DEPTH:
            self._problems.append(position.problem("files are included too deeply"))
            return
        try:
            paths = expand_pattern(self._source.name, unescape_pattern(match[0]))
            for path in paths:
                self._include(path, position, depth)
        except ValueError as exc:
            self._problems.append(position.problem(f"can't include this: {exc}"))

    def _include(self, path: str, position: Position, depth: int) -> None:
        real_path = os.path.realpath(path)
        if real_path in self._included_by:
            self._problems.append(position.problem(f"{path} includes itself"))
            return
        try:
            source = Source(path, read_text(path))
        except (OSError, ValueError) as exc:
            self._problems.append(position.problem(f"can't include {path}: {reading_failed(exc)}"))
            return
        parser = _Parser(source, self._problems, (*self._included_by, real_path))
        parser.parse_into(self._stack[-1], depth + len(self._stack) - 1)

    def _skip_blank(self) -> None:
        match = _BLANK.match(self._text, self._offset)
        if match:
            self._offset = match.end()

    def _fail(self, offset: int, message: str) -> None:
        """Note an error and go on behind its line. A brace in the rest of it still opens a section, which is lost."""
        position = Position(self._source, min(offset, max(len(self._text) - 1, 0)))
        self._problems.append(position.problem(message))
        match = _STATEMENT_END.match(self._text, self._offset)
        self._offset = match.end() if match else len(self._text)
        if self._text[self._offset : self._offset + 1] == "{":
            self._stack.append(Section("", position))
            self._offset += 1


def unescape(quoted: str) -> str:
    """What stands between two quotes."""
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]) if match[1] else "", quoted)


def unescape_pattern(pattern: str) -> str:
    """A pattern as it stands after `include`."""
    parts = []
    for match in _PATTERN_PART.finditer(pattern):
        quoted = match["quoted"]
        parts.append(unescape(quoted) if quoted is not None else match["escaped"] or match["plain"])
    return "".join(parts)


def expand_pattern(including: str, pattern: str) -> list[str]:
    """The files that a pattern names, relative to the folder of the including file. Wildcards may name none."""
    folder = Path(including).parent
    if not glob.has_magic(pattern):
        return [str(folder / pattern)]
    # Path.glob refuses absolute patterns, and ".." in them.
    absolute = pattern if pattern.startswith("/") else f"{glob.escape(str(folder))}/{pattern}"
    return sorted(str(Path(path)) for path in glob.glob(absolute))  # noqa: PTH207


def read_text(path: str) -> str:
    """A file. Raises OSError and ValueError."""
    # Not the universal newlines of text mode: columns and quoted line ends stay what they are.
    text = Path(path).read_bytes().decode("utf-8")
    return text.removeprefix("\ufeff")


def reading_failed(exc: Exception) -> str:
    """Why `read_text` has failed."""
    if isinstance(exc, UnicodeDecodeError):
        return f"it is not UTF-8 text (octet {exc.start})"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror.lower()
    return str(exc)
