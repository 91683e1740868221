"""Runs commands against a store alone."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from cygnet.config.store import Store
from cygnet.ike.settings import PoolSettings, Settings
from cygnet.vici.backend import Backend, PoolUse
from cygnet.vici.message import Encodable, Section
from cygnet.vici.server import Call, Command


class StoreOnly:
    """A daemon that does nothing but keep what it is told."""

    def __init__(self) -> None:
        self.store = Store(Settings())

    async def take_effect(self) -> None:
        pass

    async def put_pool(self, pool: PoolSettings) -> None:
        self.store.put_pool(pool)

    async def pools(self, name: str, *, with_leases: bool) -> list[PoolUse]:
        return [PoolUse(pool, 254, 0) for pool in self.store.pools.values()]


class Client:
    """Runs commands, and keeps the events."""

    def __init__(self, *tables: Callable[[Backend], dict[str, Command]]) -> None:
        self.backend = StoreOnly()
        self.events: list[tuple[str, Encodable]] = []
        self._commands = {
            name: command for table in tables for name, command in table(cast("Backend", self.backend)).items()
        }

    async def _emit(self, name: str, message: Encodable) -> None:
        self.events.append((name, message))

    async def _forward(self, name: str, packets: bytes) -> None:
        raise AssertionError("none of these commands has packets of others")

    def run(self, name: str, message: Section | None = None) -> Any:
        return asyncio.run(self._run(name, message or {}))

    async def _run(self, name: str, message: Section) -> Encodable:
        return await self._commands[name].run(Call(message, self._emit, self._forward))

    def listed(self, name: str, message: Section | None = None) -> list[Any]:
        """What a command sends as events."""
        self.events.clear()
        self.run(name, message)
        return [event for _, event in self.events]
