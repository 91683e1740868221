"""Runs scripts of the administrator's: a few at a time, each for a while, and none that anybody waits for.

What is run for one subject is a line: its scripts run one after the other, those of different lines side by side. What
is to be undone is undone if it was begun, however much waits; what was not begun when it is to be undone never is.
"""

import asyncio
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from cygnet.observe.log_groups import group_logger

_log = group_logger("chd")

MAX_RUNNING: Final = 8
MAX_WAITING: Final = 1000
"""Lines that have not begun: some seconds of scripts. In a storm what comes above that is dropped."""
MAX_LINES: Final = 100
"""Of its output that are logged, and how long each may be."""
MAX_LINE_OCTETS: Final = 500
_READ_OCTETS: Final = 65536
_PAUSE_S: Final = 0.01
_WAIT_S: Final = 0.5
_SHELL: Final = "/bin/sh"

Environment = Mapping[str, str]


class Line:
    """The scripts of one subject, such as a CHILD_SA."""

    __slots__ = ("about", "begun", "command", "done", "is_over", "label", "running", "todo", "what")

    def __init__(self, label: str, what: str, command: str, about: Mapping[str, object] | None = None) -> None:
        """`what` and `about` name the subject in the log, `label` is put before what it prints. `command` is run by the
        shell."""
        self.label = label
        self.what = what
        self.command = command
        self.about = about
        self.todo: deque[Environment] = deque()
        self.begun = 0
        """How many scripts were started."""
        self.running: _Run | None = None
        self.is_over = False
        """Whether what is still to be done is the undoing."""
        self.done: Callable[[], object] = lambda: None
        """Called at the end of the undoing."""


class _Run:
    """A script that runs."""

    __slots__ = ("is_killed", "lines", "output", "patience", "pidfd", "process", "rest")

    def __init__(self, process: "subprocess.Popen[bytes]", pidfd: int, output: int) -> None:
        self.process = process
        self.pidfd = pidfd
        self.output = output
        """Its output's descriptor; -1 when it was closed."""
        self.patience: asyncio.TimerHandle | None = None
        self.is_killed = False
        self.lines = 0
        self.rest = b""


