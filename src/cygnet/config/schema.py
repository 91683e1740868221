"""What a row of the table of keys is made of."""

from typing import Final

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


class Table(msgspec.Struct, frozen=True):
    """What one kind of section may hold."""

    title: str
    """Its full name, with placeholders for names that the user chooses."""
    help: str
    keys: tuple[Key, ...] = ()
    unbuilt: tuple[Unbuilt, ...] = ()
    sections: tuple[Inner, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of all keys, built or not."""
        return [*(key.name for key in self.keys), *(row.name for row in self.unbuilt)]
