"""The harness itself: strongSwan reaches strongSwan through it, and nothing outlives a test."""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.interop.controlled import parse_raw
from tests.interop.daemons import Daemon, cpu_seconds, pss_octets
from tests.interop.namespaces import Namespace
from tests.interop.ownership import PREFIX, leftovers, sweep
from tests.interop.polling import eventually
from tests.interop.strongswan import BenchmarkResponder, StrongSwan, client_config, server_config
from tests.interop.topologies import Topology, direct_topology

ROOT = Path(__file__).parents[2]
INNER = "10.1.0.1"


def test_strongswan_tunnel_carries_pings_both_ways(topology: Topology) -> None:
    """PSK, a virtual address from a pool, userspace ESP; directly and through the NAT."""
    topology.server.add_address(f"{INNER}/32")
    with (
        StrongSwan("responder", topology.server, server_config()) as responder,
        StrongSwan("initiator", topology.client, client_config(topology.server_address)) as initiator,
    ):
        initiator.initiate("net")

        [ike_sa] = responder.sas()
        assert ike_sa["state"] == "ESTABLISHED"
        assert ike_sa["remote-id"] == "carol@example.org"
        assert ike_sa["remote-vips"] == ["10.3.0.1"]
        # kernel-libipsec makes its peer believe in a NAT in any case; the port tells what there really is.
        seen_host = "192.0.2.254" if topology.nat else topology.client_address
        assert ike_sa["remote-host"] == seen_host
        assert (int(str(ike_sa["remote-port"])) in range(20000, 21000)) == (topology.nat is not None)

        assert topology.client.ping(INNER, source="10.3.0.1", count=3) == 3
        assert topology.server.ping("10.3.0.1", source=INNER, count=3) == 3

        initiator.terminate(ike="home")
        assert responder.sas() == []
        assert topology.client.ping(INNER, source=topology.client_address, count=1) == 0


def test_a_wrong_secret_fails_and_says_so(direct: Topology) -> None:
    with (
        StrongSwan("responder", direct.server, server_config(secret="one")),
        StrongSwan("initiator", direct.client, client_config(direct.server_address, secret="another")) as initiator,
        pytest.raises(AssertionError, match="AUTHENTICATION_FAILED"),
    ):
        initiator.initiate("net")


def test_killed_daemon_starts_again_and_knows_nothing(direct: Topology) -> None:
    direct.server.add_address(f"{INNER}/32")
    with (
        StrongSwan("responder", direct.server, server_config()) as responder,
        StrongSwan("initiator", direct.client, client_config(direct.server_address)) as initiator,
    ):
        initiator.initiate("net")
        first = responder.pid
        responder.kill()
        responder.start()
        assert responder.pid != first
        assert responder.sas() == []
        assert len(initiator.sas()) == 1


ECHO_SOURCE_PORT = """
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("192.0.2.1", 4500))
        print("ready", flush=True)
        while True:
            _, address = s.recvfrom(100)
            s.sendto(str(address[1]).encode(), address)
"""
ASK_SOURCE_PORT = """
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.bind(("10.99.0.2", 4500))
        s.sendto(b"?", ("192.0.2.1", 4500))
        print(s.recv(100).decode())
"""


def test_nat_rebinding_moves_the_source_port(behind_nat: Topology) -> None:
    def seen_port() -> int:
        return int(behind_nat.client.run(sys.executable, "-c", textwrap.dedent(ASK_SOURCE_PORT)).stdout)

    assert behind_nat.nat is not None
    echo = shlex.join([sys.executable, "-c", textwrap.dedent(ECHO_SOURCE_PORT)])
    with Shell(behind_nat.server, f"trap 'kill $!; wait; exit 0' TERM; {echo} & wait"):
        first = seen_port()
        assert first in behind_nat.nat.ports
        assert seen_port() == first
        behind_nat.nat.rebind()
        assert first not in behind_nat.nat.ports
        assert seen_port() in behind_nat.nat.ports


def test_link_carries_ipv6(direct: Topology) -> None:
    assert direct.client.ping(direct.server_address_v6, source=direct.client_address_v6, count=2) == 2


def test_ping_without_an_answer_counts_none(direct: Topology) -> None:
    assert direct.client.ping("192.0.2.99", source=direct.client_address, count=1) == 0


