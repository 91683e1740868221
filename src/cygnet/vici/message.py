"""The messages of vici: octets <-> nested sections (strongSwan's src/libcharon/plugins/vici/README.md).

    element := type (1 octet) ...
      1 SECTION_START   name length (1), name
      2 SECTION_END
      3 KEY_VALUE       name length (1), name, value length (2), value
      4 LIST_START      name length (1), name
      5 LIST_ITEM       value length (2), value
      6 LIST_END

A section is a dict, a list is a list, a value is octets. To be encoded, a value may be text, a number or a truth
(`yes`, `no`) too; None is left out. Names repeat in the messages of `list-*` events only, and there
each event is a message of its own: so a name that stands twice in one section replaces the first, as in strongSwan.
"""

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, Union

import msgspec

MAX_DEPTH: Final = 16
"""Sections within sections; `connections` has four."""
_MAX_NAME_OCTETS: Final = 0xFF
_MAX_VALUE_OCTETS: Final = 0xFFFF

_SECTION_START: Final = 1
_SECTION_END: Final = 2
_KEY_VALUE: Final = 3
_LIST_START: Final = 4
_LIST_ITEM: Final = 5
_LIST_END: Final = 6

_MAX_HEADS: Final = 4096
_HEADS: Final[dict[tuple[str, int], bytes]] = {}
"""By the name and the length of the value: the same ones come again and again."""
_SECTION_ENDS: Final = bytes((_SECTION_END,))
_LIST_ITEMS: Final = bytes((_LIST_ITEM,))
_LIST_ENDS: Final = bytes((_LIST_END,))

_U16: Final = struct.Struct("!H")

Section = dict[str, Union[bytes, list[bytes], "Section"]]
"""A message that was decoded, or a section of it."""
Scalar = bytes | str | int | bool
Encodable = Mapping[str, Union[Scalar, Iterable[Scalar], "Encodable", "Encoded", None]]
"""What can be encoded: the values of a section may be less strict than those that come out of a decoder."""


class Encoded(msgspec.Struct, frozen=True):
    """What a section holds, encoded already: for long messages that are put together in pieces."""

    octets: bytes


class ViciError(Exception):
    """Octets that are no message, or a message that can't be put into octets."""


def decode(octets: bytes) -> Section:
    """Take a message apart; raises ViciError."""
    root: Section = {}
    stack: list[Section] = [root]
    section = root
    items: list[bytes] | None = None
    at, end = 0, len(octets)
    while at < end:
        kind = octets[at]
        at += 1
        if items is not None:
            if kind == _LIST_ITEM:
                start, at = _value_at(octets, at)
                items.append(octets[start:at])
            elif kind == _LIST_END:
                items = None
            else:
                raise ViciError("an element that is no item stands in a list")
        elif kind == _KEY_VALUE:
            name, at = _name_at(octets, at)
            start, at = _value_at(octets, at)
            section[name] = octets[start:at]
        elif kind == _SECTION_START:
            if len(stack) > MAX_DEPTH:
                raise ViciError(f"more than {MAX_DEPTH} sections within each other")
            name, at = _name_at(octets, at)
            inner: Section = {}
            section[name] = inner
            stack.append(inner)
            section = inner
        elif kind == _SECTION_END:
            if len(stack) == 1:
                raise ViciError("a section ends that did not begin")
            stack.pop()
            section = stack[-1]
        elif kind == _LIST_START:
            name, at = _name_at(octets, at)
            items = []
            section[name] = items
        else:
            raise ViciError(f"unknown element type {kind}")
    if items is not None or len(stack) > 1:
        raise ViciError("the message ends within a list or a section")
    return root


def _name_at(octets: bytes, at: int) -> tuple[str, int]:
    """The name that begins there, and where it ends."""
    end = at + 1 + octets[at] if at < len(octets) else at + 1
    if end > len(octets):
        raise ViciError("the message is cut off")
    try:
        return octets[at + 1 : end].decode(), end
    except UnicodeDecodeError:
        raise ViciError("a name is not UTF-8") from None


def _value_at(octets: bytes, at: int) -> tuple[int, int]:
    """Where the value begins and ends whose length stands there."""
    start = at + _U16.size
    end = start + (octets[at] << 8 | octets[at + 1]) if start <= len(octets) else start
    if end > len(octets):
        raise ViciError("the message is cut off")
    return start, end


def encode(message: Encodable) -> bytes:
    """Put a message into octets; raises ViciError where a name or a value is too long."""
    parts: list[bytes] = []
    _encode_section(message, parts)
    return b"".join(parts)


def _encode_section(section: Encodable, parts: list[bytes]) -> None:
    add = parts.append
    for name, value in section.items():
        if value is None:
            continue
        # A list of 250,000 SAs has ten million values: nearly all are short texts or numbers, and their names are few.
        if isinstance(value, str | int) and not isinstance(value, bool):
            octets = value.encode() if isinstance(value, str) else b"%d" % value
            head = _HEADS.get((name, len(octets)))
            add(head if head is not None else _head(name, len(octets)))
            add(octets)
        elif isinstance(value, dict | Mapping):
            add(_named(_SECTION_START, name))
            _encode_section(value, parts)
            add(_SECTION_ENDS)
        elif isinstance(value, bytes | str | int):
            add(_named(_KEY_VALUE, name))
            add(_sized(value))
        elif isinstance(value, Encoded):
            add(_named(_SECTION_START, name))
            add(value.octets)
            add(_SECTION_ENDS)
        else:
            add(_named(_LIST_START, name))
            for item in value:
                add(_LIST_ITEMS)
                add(_sized(item))
            add(_LIST_ENDS)


def _head(name: str, octets: int) -> bytes:
    """What stands before a value."""
    if octets > _MAX_VALUE_OCTETS:
        raise ViciError(f"a value of {octets} octets")
    head = _named(_KEY_VALUE, name) + _U16.pack(octets)
    if len(_HEADS) < _MAX_HEADS:
        _HEADS[name, octets] = head
    return head


@lru_cache(maxsize=1024)
def _named(kind: int, name: str) -> bytes:
    octets = name.encode()
    if len(octets) > _MAX_NAME_OCTETS:
        raise ViciError(f"a name of {len(octets)} octets")
    return bytes((kind, len(octets))) + octets


def _sized(value: Scalar) -> bytes:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    octets = value if isinstance(value, bytes) else str(value).encode()
    if len(octets) > _MAX_VALUE_OCTETS:
        raise ViciError(f"a value of {len(octets)} octets")
    return _U16.pack(len(octets)) + octets
