"""The connections that a worker sets up by itself, and sets up again: `start_action`, `dpd_action`, `close_action`.

Each begins with the first of the children that are to be started; the others are set up when the IKE_SA stands.
"""

import asyncio
import ipaddress
import os
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from cygnet.ike.connections import Child, Connection
from cygnet.ike.effects import ChildFailed, Revive, SaClosed, SaEstablished
from cygnet.ike.errors import LocalError
from cygnet.ike.path import Path
from cygnet.ike.settings import ConnectionSettings
from cygnet.ike.tasks import CreateChild
from cygnet.net.driver import Driver
from cygnet.net.sockets import source_address
from cygnet.observe.log_groups import about, group_logger

_log = group_logger("job")

FIRST_PAUSE_S: Final = 1.0
"""Before the second attempt, or before a connection that was lost is set up again."""
LAST_PAUSE_S: Final = 60.0
"""Pauses double up to this. Each is shorter by up to half, by chance: many that have lost the same peer would otherwise
all come back to it in the same moment, and again after each failure."""


def initiating_worker(connection: ConnectionSettings, workers: int) -> int:
    """Which of `workers` sets a connection up: always the same.

    It is one for all that lead to the same network, such as those of a host with several virtual addresses: the route
    to that network leads to one worker, whatever the source of a packet.
    """
    behind = [selector for child in connection.children for selector in child.remote_ts if not selector.is_dynamic]
    key = behind[0].first + behind[0].last if behind else connection.name.encode()
    return zlib.crc32(key) % workers


def path_to_peer(
    settings: ConnectionSettings, port: int, source_to: Callable[[str, int], str] = source_address
) -> Path:
    """From where to where a connection is set up, our IKE port being `port`. Raises LocalError."""
    remote = first_single(settings.remote_addrs)
    if remote is None:
        raise LocalError(f"connection {settings.name} has no single address in remote_addrs to be started to")
    family = ipaddress.ip_address(remote).version
    ours = [a for a in settings.local_addrs if _is_single(a) and ipaddress.ip_address(a).version == family]
    local = ours[0] if ours else source_to(remote, settings.remote_port)
    return Path(local, port, remote, settings.remote_port)


class _Attempt:
    """A connection that is being set up, with some of its children."""

    __slots__ = ("children", "connection", "number", "path", "pause_s", "refused")

    def __init__(self, connection: Connection, children: tuple[Child, ...], path: Path | None = None) -> None:
        self.connection = connection
        self.children = children
        self.path = path
        """Where the peer was when it was lost; None if the settings are to say it."""
        self.number = 0
        self.pause_s = FIRST_PAUSE_S
        self.refused = ""
        """Why the peer will not have the first of the children, with which the IKE_SA was to begin."""


class AttemptView(NamedTuple):
    """A connection that is being set up, as others see it."""

    sa: bytes
    """The IKE_SA, by our SPI; empty between two attempts."""
    children: tuple[str, ...]
    """Names of the children that come with it."""


