"""Connections ready for use: indexed by address, and with the negotiators that remember what a fleet offers.

An index belongs to one configuration; a new configuration gets a new index, and with it empty memories.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from heapq import merge
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Final

import msgspec

from cygnet.auth.identity import EXACT, Identity, MatchKey, matches
from cygnet.iana import KeId, TransformType
from cygnet.ike.address_sets import AddressSet, NetworkTable
from cygnet.ike.carriage import carriage_of
from cygnet.ike.lifetimes import ChildLifetimes, IkeLifetimes
from cygnet.ike.path import Path
from cygnet.ike.proposals import Negotiator, ProposalChoice, ProposalSettings
from cygnet.ike.selectors import TrafficPolicy
from cygnet.ike.settings import ChildSettings, ConnectionSettings, Mode
from cygnet.wire.payloads.security_association import SecurityAssociation

_FEW: Final = 8
"""Connections that are looked through sooner than an index of them."""

_MAX_OURS: Final = 256
"""Addresses of ours that are remembered."""
_MAX_KNOWN: Final = 16384
"""Sets of candidates that are remembered."""


@lru_cache(maxsize=1024)
def _negotiator(proposals: tuple[ProposalSettings, ...], *, has_ke: bool) -> Negotiator:
    """One for all that have the same proposals: what it remembers serves all of them."""
    return Negotiator(proposals, has_ke=has_ke)


class Child:
    """A `children` section, with its negotiators: for IKE_AUTH, and `further` for CREATE_CHILD_SA.

    IKE_AUTH has no key exchange of its own for the CHILD_SA (RFC 7296 section 1.2).
    """

    __slots__ = (
        "carriage",
        "further_negotiator",
        "further_offer",
        "ke_methods",
        "lifetimes",
        "local",
        "negotiator",
        "offer",
        "remote",
        "settings",
        "transport_carriage",
    )

    def __init__(self, settings: ChildSettings) -> None:
        self.settings = settings
        self.carriage = carriage_of(settings)
        self.transport_carriage = self.carriage.in_transport_mode()
        self.negotiator = _negotiator(settings.esp_proposals, has_ke=False)
        self.offer: SecurityAssociation = self.negotiator.offer
        self.further_negotiator = _negotiator(settings.esp_proposals, has_ke=True)
        self.further_offer: SecurityAssociation = self.further_negotiator.offer
        self.ke_methods = _ke_methods(settings.esp_proposals)
        """The key exchange methods that we may use, best first; empty without PFS."""
        self.lifetimes = ChildLifetimes.of(settings)
        self.local = TrafficPolicy(settings.local_ts)
        self.remote = TrafficPolicy(settings.remote_ts)


def _ke_methods(proposals: Iterable[ProposalSettings]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(t.id for p in proposals for t in p.of_type(TransformType.KE) if t.id != KeId.NONE))


class Connection:
    """A `connections` section, with its negotiator and its children."""

    __slots__ = (
        "children",
        "has_transport",
        "ike_offer",
        "ke_methods",
        "lifetimes",
        "local",
        "negotiator",
        "origin",
        "remote",
        "settings",
        "tally",
    )

    def __init__(self, settings: ConnectionSettings, *, before: "Connection | None" = None) -> None:
        """`before` is the one of that name that this takes the place of."""
        self.settings = settings
        self.origin: Connection | None = None
        """The connection that this is a twin of."""
        self.tally: dict[str, int] = before.tally if before is not None else {}
        """What its IKE_SAs have counted, by the names of series."""
        self.negotiator = _negotiator(settings.proposals, has_ke=True)
        self.children = tuple(Child(child) for child in settings.children)
        self.ike_offer: SecurityAssociation = self.negotiator.offer
        self.ke_methods = _ke_methods(settings.proposals)
        """The key exchange methods that we may use, best first."""
        self.lifetimes = IkeLifetimes.of(settings)
        self.has_transport = any(child.mode is Mode.TRANSPORT for child in settings.children)
        """Whether any of its children is to be in transport mode."""
        self.local = AddressSet(settings.local_addrs)
        self.remote = AddressSet(settings.remote_addrs)

    def child(self, name: str) -> Child | None:
        """The child of that name."""
        return next((child for child in self.children if child.settings.name == name), None)

    def with_local_id(self, identity: Identity) -> "Connection":
        """The same connection for another identity of ours; it shares all else, so a fleet of them is cheap."""
        twin = Connection.__new__(Connection)
        for name, value in zip(_SHARED_BY_TWINS, _shared_by_twins(self), strict=True):
            setattr(twin, name, value)
        twin.origin = self.origin or self
        twin.settings = msgspec.structs.replace(
            self.settings, local=msgspec.structs.replace(self.settings.local, id=identity)
        )
        return twin

    def fits(self, path: Path) -> bool:
        """Whether its addresses admit a peer on this path."""
        return self.local.covers(path.local) and self.remote.covers(path.remote)


_SHARED_BY_TWINS: Final = tuple(name for name in Connection.__slots__ if name != "settings")
_shared_by_twins: Final = attrgetter(*_SHARED_BY_TWINS)


class _Part:
    """Connections in their order, and which of them an identity of the peer's may fit."""

    __slots__ = ("_by_identity", "_patterned", "connections", "distinct")

    def __init__(self, connections: tuple[Connection, ...]) -> None:
        self.connections = connections
        self.distinct = tuple({id(c.negotiator): c for c in reversed(connections)}.values())[::-1]
        """The first connection with each negotiator."""
        self._by_identity: dict[MatchKey, list[int]] | None = None
        self._patterned: list[int] = []

    def may_fit(self, identity: Identity) -> Iterator[Connection]:
        """The connections with that identity as the peer's, or with a pattern, in their order."""
        if len(self.connections) <= _FEW:
            return iter(self.connections)
        if self._by_identity is None:
            self._by_identity = self._index()
        exact = self._by_identity.get(identity.match_key, ())
        either = exact if not self._patterned else self._patterned if not exact else merge(exact, self._patterned)
        return map(self.connections.__getitem__, either)

    def _index(self) -> dict[MatchKey, list[int]]:
        by_identity: dict[MatchKey, list[int]] = {}
        for number, connection in enumerate(self.connections):
            identity = connection.settings.remote.id
            if identity.is_pattern:
                self._patterned.append(number)
            else:
                by_identity.setdefault(identity.match_key, []).append(number)
        return by_identity