def test_benchmark_responder_is_pinned_and_metered(direct: Topology) -> None:
    client = client_config(
        direct.server_address,
        secret="benchmark-secret",
        remote_ts="0.0.0.0/0",
        proposals="aes128gcm16-prfsha256-x25519",
        esp_proposals="aes128gcm16",
    )
    with (
        BenchmarkResponder(direct.server, core=0) as responder,
        StrongSwan("initiator", direct.client, client) as initiator,
    ):
        assert os.sched_getaffinity(responder.pid) == {0}
        before_s = responder.cpu_seconds()
        initiator.initiate("net")
        assert responder.established() == 1
        assert 0 < responder.cpu_seconds() - before_s < 1
        assert 1_000_000 < responder.pss_octets() < 100_000_000
        assert "IKE_SA" not in responder.log()


def test_meters_agree_with_the_kernels_own_figures() -> None:
    ticks_s = os.times()
    assert cpu_seconds(os.getpid()) == pytest.approx(ticks_s.user + ticks_s.system, abs=0.1)
    assert pss_octets(os.getpid()) > 1_000_000
    with pytest.raises(OSError, match="No such process"):
        cpu_seconds(2**22)


class Shell(Daemon):
    """A daemon that is three lines of shell."""

    def __init__(self, namespace: Namespace, script: str) -> None:
        super().__init__("shell", namespace)
        self.script = script

    def prepare(self) -> None:
        pass

    def command(self) -> list[str]:
        return ["sh", "-c", self.script]

    def is_ready(self) -> bool:
        return "ready" in self.log()


class SoonGivenUp(Shell):
    """For one that never serves: the test need not wait for long."""

    READY_LIMIT_S = 1.0


class SoonKilled(Shell):
    """For one that never ends."""

    STOP_LIMIT_S = 0.5


@pytest.mark.parametrize(
    ("kind", "script", "complaint"),
    [
        (Shell, "echo no such option; exit 2", "ended with 2 instead of serving"),
        (SoonGivenUp, "sleep 60", "not within 1 s: shell serves"),
        (
            SoonKilled,
            "trap '' TERM; echo ready; sleep 60 & while :; do wait; done",
            "did not end within 0.5 s of SIGTERM",
        ),
        (Shell, "trap 'kill $!; exit 3' TERM; echo ready; sleep 60 & wait", "ended with status 3"),
        (Shell, "trap 'exit 0' TERM; echo ready; sleep 60 & wait", "left the processes"),
    ],
    ids=["ends-early", "never-ready", "ignores-sigterm", "wrong-status", "leaves-a-child"],
)
def test_misbehaving_daemon_fails_the_test_and_is_gone(kind: type[Shell], script: str, complaint: str) -> None:
    with Namespace("alone") as namespace:
        shell = kind(namespace, script)
        with pytest.raises(AssertionError, match=complaint), shell:
            pass
        assert namespace.processes() == []
        assert not shell.directory.exists()
    assert leftovers() == []


def test_failure_shows_the_log() -> None:
    script = "echo ready for nothing; sleep 60"
    with (
        Namespace("alone") as namespace,
        pytest.raises(ZeroDivisionError) as raised,
        Shell(namespace, script),
    ):
        raise ZeroDivisionError
    assert "ready for nothing" in raised.value.__notes__[0]


SESSION = """
    import signal, time
    from tests.interop.ownership import session_mark
    from tests.interop.strongswan import StrongSwan, server_config
    from tests.interop.topologies import direct_topology

    # A shell that started pytest in the background has had SIGINT ignored for all below.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with direct_topology() as net, StrongSwan("responder", net.server, server_config()):
        print(session_mark(), flush=True)
        time.sleep(60)
"""


@contextmanager
def running_session() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that uses the harness and has a daemon running, and its mark."""
    session = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SESSION)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with session:
        try:
            assert session.stdout is not None
            mark = session.stdout.readline().strip()
            assert leftovers(mark) != []
            yield session, mark
        finally:
            session.kill()


def test_interrupted_session_leaves_nothing() -> None:
    with running_session() as (session, mark):
        session.send_signal(signal.SIGINT)
        assert session.wait(10) != 0
        assert leftovers(mark) == []
        assert list(Path(tempfile.gettempdir()).glob(f"*{mark}*")) == []


def test_killed_session_is_swept_by_the_next() -> None:
    with running_session() as (session, mark):
        session.kill()
        session.wait()
        # The kernel ends the daemons with the session; what needs a hand to go is the rest.
        eventually(lambda: not [line for line in leftovers(mark) if line.startswith("process")])
        assert [line.split()[0] for line in leftovers(mark)] == ["namespace", "namespace", "directory"]
        sweep()
        assert leftovers(mark) == []
        assert list(Path(tempfile.gettempdir()).glob(f"*{mark}*")) == []


def test_sweep_spares_what_is_locked() -> None:
    """As a session holds it that runs in another container with the same /tmp, or that sweeps at the same time."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    mark = f"{ended.stdout.strip()}.0abc"
    directory, lock = (Path(tempfile.gettempdir(), f"{PREFIX}-{mark}-{what}") for what in ("1-daemon", "lock"))
    directory.mkdir()
    with lock.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        sweep()
        assert directory.exists()
        assert lock.exists()
    sweep()
    assert not directory.exists()
    assert not lock.exists()


