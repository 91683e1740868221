"""Sections of a configuration that come in a message instead of a file, as `swanctl` loads them over vici.

The message has the keys of the file; what a file lists after commas is a list here, and a file that the key names has
been read already. Octets that are no text become `0x` and hexadecimal. The message becomes the tree that a file
becomes, so that the same tables judge it. Each value is a line of a source of its own, and an error names its key.
"""

from collections.abc import Mapping
from typing import Final, Union

from cygnet.config.defaults import MAX_SECTION_DEPTH
from cygnet.config.errors import ConfigError, Problem
from cygnet.config.syntax import Position, Section, Setting, Source

Message = Mapping[str, Union[bytes, list[bytes], "Message"]]

_SOURCE: Final = "vici"


def section_of(name: str, message: Message) -> Section:
    """The section `name` that a message holds. Raises ConfigError if it is too deep."""
    return _convert(name, message, Position(Source(_SOURCE, ""), 0), MAX_SECTION_DEPTH)


def _convert(name: str, message: Message, position: Position, depth: int) -> Section:
    if not depth:
        raise ConfigError([Problem(_SOURCE, 0, 0, "sections are nested too deeply")])
    section = Section(name, position)
    for key, value in message.items():
        if isinstance(value, Mapping):
            section.sections[key] = _convert(key, value, position, depth - 1)
        else:
            text = ", ".join(map(_text, value)) if isinstance(value, list) else _text(value)
            section.settings[key] = Setting(text or None, position, position)
    return section


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