class Initiations:
    """Sets connections up, and tries again as often as their `keyingtries` say.

    Once established a connection is its peer's and its liveness checks' business. When they find that it is lost, the
    core asks for what is to be set up again.
    """

    def __init__(
        self,
        driver: Driver,
        loop: asyncio.AbstractEventLoop,
        *,
        port: int,
        worker: int,
        workers: int,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._driver = driver
        self._loop = loop
        self._port = port
        self._entropy = entropy
        self._by_sa: dict[bytes, _Attempt] = {}
        self._by_peer: dict[tuple[str, str], _Attempt] = {}
        """What is being set up again, by the connection and the peer's address."""
        self._worker = worker
        self._workers = workers
        self._started: dict[str, Connection] = {}
        """What is to be started, by name, as it was when we last looked."""
        self._pauses: dict[asyncio.TimerHandle, _Attempt] = {}
        self._is_stopped = False

    def start(self) -> None:
        """Begin with all of them."""
        self.configure()

    def configure(self) -> None:
        """The configuration may have changed: begin with what is new in it, or different, unless it stands already.

        What is being tried goes on by the new settings, or ends with the connection.
        """
        if self._is_stopped:
            return
        table = self._driver.table
        before = self._started
        self._started = {
            connection.settings.name: connection
            for connection in table.env.connections.starting.values()
            if initiating_worker(connection.settings, self._workers) == self._worker
        }
        under_way = {each.connection.settings.name for each in (*self._by_sa.values(), *self._pauses.values())}
        for name, connection in self._started.items():
            if before.get(name) is connection or name in under_way:
                continue
            if table.established_as(name, connection.settings.remote.id) is None:
                self._try(_Attempt(connection, _to_start(connection)))

    def stop(self) -> None:
        """Begin nothing more."""
        self._is_stopped = True
        for pause in self._pauses:
            pause.cancel()
        self._pauses.clear()
        self._by_sa.clear()
        self._by_peer.clear()

    def on_sa(self, effect: SaEstablished | SaClosed | ChildFailed) -> None:
        """An IKE_SA is established or has ended, or will be without a CHILD_SA: perhaps one of ours."""
        attempt = self._by_sa.get(effect.sa) if self._by_sa else None
        if attempt is None:
            return
        if isinstance(effect, ChildFailed):
            attempt.refused = effect.reason
            return
        del self._by_sa[effect.sa]
        if isinstance(effect, SaClosed):
            attempt.refused = ""
            self._retry(attempt, effect.reason)
        elif attempt.refused:
            self._retry(attempt, attempt.refused)
        else:
            self._forget(attempt)

    def attempt_at(self, connection: str) -> AttemptView | None:
        """What is being done to set up the connection of that name; None if nothing is."""
        for spi, attempt in (*self._by_sa.items(), *((b"", each) for each in self._pauses.values())):
            if attempt.connection.settings.name == connection:
                return AttemptView(spi, tuple(child.settings.name for child in attempt.children))
        return None

    def revive(self, effect: Revive) -> None:
        """An IKE_SA was lost: set it up again."""
        connection = self._driver.table.env.connections.named(effect.connection)
        peer = (effect.connection, effect.path.remote)
        if connection is None or self._is_stopped or peer in self._by_peer:
            return
        children = tuple(child for name in effect.start if (child := connection.child(name)) is not None)
        if not children:
            return
        path = Path(effect.path.local, self._port, effect.path.remote, connection.settings.remote_port)
        attempt = self._by_peer[peer] = _Attempt(connection, children, path)
        self._after(FIRST_PAUSE_S * self._fraction(), attempt)

    def _fraction(self) -> float:
        """A random number from 0 to below 1."""
        return int.from_bytes(self._entropy(4), "big") / (1 << 32)

    def _try(self, attempt: _Attempt) -> None:
        if not self._is_current(attempt):
            self._forget(attempt)
            return
        if attempt.refused and self._ask_again(attempt):
            return
        attempt.number += 1
        driver = self._driver
        try:
            path = attempt.path or path_to_peer(attempt.connection.settings, self._port)
        except LocalError as exc:
            self._retry(attempt, str(exc))
            return
        first, *others = attempt.children
        further = [child.settings.name for child in others]
        spi, effects = driver.table.initiate(attempt.connection, path, driver.clock(), child=first, further=further)
        # Known before its effects are carried out: they may tell that it has ended already.
        self._by_sa[spi] = attempt
        driver.carry_out(effects)

    def _ask_again(self, attempt: _Attempt) -> bool:
        """Ask for the CHILD_SA that was refused, in the IKE_SA that stands; False if there is none any more.

        What comes of it is looked at when it would be asked for again: it may come by another request, the peer's too.
        """
        settings, name = attempt.connection.settings, attempt.children[0].settings.name
        sa = self._driver.table.established_as(settings.name, settings.remote.id)
        if sa is None:
            attempt.refused = ""
            return False
        if any(child.name == name for child in sa.children):
            self._forget(attempt)
            return True
        if not self._is_given_up(attempt, attempt.refused):
            attempt.number += 1
            self._driver.order(sa.spi, CreateChild(name))
            self._after(self._next_pause_s(attempt), attempt)
        return True

    def _is_current(self, attempt: _Attempt) -> bool:
        """Whether the configuration still has it; it follows what has changed there."""
        connection = self._driver.table.env.connections.named(attempt.connection.settings.name)
        if connection is not None and connection is not attempt.connection:
            names = [child.settings.name for child in attempt.children]
            attempt.connection = connection
            attempt.children = tuple(child for name in names if (child := connection.child(name)) is not None)
        return connection is not None and bool(attempt.children)

    def _retry(self, attempt: _Attempt, reason: str) -> None:
        if not self._is_current(attempt):
            self._forget(attempt)
            return
        if self._is_given_up(attempt, reason):
            return
        pause_s, about_it = self._next_pause_s(attempt), about(attempt.connection.settings.name)
        _log.warning("attempt %d failed, again in %.1f s: %s", attempt.number, pause_s, reason, extra=about_it)
        self._after(pause_s, attempt)

    def _is_given_up(self, attempt: _Attempt, reason: str) -> bool:
        """Whether it was the last try."""
        settings = attempt.connection.settings
        is_last = 0 < settings.keyingtries <= attempt.number
        if is_last:
            _log.error("given up after %d attempts: %s", attempt.number, reason, extra=about(settings.name))
            self._forget(attempt)
        return is_last

    def _next_pause_s(self, attempt: _Attempt) -> float:
        pause_s = attempt.pause_s * (1 - self._fraction() / 2)
        attempt.pause_s = min(2 * attempt.pause_s, LAST_PAUSE_S)
        return pause_s

    def _after(self, pause_s: float, attempt: _Attempt) -> None:
        def again() -> None:
            self._pauses.pop(pause, None)
            self._try(attempt)

        pause = self._loop.call_later(pause_s, again)
        self._pauses[pause] = attempt

    def _forget(self, attempt: _Attempt) -> None:
        if attempt.path is not None:
            self._by_peer.pop((attempt.connection.settings.name, attempt.path.remote), None)


def _to_start(connection: Connection) -> tuple[Child, ...]:
    return tuple(child for child in connection.children if child.settings.start_action.has_start)


def first_single(addresses: tuple[str, ...]) -> str | None:
    """The address of a peer to connect to, if there is one."""
    return next((address for address in addresses if _is_single(address)), None)


def _is_single(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
