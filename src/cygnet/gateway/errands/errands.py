"""What the supervisor does on the host for CHILD_SAs of workers: updown scripts, and DNS servers that peers name."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from cygnet.gateway.control import ChildUp, Errand, NameServers
from cygnet.gateway.errands.resolver import Resolver
from cygnet.gateway.errands.scripts import Line, Scripts
from cygnet.gateway.errands.updown_environment import environments
from cygnet.ike.settings import ChildSettings, Settings
from cygnet.net.addresses import interface_of
from cygnet.observe.log_groups import about

MAX_LINES: Final = 65536
"""Of one worker: more CHILD_SAs with a script than a machine could run scripts for."""
LAST_S: Final = 3.0
"""For the scripts that run and wait when the gateway ends."""
_LOOK_S: Final = 0.02

_Key = tuple[int, bytes]


class Errands:
    """Of all workers, which are numbers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        count: Callable[[str], None],
        settings: Callable[[], Settings],
        *,
        timeout_s: float,
        resolver: Resolver | None = None,
    ) -> None:
        """`settings` are those in force; a script may run for `timeout_s`. Without `resolver` no servers are named."""
        self._loop = loop
        self._count = count
        self._settings = settings
        self._scripts = Scripts(loop, count, timeout_s=timeout_s)
        self._resolver = resolver
        self._lines: dict[_Key, tuple[Line, ChildUp, str, bool]] = {}
        self._lines_of: Counter[int] = Counter()
        self._is_broken_off = False

    def on_message(self, worker: int, message: Errand) -> None:
        """A worker asks for something."""
        if isinstance(message, ChildUp):
            self._up((worker, message.spi_in), message)
        elif isinstance(message, NameServers):
            if self._resolver is not None and any(each.vips for each in self._settings().connections):
                self._resolver.use(worker, message.servers)
        else:
            self._down((worker, message.spi_in))

    def on_gone(self, worker: int) -> None:
        """A worker is dead, and what it had is gone with it."""
        for key in [key for key in self._lines if key[0] == worker]:
            self._down(key)
        if self._resolver is not None:
            self._resolver.use(worker, ())

    def finish(self) -> None:
        """See the last scripts end, or end them. The loop must not run."""
        for key in list(self._lines):
            self._down(key)
        if self._resolver is not None:
            self._resolver.forget_all()
        deadline = self._loop.time() + LAST_S
        while self._is_busy and not self._is_broken_off and self._loop.time() < deadline:
            self._loop.run_until_complete(asyncio.sleep(_LOOK_S))
        self._scripts.kill_all()
        if self._resolver is not None:
            self._resolver.close()

    def break_off(self) -> None:
        """Wait no longer for the last scripts."""
        self._is_broken_off = True

    @property
    def _is_busy(self) -> bool:
        return not self._scripts.is_idle or (self._resolver is not None and not self._resolver.is_idle)

    def _up(self, key: _Key, up: ChildUp) -> None:
        child = self._child(up)
        if child is None or not child.updown:
            return
        if key in self._lines or self._lines_of[key[0]] >= MAX_LINES or self._scripts.is_full:
            self._count('scripts_total{result="dropped"}')
            return
        interface = interface_of(up.local_host)
        # The command is of our own configuration: a worker has no say in what is run.
        line = Line("updown", f"child {up.child}", child.updown, about(up.connection, up.unique_id))
        todo = environments(up, verb="up", interface=interface, has_access=child.hostaccess)
        if self._scripts.do(line, [*todo]):
            self._lines[key] = (line, up, interface, child.hostaccess)
            self._lines_of[key[0]] += 1

    def _down(self, key: _Key) -> None:
        found = self._lines.pop(key, None)
        if found is None:
            return
        line, up, interface, has_access = found
        # Scripts that are still to be run count as well, until they have.
        line.done = partial(self._forget, key[0])
        self._scripts.undo(line, [*environments(up, verb="down", interface=interface, has_access=has_access)])

    def _forget(self, worker: int) -> None:
        self._lines_of[worker] -= 1

    def _child(self, up: ChildUp) -> ChildSettings | None:
        for connection in self._settings().connections:
            if connection.name == up.connection:
                return next((child for child in connection.children if child.name == up.child), None)
        return None
