"""Connections ready for use: with the negotiators that remember what a fleet offers, and those of them that may be a
peer's; see `connection_index.py` for all of a configuration.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from heapq import merge
from itertools import chain
from operator import is_not, itemgetter
from typing import Final

import msgspec

from cygnet.auth.identity import EXACT, Identity, MatchKey, matches
from cygnet.iana import KeId, TransformType
from cygnet.ike.address_sets import AddressSet
from cygnet.ike.carriage import carriage_of
from cygnet.ike.lifetimes import ChildLifetimes, IkeLifetimes
from cygnet.ike.path import Path
from cygnet.ike.proposals import Negotiator, ProposalChoice, ProposalSettings
from cygnet.ike.selectors import SelectorSettings, TrafficPolicy
from cygnet.ike.settings import ChildSettings, ConnectionSettings, Mode
from cygnet.wire.payloads.security_association import SecurityAssociation

_FEW: Final = 8
"""Connections that are looked through sooner than an index of them."""

_ANYWHERE: Final = AddressSet(())


class _Algorithms(msgspec.Struct, frozen=True):
    """What comes of proposals. One for all that have the same: what it remembers serves all of them."""

    proposals: tuple[ProposalSettings, ...]
    negotiator: Negotiator
    ke_methods: tuple[int, ...]
    """The key exchange methods that we may use, best first."""


@lru_cache(maxsize=1024)
def _algorithms(proposals: tuple[ProposalSettings, ...], *, has_ke: bool = True) -> _Algorithms:
    ke_methods = (t.id for p in proposals for t in p.of_type(TransformType.KE) if t.id != KeId.NONE)
    return _Algorithms(proposals, Negotiator(proposals, has_ke=has_ke), tuple(dict.fromkeys(ke_methods)))


@lru_cache(maxsize=1024)
def _policy(selectors: tuple[SelectorSettings, ...]) -> TrafficPolicy:
    return TrafficPolicy(selectors)


@lru_cache(maxsize=1024)
def _address_set(texts: tuple[str, ...]) -> AddressSet:
    return AddressSet(texts)


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
        self.negotiator = _algorithms(settings.esp_proposals, has_ke=False).negotiator
        self.offer: SecurityAssociation = self.negotiator.offer
        further = _algorithms(settings.esp_proposals)
        self.further_negotiator = further.negotiator
        self.further_offer: SecurityAssociation = self.further_negotiator.offer
        self.ke_methods = further.ke_methods
        """The key exchange methods that we may use, best first; empty without PFS."""
        self.lifetimes = ChildLifetimes.of(settings)
        self.local = _policy(settings.local_ts)
        self.remote = _policy(settings.remote_ts)


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

    def __init__(
        self,
        settings: ConnectionSettings,
        *,
        before: "Connection | None" = None,
        child: Callable[[ChildSettings], Child] = Child,
    ) -> None:
        """`before` is the one of that name that this takes the place of; `child` makes its children, or has them."""
        algorithms = _algorithms(settings.proposals)
        self.children = tuple(child(each) for each in settings.children)
        self.settings = settings
        shared = tuple(each.settings for each in self.children)
        if settings.proposals is not algorithms.proposals or any(map(is_not, shared, settings.children)):
            # The settings too have once what many have alike.
            self.settings = msgspec.structs.replace(settings, proposals=algorithms.proposals, children=shared)
        self.origin: Connection | None = None
        """The connection that this is a twin of."""
        self.tally: dict[str, int] = before.tally if before is not None else {}
        """What its IKE_SAs have counted, by the names of series."""
        self.negotiator = algorithms.negotiator
        self.ike_offer: SecurityAssociation = self.negotiator.offer
        self.ke_methods = algorithms.ke_methods
        """The key exchange methods that we may use, best first."""
        self.lifetimes = IkeLifetimes.of(settings)
        self.has_transport = any(child.mode is Mode.TRANSPORT for child in settings.children)
        """Whether any of its children is to be in transport mode."""
        self.local = _address_set(settings.local_addrs)
        self.remote = _address_set(settings.remote_addrs)

    def child(self, name: str) -> Child | None:
        """The child of that name."""
        return next((child for child in self.children if child.settings.name == name), None)

    def with_local_id(self, identity: Identity) -> "Connection":
        """The same connection for another identity of ours; it shares all else, so a fleet of them is cheap."""
        twin = Connection.__new__(Connection)
        # One by one, since a load generator begins each tunnel with a twin: a loop over names takes thrice as long.
        twin.children = self.children
        twin.has_transport = self.has_transport
        twin.ike_offer = self.ike_offer
        twin.ke_methods = self.ke_methods
        twin.lifetimes = self.lifetimes
        twin.local = self.local
        twin.negotiator = self.negotiator
        twin.remote = self.remote
        twin.tally = self.tally
        twin.origin = self.origin or self
        twin.settings = msgspec.structs.replace(
            self.settings, local=msgspec.structs.replace(self.settings.local, id=identity)
        )
        return twin

    def fits(self, path: Path) -> bool:
        """Whether its addresses admit a peer on this path."""
        return self.local.covers(path.local) and self.remote.covers(path.remote)


_Place = tuple[int, Connection]
"""A connection, and where in the configuration it stands."""
_number_of: Final = itemgetter(0)
_connection_of: Final = itemgetter(1)


class Group:
    """Connections with the same `local_addrs` and `remote_addrs`, and which of them an identity of the peer's may
    fit."""

    __slots__ = ("_patterned", "by_identity", "distinct", "local", "members", "remote")

    def __init__(self, local: AddressSet = _ANYWHERE, remote: AddressSet = _ANYWHERE) -> None:
        self.local = local
        self.remote = remote
        self.members: list[_Place] = []
        self.distinct: dict[int, _Place] = {}
        """The first with each negotiator."""
        self.by_identity: dict[MatchKey, list[_Place]] = {}
        """Of those without a pattern, once there are more than a few."""
        self._patterned: list[_Place] = []

    def add(self, place: _Place) -> None:
        self.members.append(place)
        self.distinct.setdefault(id(place[1].negotiator), place)
        if len(self.members) == _FEW + 1:
            for member in self.members:
                self._index(member)
        elif len(self.members) > _FEW:
            self._index(place)

    def _index(self, place: _Place) -> None:
        identity = place[1].settings.remote.id
        if identity.is_pattern:
            self._patterned.append(place)
        else:
            self.by_identity.setdefault(identity.match_key, []).append(place)

    def may_fit(self, identity: Identity) -> Iterable[_Place]:
        """Those with that identity as the peer's, or with a pattern, in their order."""
        if len(self.members) <= _FEW:
            return self.members
        exact = self.by_identity.get(identity.match_key, ())
        if not self._patterned:
            return exact
        return merge(exact, self._patterned, key=_number_of) if exact else self._patterned


