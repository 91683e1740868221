import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cygnet.observe import system


def test_a_process_tree_has_grandchildren() -> None:
    # The grandchild announces itself on standard output, and both end when standard input closes.
    grandchild = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert system.process_tree(process.pid) == [process.pid, pid]
        alone = system.pss_octets(pid)
        assert 1_000_000 < alone < system.pss_octets(process.pid)
    assert system.process_tree(process.pid) == []
    assert system.cpu_seconds(process.pid) == 0


def test_cpu_seconds_include_children_that_have_ended() -> None:
    before, waited_for = system.cpu_seconds(os.getpid()), os.times()
    burn = "import time\nwhile time.process_time() < 0.15: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    with_child, after = system.cpu_seconds(os.getpid()), os.times()
    of_the_child = after.children_user - waited_for.children_user + after.children_system - waited_for.children_system
    # The kernel tells each of four sums in whole ticks, of which one each may be cut off.
    assert of_the_child >= 0.1
    assert with_child - before >= of_the_child - 4 / os.sysconf("SC_CLK_TCK")
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert 0.03 <= system.cpu_seconds(os.getpid()) - with_child < 5


def test_what_runs_is_wanted_and_no_core_is_idle_for_longer_than_the_machine_is_up() -> None:
    wanted, used = system.wanted_seconds(), time.process_time()
    while time.process_time() < used + 0.05:
        pass
    assert system.wanted_seconds() - wanted >= 0.04
    cores = os.sched_getaffinity(0)
    assert 0 < system.idle_seconds(cores) <= time.clock_gettime(time.CLOCK_BOOTTIME) + 1
    each = [system.idle_seconds({core}) for core in cores]
    assert min(each) - 1 <= system.idle_seconds(cores) <= max(each) + 1


def test_who_shares_a_core_waits_for_it() -> None:
    cores = os.sched_getaffinity(0)
    burn = "import time\nprint(flush=True)\nwhile True: pass"
    try:
        os.sched_setaffinity(0, {min(cores)})
        with subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE) as rival:
            try:
                assert rival.stdout is not None
                rival.stdout.readline()
                waited, used = system.waited_seconds(), time.process_time()
                assert waited is not None
                while (system.waited_seconds() or 0.0) < waited + 0.02 and time.process_time() < used + 10:
                    pass
                assert (system.waited_seconds() or 0.0) >= waited + 0.02
                assert (system.waited_seconds(rival.pid) or 0.0) > 0.0
                both = system.waited_seconds(rival.pid, os.getpid())
                assert both is not None and both > waited
            finally:
                rival.kill()
    finally:
        os.sched_setaffinity(0, cores)
    assert system.waited_seconds(rival.pid) == 0.0  # it has ended


def test_a_kernel_that_does_not_keep_it_says_nothing_of_waiting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(system, "_PROC", tmp_path)
    assert system.waited_seconds() is None and system.waited_seconds(1, 2) is None


def test_of_cores_that_are_not_there_nothing_is_known() -> None:
    with pytest.raises(ValueError):
        system.idle_seconds({1 << 20})


def test_a_command_name_with_brackets_is_no_obstacle() -> None:
    code = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'a) R (b', 0, 0, 0); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.pid in system.process_tree(os.getpid())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_udp_sockets_show_their_queue_and_their_drops(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as receiver, socket.socket(family, socket.SOCK_DGRAM) as sender:
        receiver.bind((address, 0))
        port = receiver.getsockname()[1]
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        errors = system.udp_statistics().get("RcvbufErrors", 0)
        for _ in range(100):
            sender.sendto(bytes(1000), (address, port))
        (state,) = system.udp_sockets([port])
        assert (state.address, state.port, state.uid) == (address, port, os.geteuid())
        assert state.inode == os.fstat(receiver.fileno()).st_ino
        assert state.receive_queue_octets > 1000
        assert 0 < state.drops < 100
        assert system.udp_drops([port, 1]) == {port: state.drops, 1: 0}
        assert state in system.udp_sockets(pid=os.getpid())
        if family == socket.AF_INET:
            assert system.udp_statistics()["RcvbufErrors"] >= errors + state.drops


def test_the_machine_is_described_in_one_line() -> None:
    machine = system.describe_machine()
    assert machine.python == platform.python_version()
    assert machine.cores == len(os.sched_getaffinity(0))
    assert "OpenSSL" in machine.openssl
    assert machine.cryptography
    text = str(machine)
    assert machine.cpu in text
    assert "\n" not in text
