"""Connections ready for use: indexed by address, and with the negotiators that remember what a fleet offers.

An index belongs to one configuration; a new configuration gets a new index, and with it empty memories.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from typing import Final, overload

import msgspec

from cygnet.auth.identity import Identity, MatchKey, matches
from cygnet.iana import KeId, TransformType
from cygnet.ike.carriage import carriage_of
from cygnet.ike.lifetimes import ChildLifetimes, IkeLifetimes
from cygnet.ike.path import Path
from cygnet.ike.proposals import Negotiator, ProposalChoice, ProposalSettings, to_offer
from cygnet.ike.selectors import TrafficPolicy
from cygnet.ike.settings import ChildSettings, ConnectionSettings
from cygnet.wire.payloads.security_association import SecurityAssociation

_ALL: Final = slice(0, None)
_FEW: Final = 8
"""Connections that are looked through sooner than an index of them."""

_AnyAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


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
    )

    def __init__(self, settings: ChildSettings) -> None:
        self.settings = settings
        self.carriage = carriage_of(settings)
        self.negotiator = Negotiator(settings.esp_proposals, has_ke=False)
        self.offer: SecurityAssociation = to_offer(settings.esp_proposals, has_ke=False)
        self.further_negotiator = Negotiator(settings.esp_proposals, has_ke=True)
        self.further_offer: SecurityAssociation = to_offer(settings.esp_proposals)
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
        "ike_offer",
        "ke_methods",
        "lifetimes",
        "local",
        "negotiator",
        "origin",
        "remote",
        "settings",
    )

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.origin: Connection | None = None
        """The connection that this is a twin of."""
        self.negotiator = Negotiator(settings.proposals, has_ke=True)
        self.children = tuple(Child(child) for child in settings.children)
        self.ike_offer: SecurityAssociation = to_offer(settings.proposals)
        self.ke_methods = _ke_methods(settings.proposals)
        """The key exchange methods that we may use, best first."""
        self.lifetimes = IkeLifetimes.of(settings)
        self.local = _AddressSet(settings.local_addrs)
        self.remote = _AddressSet(settings.remote_addrs)

    def child(self, name: str) -> Child | None:
        """The child of that name."""
        return next((child for child in self.children if child.settings.name == name), None)

    def with_local_id(self, identity: Identity) -> "Connection":
        """The same connection for another identity of ours; it shares all else, so a fleet of them is cheap."""
        twin = Connection.__new__(Connection)
        for name in _SHARED_BY_TWINS:
            setattr(twin, name, getattr(self, name))
        twin.origin = self.origin or self
        twin.settings = msgspec.structs.replace(
            self.settings, local=msgspec.structs.replace(self.settings.local, id=identity)
        )
        return twin

    def fits(self, path: Path) -> bool:
        """Whether its addresses admit a peer on this path."""
        return self.local.covers(path.local) and self.remote.covers(path.remote)


_SHARED_BY_TWINS: Final = tuple(name for name in Connection.__slots__ if name != "settings")


class _AddressSet:
    """`local_addrs` or `remote_addrs`: single addresses, subnets and ranges; empty covers all."""

    __slots__ = ("_ranges", "single")

    def __init__(self, texts: Iterable[str]) -> None:
        single: set[str] = set()
        ranges: list[tuple[_AnyAddress, _AnyAddress]] = []
        for text in texts:
            if "/" in text:
                network = ipaddress.ip_network(text, strict=False)
                ranges.append((network.network_address, network.broadcast_address))
            elif "-" in text:
                low, _, high = text.partition("-")
                ranges.append((ipaddress.ip_address(low.strip()), ipaddress.ip_address(high.strip())))
            else:
                single.add(str(ipaddress.ip_address(text)))
        self.single = frozenset(single)
        self._ranges = tuple(ranges)

    @property
    def is_any(self) -> bool:
        return not self.single and not self._ranges

    @property
    def has_ranges(self) -> bool:
        return bool(self._ranges)

    def covers(self, address: str) -> bool:
        if self.is_any or address in self.single:
            return True
        if not self._ranges:
            return False
        packed = ipaddress.ip_address(address)
        return any(low.version == packed.version and int(low) <= int(packed) <= int(high) for low, high in self._ranges)


class Candidates(Sequence[Connection]):
    """Connections that a peer may use, in their order, and which of them an identity of the peer's may fit."""

    __slots__ = ("_by_identity", "_connections", "_patterned")

    def __init__(self, connections: tuple[Connection, ...] = ()) -> None:
        self._connections = connections
        self._by_identity: dict[MatchKey, list[int]] | None = None
        self._patterned: list[int] = []

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._connections)

    @overload
    def __getitem__(self, index: int) -> Connection: ...
    @overload
    def __getitem__(self, index: slice) -> "Candidates": ...
    def __getitem__(self, index: int | slice) -> "Connection | Candidates":
        if isinstance(index, int):
            return self._connections[index]
        # Nearly always the first made the choice; then what was indexed once serves all peers.
        return self if index == _ALL else Candidates(self._connections[index])

    def may_fit(self, identity: Identity) -> Iterator[Connection]:
        """The connections with that identity as the peer's, or with a pattern, in their order."""
        if len(self._connections) <= _FEW:
            return iter(self._connections)
        if self._by_identity is None:
            self._by_identity = self._index()
        exact = self._by_identity.get(identity.match_key, ())
        return map(self._connections.__getitem__, merge(exact, self._patterned))

    def _index(self) -> dict[MatchKey, list[int]]:
        by_identity: dict[MatchKey, list[int]] = {}
        for number, connection in enumerate(self._connections):
            identity = connection.settings.remote.id
            if identity.is_pattern:
                self._patterned.append(number)
            else:
                by_identity.setdefault(identity.match_key, []).append(number)
        return by_identity


