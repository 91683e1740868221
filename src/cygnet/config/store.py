"""The configuration that is in force: as a file gave it, and piece by piece as clients of vici changed it since.

A piece is checked before it replaces anything. Nothing here acts on what changed: whoever changes it hands on
`settings`, which is a new object after every change.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

import msgspec

from cygnet.auth.held_credentials import HeldCertificate, HeldCredentials, HeldFiles
from cygnet.auth.identity import parse_identity
from cygnet.config.errors import ConfigError, Problem, quote
from cygnet.config.load import is_initiable, load_authority, load_connection
from cygnet.config.messages import Message, section_of
from cygnet.ike.settings import (
    AuthoritySettings,
    ConnectionSettings,
    PoolSettings,
    Settings,
    SharedSecret,
    TrapOrder,
)


class Store:
    """Connections, pools, authorities and secrets by name."""

    def __init__(self, settings: Settings, files: HeldFiles | None = None) -> None:
        """`files` are the certificates and keys that lie beside the configuration file."""
        self._base = settings
        self.connections: dict[str, ConnectionSettings] = {}
        self.pools: dict[str, PoolSettings] = {}
        self._in_order: list[PoolSettings] | None = None
        """The pools by their addresses; None until that is asked for."""
        self.secrets: dict[str, SharedSecret] = {}
        self.authorities: dict[str, AuthoritySettings] = {}
        self.held = HeldCredentials()
        """Certificates and keys. What clients tell of outlives a file that is read again."""
        self._trap_orders: dict[tuple[str, str], bool] = {}
        self.generation = 0
        """Grows with every change."""
        self._snapshot: Settings | None = None
        self.replace(settings, files)

    @property
    def settings(self) -> Settings:
        """All of it, for the core."""
        if self._snapshot is None:
            self._snapshot = msgspec.structs.replace(
                self._base,
                connections=tuple(self.connections.values()),
                pools=tuple(self.pools.values()),
                secrets=tuple(self.secrets.values()),
                authorities=tuple(self.authorities.values()),
                trap_orders=tuple(TrapOrder(*which, is_installed) for which, is_installed in self._trap_orders.items()),
            )
        return self._snapshot

    def replace(self, settings: Settings, files: HeldFiles | None = None) -> None:
        """Take a whole configuration, in place of everything."""
        self._base = settings
        self.connections = _by_name(settings.connections, self.connections)
        self.pools = _by_name(settings.pools, self.pools)
        self._in_order = None
        self.authorities = {authority.name: authority for authority in settings.authorities}
        self.held.hold_files(files or HeldFiles())
        self.secrets = {f"file-{number}": secret for number, secret in enumerate(settings.secrets)}
        self._changed()

    def replace_base(self, settings: Settings) -> None:
        """Take what a whole configuration says of the daemon itself; connections and all the rest stay."""
        self._base = settings
        self._changed()

    # Connections.

    def load_connection(self, name: str, message: Message) -> tuple[Problem, ...]:
        """Add or replace a connection; returns the warnings. Raises ConfigError."""
        connection, warnings = load_connection(section_of(name, message))
        # What is loaded again as it was, as by each `swanctl --load-all`, is no change.
        if self.connections.get(name) != connection:
            self.connections[name] = connection
            self._changed()
        return warnings

    def unload_connection(self, name: str) -> bool:
        """Remove a connection; False if there is none of that name."""
        return self._removed(self.connections.pop(name, None))

    def find(self, ike: str, child: str) -> ConnectionSettings | None:
        """The first connection of that name that has such a child; an empty name stands for any."""
        for connection in self.connections.values():
            if ike in ("", connection.name) and (not child or child in [each.name for each in connection.children]):
                return connection
        return None

    # Traps.

    def order_trap(
        self, ike: str, child: str, *, is_installed: bool, trapped: Collection[tuple[str, str]] = ()
    ) -> bool:
        """Install the trap of a child, or uninstall it; `ike` may be empty. False if there is no such child or trap.

        `trapped` are the names of the connections and children that have one now.

        Raises ConfigError if its peer has no address to connect to.
        """
        for connection in self.connections.values():
            which = (connection.name, child)
            if ike not in ("", connection.name) or child not in [each.name for each in connection.children]:
                continue
            if is_installed and not is_initiable(connection):
                raise _error(f"remote_addrs of {quote(connection.name)} hold no single address to connect to")
            if is_installed or which in trapped:
                self._trap_orders[which] = is_installed
                self._changed()
                return True
        return False

    # Pools.

    def check_pool(self, pool: PoolSettings) -> None:
        """Raise ConfigError if its addresses are those of another pool too."""
        for other in self._neighbours(pool):
            if pool.overlaps(other):
                raise _error(f"addrs of pool {quote(pool.name)} overlap with those of {quote(other.name)}")

    def put_pool(self, pool: PoolSettings) -> None:
        """Add or replace a pool, if it is good beside the others of now. Raises ConfigError."""
        self.check_pool(pool)
        replaced = self.pools.get(pool.name)
        if replaced == pool:
            return
        self.pools[pool.name] = pool
        if self._in_order is not None:
            # Of a thousand pools that are loaded one by one, each is put in its place.
            if replaced is not None:
                self._in_order.remove(replaced)
            insort(self._in_order, pool, key=_place)
        self._changed()

    def remove_pool(self, name: str) -> bool:
        """Remove a pool; False if there is none of that name."""
        self._in_order = None
        return self._removed(self.pools.pop(name, None))

    def _neighbours(self, pool: PoolSettings) -> list[PoolSettings]:
        """The other pools that begin next to where this one begins, before and after it. As pools do not overlap, this
        one overlaps with one of these, or with none."""
        if self._in_order is None:
            self._in_order = sorted(self.pools.values(), key=_place)
        at = bisect_left(self._in_order, _place(pool), key=_place)
        # One of the next two on either side may be what it is to replace.
        before, after = self._in_order[max(at - 2, 0) : at][::-1], self._in_order[at : at + 2]
        return [near for side in (before, after) for near in [p for p in side if p.name != pool.name][:1]]

    # Authorities.

    def load_authority(
        self, name: str, message: Message, certificate: HeldCertificate | None = None
    ) -> tuple[Problem, ...]:
        """Add or replace a certification authority; returns the warnings. Raises ConfigError."""
        authority, warnings = load_authority(section_of(name, message))
        self.authorities[name] = authority
        self.held.authorities.pop(name, None)
        if certificate is not None:
            self.held.authorities[name] = certificate
        self._changed()
        return warnings

    def unload_authority(self, name: str) -> bool:
        """Remove an authority; False if there is none of that name."""
        self.held.authorities.pop(name, None)
        return self._removed(self.authorities.pop(name, None))

    # Secrets.

    def load_secret(self, key: str, secret: bytes, owners: Iterable[str]) -> None:
        """Add a shared secret, in place of the one with the same key; without a key, beside all others."""
        try:
            parsed = tuple(dict.fromkeys(map(parse_identity, owners)))
        except ValueError as exc:
            raise _error(f"owners: {exc}") from None
        shared = SharedSecret(secret=secret, owners=parsed)
        if not key:
            if shared in self.secrets.values():
                return
            key = f"vici-{self.generation}"
        if self.secrets.get(key) != shared:
            self.secrets[key] = shared
            self._changed()

    def unload_secret(self, key: str) -> bool:
        """Remove the secret with that key; False if there is none."""
        return self._removed(self.secrets.pop(key, None))

    def clear_secrets(self) -> None:
        """Remove all secrets."""
        self.secrets.clear()
        self._changed()

    def _removed(self, removed: object | None) -> bool:
        if removed is None:
            return False
        self._changed()
        return True

    def _changed(self) -> None:
        self.generation += 1
        self._snapshot = None


_Named = TypeVar("_Named", ConnectionSettings, PoolSettings)


def _by_name(items: Iterable[_Named], before: Mapping[str, _Named]) -> dict[str, _Named]:
    """What has not changed stays the same object: so it is compared once, and not again for each worker."""
    return {item.name: old if (old := before.get(item.name)) == item and old is not None else item for item in items}


def _place(pool: PoolSettings) -> tuple[int, bytes]:
    """By which pools are in order: all of IPv4 before all of IPv6."""
    return len(pool.first), pool.first


def _error(message: str) -> ConfigError:
    return ConfigError([Problem("vici", 0, 0, message)])