class Scripts:
    """Everything that runs or waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: Callable[[str], None], *, timeout_s: float) -> None:
        """After `timeout_s` a script is killed, with what it has started."""
        self._loop = loop
        self._count = count
        self._timeout_s = timeout_s
        self._ready: deque[Line] = deque()
        self._fresh = 0
        """Lines among them that have not begun."""
        self._running: set[Line] = set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._running and not self._ready

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing more is taken."""
        return self._fresh >= MAX_WAITING

    def do(self, line: Line, environments: list[Environment]) -> bool:
        """Run the command once in each environment; False, and counted, if too much waits already."""
        if self.is_full:
            self._count('scripts_total{result="dropped"}')
            return False
        line.todo.extend(environments)
        self._fresh += 1
        self._ready.append(line)
        self._pump()
        return True

    def undo(self, line: Line, environments: list[Environment]) -> None:
        """Run it in as many of these environments as it was begun to be done in."""
        is_waiting = bool(line.todo) and line.running is None
        if is_waiting and not line.begun:
            self._fresh -= 1
        line.todo.clear()
        line.todo.extend(environments[: line.begun])
        line.is_over = True
        if line.todo and line.running is None and not is_waiting:
            self._ready.append(line)
        self._pump()
        if not line.todo and line.running is None:
            line.done()

    def redo(self, line: Line, environment: Environment) -> None:
        """Run it in this environment, in place of those that it still waits to be run in: only the last one counts."""
        is_waiting = bool(line.todo) and line.running is None
        line.todo.clear()
        line.todo.append(environment)
        # It must not be counted among those that have not begun.
        line.is_over = True
        if line.running is None and not is_waiting:
            self._ready.append(line)
        self._pump()

    def kill_all(self) -> None:
        """The end has come: nothing goes on."""
        for line in self._ready:
            if line.todo:
                self._count('scripts_total{result="dropped"}')
        self._ready.clear()
        self._fresh = 0
        for line in list(self._running):
            line.todo.clear()
            run = line.running
            assert run is not None
            self._kill(run)
            # One that hangs in the kernel ends when it can.
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(_WAIT_S)
                self._finish(line)

    def _pump(self) -> None:
        while self._ready and len(self._running) < MAX_RUNNING:
            line = self._ready.popleft()
            if not line.todo:
                # It was to be undone before it had begun.
                continue
            if not line.begun and not line.is_over:
                self._fresh -= 1
            self._start(line, line.todo.popleft())

    def _start(self, line: Line, environment: Environment) -> None:
        if not line.is_over:
            line.begun += 1
        try:
            # What peers have said is in the environment only: the shell sees nothing but what the administrator wrote.
            process = subprocess.Popen(
                [_SHELL, "-c", line.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=dict(environment),
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            self._count('scripts_total{result="failed"}')
            _log.error("the script of %s can't be run: %s", line.what, exc, extra=line.about)
            self._go_on(line)
            return
        assert process.stdout is not None
        output = os.dup(process.stdout.fileno())
        process.stdout.close()
        os.set_blocking(output, False)
        run = line.running = _Run(process, os.pidfd_open(process.pid), output)
        self._running.add(line)
        run.patience = self._loop.call_later(self._timeout_s, self._too_long, line)
        self._listen(line, run)
        self._loop.add_reader(run.pidfd, self._finish, line)

    def _listen(self, line: Line, run: _Run) -> None:
        if run.output >= 0:
            self._loop.add_reader(run.output, self._read, line, run)

    def _read(self, line: Line, run: _Run) -> bool:
        """Log what it prints, as it comes; False when there is no more for now."""
        try:
            octets = os.read(run.output, _READ_OCTETS)
        except BlockingIOError:
            return False
        except OSError:
            octets = b""
        if octets and run.lines > MAX_LINES:
            # Read on, or it would block; but not as fast as it can talk.
            self._loop.remove_reader(run.output)
            self._loop.call_later(_PAUSE_S, self._listen, line, run)
            return True
        *lines, run.rest = (run.rest + octets).split(b"\n")
        if len(run.rest) > MAX_LINE_OCTETS or (not octets and run.rest):
            lines.append(run.rest)
            run.rest = b""
        for each in lines:
            run.lines += 1
            if run.lines <= MAX_LINES:
                text = each[:MAX_LINE_OCTETS].decode(errors="replace")
                _log.info("%s: %s", line.label, text, extra=line.about)
            elif run.lines == MAX_LINES + 1:
                _log.warning("the script of %s says more than is logged", line.what, extra=line.about)
        if not octets:
            self._close_output(run)
        return bool(octets)

    def _close_output(self, run: _Run) -> None:
        if run.output >= 0:
            self._loop.remove_reader(run.output)
            os.close(run.output)
            run.output = -1

    def _too_long(self, line: Line) -> None:
        assert line.running is not None
        _log.error("the script of %s is killed after %.0f s", line.what, self._timeout_s, extra=line.about)
        self._kill(line.running)

    def _kill(self, run: _Run) -> None:
        """End it, and what it has started, if that has not left its process group."""
        run.is_killed = True
        self._count('scripts_total{result="killed"}')
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(run.process.pid, signal.SIGKILL)

    def _finish(self, line: Line) -> None:
        """It has ended. What it has left behind in the background may run on, but is not listened to."""
        run = line.running
        assert run is not None
        self._loop.remove_reader(run.pidfd)
        os.close(run.pidfd)
        status = run.process.wait()
        for _ in range(MAX_LINES):
            if run.output < 0 or not self._read(line, run):
                break
        self._close_output(run)
        if run.patience is not None:
            run.patience.cancel()
        line.running = None
        self._running.discard(line)
        if status == 0:
            self._count('scripts_total{result="done"}')
        elif not run.is_killed:
            self._count('scripts_total{result="failed"}')
            _log.warning("the script of %s ended with status %d", line.what, status, extra=line.about)
        self._go_on(line)

    def _go_on(self, line: Line) -> None:
        if line.todo:
            self._ready.append(line)
        elif line.is_over:
            line.done()
        self._loop.call_soon(self._pump)
