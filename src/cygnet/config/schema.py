"""What a row of the table of keys is made of."""

from collections.abc import Iterable
from functools import cached_property
from typing import Final, Generic, TypeVar

import msgspec

from cygnet.config.values import Kind

ANYTHING: Final = "*"


class Key(msgspec.Struct, frozen=True):
    """A key that is understood. `field` is the attribute of the settings that it fills, if named otherwise."""

    name: str
    kind: Kind
    default: str
    """As it would be written; empty where leaving the key out has a meaning that can't be written."""
    help: str
    field: str = ""
    is_own: bool = False
    is_required: bool = False
    is_prefix: bool = False
    """Whether any suffix may follow the name, for keys that stand several times."""
    is_number: bool = False
    """Whether its name is any number; the parser gets `NUMBER:VALUE` then."""
    is_shared: bool = False
    """Whether several keys fill the same attribute: each with a tuple, that are put together in the file's order."""

    @property
    def attribute(self) -> str:
        """The attribute of the settings that the value goes to."""
        return self.field or self.name


class Unbuilt(msgspec.Struct, frozen=True):
    """A key of strongSwan's that is not built."""

    name: str
    instead: str
    """What happens instead, or why it is refused."""
    harmless: tuple[str, ...] = ()
    """Values, in lower case, that ask for what happens anyway; ANYTHING for a key that changes nothing here."""
    is_refused: bool = False
    """Whether every value that is not harmless is refused, not just warned of."""
    refused: tuple[str, ...] = ()
    """Values, in lower case, that are refused where others are warned of."""
    is_prefix: bool = False


class Inner(msgspec.Struct, frozen=True):
    """A section within a section. With a `refusal` it is strongSwan's and not built; that says why."""

    name: str
    is_prefix: bool = False
    refusal: str = ""


_R = TypeVar("_R", Key, Unbuilt, Inner)


class Rows(Generic[_R]):
    """Rows of one kind, by the names that stand in a section."""

    __slots__ = ("_exact", "_others")

    def __init__(self, rows: Iterable[_R]) -> None:
        rows = tuple(rows)
        self._exact: dict[str, _R] = {row.name: row for row in reversed(rows)}
        self._others: tuple[_R, ...] = tuple(row for row in rows if row.is_prefix or _is_number(row))

    def find(self, name: str) -> _R | None:
        """The row for a name: the one of that very name, else one whose name it starts with."""
        row = self._exact.get(name)
        if row is not None or not self._others:
            return row
        for row in self._others:
            if (row.is_prefix and name.startswith(row.name)) or (
                _is_number(row) and name.isascii() and name.isdecimal()
            ):
                return row
        return None


def _is_number(row: Key | Unbuilt | Inner) -> bool:
    return isinstance(row, Key) and row.is_number


class Table(msgspec.Struct, frozen=True, dict=True):
    """What one kind of section may hold."""

    title: str
    """Its full name, with placeholders for names that the user chooses."""
    help: str
    keys: tuple[Key, ...] = ()
    unbuilt: tuple[Unbuilt, ...] = ()
    sections: tuple[Inner, ...] = ()

    @cached_property
    def names(self) -> dict[str, None]:
        """The names of all keys, built or not, in their order."""
        return dict.fromkeys((*(key.name for key in self.keys), *(row.name for row in self.unbuilt)))

    @cached_property
    def key_rows(self) -> Rows[Key]:
        """The keys that are built, to be looked up."""
        return Rows(self.keys)

    @cached_property
    def unbuilt_rows(self) -> Rows[Unbuilt]:
        """Those that are not."""
        return Rows(self.unbuilt)

    @cached_property
    def section_rows(self) -> Rows[Inner]:
        """The sections."""
        return Rows(self.sections)

    @cached_property
    def required(self) -> tuple[Key, ...]:
        """The keys that must be there."""
        return tuple(key for key in self.keys if key.is_required)
