"""A daemon under test as a process of the machine: started, watched, measured and stopped by its ID."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from tests.interop.namespaces import Namespace
from tests.interop.ownership import marked_directory, marked_environment
from tests.interop.polling import eventually

LOG_TAIL_LINES: Final = 60

_libc = ctypes.CDLL(None, use_errno=True)


class Daemon:
    """One daemon in a namespace, with a directory of its own that goes when the context ends.

    A subclass says how it is called (`command`), what it must find on disk (`prepare`) and when it serves
    (`is_ready`). Leaving the context stops it and fails if it did not end in time and with status 0. If the
    block failed, the end of the daemon's log is added to the exception.
    """

    READY_LIMIT_S: ClassVar[float] = 30.0
    """Ends a wait for what never serves. The first start of a session compiles every module, beside other tests."""

    STOP_LIMIT_S: ClassVar[float] = 5.0

    running: ClassVar[list["Daemon"]] = []
    """Those that run now: whoever reports a failure can show their logs."""

    def __init__(self, label: str, namespace: Namespace, *, core: int | None = None) -> None:
        self.label = label
        self.namespace = namespace
        self.core = core
        """The one CPU it may run on; None: any."""
        self.directory = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The program and its arguments, as called inside the namespace."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What its environment has beyond ours."""
        return {}

    def prepare(self) -> None:
        """Write what it reads into `directory`."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it serves."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.directory = marked_directory(self.label)
        try:
            self.prepare()
            self.start()
        except BaseException as exc:
            exc.add_note(self.log_tail())
            shutil.rmtree(self.directory)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc is None:
                self.stop()
            else:
                exc.add_note(self.log_tail())
                self.kill()
        finally:
            shutil.rmtree(self.directory)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise AssertionError(f"{self.label} does not run")
        return self._process.pid

    @property
    def log_path(self) -> Path:
        return self.directory / "log"

    def log(self) -> str:
        """All that it has logged or printed since it was first started."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self) -> str:
        """The last lines of the log under a heading, for people."""
        lines = deque(self.log().splitlines(), maxlen=LOG_TAIL_LINES)
        return "\n".join([f"--- the end of {self.label}'s log ---", *lines])

    def start(self) -> None:
        """Start it, also again after `stop` or `kill`, and wait until it serves."""
        if self._process is not None:
            raise AssertionError(f"{self.label} runs already")
        # The kernel ends it with us even if we are killed. With a session of its own for it, Ctrl-C at a
        # terminal reaches only us, who stop it in order.
        argv = ["setpriv", "--pdeathsig", "KILL"]
        if self.core is not None:
            argv += ["taskset", "--cpu-list", str(self.core)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*argv, *self.namespace.command(*self.command())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=marked_environment(**self.environment()),
                start_new_session=True,
            )
        self.running.append(self)
        try:
            eventually(
                lambda: self._has_ended() or self.is_ready(),
                timeout_s=self.READY_LIMIT_S,
                what=f"{self.label} serves",
            )
            if self._has_ended():
                raise AssertionError(f"{self.label} ended with {self._process.returncode} instead of serving")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it with SIGTERM.

        Fails if that takes longer than STOP_LIMIT_S, if its status is not 0 or if processes of it are left.
        """
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            status = process.wait(self.STOP_LIMIT_S)
            orphans = session_members(process.pid)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.label} did not end within {self.STOP_LIMIT_S:g} s of SIGTERM") from None
        finally:
            self.kill()
        if status != 0:
            raise AssertionError(f"{self.label} ended with status {status}\n{self.log_tail()}")
        if orphans:
            raise AssertionError(f"{self.label} ended and left the processes {orphans}\n{self.log_tail()}")

    def kill(self) -> None:
        """End it, and every process it started, at once and without a chance to tidy up (SIGKILL)."""
        process, self._process = self._process, None
        if process is None:
            return
        self.running.remove(self)
        for pid in session_members(process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
        # Its sockets are free only when the last of them is gone.
        eventually(lambda: not session_members(process.pid), what=f"the processes of {self.label} end")

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def processes(self) -> list[int]:
        """IDs of the daemon and of the processes it started."""
        return session_members(self.pid)

    def cpu_seconds(self) -> float:
        """CPU time that its processes have used so far, with all their threads, ended ones too."""
        return sum(cpu_seconds(pid) for pid in self.processes())

    def pss_octets(self) -> int:
        """Memory that is its own, and its share of what it shares (proportional set size)."""
        return sum(pss_octets(pid) for pid in self.processes())


def session_members(session: int) -> list[int]:
    """IDs of the processes in a session (see setsid(2)) that still run, whoever their parent is by now."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # proc(5): after the name, in parentheses, come state, parent, group and session.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            members.append(int(entry.name))
    return members


def cpu_seconds(pid: int) -> float:
    """CPU time that the process has used in all its threads, to the nanosecond.

    Source: POSIX clock_getcpuclockid(); `/proc/PID/stat` has the same sum in steps of 10 ms.
    """
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error), str(pid))
    return time.clock_gettime(clock.value)


def pss_octets(pid: int) -> int:
    """Proportional set size of the process, from `/proc/PID/smaps_rollup`."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
    if match is None:
        raise AssertionError(f"/proc/{pid}/smaps_rollup has no Pss line")
    return int(match[1]) * 1024
