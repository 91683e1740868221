"""Reads sections by the table of keys: values by attribute, and a problem for everything else that stands there."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from cygnet.config.defaults import SUGGESTION_CUTOFF
from cygnet.config.errors import Problem, quote
from cygnet.config.schema import ANYTHING, Key, Table, Unbuilt
from cygnet.config.syntax import Position, Section, Setting

Values = dict[str, Any]
"""Parsed values by attribute of the settings; those of a prefix key are a tuple."""


class Reader:
    """Collects what is wrong with a configuration while its sections are read."""

    __slots__ = ("problems",)

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def error(self, position: Position, message: str) -> None:
        """Note what makes the configuration unusable."""
        self.problems.append(position.problem(message))

    def warn(self, position: Position, message: str) -> None:
        """Note what the user should know."""
        self.problems.append(position.problem(message, is_warning=True))

    def read(self, section: Section, path: str, table: Table) -> Values:
        """The values of the keys that stand in `section`; keys that were left out, cleared or wrong are not in it.

        `path` is the full name of the section, for messages. Sections within it are checked by name only.
        """
        found: Values = {}
        find = table.key_rows.find
        for name, setting in section.settings.items():
            key = find(name)
            if key is not None:
                self._read_key(found, key, name, setting, path)
                continue
            unbuilt = table.unbuilt_rows.find(name)
            if unbuilt is not None:
                self._judge(unbuilt, setting, f"{name} in {path}")
            else:
                self._unknown_key(name, setting, path, table)
        for name, inner in section.sections.items():
            self._check_section(name, inner, path, table)
        for key in table.required:
            if key.name not in section.settings and not any(find(name) is key for name in section.settings):
                self.error(section.position, f"{path} has no {key.name}")
        return found

    def inner_sections(self, section: Section, prefix: str) -> list[Section]:
        """The sections within `section` whose names start with `prefix`."""
        return [inner for name, inner in section.sections.items() if name.startswith(prefix)]

    def named_sections(self, section: Section, path: str) -> Iterator[tuple[str, Section]]:
        """The sections of a list such as `connections`, by the names that the user chose; keys have no place there."""
        for name, setting in section.settings.items():
            self.error(
                setting.name_position, f"{quote(name)} is no section: {path} holds sections only, NAME {{ ... }}"
            )
        yield from section.sections.items()

    def unknown_section(self, section: Section, where: str, known: Iterable[str]) -> None:
        """Report a section that nothing reads."""
        self.error(section.position, f"unknown section {quote(section.name)}{where}{_suggest(section.name, known)}")

    def _read_key(self, found: Values, key: Key, name: str, setting: Setting, path: str) -> None:
        if setting.value is None:
            if key.is_required:
                self.error(setting.name_position, f"{name} in {path} is empty")
            return
        try:
            value = key.kind.read(f"{name}:{setting.value}" if key.is_number else setting.value)
        except ValueError as exc:
            self.error(setting.value_position, f"{name} in {path}: {exc}")
            return
        if key.is_prefix:
            found[key.attribute] = (*found.get(key.attribute, ()), value)
        elif key.is_shared:
            found[key.attribute] = (*found.get(key.attribute, ()), *value)
        else:
            found[key.attribute] = value

    def _judge(self, unbuilt: Unbuilt, setting: Setting, what: str) -> None:
        """Refuse or warn of a key of strongSwan's, unless it asks for what happens anyway."""
        value = setting.value
        if value is None or ANYTHING in unbuilt.harmless or value.lower() in unbuilt.harmless:
            return
        if unbuilt.is_refused or value.lower() in unbuilt.refused:
            self.error(setting.name_position, f"{what} is refused: {unbuilt.instead}")
        else:
            self.warn(setting.name_position, f"{what} has no effect: {unbuilt.instead}")

    def _unknown_key(self, name: str, setting: Setting, path: str, table: Table) -> None:
        if any(not inner.refusal and inner.name == name for inner in table.sections):
            self.error(setting.name_position, f"{name} in {path} is a section: write {name} {{ ... }}")
            return
        hint = _suggest(name, table.names)
        self.error(setting.name_position, f"unknown key {quote(name)} in {path}{hint}")

    def _check_section(self, name: str, section: Section, path: str, table: Table) -> None:
        inner = table.section_rows.find(name)
        if name in table.names:
            self.error(section.position, f"{name} in {path} is a key: write {name} = VALUE")
        elif inner is None:
            self.unknown_section(section, f" in {path}", [inner.name for inner in table.sections])
        elif inner.refusal:
            self.error(section.position, f"{name} in {path} is refused: {inner.refusal}")


def _suggest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, SUGGESTION_CUTOFF)
    return f" (did you mean {quote(near[0])}?)" if near else ""
