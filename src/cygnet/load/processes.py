"""Spreads a run over forked processes, watches them, and puts together what they measured.

Each process has its attempts, sockets and event loop; they share nothing but a few words of memory, in which the
parent sees how far they are. Over a socket pair the parent says when to start and when to stop, and the process
sends its measurements. A process that loses its parent ends.
"""

import asyncio
import gc
import os
import select
import signal
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType
from typing import Any, Final

import msgspec

from cygnet.ike.errors import LocalError
from cygnet.load.attempts import Tally
from cygnet.load.fleet import Fleet
from cygnet.load.options import LoadOptions
from cygnet.load.results import Measured, Results
from cygnet.load.sources import open_sources
from cygnet.observe.shared_words import SharedWords

POLL_S: Final = 0.1
"""How often progress is shown."""
_HEAD_START_S: Final = 0.02
"""From the word to start until the start: so that all processes have heard it."""
_GO: Final = struct.Struct("=d")
_STOP: Final = b"s"
_PROCEED: Final = b"p"
_LENGTH: Final = struct.Struct("=Q")
_CHUNK_OCTETS: Final = 1 << 20
_ATTEMPTED, _ESTABLISHED, _FAILED, _DELETED = range(4)
_WORDS: Final = 4


class Progress(msgspec.Struct, frozen=True):
    """How far a run is."""

    attempted: int
    established: int
    failed: int
    deleted: int
    seconds: float
    """Since the start."""


class _Ready(msgspec.Struct, tag=True):
    """The sockets are open."""


class _Over(msgspec.Struct, tag=True):
    """All attempts have come to their end. What happens afterwards waits for the others."""


class _Broken(msgspec.Struct, tag=True):
    """There will be no result."""

    reason: str


class _Done(msgspec.Struct, tag=True):
    measured: Measured


_Message = _Ready | _Over | _Broken | _Done


def run_load(
    options: LoadOptions,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_start: Callable[[], None] = lambda: None,
    on_over: Callable[[], None] = lambda: None,
) -> Results:
    """Carry out a run. Raises LocalError if it can't begin.

    `on_start` is called when all processes are there and the attempts are about to begin, `on_over` when all attempts
    have come to their end, and before the tunnels are held or deleted.

    SIGINT and SIGTERM end it early: the results so far say that they are. A second one, or one before the start, kills
    the processes and raises KeyboardInterrupt.
    """
    words = SharedWords.create(rows=options.processes, words=_WORDS, description=b"")
    testers = _Testers(options, words, on_start, on_over)
    try:
        with _Interrupts() as interrupts:
            return testers.run(on_progress, interrupts)
    finally:
        testers.end()
        words.close()


