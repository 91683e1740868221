"""What the commands ask of the daemon. None of it may wait for long without being cancelled safely."""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import msgspec

from cygnet.config.store import Store
from cygnet.ike.settings import PoolSettings
from cygnet.vici.views import SaFilter


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """A virtual address that a peer holds."""

    address: str
    identity: str


class PoolUse(msgspec.Struct, frozen=True):
    """How a pool is used."""

    pool: PoolSettings
    size: int
    online: int
    leases: tuple[Lease, ...] = ()


class Stats(msgspec.Struct, frozen=True):
    """The daemon at a glance."""

    started: float
    """Seconds since the epoch."""
    workers: int
    workers_ready: int
    ike_sas: int
    half_open: int
    queued: tuple[int, ...]
    """Datagrams that wait in the workers, in each of the four queues in the order of service: of established SAs, of
    handshakes under way, of new peers, and of no SA."""
    busy: tuple[int, ...]
    """Workers by the first of these queues in which something waits."""
    timers: int
    """That are set."""
    listening: tuple[str, ...]
    """Addresses with their ports."""
    memory_octets: int
    """Resident memory of the workers, what they share counted in each."""


class Reloaded(msgspec.Struct, frozen=True):
    """What a reload has done."""

    changed: tuple[str, ...]
    """What is different now, in words."""
    warnings: tuple[str, ...]


class Outcome(msgspec.Struct, frozen=True):
    """Of a command on several SAs."""

    matches: int
    done: int


class Backend(Protocol):
    """The daemon."""

    store: Store

    async def take_effect(self) -> None:
        """Put into force what was loaded: as soon as this returns, or in a moment where very much is loaded.

        Raises CommandError.
        """

    async def apply(self) -> None:
        """Put what the store holds now into force; returns when every worker has it."""

    async def put_pool(self, pool: PoolSettings) -> None:
        """Add or replace a pool.

        Raises CommandError if addresses of the old one are in use, and ConfigError if it overlaps with another one.
        """

    async def remove_pool(self, name: str) -> None:
        """Remove a pool. Raises CommandError if there is none, or addresses of it are in use."""

    async def reload(self) -> Reloaded:
        """Read the configuration file again, and put it into force as a whole.

        Raises CommandError, and changes nothing, if there is anything wrong with it.
        """

    async def reload_settings(self) -> Reloaded:
        """Read the file again, and put into force what it says of the daemon itself. Raises CommandError, likewise."""

    def sas(self, chosen: SaFilter) -> AsyncIterator[bytes]:
        """The SAs that are meant, as packets of the event `list-sa`, many at a time: a stream that waits for its
        reader."""

    async def traps(self) -> set[tuple[str, str]]:
        """What packets set up, by the names of the connection and the child: by its settings, by order, or because it
        was lost."""

    async def initiate(self, ike: str, child: str, *, waits: bool) -> None:
        """Set up a CHILD_SA, or with an empty `child` an IKE_SA; returns when it stands, or at once if not `waits`.

        Raises CommandError.
        """

    async def terminate(self, chosen: SaFilter, *, is_forced: bool) -> Outcome:
        """End the SAs that are meant, and tell their peers; forced, without waiting for what they say."""

    async def rekey(self, chosen: SaFilter, *, is_reauthentication: bool) -> Outcome:
        """Give the SAs that are meant new keys."""

    async def pools(self, name: str, *, with_leases: bool) -> list[PoolUse]:
        """All pools, or the one of that name."""

    async def tallies(self, name: str) -> Mapping[str, Mapping[str, int]]:
        """What was counted for each connection, or for the one of that name, by the daemon's own names of series."""

    async def stats(self) -> Stats:
        """The daemon at a glance."""
