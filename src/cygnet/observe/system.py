"""What the operating system says: the cost of processes, the state of UDP sockets, and what machine this is.

All of it is read from /proc, and nothing is changed. A process that ends while it is looked at counts as
nothing.
"""

import os
import platform
import socket
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Final

import msgspec

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")

# Fields of /proc/PID/stat (proc(5)) after the command name, which may itself contain blanks and brackets.
_PPID: Final = 1
_UTIME: Final = 11
_CSTIME_END: Final = 15
# Fields of a core in /proc/stat, its name being the first.
_IDLE: Final = 4
_IO_WAIT: Final = 5


class UdpSocketState(msgspec.Struct, frozen=True):
    """One line of /proc/net/udp or udp6."""

    address: str
    port: int
    receive_queue_octets: int
    """What waits to be received, as `ss` shows under Recv-Q: the kernel's book-keeping included."""
    drops: int
    """Datagrams lost since the socket was opened, mostly because the queue was full."""
    inode: int
    uid: int


class Machine(msgspec.Struct, frozen=True):
    """What a measurement was made on, for reports."""

    cpu: str
    cores: int
    """Cores that this process may run on."""
    memory_octets: int
    kernel: str
    python: str
    cryptography: str
    openssl: str
    pynacl: str
    uvloop: str
    """Like `pynacl` empty where it is not installed."""

    def __str__(self) -> str:
        optional = (("PyNaCl", self.pynacl), ("uvloop", self.uvloop))
        extras = "".join(f", {name} {version}" for name, version in optional if version)
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_octets / 2**30:.1f} GiB, Linux {self.kernel}, "
            f"Python {self.python}, cryptography {self.cryptography}, {self.openssl}{extras}"
        )


def process_tree(root: int) -> list[int]:
    """The process ids of `root` and of all its descendants; empty if there is no such process."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            fields = _stat_fields(int(entry.name))
            if fields is not None:
                children[int(fields[_PPID])].append(int(entry.name))
    tree = [root] if (_PROC / str(root)).exists() else []
    for pid in tree:
        tree += children[pid]
    return tree


def cpu_seconds(root: int) -> float:
    """CPU time, user and system, that a process and its descendants have used: those that ended included.

    Descendants that ended count from when their parent has waited for them.
    """
    ticks = 0
    for pid in process_tree(root):
        fields = _stat_fields(pid)
        if fields is not None:
            # utime, stime, and the same of children that were waited for.
            ticks += sum(map(int, fields[_UTIME:_CSTIME_END]))
    return ticks / _TICKS_PER_S


def wanted_seconds() -> float:
    """For how long the first thread of this process ran, or waited for a core to run on, since it began.

    OSError where the kernel does not keep that.
    """
    return sum(_scheduled_seconds("self"))


def waited_seconds(*pids: int) -> float | None:
    """For how long these processes, the first thread of each, waited for a core since they began; this one if none is
    given.

    They had something to do all the while, and others were served. What has ended counts no more. None where the
    kernel does not keep that.
    """
    waited_s = 0.0
    for pid in map(str, pids or ("self",)):
        try:
            waited_s += _scheduled_seconds(pid)[1]
        except (FileNotFoundError, ProcessLookupError):
            if not (_PROC / "self" / "schedstat").exists():
                return None
    return waited_s


def idle_seconds(cores: Collection[int]) -> float:
    """For how long these cores had nothing to do since the machine began, on average.

    ValueError if nothing is known of any of them.
    """
    names = {f"cpu{core}" for core in cores}
    lines = (line.split() for line in (_PROC / "stat").read_text().splitlines() if line.startswith("cpu"))
    ticks = [int(line[_IDLE]) + int(line[_IO_WAIT]) for line in lines if line[0] in names]
    return fmean(ticks) / _TICKS_PER_S


def _scheduled_seconds(pid: str) -> tuple[float, float]:
    """For how long a process ran, and for how long it waited for a core. Source: proc(5) and the kernel's
    Documentation/scheduler/sched-stats.rst."""
    run_ns, waited_ns = (_PROC / pid / "schedstat").read_text().split()[:2]
    return int(run_ns) / 1e9, int(waited_ns) / 1e9


def pss_octets(root: int) -> int:
    """Memory of a process and its descendants, where what several share is divided among them (proportional
    set size).

    PermissionError for processes of another user.
    """
    total = 0
    for pid in process_tree(root):
        try:
            rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def udp_sockets(ports: Collection[int] | None = None, *, pid: int | None = None) -> list[UdpSocketState]:
    """The UDP sockets, all or those of local `ports`, in the network namespace of `pid` (None: ours)."""
    directory = _PROC / ("self" if pid is None else str(pid)) / "net"
    states: list[UdpSocketState] = []
    for name in ("udp", "udp6"):
        try:
            lines = (directory / name).read_text().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        states += [state for state in map(_parse_udp_line, lines) if ports is None or state.port in ports]
    return states


def udp_drops(ports: Iterable[int], *, pid: int | None = None) -> dict[int, int]:
    """Datagrams lost at each of these local ports, summed over the sockets that are open there now."""
    drops = dict.fromkeys(ports, 0)
    for state in udp_sockets(drops, pid=pid):
        drops[state.port] += state.drops
    return drops


def udp_statistics(*, pid: int | None = None) -> dict[str, int]:
    """The `Udp:` lines of /proc/net/snmp, such as `InErrors`, the "packet receive errors" of netstat."""
    text = (_PROC / ("self" if pid is None else str(pid)) / "net" / "snmp").read_text()
    names, numbers = (line.split()[1:] for line in text.splitlines() if line.startswith("Udp:"))
    return dict(zip(names, map(int, numbers), strict=True))


def udp_queue_overflows(*, pid: int | None = None) -> int:
    """UDP datagrams that found the queue of their socket full, of all sockets in the namespace and of both families."""
    text = (_PROC / ("self" if pid is None else str(pid)) / "net" / "snmp6").read_text()
    lines = (line.split() for line in text.splitlines())
    of_ipv6 = sum(int(line[1]) for line in lines if line[0] == "Udp6RcvbufErrors")
    return udp_statistics(pid=pid)["RcvbufErrors"] + of_ipv6


def describe_machine() -> Machine:
    """This machine, and the software whose speed we measure."""
    from cryptography.hazmat.backends.openssl import backend

    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_octets=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kernel=platform.release(),
        python=platform.python_version(),
        cryptography=_version_of("cryptography"),
        openssl=backend.openssl_version_text(),
        pynacl=_version_of("pynacl"),
        uvloop=_version_of("uvloop"),
    )


def _stat_fields(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _parse_udp_line(line: str) -> UdpSocketState:
    fields = line.split()
    address, port = fields[1].split(":")
    return UdpSocketState(
        address=_parse_address(address),
        port=int(port, 16),
        receive_queue_octets=int(fields[4].split(":")[1], 16),
        drops=int(fields[12]),
        inode=int(fields[9]),
        uid=int(fields[7]),
    )


def _parse_address(text: str) -> str:
    """An address as /proc/net prints it: words of 32 bits, each read in the byte order of the machine."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _cpu_model() -> str:
    for line in (_PROC / "cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return platform.machine()


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