class Candidates:
    """Connections that a peer may use, the most specific first. It is cheap to make of parts that are there."""

    __slots__ = ("_distinct", "_parts", "first")

    def __init__(
        self,
        connections: tuple[Connection, ...] = (),
        *,
        parts: tuple[_Part, ...] = (),
        first: Connection | None = None,
    ) -> None:
        self._parts = parts or (_Part(connections),)
        self._distinct: tuple[Connection, ...] | None = None
        self.first = first if first is not None else next(iter(self), None)
        """The one whose proposals the peer's offer was matched with."""

    def __iter__(self) -> Iterator[Connection]:
        return chain.from_iterable(part.connections for part in self._parts)

    def distinct(self) -> tuple[Connection, ...]:
        """Of those that accept the same proposals the first."""
        if self._distinct is None:
            found: dict[int, Connection] = {}
            for connection in chain.from_iterable(part.distinct for part in self._parts):
                found.setdefault(id(connection.negotiator), connection)
            self._distinct = tuple(found.values())
        return self._distinct

    def led_by(self, first: Connection) -> "Candidates":
        """The same, for a peer whose offer those before `first` do not accept; none of them allows what `first` has
        chosen of it."""
        return self if first is self.first else Candidates(parts=self._parts, first=first)

    def may_fit(self, identity: Identity) -> Iterator[Connection]:
        """The connections with that identity as the peer's, or with a pattern, in their order."""
        if len(self._parts) == 1:
            return self._parts[0].may_fit(identity)
        return chain.from_iterable(part.may_fit(identity) for part in self._parts)


class _Group:
    """Connections with the same `local_addrs` and `remote_addrs`."""

    __slots__ = ("local", "members", "remote")

    def __init__(self, first: Connection) -> None:
        self.local = first.local
        self.remote = first.remote
        self.members: list[tuple[int, Connection]] = []
        """With their places in the configuration."""


