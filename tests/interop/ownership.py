"""Everything a test session makes on the machine bears the session's mark, so that it can be found again.

Namespaces and directories carry the mark in their name, processes in their environment. A session holds a lock by its
mark for as long as it runs. One that ends, however it ends, clears its own; one that was killed is cleared by the next.
"""

import atexit
import fcntl
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

PREFIX = "cygnet-interop"
OWNER_VARIABLE = "CYGNET_INTEROP_OWNER"
BYTECODE = "bytecode"
LOCK = "lock"
"""What a directory and a file are called that last as long as the session."""

_OWNER = r"\d+\.[0-9a-f]{4}"
_MARKED_NAME = re.compile(rf"{PREFIX}-({_OWNER})-\w+(?:-.*)?")
_serial = count(1)


@cache
def session_mark() -> str:
    """This session's mark: its process ID for people to read, and chance.

    Sessions that see each other's files need not see each other's processes, as in two containers with one /tmp. So
    a process ID neither tells two sessions apart nor says that one has ended; the lock that is taken here does both.
    """
    mark = f"{os.getpid()}.{secrets.token_hex(2)}"
    if _take_lock(mark) is None:
        raise RuntimeError(f"another session bears the mark {mark}")
    atexit.register(_lock_path(mark).unlink, missing_ok=True)
    return mark


def _lock_path(owner: str) -> Path:
    return Path(tempfile.gettempdir(), f"{PREFIX}-{owner}-{LOCK}")


def _take_lock(owner: str) -> int | None:
    """The descriptor that holds the lock of `owner` until it is closed, or nothing: somebody else holds it."""
    while True:
        descriptor = os.open(_lock_path(owner), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        try:
            if os.path.samestat(os.fstat(descriptor), _lock_path(owner).stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # who held it before has deleted the file meanwhile


def marked_name(label: str) -> str:
    """A name that nobody else on the machine has, with `label` for people to read."""
    return f"{PREFIX}-{session_mark()}-{next(_serial)}-{label}"


def marked_directory(label: str) -> Path:
    """A new, private, empty directory. Its path is short enough for a UNIX socket inside."""
    path = Path(tempfile.gettempdir(), marked_name(label))
    path.mkdir(mode=0o700)
    return path


def marked_environment(**extra: str) -> dict[str, str]:
    """The environment for a process that this session starts, with the folders that hold daemons on PATH."""
    return {**os.environ, **_bytecode(), "PATH": search_path(), **extra, OWNER_VARIABLE: session_mark()}


@cache
def _bytecode() -> dict[str, str]:
    """Where Python is told to write none, its programs share a place for it: of a hundred starts one compiles all."""
    if not sys.dont_write_bytecode:
        return {}
    directory = marked_directory(BYTECODE)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(directory)}


def search_path() -> str:
    """PATH with the folders that Debian gives to root's shells only."""
    return f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"


def _owner_of(name: str) -> str | None:
    match = _MARKED_NAME.fullmatch(name)
    return match[1] if match else None


def _namespaces() -> list[str]:
    directory = Path("/run/netns")
    return [entry.name for entry in directory.iterdir()] if directory.exists() else []


def _paths() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"))


def _processes() -> list[tuple[str, int, str]]:
    """(owner, process, command line) of every marked process; zombies have no environment and are not listed."""
    found = []
    mark = re.compile(rf"(?:^|\0){OWNER_VARIABLE}=({_OWNER})(?:\0|$)".encode())
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment, command = ((entry / name).read_bytes() for name in ("environ", "cmdline"))
        except OSError:
            continue  # it ended, or it is not ours to read
        if match := mark.search(environment):
            found.append((match[1].decode(), int(entry.name), command.replace(b"\0", b" ").decode(errors="replace")))
    return found


def leftovers(owner: str | None = None) -> list[str]:
    """What the session `owner` (default: this one) has on the machine now, one line each."""
    owner = owner or session_mark()
    lines = [f"namespace {name}" for name in _namespaces() if _owner_of(name) == owner]
    paths = [path for path in _paths() if _owner_of(path.name) == owner]
    lines += [f"directory {path}" for path in paths if not path.name.endswith((f"-{BYTECODE}", f"-{LOCK}"))]
    lines += [f"process {pid} {command.strip()}" for whose, pid, command in _processes() if whose == owner]
    return lines


def sweep() -> None:
    """End and delete what sessions that no longer run have left."""
    names = [*_namespaces(), *(path.name for path in _paths())]
    owners = {owner for name in names if (owner := _owner_of(name))} | {owner for owner, _, _ in _processes()}
    for owner in owners - {session_mark()}:
        with _estate(owner) as is_ours:
            if is_ours:
                clear(owner)


@contextmanager
def _estate(owner: str) -> Iterator[bool]:
    """Whether the session `owner` is over and nobody else clears what it left; inside, nobody else begins to."""
    if Path(f"/proc/{owner.partition('.')[0]}").exists():  # its locks may lie elsewhere, by another TMPDIR
        yield False
        return
    lock = _take_lock(owner)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            _lock_path(owner).unlink(missing_ok=True)
            os.close(lock)


def clear(owner: str) -> None:
    """End and delete what the session `owner` has, but for its lock."""
    prey = [pid for whose, pid, _ in _processes() if whose == owner]
    for pid in prey:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 5.0
    while any(pid in prey for _, pid, _ in _processes()) and time.monotonic() < deadline:
        time.sleep(0.01)
    for name in _namespaces():
        if _owner_of(name) == owner:
            subprocess.run(["ip", "netns", "delete", name], check=True, env=marked_environment())
    for path in _paths():
        if _owner_of(path.name) == owner and path != _lock_path(owner):
            shutil.rmtree(path)
