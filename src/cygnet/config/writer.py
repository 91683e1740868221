"""A tree of sections to the text of `swanctl.conf`: what `parse_text` makes of it is the same tree."""

import re
from typing import Final

from cygnet.config.syntax import Section

_PLAIN: Final = re.compile(r"[\w.,:;/*@%^$+=|~<>()\[\]!?&-]+(?: [\w.,:;/*@%^$+=|~<>()\[\]!?&-]+)*\Z", re.ASCII)
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INDENT: Final = "    "


def render(root: Section) -> str:
    """The settings and sections within `root`; references must have been resolved."""
    lines: list[str] = []
    _render(root, "", lines)
    return "".join(f"{line}\n" for line in lines)


def _render(section: Section, indent: str, lines: list[str]) -> None:
    for key, setting in section.settings.items():
        lines.append(f"{indent}{key} = {_quoted(setting.value)}" if setting.value is not None else f"{indent}{key} =")
    for name, inner in section.sections.items():
        lines.append(f"{indent}{name} {{")
        _render(inner, indent + _INDENT, lines)
        lines.append(f"{indent}}}")


def _quoted(value: str) -> str:
    if _PLAIN.match(value):
        return value
    return '"' + "".join(_ESCAPES.get(char, char) for char in value) + '"'