class ConnectionIndex:
    """Finds the connections that a peer may use: by its address in one look-up, then the wide ones in their order."""

    __slots__ = ("_by_name", "_by_remote", "_pairs", "_unrestricted", "_wide")

    def __init__(self, settings: Iterable[ConnectionSettings], *, before: "ConnectionIndex | None" = None) -> None:
        """What has not changed since `before` is taken from there."""
        self._by_name: dict[str, Connection] = {}
        self._by_remote: dict[str, list[Connection]] = {}
        self._wide: list[Connection] = []
        for each in settings:
            old = before.named(each.name) if before is not None else None
            connection = old if old is not None and old.settings == each else Connection(each)
            self._by_name[each.name] = connection
            for address in connection.remote.single:
                self._by_remote.setdefault(address, []).append(connection)
            if connection.remote.is_any or connection.remote.has_ranges:
                self._wide.append(connection)
        self._pairs = Counter((c.settings.local.id, c.settings.remote.id) for c in self._by_name.values())
        self._unrestricted: Candidates | None = None
        if not self._by_remote and all(c.remote.is_any and c.local.is_any for c in self._wide):
            self._unrestricted = Candidates(tuple(self._wide))

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
        exact = [c for c in self._by_remote.get(path.remote, ()) if c.local.covers(path.local)]
        return Candidates(tuple(exact + [c for c in self._wide if c not in exact and c.fits(path)]))


def choose_connection(
    candidates: Candidates, id_i: Identity, id_r: Identity | None, choice: ProposalChoice | None = None
) -> Connection | None:
    """Choose, as responder, by the identities that the initiator names: the best match, the first among equals.

    `id_i` is the initiator's own identity, `id_r` the one of ours that it asks for, if it does. `choice` is what the
    first candidate agreed on in IKE_SA_INIT; another one must allow it too, or its policy would be got round.
    """
    best: Connection | None = None
    best_quality = -1
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
            candidate is candidates[0] or choice is None or candidate.negotiator.allows(choice)
        ):
            best, best_quality = candidate, quality
    return best
