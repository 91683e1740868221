"""The connections that a worker sets up by itself: those with a child of `start_action = start`."""

import asyncio
import ipaddress
import logging
import zlib
from collections.abc import Callable
from typing import Final

from cygnet.ike.connections import Connection
from cygnet.ike.effects import SaClosed, SaEstablished
from cygnet.ike.errors import LocalError
from cygnet.ike.path import Path
from cygnet.ike.settings import ConnectionSettings, StartAction
from cygnet.net.driver import Driver
from cygnet.net.sockets import source_address

_log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
"""Before the second attempt."""
LAST_PAUSE_S: Final = 60.0
"""Pauses double up to this."""


def initiating_worker(connection: str, workers: int) -> int:
    """Which of `workers` sets up a connection of that name: always the same."""
    return zlib.crc32(connection.encode()) % workers


def path_to_peer(
    settings: ConnectionSettings, port: int, source_to: Callable[[str, int], str] = source_address
) -> Path:
    """From where to where a connection is set up, our IKE port being `port`. Raises LocalError."""
    remote = _first_single(settings.remote_addrs)
    if remote is None:
        raise LocalError(f"connection {settings.name} has no single address in remote_addrs to be started to")
    family = ipaddress.ip_address(remote).version
    ours = [a for a in settings.local_addrs if _is_single(a) and ipaddress.ip_address(a).version == family]
    local = ours[0] if ours else source_to(remote, settings.remote_port)
    return Path(local, port, remote, settings.remote_port)


class _Attempt:
    """A connection that is being set up."""

    __slots__ = ("connection", "number", "pause_s")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.number = 0
        self.pause_s = FIRST_PAUSE_S


class Initiations:
    """Sets connections up, and tries again as often as their `keyingtries` say.

    Once established a connection is its peer's and its liveness checks' business: it is not set up again.
    """

    def __init__(
        self, driver: Driver, loop: asyncio.AbstractEventLoop, *, port: int, worker: int, workers: int
    ) -> None:
        self._driver = driver
        self._loop = loop
        self._port = port
        self._by_sa: dict[bytes, _Attempt] = {}
        self._attempts = [
            _Attempt(connection)
            for connection in driver.table.env.connections.all()
            if initiating_worker(connection.settings.name, workers) == worker
            and any(child.start_action is StartAction.START for child in connection.settings.children)
        ]
        self._pauses: set[asyncio.TimerHandle] = set()

    def start(self) -> None:
        """Begin with all of them."""
        for attempt in self._attempts:
            self._try(attempt)

    def stop(self) -> None:
        """Begin nothing more."""
        for pause in self._pauses:
            pause.cancel()
        self._pauses.clear()
        self._by_sa.clear()

    def on_sa(self, effect: SaEstablished | SaClosed) -> None:
        """An IKE_SA is established or has ended: perhaps one of ours."""
        attempt = self._by_sa.pop(effect.sa, None) if self._by_sa else None
        if attempt is not None and isinstance(effect, SaClosed):
            self._retry(attempt, effect.reason)

    def _try(self, attempt: _Attempt) -> None:
        attempt.number += 1
        try:
            path = path_to_peer(attempt.connection.settings, self._port)
        except LocalError as exc:
            self._retry(attempt, str(exc))
            return
        spi, effects = self._driver.table.initiate(attempt.connection, path, self._driver.clock())
        # Known before its effects are carried out: they may tell that it has ended already.
        self._by_sa[spi] = attempt
        self._driver.carry_out(effects)

    def _retry(self, attempt: _Attempt, reason: str) -> None:
        settings = attempt.connection.settings
        if settings.keyingtries and attempt.number >= settings.keyingtries:
            _log.error("%s: given up after %d attempts: %s", settings.name, attempt.number, reason)
            return
        _log.warning(
            "%s: attempt %d failed, again in %.0f s: %s", settings.name, attempt.number, attempt.pause_s, reason
        )

        def again() -> None:
            self._pauses.discard(pause)
            self._try(attempt)

        pause = self._loop.call_later(attempt.pause_s, again)
        self._pauses.add(pause)
        attempt.pause_s = min(2 * attempt.pause_s, LAST_PAUSE_S)


def _first_single(addresses: tuple[str, ...]) -> str | None:
    return next((address for address in addresses if _is_single(address)), None)


def _is_single(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
