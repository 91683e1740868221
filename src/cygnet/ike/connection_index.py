"""All connections of a configuration, found by address.

An index belongs to one configuration; a new configuration gets a new index. It is made connection by connection, so
that whoever serves peers meanwhile can do so in between, and nothing is left to do for the first that comes. What
connections have alike they share: of ten thousand that differ in an identity the children are there once, and what one
peer's set-up has brought into the processor's caches, or remembers, serves the next.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from cygnet.auth.identity import Identity
from cygnet.ike.address_sets import NetworkTable
from cygnet.ike.connections import Candidates, Child, Connection, Group, Part
from cygnet.ike.path import Path
from cygnet.ike.settings import ChildSettings, ConnectionSettings, StartAction

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_NO_START: Final = StartAction.NONE

_MAX_OURS: Final = 256
"""Addresses of ours that are remembered."""
_MAX_KNOWN: Final = 16384
"""Sets of candidates that are remembered."""


class ConnectionIndex:
    """Finds the connections that a peer may use by its address: those that name it, then those with a subnet that it is
    in, the smallest first, then those for all; each in the order of the configuration.

    What that costs depends on how many different sets of addresses fit, not on how many connections there are.
    """

    __slots__ = (
        "_admitted",
        "_any",
        "_by_addresses",
        "_by_name",
        "_by_remote",
        "_groups",
        "_has_overlaps",
        "_is_unrestricted",
        "_known",
        "_networks",
        "_pairs",
        "_parts",
        "_shared",
        "_unrestricted",
        "scripted",
        "starting",
        "trapped",
    )

    def __init__(self, settings: Iterable[ConnectionSettings] = (), *, before: "ConnectionIndex | None" = None) -> None:
        """What has not changed since `before` is taken from there."""
        self._by_name: dict[str, Connection] = {}
        self._groups: list[Group] = []
        self._by_addresses: dict[tuple[frozenset[str], frozenset[str]], Group] = {}
        self._any: list[int] = []
        """The groups for peers from anywhere."""
        self._by_remote: dict[str, list[int]] = {}
        self._networks = NetworkTable()
        self._has_overlaps = False
        self._admitted: dict[str, tuple[bytes, tuple[int, ...]]] = {}
        """By an address of ours: which groups admit it, an octet for each, and those of `_any` that do."""
        self._parts: dict[tuple[int, ...], Part] = {}
        self._known: dict[tuple[tuple[int, ...], ...], Candidates] = {}
        """What was put together of these groups before."""
        self._pairs: Counter[tuple[Identity, Identity]] = Counter()
        self._is_unrestricted = True
        self._unrestricted: Candidates | None = None
        """All of them, if all are for all addresses; None until somebody asks."""
        self._shared: dict[ChildSettings, Child] = {}
        self.starting: dict[str, Connection] = {}
        """By name, those with a child that is to be started."""
        self.trapped: dict[str, Connection] = {}
        """By name, those with a child that packets are to set up."""
        self.scripted: set[tuple[str, str]] = set()
        """The children that have a script, by the names of the connection and the child."""
        for each in settings:
            self.add(each, before)
        self.complete()

    def add(self, settings: ConnectionSettings, before: "ConnectionIndex | None" = None) -> None:
        """Put a connection behind the others. If that of `before` has these settings, it is taken from there."""
        old = before.named(settings.name) if before is not None else None
        if old is not None and (old.settings is settings or old.settings == settings):
            self.keep(old)
        else:
            self.keep(Connection(settings, before=old, child=self._child))

    def complete(self) -> None:
        """There are no more to come: forget what only those would need."""
        self._shared = {}

    def keep(self, connection: Connection) -> None:
        """Put a connection behind the others that is there already."""
        settings = connection.settings
        name = settings.name
        both = frozenset(settings.local_addrs), frozenset(settings.remote_addrs)
        group = self._by_addresses.get(both)
        if group is None:
            group = self._by_addresses[both] = Group(connection.local, connection.remote)
            self._add_group(group)
        group.add((len(self._by_name), connection))
        self._by_name[name] = connection
        self._pairs[settings.local.id, settings.remote.id] += 1
        for child in settings.children:
            if child.start_action is not _NO_START:
                if child.start_action.has_start:
                    self.starting[name] = connection
                if child.start_action.has_trap:
                    self.trapped[name] = connection
            if child.updown:
                self.scripted.add((name, child.name))

    def _add_group(self, group: Group) -> None:
        number = len(self._groups)
        self._groups.append(group)
        if group.remote.is_any:
            self._any.append(number)
        for address in group.remote.single:
            self._by_remote.setdefault(address, []).append(number)
        for network in group.remote.networks():
            self._networks.add(network, number)
        self._has_overlaps = self._has_overlaps or group.remote.may_cover_twice
        self._is_unrestricted = self._is_unrestricted and group.remote.is_any and group.local.is_any

    def _child(self, settings: ChildSettings) -> Child:
        child = self._shared.get(settings)
        if child is None:
            child = self._shared[settings] = Child(settings)
        return child

    def dissolve(self) -> Iterator[None]:
        """Take it apart, step by step, when it is not used any more: to let go of it at once would take long."""
        holders: tuple[dict[Any, Any], ...] = (self._known, self._parts, self._by_addresses, self._by_remote)
        for holder in (*holders, self._pairs, self._by_name):
            yield from _emptied(holder)
        while self._groups:
            group = self._groups.pop()
            yield from _emptied(group.by_identity)
            while group.members:
                group.members.pop()
                yield
        yield from self._networks.dissolve()

    def tallies(self, name: str) -> list[tuple[str, dict[str, int]]]:
        """What was counted for each connection that has counted anything, or for the one of that name."""
        return [(each, c.tally) for each, c in self._by_name.items() if c.tally and name in ("", each)]

    def named(self, name: str) -> Connection | None:
        """The connection of that name."""
        return self._by_name.get(name)

    def has_several(self, settings: ConnectionSettings) -> bool:
        """Whether more than one connection joins the same two identities."""
        return self._pairs[settings.local.id, settings.remote.id] > 1

    def all(self) -> Iterable[Connection]:
        """Every connection, in the order of the configuration."""
        return self._by_name.values()

    def on_path(self, path: Path) -> Candidates:
        """The connections whose addresses admit a peer on this path, the most specific first."""
        if self._is_unrestricted:
            if self._unrestricted is None:
                self._unrestricted = Candidates(parts=(Part(self._groups),))
            return self._unrestricted
        is_admitted, anybody = self._admitted.get(path.local) or self._admit(path.local)
        exact = [number for number in self._by_remote.get(path.remote, ()) if is_admitted[number]]
        within = [number for number in self._networks.find(path.remote) if is_admitted[number]]
        if within and self._has_overlaps:
            within = [number for number in dict.fromkeys(within) if number not in exact]
        named = (tuple(exact),) if exact else ()
        key = (*named, *zip(within), *((anybody,) if anybody else ()))
        known = self._known.get(key)
        if known is None:
            known = Candidates(parts=tuple(map(self._part, key)))
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = known
        return known

    def _admit(self, local: str) -> tuple[bytes, tuple[int, ...]]:
        """See which groups admit an address of ours. We have few, and peers can't choose others."""
        if len(self._admitted) >= _MAX_OURS:
            self._admitted.clear()
        # Thousands of groups have a few sets of addresses of ours among them.
        covers: dict[int, bool] = {}
        for group in self._groups:
            if id(group.local) not in covers:
                covers[id(group.local)] = group.local.covers(local)
        is_admitted = bytes([covers[id(group.local)] for group in self._groups])
        found = self._admitted[local] = is_admitted, tuple(n for n in self._any if is_admitted[n])
        return found

    def _part(self, numbers: tuple[int, ...]) -> Part:
        part = self._parts.get(numbers)
        if part is None:
            if len(self._parts) >= _MAX_KNOWN:
                self._parts.clear()
            part = self._parts[numbers] = Part([self._groups[number] for number in numbers])
        return part


def _emptied(holder: dict[Any, Any]) -> Iterator[None]:
    while holder:
        holder.popitem()
        yield
