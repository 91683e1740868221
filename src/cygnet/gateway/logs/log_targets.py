"""Where lines of the log go. None of it ever waits: what a target does not take is lost, and counted."""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Protocol

from cygnet.gateway.logs.log_lines import LogLine, as_journal, as_json, as_syslog, as_text

MAX_WAITING: Final = 4000
"""Lines that wait for a file or a pipe: some seconds of the busiest log there is."""
CLOSE_S: Final = 1.0
"""For what waits at the end."""
LOOK_S: Final = 1.0
"""How often to look whether a file was moved away."""
SYSLOG_SOCKET: Final = Path("/dev/log")
JOURNAL_SOCKET: Final = Path("/run/systemd/journal/socket")


class Target(Protocol):
    """One place."""

    def put(self, line: LogLine) -> None:
        """Write a line, soon."""

    def reopen(self) -> None:
        """Begin a new file, if the old one was moved away."""

    def retire(self) -> None:
        """End when what waits is written. Does not wait for that."""

    def close(self) -> None:
        """Write what waits, for a while, and end."""


class FileTarget:
    """Standard error, or a file. A thread writes, since neither a pipe nor a file system can be trusted not to hang.

    Nothing but `write` and `open` runs in the thread: whatever lock it held in a fork would stay held in the child.
    """

    def __init__(self, *, fd: int = -1, path: Path | None = None, is_json: bool, lost: Callable[[], object]) -> None:
        """Write to `fd`, or to the file at `path`. `lost` is called for each, perhaps in another thread. OSError."""
        self._path = path
        self._fd = fd if path is None else _open(path)
        self._form = as_json if is_json else as_text
        self._lost = lost
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._looked = 0.0
        self._is_moved = False
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def put(self, line: LogLine) -> None:
        """Queue a line."""
        if self._queue.qsize() >= MAX_WAITING:
            self._lost()
        else:
            self._queue.put(self._form(line))

    def reopen(self) -> None:
        """Before the next line."""
        self._is_moved = True

    def retire(self) -> None:
        """The thread ends by itself."""
        self._queue.put(None)

    def close(self) -> None:
        """What is not written in time is lost."""
        self.retire()
        self._thread.join(CLOSE_S)

    def _work(self) -> None:
        while (octets := self._queue.get()) is not None:
            try:
                if self._path is not None:
                    self._follow(self._path)
                while octets:
                    octets = octets[os.write(self._fd, octets) :]
            except OSError:
                self._lost()
        if self._path is not None:
            os.close(self._fd)

    def _follow(self, path: Path) -> None:
        """Open the file anew if it is another one by now, as after a rotation."""
        now = time.monotonic()
        if not self._is_moved and now < self._looked + LOOK_S:
            return
        self._is_moved, self._looked = False, now
        with suppress(FileNotFoundError):
            there, ours = path.stat(), os.fstat(self._fd)
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        fresh = _open(path)
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)


class SocketTarget:
    """A daemon that takes datagrams: syslog, or the journal."""

    def __init__(self, path: Path, form: Callable[[LogLine], bytes], lost: Callable[[], object]) -> None:
        self._path = path
        self._form = form
        self._lost = lost
        self._socket: socket.socket | None = None

    def put(self, line: LogLine) -> None:
        """Send a line; once more if the daemon was started anew."""
        octets = self._form(line)
        for _ in range(2):
            try:
                if self._socket is None:
                    self._socket = self._connect()
                self._socket.send(octets)
            except BlockingIOError:
                break
            except OSError:
                self.close()
            else:
                return
        self._lost()

    def reopen(self) -> None:
        """There is nothing to open."""

    def retire(self) -> None:
        """Nothing waits."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        fresh.setblocking(False)
        try:
            fresh.connect(os.fspath(self._path))
        except OSError:
            fresh.close()
            raise
        return fresh


def syslog_target(facility: int, lost: Callable[[], object], path: Path = SYSLOG_SOCKET) -> SocketTarget:
    """Syslog with that facility."""
    pid = os.getpid()
    return SocketTarget(path, lambda line: as_syslog(line, facility, pid), lost)


def journal_target(lost: Callable[[], object], path: Path = JOURNAL_SOCKET) -> SocketTarget:
    """The journal, with the fields that strongSwan gives its lines."""
    return SocketTarget(path, as_journal, lost)


def _open(path: Path) -> int:
    # A named pipe that nobody reads is refused at once, instead of being waited for.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    fd = os.open(path, flags, 0o640)
    os.set_blocking(fd, True)
    return fd