class _Interrupts:
    """Counts the signals that want us to end, so that they come between two messages and never within one."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Interrupts":
        # Only the main thread may; in another one signals are not ours to handle.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


class _Tester:
    """One process, as its parent sees it."""

    __slots__ = ("control", "pid", "tally")

    def __init__(self, pid: int, control: socket.socket, tally: "memoryview[int]") -> None:
        self.pid = pid
        self.control = control
        self.tally = tally


class _Testers:
    """All processes of a run."""

    def __init__(
        self, options: LoadOptions, words: SharedWords, on_start: Callable[[], None], on_over: Callable[[], None]
    ) -> None:
        self._options = options
        self._words = words
        self._on_start = on_start
        self._on_over = on_over
        self._testers: list[_Tester] = []
        self._waiting: dict[socket.socket, _Tester] = {}
        """Those that have not ended."""
        self._attempting: set[socket.socket] = set()
        """Those of them that are not over with their attempts."""
        self._start = 0.0

    def run(self, on_progress: Callable[[Progress], None], interrupts: _Interrupts) -> Results:
        for process in range(self._options.processes):
            self._fork(process)
        for tester in self._testers:
            self._await_ready(tester, interrupts)
        self._on_start()
        self._start = time.monotonic() + _HEAD_START_S
        for tester in self._testers:
            tester.control.sendall(_GO.pack(self._start))
        return self._collect(on_progress, interrupts)

    def end(self) -> None:
        """Leave no process behind, and none unwaited for."""
        for tester in self._testers:
            tester.control.close()
            if tester.control in self._waiting or not self._start:
                os.kill(tester.pid, signal.SIGKILL)
            os.waitpid(tester.pid, 0)
            tester.tally.release()

    def _fork(self, process: int) -> None:
        with ExitStack() as opened:
            try:
                ours, theirs = map(opened.enter_context, socket.socketpair())
                pid = os.fork()
            except OSError as exc:
                raise LocalError(f"cannot start a process of the tester: {exc.strerror}") from exc
            opened.pop_all()
        if pid == 0:
            ours.close()
            for tester in self._testers:
                tester.control.close()
            _run_tester(self._options, process, theirs, self._words.row(process))
        theirs.close()
        self._testers.append(_Tester(pid, ours, self._words.row(process)))

    def _await_ready(self, tester: _Tester, interrupts: _Interrupts) -> None:
        while not select.select([tester.control], (), (), POLL_S)[0]:
            if interrupts.count:
                raise KeyboardInterrupt
        message = _receive(tester.control)
        if not isinstance(message, _Ready):
            raise LocalError(message.reason if isinstance(message, _Broken) else "a process of the tester has died")

    def _collect(self, on_progress: Callable[[Progress], None], interrupts: _Interrupts) -> Results:
        results = Results(self._options, self._start)
        self._waiting = {tester.control: tester for tester in self._testers}
        self._attempting = set(self._waiting)
        while self._waiting:
            readable, _, _ = select.select(list(self._waiting), (), (), POLL_S)
            on_progress(self._progress())
            for control in readable:
                self._take(control, results)
            if interrupts.count and not results.is_interrupted:
                results.is_interrupted = True
                self._tell_all(_STOP)
            elif interrupts.count > 1:
                raise KeyboardInterrupt
        on_progress(self._progress())
        return results

    def _take(self, control: socket.socket, results: Results) -> None:
        """Take what a process says."""
        message = _receive(control)
        if control in self._attempting:
            self._attempting.discard(control)
            if not self._attempting:
                self._on_over()
                self._tell_all(_PROCEED)
        if isinstance(message, _Over):
            return
        tester = self._waiting.pop(control)
        if isinstance(message, _Done):
            results.add(message.measured)
            return
        if isinstance(message, _Broken):
            results.troubles.append(message.reason)
        results.add_dead(tester.tally[_ATTEMPTED], time.monotonic())

    def _tell_all(self, word: bytes) -> None:
        for control in self._waiting:
            try:
                control.sendall(word)
            except ConnectionError:
                pass  # it has died, which we are about to read

    def _progress(self) -> Progress:
        def total(word: int) -> int:
            return sum(tester.tally[word] for tester in self._testers)

        return Progress(
            attempted=total(_ATTEMPTED),
            established=total(_ESTABLISHED),
            failed=total(_FAILED),
            deleted=total(_DELETED),
            seconds=max(0.0, time.monotonic() - self._start),
        )


def _receive(control: socket.socket) -> _Message | None:
    """The next message; None if the process has ended."""
    try:
        head = _read_exactly(control, _LENGTH.size)
        octets = _read_exactly(control, _LENGTH.unpack(head)[0]) if head else b""
    except ConnectionError:
        return None
    return msgspec.msgpack.decode(octets, type=_Message) if octets else None


def _read_exactly(control: socket.socket, octets: int) -> bytes:
    """That many octets; none if the other end goes before it has sent them."""
    read = bytearray()
    while len(read) < octets:
        chunk = control.recv(min(_CHUNK_OCTETS, octets - len(read)))
        if not chunk:
            return b""
        read += chunk
    return bytes(read)


# In the forked process.


def _run_tester(options: LoadOptions, process: int, control: socket.socket, tally: "memoryview[int]") -> None:
    """The new process's whole life. It must never return into the program that forked it."""
    status = 1
    try:
        # Who signals the whole process group reaches us too, but our parent will tell us what to do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            measured = runner.run(_serve(options, process, control, tally))
        _send(control, _Done(measured))
        status = 0
    except LocalError as exc:
        _send(control, _Broken(str(exc)))
    except (ConnectionError, _ParentGone):
        pass
    except BaseException:
        _send(control, _Broken(f"internal error in a process of the tester\n{traceback.format_exc()}"))
    finally:
        os._exit(status)


class _ParentGone(Exception):
    """Nobody wants the result any more."""


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(options: LoadOptions, process: int, control: socket.socket, tally: "memoryview[int]") -> Measured:
    loop = asyncio.get_running_loop()

    def show(now: Tally) -> None:
        tally[_ATTEMPTED] = now.attempted
        tally[_ESTABLISHED] = now.established
        tally[_FAILED] = now.failed
        tally[_DELETED] = now.deleted

    fleet = Fleet(options, open_sources(options, process), process=process, loop=loop, on_tick=show)
    # Nothing of what is made from here on is part of a cycle, and it must not be scanned again and again.
    gc.collect()
    gc.freeze()
    gc.disable()
    _send(control, _Ready())
    start = _read_exactly(control, _GO.size)
    if not start:
        raise _ParentGone

    proceeding = asyncio.Event()

    def on_word() -> None:
        word = control.recv(len(_STOP))
        if word == _STOP:
            fleet.stop()
        elif word == _PROCEED:
            proceeding.set()
        else:
            os._exit(1)  # the parent is gone, and with it whoever wanted this

    async def proceed() -> None:
        _send(control, _Over())
        await proceeding.wait()

    with _read_by(loop, control, on_word):
        return await fleet.run(_GO.unpack(start)[0], proceed)


@contextmanager
def _read_by(loop: asyncio.AbstractEventLoop, control: socket.socket, on_word: Callable[[], None]) -> Iterator[None]:
    """Let the loop call `on_word` when there is one; afterwards the socket is as it was."""
    loop.add_reader(control, on_word)
    try:
        yield
    finally:
        loop.remove_reader(control)
        # uvloop makes the descriptor non-blocking behind the socket's back: a long result would not fit into its queue.
        os.set_blocking(control.fileno(), True)


def _send(control: socket.socket, message: _Message) -> None:
    octets = msgspec.msgpack.encode(message)
    control.sendall(_LENGTH.pack(len(octets)) + octets)
