"""Printable names of registry numbers."""

from enum import IntEnum


def name_of(enum_class: type[IntEnum], number: int) -> str:
    """IANA's name of `number`, or the number in decimal where the registry, as known here, has none."""
    try:
        return enum_class(number).name
    except ValueError:
        return str(number)
