"""The syntax of `ipsec.conf`: text to sections, with the place of every value.

    "config setup"                  at the beginning of a line; likewise "conn NAME", "ca NAME", "include PATTERN"
        keyword = value             indented; the words of a value are joined by one space

A comment runs from `#` to the end of its line; quotes are those of `swanctl.conf`. Sections of one name add up, and a
later value replaces an earlier one. A conn inherits from those that `also` names, and from `%default`.
"""

import os
import re
from typing import Final, NamedTuple

from cygnet.config.defaults import MAX_INCLUDE_DEPTH
from cygnet.config.errors import Problem, quote
from cygnet.config.syntax import (
    INCLUDE_PATTERN,
    Position,
    Reference,
    Section,
    Setting,
    Source,
    expand_pattern,
    read_text,
    reading_failed,
    unescape,
    unescape_pattern,
)

DEFAULT: Final = "%default"

_TOKEN: Final = re.compile(
    r'[ \t\r]++|#[^\n]*+|"(?P<quoted>(?:[^"\\]++|\\.)*+)"|(?P<equals>=)|(?P<word>(?:@#)?[^"#=\s]++)|(?P<wrong>[^\n])',
    re.DOTALL,
)


class _Word(NamedTuple):
    text: str
    offset: int
    is_equals: bool = False


class IpsecConf:
    """The sections of a file and of those that it includes."""

    __slots__ = ("authorities", "connections", "problems", "setup")

    def __init__(self, position: Position) -> None:
        self.setup = Section("setup", position)
        self.connections: dict[str, Section] = {}
        self.authorities: dict[str, Section] = {}
        self.problems: list[Problem] = []

    def inherited(self, sections: dict[str, Section], name: str) -> dict[str, Setting]:
        """The settings of a section with those that it inherits; a value that was cleared is left out.

        What a section says itself goes first, then what it inherits, of several the one that is named last, and
        `%default` at the end (strongSwan's conf_parser.c, resolve_also_single).
        """
        merged: dict[str, Setting] = {}
        for section in (sections[name], *_ancestors(sections, name)):
            for key, setting in section.settings.items():
                merged.setdefault(key, setting)
        return {key: setting for key, setting in merged.items() if setting.value is not None}


def parse_ipsec_conf(path: str) -> IpsecConf:
    """Read a file with everything that it includes. Raises OSError and ValueError if it can't be read itself."""
    source = Source(path, read_text(path))
    conf = IpsecConf(Position(source, 0))
    _Parser(conf, source, (os.path.realpath(path),)).parse()
    for sections in (conf.connections, conf.authorities):
        _check_references(sections, conf.problems)
    return conf