class Part:
    """The connections of some groups, in their order. Nothing is made for each connection, however many there are."""

    __slots__ = ("_groups", "distinct")

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        firsts = sorted(chain.from_iterable(group.distinct.values() for group in groups), key=_number_of)
        self.distinct = tuple({id(c.negotiator): c for _, c in reversed(firsts)}.values())[::-1]
        """The first connection with each negotiator."""

    def connections(self) -> Iterator[Connection]:
        """All of them."""
        return map(_connection_of, merge(*(group.members for group in self._groups), key=_number_of))

    def may_fit(self, identity: Identity) -> Iterator[Connection]:
        """Those with that identity as the peer's, or with a pattern, in their order."""
        if len(self._groups) == 1:
            return map(_connection_of, self._groups[0].may_fit(identity))
        found = [group.may_fit(identity) for group in self._groups]
        return map(_connection_of, merge(*found, key=_number_of))


class Candidates:
    """Connections that a peer may use, the most specific first. It is cheap to make of parts that are there."""

    __slots__ = ("_distinct", "_parts", "first")

    def __init__(
        self,
        connections: tuple[Connection, ...] = (),
        *,
        parts: tuple[Part, ...] = (),
        first: Connection | None = None,
    ) -> None:
        self._parts = parts or (_part_of(connections),)
        self._distinct: tuple[Connection, ...] | None = None
        self.first = first if first is not None else next(iter(self), None)
        """The one whose proposals the peer's offer was matched with."""

    def __iter__(self) -> Iterator[Connection]:
        return chain.from_iterable(part.connections() for part in self._parts)

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


def _part_of(connections: Iterable[Connection]) -> Part:
    group = Group()
    for place in enumerate(connections):
        group.add(place)
    return Part((group,))


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