def test_sweep_spares_sessions_that_run() -> None:
    with direct_topology() as topology:
        before = leftovers()
        sweep()
        assert leftovers() == before
        assert topology.client.ping(topology.server_address, source=topology.client_address, count=1) == 1


def test_raw_output_is_parsed() -> None:
    line = (
        "list-sa event {home {uniqueid=1 remote-id=C=CH, O=Acme Inc., CN=gw remote-vips=[10.3.0.1 fd00::1] "
        "initiator=yes child-sas {net-1 {state=INSTALLED local-ts=[10.3.0.1/32 fd01::/64[tcp/http]]}}}}\n"
        "list-sas reply {}\n"
    )
    assert parse_raw(line, event="list-sa") == [
        {
            "home": {
                "uniqueid": "1",
                "remote-id": "C=CH, O=Acme Inc., CN=gw",
                "remote-vips": ["10.3.0.1", "fd00::1"],
                "initiator": "yes",
                "child-sas": {"net-1": {"state": "INSTALLED", "local-ts": ["10.3.0.1/32", "fd01::/64[tcp/http]"]}},
            }
        }
    ]


PACKAGES_SCRIPT = ROOT / "tests/interop/packages"


class FakeDebian:
    """A PATH whose apt-get and dpkg-query write down how they are called."""

    def __init__(self, directory: Path, *, missing: str, apt_status: int = 0, user_id: int = 0) -> None:
        self.calls = directory / "calls"
        self.policy = directory / "policy-rc.d"
        self._path = directory / "bin"
        self._path.mkdir()
        self._tool("id", f"echo {user_id}")
        self._tool("dpkg-query", f'for p; do :; done; [ "$p" = "{missing}" ] || printf installed')
        self._tool("apt-get", f'echo "$@ policy=$({self.policy} 2>&1; echo $?)" >>{self.calls}; exit {apt_status}')

    def _tool(self, name: str, script: str) -> None:
        path = self._path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def packages(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self._path}:/usr/bin:/bin", "CYGNET_POLICY_RC_D": str(self.policy)}
        return subprocess.run(
            [PACKAGES_SCRIPT, *arguments], capture_output=True, text=True, check=False, env=environment
        )


def test_packages_installs_what_is_missing_and_starts_no_service(tmp_path: Path) -> None:
    debian = FakeDebian(tmp_path, missing="nftables")
    assert debian.packages("--if-root").returncode == 0
    [call] = debian.calls.read_text().splitlines()
    assert "install" in call
    assert "nftables" in call
    assert "iproute2" not in call
    assert "policy=101" in call
    assert not debian.policy.exists()


def test_packages_leaves_a_policy_that_is_not_its_own(tmp_path: Path) -> None:
    debian = FakeDebian(tmp_path, missing="nftables")
    debian.policy.write_text("#!/bin/sh\nexit 7\n")
    debian.policy.chmod(0o755)
    assert debian.packages().returncode == 0
    assert "policy=7" in debian.calls.read_text()
    assert debian.policy.exists()


def test_packages_has_nothing_to_do(tmp_path: Path) -> None:
    debian = FakeDebian(tmp_path, missing="")
    completed = debian.packages("--if-root")
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
    assert not debian.calls.exists()


@pytest.mark.parametrize(("user_id", "apt_status", "reason"), [(1000, 0, "not root"), (0, 100, "could not install")])
def test_packages_says_why_not(tmp_path: Path, user_id: int, apt_status: int, reason: str) -> None:
    debian = FakeDebian(tmp_path, missing="nftables", apt_status=apt_status, user_id=user_id)
    for arguments, status in ((["--if-root"], 0), ([], 1)):
        completed = debian.packages(*arguments)
        assert completed.returncode == status
        assert reason in completed.stderr.splitlines()[-1]
    assert not debian.policy.exists()


def test_packages_refuses_other_arguments(tmp_path: Path) -> None:
    assert FakeDebian(tmp_path, missing="").packages("--force").returncode == 2