class _Parser:
    __slots__ = ("_conf", "_current", "_included_by", "_source")

    def __init__(self, conf: IpsecConf, source: Source, included_by: tuple[str, ...]) -> None:
        self._conf = conf
        self._source = source
        self._included_by = included_by
        self._current: Section | None = None

    def parse(self, current: Section | None = None) -> Section | None:
        """Add what stands in the source to `current` and to the sections after it; returns the last one."""
        self._current = current
        text = self._source.text
        offset = 0
        while offset < len(text):
            is_indented = text[offset] in " \t"
            words, end = self._line(offset)
            if words:
                self._statement(words, is_indented=is_indented)
            offset = end + 1
        return self._current

    def _line(self, offset: int) -> tuple[list[_Word], int]:
        """The words of the line that begins here, and where it ends: quotes may go over several lines."""
        words: list[_Word] = []
        while match := _TOKEN.match(self._source.text, offset):
            if match["quoted"] is not None:
                words.append(_Word(unescape(match["quoted"]), offset))
            elif match["word"] is not None:
                words.append(_Word(match["word"], offset))
            elif match["equals"] is not None:
                words.append(_Word("=", offset, is_equals=True))
            elif match["wrong"] is not None:
                self._complain(offset, "the quote that opens here is not closed")
                end = self._source.text.find("\n", offset)
                return [], end if end >= 0 else len(self._source.text)
            offset = match.end()
        return words, offset

    def _statement(self, words: list[_Word], *, is_indented: bool) -> None:
        first = words[0]
        is_setting = len(words) > 1 and words[1].is_equals
        if first.text == "include" and len(words) > 1 and not is_setting:
            self._include(words[1].offset, first.offset)
        elif is_indented:
            self._setting(words)
        elif first.text == "version":
            pass
        elif [word.text for word in words[:2]] == ["config", "setup"]:
            self._current = self._conf.setup
        elif first.text in ("conn", "ca") and len(words) == 2:
            sections = self._conf.connections if first.text == "conn" else self._conf.authorities
            name = words[1].text
            self._current = sections.setdefault(name, Section(name, Position(self._source, first.offset)))
        else:
            self._current = None
            self._complain(first.offset, "config setup, conn NAME or ca NAME is expected here; settings are indented")

    def _setting(self, words: list[_Word]) -> None:
        key, *rest = words
        if not rest or not rest[0].is_equals:
            self._complain(key.offset, f"{quote(key.text)} has no value: write {key.text} = VALUE")
            return
        if any(word.is_equals for word in rest[1:]):
            self._complain(rest[1].offset, f"the value of {key.text} has a = in it, and needs quotes")
            return
        if self._current is None:
            self._complain(key.offset, f"{quote(key.text)} stands outside of every section")
            return
        position = Position(self._source, key.offset)
        value = " ".join(word.text for word in rest[1:])
        if key.text == "also":
            if value and value != DEFAULT:
                self._current.references.append(Reference(value, position))
            return
        value_position = Position(self._source, rest[1].offset) if len(rest) > 1 else position
        self._current.settings[key.text] = Setting(value or None, position, value_position)

    def _include(self, offset: int, start: int) -> None:
        match = INCLUDE_PATTERN.match(self._source.text, offset)
        if match is None or len(self._included_by) > MAX_INCLUDE_DEPTH:
            self._complain(start, "files are included too deeply")
            return
        try:
            paths = expand_pattern(self._source.name, unescape_pattern(match[0]))
        except ValueError as exc:
            self._complain(start, f"can't include this: {exc}")
            return
        for path in paths:
            real_path = os.path.realpath(path)
            if real_path in self._included_by:
                self._complain(start, f"{path} includes itself")
                continue
            try:
                source = Source(path, read_text(path))
            except (OSError, ValueError) as exc:
                self._complain(start, f"can't include {path}: {reading_failed(exc)}")
                continue
            parser = _Parser(self._conf, source, (*self._included_by, real_path))
            self._current = parser.parse(self._current)

    def _complain(self, offset: int, message: str) -> None:
        self._conf.problems.append(Position(self._source, offset).problem(message))


def _ancestors(sections: dict[str, Section], name: str) -> list[Section]:
    """What a section inherits from, the most important first; of what is there several times the last one counts."""
    if name == DEFAULT:
        return []
    done: dict[str, list[str]] = {DEFAULT: []}
    # Depth first, without recursion; what is under way when it is met again is a loop, and left out.
    stack = [name]
    under_way = {name}
    while stack:
        current = stack[-1]
        parents = [r.name for r in reversed(sections[current].references) if r.name in sections]
        waiting = [parent for parent in parents if parent not in done and parent not in under_way]
        if waiting:
            stack.append(waiting[0])
            under_way.add(waiting[0])
            continue
        line = [each for parent in parents if parent in done for each in (parent, *done[parent])]
        if not line and DEFAULT in sections:
            line = [DEFAULT]
        # All but the last of each go.
        done[current] = list(dict.fromkeys(reversed(line)))[::-1]
        under_way.discard(stack.pop())
    return [sections[each] for each in done[name]]


def _check_references(sections: dict[str, Section], problems: list[Problem]) -> None:
    for section in sections.values():
        for reference in section.references:
            if reference.name not in sections:
                problems.append(
                    reference.position.problem(f"there is no section {quote(reference.name)} to inherit from")
                )
            elif any(section is ancestor for ancestor in _reachable(sections, reference.name)):
                problems.append(reference.position.problem(f"{quote(section.name)} inherits from itself"))


def _reachable(sections: dict[str, Section], name: str) -> list[Section]:
    seen = {name: sections[name]}
    waiting = [sections[name]]
    while waiting:
        for reference in waiting.pop().references:
            if reference.name in sections and reference.name not in seen:
                seen[reference.name] = sections[reference.name]
                waiting.append(sections[reference.name])
    return list(seen.values())
