"""Everything a test session makes on the machine bears the session's mark, so that it can be found again.

Namespaces and directories carry the process ID of their owner in their name, processes in their environment.
A session that ends, however it ends, clears its own; one that was killed is cleared by the next.
"""

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from itertools import count
from pathlib import Path

PREFIX = "cygnet-interop"
OWNER_VARIABLE = "CYGNET_INTEROP_OWNER"
BYTECODE = "bytecode"
"""What the directory is called that lasts as long as the session."""

_MARKED_NAME = re.compile(rf"{PREFIX}-(\d+)-\d+(-.*)?")
_serial = count(1)


def marked_name(label: str) -> str:
    """A name that nobody else on the machine has, with `label` for people to read."""
    return f"{PREFIX}-{os.getpid()}-{next(_serial)}-{label}"


def marked_directory(label: str) -> Path:
    """A new, private, empty directory. Its path is short enough for a UNIX socket inside."""
    path = Path(tempfile.gettempdir(), marked_name(label))
    path.mkdir(mode=0o700)
    return path


def marked_environment(**extra: str) -> dict[str, str]:
    """The environment for a process that this session starts, with the folders that hold daemons on PATH."""
    return {**os.environ, **_bytecode(), "PATH": search_path(), **extra, OWNER_VARIABLE: str(os.getpid())}


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


def _owner_of(name: str) -> int | None:
    match = _MARKED_NAME.fullmatch(name)
    return int(match[1]) if match else None


def _namespaces() -> list[str]:
    directory = Path("/run/netns")
    return [entry.name for entry in directory.iterdir()] if directory.exists() else []


def _directories() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"))


def _processes() -> list[tuple[int, int]]:
    """(owner, process) of every marked process; zombies have no environment and are not listed."""
    found = []
    mark = re.compile(rb"(?:^|\0)" + OWNER_VARIABLE.encode() + rb"=(\d+)")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # it ended, or it is not ours to read
        if match := mark.search(environment):
            found.append((int(match[1]), int(entry.name)))
    return found


def leftovers(owner: int | None = None) -> list[str]:
    """What the session `owner` (default: this one) has on the machine now, one line each."""
    owner = owner or os.getpid()
    lines = [f"namespace {name}" for name in _namespaces() if _owner_of(name) == owner]
    directories = [path for path in _directories() if _owner_of(path.name) == owner]
    lines += [f"directory {path}" for path in directories if not path.name.endswith(f"-{BYTECODE}")]
    for process_owner, pid in _processes():
        if process_owner == owner:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            lines.append(f"process {pid} {command.strip()}")
    return lines


def _is_gone(owner: int | None) -> bool:
    return owner is not None and not Path(f"/proc/{owner}").exists()


def sweep(owner: int | None = None) -> None:
    """End and delete what sessions that no longer run have left; with `owner`, what that session has."""

    def is_prey(candidate: int | None) -> bool:
        return candidate == owner if owner is not None else _is_gone(candidate)

    prey = [pid for process_owner, pid in _processes() if is_prey(process_owner)]
    for pid in prey:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 5.0
    while any(pid in prey for _, pid in _processes()) and time.monotonic() < deadline:
        time.sleep(0.01)
    for name in _namespaces():
        if is_prey(_owner_of(name)):
            subprocess.run(["ip", "netns", "delete", name], check=True, env=marked_environment())
    for path in _directories():
        if is_prey(_owner_of(path.name)):
            shutil.rmtree(path)
