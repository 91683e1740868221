import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cygnet.gateway.process.spawn import spawn


def run(work: Callable[[], None], keep: tuple[int, ...] = ()) -> int:
    """The exit status of a process that does `work`; minus the signal that killed it."""
    pid = spawn(work, user=None, keep=keep)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_ends_without_the_callers_clean_up() -> None:
    steps: list[str] = []
    try:
        assert run(lambda: steps.append("in the child")) == 0
    finally:
        steps.append("once")
    assert steps == ["once"]


def test_an_exception_is_a_status(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no luck")

    assert run(fail) == 1


def test_has_only_the_descriptors_it_needs() -> None:
    kept, dropped = socket.socketpair()

    def look() -> None:
        os.fstat(kept.fileno())
        try:
            os.fstat(dropped.fileno())
        except OSError:
            return
        raise AssertionError("the descriptor is open")

    with kept, dropped:
        assert run(look, (kept.fileno(),)) == 0
        assert run(look) == 1


def test_leaves_signals_to_the_supervisor() -> None:
    def survive() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)

    assert run(survive) == 0
    assert run(lambda: os.kill(os.getpid(), signal.SIGKILL)) == -signal.SIGKILL


def test_the_callers_signals_are_as_they_were() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    run(lambda: None)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_can_gain_no_privileges() -> None:
    def look() -> None:
        assert "NoNewPrivs:\t1\n" in Path("/proc/self/status").read_text()

    assert run(look) == 0


def test_does_not_outlive_its_parent() -> None:
    read_end, write_end = os.pipe()
    parent = os.fork()
    if parent == 0:
        pid = spawn(lambda: signal.pause(), user=None, keep=(write_end,))
        os.write(write_end, f"{pid}\n".encode())
        signal.pause()
    os.close(write_end)
    assert int(os.read(read_end, 100)) > 0
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    # The pipe ends when the last process that can write to it is gone.
    assert os.read(read_end, 100) == b""
    os.close(read_end)
