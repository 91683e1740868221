"""The log of a gateway: workers send their lines to the supervisor, which writes them, and tells clients of vici.

So there is one order, one place that opens files, and no worker that waits for any of it.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec

from cygnet.config.log_settings import TARGETS, LogFormat, LogSettings
from cygnet.gateway.logs.log_lines import FACILITIES, LogLine, event_of, line_of
from cygnet.gateway.logs.log_targets import FileTarget, Target, journal_target, syslog_target
from cygnet.ike.errors import LocalError
from cygnet.ike.rate_limit import RateLimit
from cygnet.observe.log_groups import DEFAULT, GROUPS, parse_threshold, put_into_force, threshold_of, threshold_text

LINES_PER_SECOND: Final = 500
"""Of one worker, whatever it has to say: what peers can cause must not fill a disk."""
_SEND_BUFFER_OCTETS: Final = 1 << 20
_MAX_LINE_OCTETS: Final = 65536
_LINES_PER_TURN: Final = 256
_STANDARD_ERROR: Final = 2

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(LogLine)

Count = Callable[[str], None]
_TargetKey = tuple[str, str | bool, bool]
"""Which target, where to, and whether as JSON."""


class LogHub:
    """The supervisor's side."""

    def __init__(self, settings: LogSettings) -> None:
        """Open the targets, and take over logging in this process. Raises LocalError."""
        self._thresholds = _thresholds(settings)
        """By the name of the target; those that all have that have none of their own by an empty one."""
        self._is_listened_to = False
        self._count: Count = lambda series: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tell: Callable[[Mapping[str, int]], object] = lambda thresholds: None
        self.publish: Callable[[str, Mapping[str, str | int | None]], object] | None = None
        """Sends an event to clients of the control socket."""
        self._settings = settings
        self._targets = self._open(settings, {})
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._ours, self._theirs):
            end.setblocking(False)
        self._theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_OCTETS)
        self._handler = _Handler(self.take)
        _take_over(self._handler)
        put_into_force(self.in_force)

    def _open(self, settings: LogSettings, before: Mapping[_TargetKey, Target]) -> dict[_TargetKey, Target]:
        """The targets; those of `before` that stay are taken from there. Raises LocalError."""
        is_json = settings.format is LogFormat.JSON
        targets: dict[_TargetKey, Target] = {}

        def put(name: str, what: str | bool, make: Callable[[Callable[[], None]], Target]) -> None:
            if what:
                key = (name, what, is_json)
                targets[key] = before[key] if key in before else make(self._losing(name))

        path = settings.file
        try:
            # The only one that can fail, and so the first.
            put("file", path, lambda lost: FileTarget(path=Path(path), is_json=is_json, lost=lost))
        except OSError as exc:
            raise LocalError(f"cannot log to {path}: {exc.strerror}") from exc
        put("stderr", settings.stderr, lambda lost: FileTarget(fd=_STANDARD_ERROR, is_json=is_json, lost=lost))
        put("syslog", settings.syslog, lambda lost: syslog_target(FACILITIES[settings.syslog], lost))
        put("journal", settings.journal, journal_target)
        return targets

    def configure(self, settings: LogSettings) -> bool:
        """Log as these settings say, if they are others than those of before; whether they are.

        Levels that were changed meanwhile (`change`) last until then. Raises LocalError, and then all stays as it was.
        """
        if settings == self._settings:
            return False
        before, self._targets = self._targets, self._open(settings, self._targets)
        for key in before.keys() - self._targets.keys():
            before[key].retire()
        self._settings = settings
        self._thresholds = _thresholds(settings)
        self._apply()
        return True

    def attach(
        self, loop: asyncio.AbstractEventLoop, *, count: Count, tell: Callable[[Mapping[str, int]], object]
    ) -> None:
        """Take workers' lines on a loop; `tell` tells all workers of other levels."""
        self._loop = loop
        self._count = count
        self._tell = tell
        loop.add_reader(self._ours, self._drain)

    def close(self) -> None:
        """Write what is left, for a moment, and give logging back."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.remove_reader(self._ours)
            self._loop = None
        while self._drain():
            pass
        logging.getLogger().removeHandler(self._handler)
        for target in self._targets.values():
            target.close()
        self._ours.close()
        self._theirs.close()

    def reopen(self) -> None:
        """Files may have been moved away."""
        for target in self._targets.values():
            target.reopen()

    # Workers.

    @property
    def descriptors(self) -> Sequence[int]:
        """What a worker keeps."""
        return (self._theirs.fileno(),)

    def become_worker(self, number: int, count: Count, clock: Callable[[], float] = time.monotonic) -> None:
        """In the process of a new worker: from now on its lines go to the supervisor."""
        _take_over(_Handler(_Sender(self._theirs, count, clock), number))

    def _drain(self) -> bool:
        """Take lines of workers, some at a time; whether there may be more."""
        for _ in range(_LINES_PER_TURN):
            try:
                octets = self._ours.recv(_MAX_LINE_OCTETS)
            except OSError:
                return False
            try:
                line = _decoder.decode(octets)
            except msgspec.MsgspecError:
                continue
            # A worker faces the network: what it says is checked.
            if line.group in GROUPS and abs(line.time_s) < 1 << 40:
                self.take(line)
        return True

    # Lines.

    def take(self, line: LogLine) -> None:
        """Write a line wherever it is wanted."""
        for (name, _, _), target in self._targets.items():
            if line.severity >= threshold_of(self._thresholds[name], line.group):
                target.put(line)
        if self._is_listened_to and self.publish is not None:
            self.publish("log", event_of(line))

    def _losing(self, target: str) -> Callable[[], None]:
        series = f'log_lines_lost_total{{target="{target}"}}'

        def lost() -> None:
            # Perhaps in the thread that writes, and counters have one writer.
            loop = self._loop
            if loop is not None:
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._count, series)

        return lost

    # Levels.

    @property
    def in_force(self) -> dict[str, int]:
        """What processes are to log. A client that listens gets level 1, as from charon, whatever the targets get."""
        wanted = [self._thresholds[name] for name, _, _ in self._targets] or [self._thresholds[""]]
        names = dict.fromkeys(chain((DEFAULT,), *wanted))
        least = {name: min(threshold_of(each, name) for each in wanted) for name in names}
        if not self._is_listened_to:
            return least
        return {name: min(threshold, logging.INFO) for name, threshold in least.items()}

    def listen(self, *, wanted: bool) -> None:
        """Whether any client of the control socket wants to hear of lines."""
        if wanted is not self._is_listened_to:
            self._is_listened_to = wanted
            self._apply()

    def levels(self, target: str = "") -> dict[str, str]:
        """The level of each group that has its own, and of the others: of all targets, or of one that has its own."""
        return {name: threshold_text(threshold) for name, threshold in self._thresholds[target].items()}

    @property
    def with_own_levels(self) -> list[str]:
        """The targets that are logged to, and have levels of their own."""
        return [name for name, _, _ in self._targets if self._thresholds[name] != self._thresholds[""]]

    def change(self, levels: Mapping[str, str]) -> None:
        """Other levels for all targets, by group or DEFAULT; an empty one has the group follow the default. Raises
        ValueError."""
        fresh = {target: dict(thresholds) for target, thresholds in self._thresholds.items()}
        for name, text in levels.items():
            if name != DEFAULT and name not in GROUPS:
                raise ValueError(f'there is no group "{name}": {", ".join(GROUPS)}')
            threshold = parse_threshold(text) if text or name == DEFAULT else None
            for thresholds in fresh.values():
                if threshold is not None:
                    thresholds[name] = threshold
                else:
                    thresholds.pop(name, None)
        self._thresholds = fresh
        self._apply()

    def _apply(self) -> None:
        put_into_force(self.in_force)
        self._tell(self.in_force)


def _thresholds(settings: LogSettings) -> dict[str, dict[str, int]]:
    return {"": settings.thresholds, **{target: settings.thresholds_of(target) for target in TARGETS}}


class _Sender:
    """Takes a worker's lines to the supervisor, if that keeps up."""

    def __init__(self, end: socket.socket, count: Count, clock: Callable[[], float]) -> None:
        self._socket = end
        self._count = count
        self._clock = clock
        self._limit = RateLimit()

    def __call__(self, line: LogLine) -> None:
        if not self._limit.take(self._clock(), LINES_PER_SECOND):
            self._count('log_lines_lost_total{target="worker"}')
            return
        try:
            self._socket.send(_encoder.encode(line))
        except OSError:
            self._count('log_lines_lost_total{target="worker"}')


class _Handler(logging.Handler):
    """Makes lines of records."""

    def __init__(self, take: Callable[[LogLine], object], worker: int = 0) -> None:
        super().__init__()
        self._take = take
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._take(line_of(record, self._worker))
        except Exception:
            self.handleError(record)


def _take_over(handler: logging.Handler) -> None:
    root = logging.getLogger()
    for other in list(root.handlers):
        if isinstance(other, _Handler):
            root.removeHandler(other)
    root.addHandler(handler)
