"""Which shared secret belongs to a pair of identities.

The choice is strongSwan's: the better match with the peer's identity decides, then the better match with ours, then
the order in the file. So a secret that names both ends goes before one that names the peer alone, and that before
one that names only us. A secret without owners is anybody's, at the rank of `%any`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from cygnet.auth.identity import ANY_IDENTITY, EXACT, Identity, MatchKey, matches


class OwnedSecret(Protocol):
    """A secret and whose it is; empty owners mean anybody's."""

    @property
    def secret(self) -> bytes:
        """The octets of the secret."""

    @property
    def owners(self) -> Sequence[Identity]:
        """Identities and patterns."""


class _Entry(NamedTuple):
    secret: bytes
    owners: tuple[Identity, ...]


class _Rank(NamedTuple):
    """How well a secret fits; compares like strongSwan's choice. `age` is minus the position in the file."""

    remote: int
    local: int
    age: int


class SharedSecrets:
    """The secrets of a configuration, ready to be found.

    Finding the secret of two identities that are named in full takes the same time however many secrets there are;
    only secrets with a pattern or `%any` among their owners are tried one by one.
    """

    __slots__ = ("_by_local", "_by_owner", "_entries", "_has_wildcards", "_patterned")

    def __init__(self, secrets: Iterable[OwnedSecret] = ()) -> None:
        self._entries: list[_Entry] = []
        self._by_owner: dict[MatchKey, dict[int, None]] = {}
        self._patterned: dict[int, None] = {}
        self._has_wildcards = False
        self._by_local: dict[MatchKey | None, bytes | None] = {}
        """For peers that no secret names: by our identity, None for all those that no secret names either."""
        for item in secrets:
            self.add(item)

    def add(self, item: OwnedSecret) -> None:
        """Put a secret behind the others, before the first is looked for."""
        number = len(self._entries)
        entry = _Entry(item.secret, tuple(item.owners) or (ANY_IDENTITY,))
        self._entries.append(entry)
        for owner in entry.owners:
            if owner.is_pattern:
                self._patterned[number] = None
                self._has_wildcards = self._has_wildcards or not owner.is_any
            else:
                self._by_owner.setdefault(owner.match_key, {})[number] = None

    def dissolve(self) -> Iterator[None]:
        """Take it apart, step by step, when it is not used any more: to let go of it at once would take long."""
        while self._entries:
            self._entries.pop()
            yield
        while self._by_owner:
            self._by_owner.popitem()
            yield

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"SharedSecrets(<{len(self._entries)} secrets>)"

    def find(self, local: Identity, remote: Identity) -> bytes | None:
        """The secret for our identity `local` and the peer's `remote`; None if there is none."""
        named = self._by_owner
        if self._has_wildcards or (named and remote.match_key in named):
            return self._search(local, remote)
        # No secret names the peer: then all such peers share one, which depends on our identity alone, if on that. A
        # load tester is a fleet, with an identity of ours for each tunnel, which it needs no secret of its own for.
        own = local.match_key if named else None
        key = own if own in named else None
        try:
            return self._by_local[key]
        except KeyError:
            found = self._by_local[key] = self._search(local, remote)
            return found

    def _search(self, local: Identity, remote: Identity) -> bytes | None:
        of_remote = self._by_owner.get(remote.match_key, {})
        of_local = self._by_owner.get(local.match_key, {})
        fewer, more = sorted((of_remote, of_local), key=len)
        both = next((number for number in fewer if number in more), None)
        if both is not None:
            return self._entries[both].secret
        candidates = set(self._patterned)
        for bucket in (of_remote, of_local):
            # All that are in here only by this one name rank alike: the first of them stands for the rest.
            candidates.update(next(([n] for n in bucket if n not in self._patterned), ()))
        best = max(((self._rank(n, local, remote), n) for n in candidates), default=None)
        if best is None or not (best[0].remote or best[0].local):
            return None
        return self._entries[best[1]].secret

    def _rank(self, number: int, local: Identity, remote: Identity) -> _Rank:
        owners = self._entries[number].owners
        return _Rank(_best_match(owners, remote), _best_match(owners, local), -number)


def _best_match(owners: Iterable[Identity], identity: Identity) -> int:
    best = 0
    for owner in owners:
        best = max(best, matches(owner, identity) or 0)
        if best == EXACT:
            break
    return best
