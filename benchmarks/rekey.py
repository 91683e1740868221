"""CPU per rekeying: Cygnet and Debian's strongSwan under the same initiator, which is our core.

    python benchmarks/rekey.py [--peer cygnet|strongswan|both] [--rounds 3] [--tunnels 100] [--times 5] [--json FILE]

Each round starts a fresh daemon of each kind in a network namespace of its own, pinned to core 0. The initiator, on
core 1, opens `--tunnels` tunnels and then rekeys all of them `--times` times: first their CHILD_SAs with a key exchange
(X25519), then their IKE_SAs. Reported is the CPU of all the daemon's processes per rekeying, the Delete of the old SA
included, as the median of the rounds.
"""

import argparse
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.interop.cygnet_gateway import Cygnet  # noqa: E402
from tests.interop.daemons import Daemon  # noqa: E402
from tests.interop.strongswan import BenchmarkResponder, server_config  # noqa: E402
from tests.interop.topologies import Topology, direct_topology  # noqa: E402

from cygnet.auth.identity import parse_identity  # noqa: E402
from cygnet.iana import ProtocolId  # noqa: E402
from cygnet.ike.connections import Connection  # noqa: E402
from cygnet.ike.effects import Effect, Send  # noqa: E402
from cygnet.ike.environment import Environment  # noqa: E402
from cygnet.ike.path import Path as IkePath  # noqa: E402
from cygnet.ike.proposals import parse_proposal  # noqa: E402
from cygnet.ike.selectors import parse_selector  # noqa: E402
from cygnet.ike.settings import AuthSettings, ChildSettings, ConnectionSettings, Settings, SharedSecret  # noqa: E402
from cygnet.ike.states import SaState  # noqa: E402
from cygnet.ike.table import IkeTable  # noqa: E402
from cygnet.ike.tasks import RekeyChild, RekeyIke, Task  # noqa: E402
from cygnet.observe.system import describe_machine  # noqa: E402

IKE, ESP = "aes128gcm16-prfsha256-x25519", "aes128gcm16-x25519"
SECRET = "a-shared-secret"
RESPONDER_CORE, INITIATOR_CORE = 0, 1
PORTS = {500: 4500}
MARKER = bytes(4)
UNDER_WAY = 16
PATIENCE_S = 120.0
KINDS = ("child", "ike")


class Initiator:
    """Our core on two sockets, without a data plane."""

    def __init__(self, local: str, remote: str) -> None:
        self._local, self._remote = local, remote
        self._sockets: dict[int, socket.socket] = {}
        for port in (500, 4500):
            self._sockets[port] = sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((local, port))
            sock.setblocking(False)
        env = Environment(
            Settings(secrets=(SharedSecret(SECRET.encode()),)),
            entropy=os.urandom,
            count=lambda name, n=1: None,
            natt_ports=PORTS,
            sends_initial_contact=False,
        )
        self.table = IkeTable(env)
        everything = (parse_selector("0.0.0.0/0"),)
        child = ChildSettings("bench", (parse_proposal(ProtocolId.ESP, ESP),), remote_ts=everything, rekey_time_s=0.0)
        self._template = Connection(
            ConnectionSettings(
                name="bench",
                proposals=(parse_proposal(ProtocolId.IKE, IKE),),
                remote=AuthSettings(id=parse_identity("gw.example.org")),
                vips=(bytes(4),),
                children=(child,),
                rekey_time_s=0.0,
            )
        )

    def begin(self, number: int) -> None:
        """Begin one tunnel."""
        connection = self._template.with_local_id(parse_identity(f"c{number}@example.org"))
        path = IkePath(self._local, 500, self._remote, 500)
        self._carry_out(self.table.initiate(connection, path, time.monotonic())[1])

    def order(self, spi: bytes, task: Task) -> None:
        """Begin to rekey."""
        self._carry_out(self.table.order(spi, task, time.monotonic()))

    def turn(self) -> None:
        """Take what has come, or wait a little for it."""
        ready, _, _ = select.select(list(self._sockets.values()), (), (), 0.05)
        for sock in ready:
            port = sock.getsockname()[1]
            for _ in range(64):
                try:
                    datagram, source = sock.recvfrom(65536)
                except BlockingIOError:
                    break
                if port == PORTS[500] and not datagram.startswith(MARKER):
                    continue
                path = IkePath(self._local, port, source[0], source[1])
                ike = datagram[len(MARKER) :] if port == PORTS[500] else datagram
                self._carry_out(self.table.receive(ike, path, time.monotonic()))
        due = self.table.next_timer()
        if due is not None and due <= time.monotonic():
            self._carry_out(self.table.handle_timers(time.monotonic()))

    def run(self, steps: list[Callable[[], None]], is_done: Callable[[], bool]) -> None:
        """Take the steps, some at a time, and wait until all is done."""
        deadline = time.monotonic() + PATIENCE_S
        while steps or not is_done():
            busy = sum(1 for spi in list(self.table.sas) if self.table.sas[spi].message_ids.outstanding is not None)
            for _ in range(min(len(steps), UNDER_WAY - busy)):
                steps.pop()()
            self.turn()
            if time.monotonic() > deadline:
                raise SystemExit("benchmark: the peer does not answer")

    def established(self) -> list[bytes]:
        """The IKE_SAs that stand and wait for nothing."""
        found = []
        for spi in list(self.table.sas):
            sa = self.table.sas[spi]
            if sa.state == SaState.ESTABLISHED and sa.message_ids.outstanding is None and not sa.pending:
                found.append(spi)
        return found

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                path = effect.path
                marker = MARKER if path.local_port == PORTS[500] else b""
                self._sockets[path.local_port].sendto(marker + effect.datagram, (path.remote, path.remote_port))


