"""The folder that a running gateway has for itself: its counters, the limits that it found at its start, and the lock
that says that it runs."""

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from cygnet.ike.errors import LocalError

COUNTERS: Final = "counters"
VICI_SOCKET: Final = "vici"
LIMITS: Final = "limits.json"
RESOLVE: Final = "resolve.json"
"""What is to be undone of the DNS servers of this host; it outlives a crash."""
_LOCK: Final = "lock"

# struct flock (fcntl(2)): type, whence, start, length, process id.
_FLOCK: Final = struct.Struct("@hhqqi0q")


class StateDir:
    """A folder that is ours for as long as this process lives, or until `close`."""

    def __init__(self, path: Path) -> None:
        """Make the folder if it is missing (0700), and lock it. Raises LocalError, and leaves nothing then."""
        self.path = path
        self._is_new = False
        try:
            with suppress(FileExistsError):
                path.mkdir(mode=0o700, parents=True)
                self._is_new = True
            self._lock = self._take_lock()
        except OSError as exc:
            hint = "; choose one with --state-dir" if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else ""
            raise LocalError(f"cannot use the state directory {path}: {exc.strerror}{hint}") from exc

    @property
    def counters(self) -> Path:
        """Where the counters are."""
        return self.path / COUNTERS

    @property
    def limits(self) -> Path:
        """Where the limits are that were not met at the start."""
        return self.path / LIMITS

    def close(self) -> None:
        """Remove what is true only of a running gateway, and let go of the folder."""
        for name in (COUNTERS, LIMITS, _LOCK):
            with suppress(OSError):
                (self.path / name).unlink()
        os.close(self._lock)
        if self._is_new:
            with suppress(OSError):
                self.path.rmdir()

    def _take_lock(self) -> int:
        file = self.path / _LOCK
        while True:
            fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                # A record lock belongs to this process alone: workers don't inherit it, and it ends when we do.
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                os.close(fd)
                if exc.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                owner = running_gateway(self.path)
                by = f" (process {owner})" if owner else ""
                raise LocalError(f"another gateway{by} uses the state directory {self.path}") from exc
            # Whoever held the lock before may have removed the file after we opened it.
            with suppress(FileNotFoundError):
                if os.fstat(fd).st_ino == file.stat().st_ino:
                    return fd
            os.close(fd)


def running_gateway(path: Path) -> int | None:
    """The process id of the gateway whose folder this is; None if none runs. Raises OSError if it can't be told.

    The id is 0 where the gateway is in a process id namespace that we can't see into.
    """
    try:
        fd = os.open(path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        query = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, query))
    finally:
        os.close(fd)
    return None if kind == fcntl.F_UNLCK else max(pid, 0)
