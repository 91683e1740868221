"""How much memory this process has, and how much it may have, as /proc and the control groups say."""

import os
import resource
from pathlib import Path
from typing import Final

import msgspec

_PAGE_OCTETS: Final = os.sysconf("SC_PAGE_SIZE")
_NO_LIMIT_OCTETS: Final = 1 << 62
"""Version 1 of the control groups says "no limit" as the largest number of pages that fits into 63 bits."""


class MemoryBound(msgspec.Struct, frozen=True):
    """The least of the bounds that hold for this process and its children together."""

    octets: int
    source: str
    """`machine` or `cgroup`."""


class OwnMemory:
    """Tells what memory this process alone has; cheap enough to be asked every second."""

    __slots__ = ("_statm",)

    def __init__(self) -> None:
        """Open /proc once: the descriptor is there when there are no others left."""
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def private_octets(self) -> int:
        """Resident memory that belongs to no file. What a fork has not written to yet counts in both processes."""
        _, resident, shared, _ = os.pread(self._statm, 256, 0).split(maxsplit=3)
        return (int(resident) - int(shared)) * _PAGE_OCTETS

    def address_space_octets(self) -> int:
        """Virtual memory, which is what RLIMIT_AS bounds."""
        return int(os.pread(self._statm, 256, 0).split(maxsplit=1)[0]) * _PAGE_OCTETS

    def close(self) -> None:
        """Ask no more."""
        os.close(self._statm)


def address_space_limit() -> int | None:
    """Octets of virtual memory that each process may have (RLIMIT_AS); None without a limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def memory_bound() -> MemoryBound:
    """What this machine has, or what our control group may have of it."""
    machine = os.sysconf("SC_PHYS_PAGES") * _PAGE_OCTETS
    limit = cgroup_memory_limit()
    if limit is not None and limit < machine:
        return MemoryBound(limit, "cgroup")
    return MemoryBound(machine, "machine")


def cgroup_memory_limit(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """The lowest memory limit of our control group and those that it is in, of both versions; None without one."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += _limits(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(root / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(root: Path, path: str, name: str) -> list[int]:
    """The limits that are set from a group up to the root. A container may see its own group as the root."""
    folder = root / path.lstrip("/")
    limits: list[int] = []
    for group in (folder, *folder.parents):
        try:
            text = (group / name).read_text().strip()
        except OSError:
            text = "max"
        if text.isdecimal() and int(text) < _NO_LIMIT_OCTETS:
            limits.append(int(text))
        if group == root:
            break
    return limits
