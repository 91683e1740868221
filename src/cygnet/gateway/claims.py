"""Who has the packets for something, when several workers may: what each has there decides, not who came last."""

from collections.abc import Hashable
from enum import IntEnum
from typing import Final, Generic, TypeVar


class Claim(IntEnum):
    """What a worker has for packets that it wants. The higher one gets them."""

    RESERVED = 0
    """A trap, or a block of addresses that it gives to peers."""
    WAITING = 1
    """A CHILD_SA on which the peer has sent nothing yet: it may not know that it stands, and have an older one."""
    USED = 2
    """A CHILD_SA that the peer receives on."""


# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
RESERVED: Final = Claim.RESERVED
WAITING: Final = Claim.WAITING
USED: Final = Claim.USED

NOBODY: Final = -1

Key = TypeVar("Key", bound=Hashable)


class Claims(Generic[Key]):
    """What workers, which are numbers, want of something, such as of the packets for prefixes."""

    __slots__ = ("_wanted",)

    def __init__(self) -> None:
        self._wanted: dict[Key, list[tuple[Claim, int]]] = {}

    def add(self, key: Key, worker: int, claim: Claim) -> None:
        """A worker wants it; of equal claims the one that was made last counts."""
        wanted = self._wanted.setdefault(key, [])
        if (claim, worker) in wanted:
            wanted.remove((claim, worker))
        wanted.append((claim, worker))

    def discard(self, key: Key, worker: int, claim: Claim) -> None:
        """Undo `add`; nothing happens if it was not there."""
        wanted = self._wanted.get(key, [])
        if (claim, worker) in wanted:
            wanted.remove((claim, worker))
            if not wanted:
                del self._wanted[key]

    def discard_all(self, worker: int) -> list[Key]:
        """A worker is dead; returns what it had a claim on."""
        found = [key for key, wanted in self._wanted.items() if any(each[1] == worker for each in wanted)]
        for key in found:
            left = [each for each in self._wanted[key] if each[1] != worker]
            if left:
                self._wanted[key] = left
            else:
                del self._wanted[key]
        return found

    def wants(self, key: Key, worker: int) -> bool:
        """Whether a worker has a claim on it."""
        return any(each[1] == worker for each in self._wanted.get(key, ()))

    def holder(self, key: Key) -> int:
        """The worker that has it; NOBODY if none wants it."""
        wanted = self._wanted.get(key)
        if not wanted:
            return NOBODY
        # Of equal ones `max` takes the first.
        return max(reversed(wanted), key=_claim_of)[1]


def _claim_of(entry: tuple[Claim, int]) -> Claim:
    return entry[0]