def drive(local: str, remote: str, tunnels: int, times: int) -> None:
    """The initiator's process: prints a line after each phase, and goes on when it reads one."""
    initiator = Initiator(local, remote)
    table = initiator.table

    def are_up() -> bool:
        return len(initiator.established()) == len(table.sas) == tunnels

    initiator.run([lambda n=n: initiator.begin(n) for n in range(tunnels)], are_up)  # type: ignore[misc]
    print("up", flush=True)
    for kind in KINDS:
        sys.stdin.readline()
        for _ in range(times):
            spis = initiator.established()
            tasks: list[tuple[bytes, Task]] = [
                (spi, RekeyIke() if kind == "ike" else RekeyChild(table.sas[spi].children[-1].spi_in)) for spi in spis
            ]
            initiator.run([lambda s=spi, t=task: initiator.order(s, t) for spi, task in tasks], are_up)  # type: ignore[misc]
        print(kind, flush=True)


def configuration() -> str:
    """The configuration that both daemons run."""
    return server_config(
        pools={"v4": "10.64.0.0/10"},
        local_ts="0.0.0.0/0",
        proposals=IKE,
        esp_proposals=ESP,
        secret=SECRET,
        connection="unique = never\n        mobike = no\n        rekey_time = 0",
        child="remote_ts = 10.64.0.0/10\n                rekey_time = 0",
    )


def daemon_of(kind: str, topology: Topology) -> Daemon:
    """The responder."""
    if kind == "cygnet":
        options = ("--workers", "1", "--log-level", "warning")
        return Cygnet(topology.server, configuration(), *options, core=RESPONDER_CORE)
    return BenchmarkResponder(topology.server, core=RESPONDER_CORE, config=configuration())


def measure(kind: str, tunnels: int, times: int) -> dict[str, float]:
    """One round: microseconds of the responder's CPU per rekeying of each kind."""
    with direct_topology() as topology, daemon_of(kind, topology) as daemon:
        command = topology.client.command(
            *("taskset", "-c", str(INITIATOR_CORE), sys.executable, str(Path(__file__).resolve()), "--drive"),
            *(topology.client_address, topology.server_address, str(tunnels), str(times)),
        )
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None and process.stdout is not None
            if process.stdout.readline() != "up\n":
                raise SystemExit(f"benchmark: the tunnels to {kind} did not come up")
            found = {}
            for phase in KINDS:
                before = daemon.cpu_seconds()
                process.stdin.write("\n")
                process.stdin.flush()
                if process.stdout.readline() != f"{phase}\n":
                    raise SystemExit(f"benchmark: {kind} did not rekey")
                found[phase] = (daemon.cpu_seconds() - before) / (tunnels * times) * 1e6
    return found


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=("cygnet", "strongswan", "both"), default="both", help="whom to measure")
    parser.add_argument("--rounds", type=int, default=3, help="how often each daemon is measured (default 3)")
    parser.add_argument("--tunnels", type=int, default=100, help="tunnels a round (default 100)")
    parser.add_argument("--times", type=int, default=5, help="rekeyings of each kind of each tunnel (default 5)")
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "rekey.json", help="where the result goes")
    parser.add_argument("--drive", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        local, remote, tunnels, times = options.drive
        drive(local, remote, int(tunnels), int(times))
        return
    if os.geteuid():
        raise SystemExit("benchmark: network namespaces need root; run it as root on Debian")
    peers = ("cygnet", "strongswan") if options.peer == "both" else (options.peer,)
    rounds: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
    for number in range(1, options.rounds + 1):
        for peer in peers:
            result = measure(peer, options.tunnels, options.times)
            rounds[peer].append(result)
            figures = ", ".join(f"{value:.0f} us a rekeyed {kind.upper()}_SA" for kind, value in result.items())
            print(f"round {number}/{options.rounds} {peer}: {figures}", file=sys.stderr)
    medians = {
        peer: {kind: round(statistics.median(r[kind] for r in of_peer), 1) for kind in KINDS}
        for peer, of_peer in rounds.items()
    }
    report = {
        "machine": msgspec.to_builtins(describe_machine()),
        "tunnels": options.tunnels,
        "times": options.times,
        "cpu_us": medians,
        "rounds": rounds,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2, default=str))
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