class ConnectionIndex:
    """Finds the connections that a peer may use by its address: those that name it, then those with a subnet that it is
    in, the smallest first, then those for all; each in the order of the configuration.

    What that costs depends on how many different sets of addresses fit, not on how many connections there are.
    """

    __slots__ = (
        "_admitted",
        "_any",
        "_by_name",
        "_by_remote",
        "_groups",
        "_has_overlaps",
        "_known",
        "_networks",
        "_pairs",
        "_parts",
        "_unrestricted",
    )

    def __init__(self, settings: Iterable[ConnectionSettings], *, before: "ConnectionIndex | None" = None) -> None:
        """What has not changed since `before` is taken from there."""
        self._by_name: dict[str, Connection] = {}
        groups: dict[tuple[frozenset[str], frozenset[str]], _Group] = {}
        for number, each in enumerate(settings):
            old = before.named(each.name) if before is not None else None
            connection = old if old is not None and old.settings == each else Connection(each, before=old)
            self._by_name[each.name] = connection
            both = frozenset(each.local_addrs), frozenset(each.remote_addrs)
            if both not in groups:
                groups[both] = _Group(connection)
            groups[both].members.append((number, connection))
        self._groups = tuple(groups.values())
        self._any: list[int] = []
        """The groups for peers from anywhere."""
        self._by_remote: dict[str, list[int]] = {}
        self._networks = NetworkTable()
        for number, group in enumerate(self._groups):
            if group.remote.is_any:
                self._any.append(number)
            for address in group.remote.single:
                self._by_remote.setdefault(address, []).append(number)
            for network in group.remote.networks():
                self._networks.add(network, number)
        self._has_overlaps = any(group.remote.may_cover_twice for group in self._groups)
        self._admitted: dict[str, tuple[bytes, tuple[int, ...]]] = {}
        """By an address of ours: which groups admit it, an octet for each, and those of `_any` that do."""
        self._parts: dict[tuple[int, ...], _Part] = {}
        self._known: dict[tuple[tuple[int, ...], ...], Candidates] = {}
        """What was put together of these groups before."""
        self._pairs = Counter((c.settings.local.id, c.settings.remote.id) for c in self._by_name.values())
        self._unrestricted: Candidates | None = None
        if all(group.remote.is_any and group.local.is_any for group in self._groups):
            self._unrestricted = Candidates(tuple(self._by_name.values()))

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
        if self._unrestricted is not None:
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
        is_admitted = bytes(group.local.covers(local) for group in self._groups)
        found = self._admitted[local] = is_admitted, tuple(n for n in self._any if is_admitted[n])
        return found

    def _part(self, numbers: tuple[int, ...]) -> _Part:
        part = self._parts.get(numbers)
        if part is None:
            members = merge(*(self._groups[number].members for number in numbers), key=itemgetter(0))
            if len(self._parts) >= _MAX_KNOWN:
                self._parts.clear()
            part = self._parts[numbers] = _Part(tuple(connection for _, connection in members))
        return part


def choose_connection(
    candidates: Candidates, id_i: Identity, id_r: Identity | None, choice: ProposalChoice | None = None
) -> Connection | None:
    """Choose, as responder, by the identities that the initiator names: the best match; of equal ones the one with the
    most specific addresses, and of these the first.

    Deviation: strongSwan (`backend_manager.c`) puts a connection before another one if it is no worse in addresses and
    in identities, and better in one of them; where each is better in one of them, the first comes first. There is no
    such case here: what a peer proves to be weighs more than where it comes from.

    `id_i` is the initiator's own identity, `id_r` the one of ours that it asks for, if it does. `choice` is what the
    first candidate agreed on in IKE_SA_INIT; another one must allow it too, or its policy would be got round.
    """
    first = candidates.first
    agreed_by = first.negotiator if first is not None else None
    best: Connection | None = None
    best_quality = -1
    perfect = EXACT if id_r is None else 2 * EXACT
    for candidate in candidates.may_fit(id_i):
        settings = candidate.settings
        quality = matches(settings.remote.id, id_i)
        if quality is None:
            continue
        if id_r is not None:
            ours = matches(settings.local.id, id_r)
            if ours is None:
                continue
            quality += ours
        if quality > best_quality and (
            choice is None or candidate.negotiator is agreed_by or candidate.negotiator.allows(choice)
        ):
            best, best_quality = candidate, quality
            if quality == perfect:
                break
    return best
