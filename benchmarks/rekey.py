"""What tunnels that stand cost a gateway: new keys, and answers to peers that ask whether it lives.

    python -m benchmarks.rekey [--peer cygnet|strongswan|both] [--rounds 3] [--tunnels 100] [--times 5] [--asked 200]
        [--json FILE] [--readme]

Each round starts a fresh daemon of each kind in a network namespace of its own, pinned to core 0, ours with one worker.
The initiator, which is our core, opens `--tunnels` tunnels from core 1. It rekeys all of them `--times` times, first
their CHILD_SAs with a key exchange (X25519), then their IKE_SAs. Then it asks in each `--asked` times whether the
daemon lives. It makes the requests of all tunnels before it sends the first, so that the daemon is the slower one, and
takes the answers when it has them all. Reported are the CPU of
all the daemon's processes per rekeying, the Delete of the old SA included, and per answer, as medians of the rounds;
how many that makes in a second of CPU; and how many answers it gave in a second. What the cryptography of a rekeying
takes by itself, see `benchmarks.primitives`, is measured in each round too.
"""

import argparse
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from benchmarks import common, primitives
from tests.interop.cygnet_gateway import Cygnet
from tests.interop.daemons import Daemon
from tests.interop.strongswan import BenchmarkResponder, server_config
from tests.interop.topologies import Topology, direct_topology

from cygnet.auth.identity import parse_identity
from cygnet.iana import ExchangeType, ProtocolId
from cygnet.ike.connections import Connection
from cygnet.ike.effects import Effect, Send
from cygnet.ike.environment import Environment
from cygnet.ike.path import Path as IkePath
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.protected import open_message
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import AuthSettings, ChildSettings, ConnectionSettings, Settings, SharedSecret
from cygnet.ike.states import SaState
from cygnet.ike.table import IkeTable
from cygnet.ike.tasks import RekeyChild, RekeyIke, Task
from cygnet.wire.header import FLAG_RESPONSE
from cygnet.wire.message import decode_message
from cygnet.wire.payloads import Encrypted

IKE, ESP = "aes128gcm16-prfsha256-x25519", "aes128gcm16-x25519"
SECRET = "a-shared-secret"
RESPONDER_CORE, INITIATOR_CORE = 0, 1
PORTS = {500: 4500}
MARKER = bytes(4)
UNDER_WAY = 16
ASKED_AT_ONCE = 64
"""Requests under way: enough that the daemon never waits, and no more than a socket holds."""
SILENCE_S = 0.5
"""After so long without any answer what is under way is sent again."""
PATIENCE_S = 120.0
KINDS = ("child", "ike", "answer")
NAMES = {"child": "rekeyed CHILD_SA", "ike": "rekeyed IKE_SA", "answer": "liveness answer"}
FLAGS, MESSAGE_ID = 19, slice(20, 24)
"""Of the IKE header (RFC 7296 section 3.1); the initiator's SPI is in its first eight octets."""


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

    def seal_questions(self, times: int) -> dict[bytes, list[bytes]]:
        """So many liveness requests in each IKE_SA, by the initiator's SPI, ready to be sent one after the other."""
        questions = {}
        for spi in self.established():
            sa = self.table.sas[spi]
            assert sa.is_original_initiator
            first = sa.message_ids.next_id
            questions[sa.spi_i] = [
                sa.seal(ExchangeType.INFORMATIONAL, first + number, (), is_response=False) for number in range(times)
            ]
        return questions

    def ask(self, questions: dict[bytes, list[bytes]]) -> float:
        """Ask them; how long that took, in seconds.

        The last answer in each IKE_SA is opened, and so the daemon has taken all of them.
        """
        begun = time.monotonic()
        last = self.exchange(questions)
        took_s = time.monotonic() - begun
        for answer in last:
            sa = next(sa for sa in self.table.sas.values() if sa.spi_i == answer[:8])
            encrypted, protection = decode_message(answer).payloads[-1], sa.incoming
            assert isinstance(encrypted, Encrypted) and protection is not None
            open_message(protection, answer, encrypted)
        return took_s

    def rekey(self, tasks: list[tuple[bytes, Task]]) -> None:
        """Rekey many: all requests are made first, and the answers are taken when all have come."""
        now = time.monotonic()
        effects = [effect for spi, task in tasks for effect in self.table.order(spi, task, now)]
        while requests := {e.datagram[:8]: [e.datagram] for e in effects if isinstance(e, Send)}:
            answers = self.exchange(requests)
            path, now = self._path(), time.monotonic()
            effects = [effect for answer in answers for effect in self.table.receive(answer, path, now)]

    def exchange(self, requests: dict[bytes, list[bytes]]) -> list[bytes]:
        """Send requests of many IKE_SAs, by the initiator's SPI, in each when the one before it is answered.

        Nothing else is done meanwhile, so that it is the daemon that the others wait for. Returns the last answer in
        each.
        """
        path = self._path()
        sock = self._sockets[path.local_port]
        marker = MARKER if path.local_port == PORTS[500] else b""
        address, skip = (path.remote, path.remote_port), len(marker)
        answered = dict.fromkeys(requests, 0)
        waiting = deque(requests)
        under_way: dict[bytes, bytes] = {}
        last = []
        heard = time.monotonic()
        while waiting or under_way:
            while waiting and len(under_way) < ASKED_AT_ONCE:
                spi = waiting.popleft()
                under_way[spi] = request = marker + requests[spi][answered[spi]]
                sock.sendto(request, address)
            if not select.select((sock,), (), (), 0.05)[0]:
                if time.monotonic() - heard > PATIENCE_S:
                    raise SystemExit("benchmark: the peer does not answer")
                if time.monotonic() - heard > SILENCE_S:
                    for request in under_way.values():
                        sock.sendto(request, address)
                continue
            heard = time.monotonic()
            for _ in range(ASKED_AT_ONCE):
                try:
                    answer = sock.recv(65536)[skip:]
                except BlockingIOError:
                    break
                spi = answer[:8]
                request = under_way.get(spi, b"")
                if not request or request[skip:][MESSAGE_ID] != answer[MESSAGE_ID] or not answer[FLAGS] & FLAG_RESPONSE:
                    continue
                del under_way[spi]
                answered[spi] += 1
                if answered[spi] < len(requests[spi]):
                    waiting.append(spi)
                else:
                    last.append(answer)
        return last

    def _path(self) -> IkePath:
        """Of all IKE_SAs, when they stand."""
        return next(iter(self.table.sas.values())).path

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                path = effect.path
                marker = MARKER if path.local_port == PORTS[500] else b""
                self._sockets[path.local_port].sendto(marker + effect.datagram, (path.remote, path.remote_port))


def drive(local: str, remote: str, tunnels: int, times: int, asked: int) -> None:
    """The initiator's process: prints a line after each phase, and goes on when it reads one."""
    initiator = Initiator(local, remote)
    table = initiator.table

    def are_up() -> bool:
        return len(initiator.established()) == len(table.sas) == tunnels

    initiator.run([lambda n=n: initiator.begin(n) for n in range(tunnels)], are_up)  # type: ignore[misc]
    print("up", flush=True)
    for kind in ("child", "ike"):
        sys.stdin.readline()
        for _ in range(times):
            spis = initiator.established()
            tasks: list[tuple[bytes, Task]] = [
                (spi, RekeyIke() if kind == "ike" else RekeyChild(table.sas[spi].children[-1].spi_in)) for spi in spis
            ]
            initiator.rekey(tasks)
            if not are_up():
                raise SystemExit("benchmark: not all were rekeyed")
        print(kind, flush=True)
    questions = initiator.seal_questions(asked)
    print("sealed", flush=True)
    sys.stdin.readline()
    print("answer", initiator.ask(questions), flush=True)


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


def measure(kind: str, tunnels: int, times: int, asked: int) -> dict[str, float]:
    """One round: microseconds of the responder's CPU for each of KINDS, and the rate of its answers."""
    work = {"child": tunnels * times, "ike": tunnels * times, "answer": tunnels * asked}
    with direct_topology() as topology, daemon_of(kind, topology) as daemon:
        command = topology.client.command(
            *("taskset", "-c", str(INITIATOR_CORE), sys.executable, "-m", "benchmarks.rekey", "--drive"),
            *(topology.client_address, topology.server_address, str(tunnels), str(times), str(asked)),
        )
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=common.ROOT
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            if process.stdout.readline() != "up\n":
                raise SystemExit(f"benchmark: the tunnels to {kind} did not come up")
            found = {}
            for phase in KINDS:
                if phase == "answer" and process.stdout.readline() != "sealed\n":
                    raise SystemExit("benchmark: the initiator has ended")
                before = daemon.cpu_seconds()
                process.stdin.write("\n")
                process.stdin.flush()
                word, _, took_s = process.stdout.readline().strip().partition(" ")
                if word != phase:
                    raise SystemExit(f"benchmark: {kind} did not do its part of: {NAMES[phase]}")
                found[phase] = (daemon.cpu_seconds() - before) / work[phase] * 1e6
            found["answers_per_second"] = work["answer"] / float(took_s)
    return found


def summarise(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Medians of the rounds."""
    cpu_us = {kind: statistics.median(each[kind] for each in rounds) for kind in KINDS}
    return {
        "cpu_us": {kind: round(value, 1) for kind, value in cpu_us.items()},
        "per_cpu_second": {kind: round(1e6 / value) for kind, value in cpu_us.items()},
        "answers_per_second": round(statistics.median(each["answers_per_second"] for each in rounds)),
    }


def measure_alone(responder: primitives.Responder) -> dict[str, float]:
    """Microseconds that the cryptography of our responder takes by itself."""
    work = {"child": responder.rekey_child, "ike": responder.rekey_ike}
    return {kind: primitives.measure(each, core=RESPONDER_CORE) for kind, each in work.items()}


def markdown(
    results: dict[str, dict[str, Any]],
    alone_us: dict[str, float],
    machine: dict[str, Any],
    arguments: argparse.Namespace,
) -> str:
    """The table for the README."""
    lines = [
        "| daemon | " + " | ".join(f"CPU per {NAMES[kind]}" for kind in KINDS) + " | answers/s |",
        "|---" * (len(KINDS) + 2) + "|",
    ]
    for peer, result in results.items():
        cells = [f"{result['cpu_us'][kind]:.0f} us ({result['per_cpu_second'][kind]} per CPU-second)" for kind in KINDS]
        lines.append(f"| {common.NAMES[peer]} | {' | '.join(cells)} | {result['answers_per_second']} |")
    lines += [
        "",
        f"{common.machine_line(machine)} Suite {IKE}, CHILD_SAs with {ESP}, {arguments.tunnels} tunnels, each rekeyed "
        f"{arguments.times} times and asked {arguments.asked} times, median of {arguments.rounds} rounds; one "
        f"worker, on one core, the initiator on the other. Of Cygnet's, the cryptography takes {alone_us['child']:.0f} "
        f"us for a CHILD_SA and {alone_us['ike']:.0f} us for an IKE_SA, measured by itself in each round. Command: "
        f"`{common.command_line('rekey', sys.argv[1:])}`.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=("cygnet", "strongswan", "both"), default="both", help="whom to measure")
    parser.add_argument("--rounds", type=int, default=3, help="how often each daemon is measured (default 3)")
    parser.add_argument("--tunnels", type=int, default=100, help="tunnels a round (default 100)")
    parser.add_argument("--times", type=int, default=5, help="rekeyings of each kind of each tunnel (default 5)")
    parser.add_argument("--asked", type=int, default=200, help="liveness requests in each tunnel (default 200)")
    parser.add_argument("--drive", nargs=5, help=argparse.SUPPRESS)
    common.add_output(parser, "rekey")
    options = parser.parse_args()
    if options.drive:
        local, remote, *numbers = options.drive
        drive(local, remote, *map(int, numbers))
        return
    common.check_machine()
    peers = ("cygnet", "strongswan") if options.peer == "both" else (options.peer,)
    rounds: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
    responder = primitives.Responder("x25519")
    alone: list[dict[str, float]] = []
    for number in range(1, options.rounds + 1):
        for peer in peers:
            result = measure(peer, options.tunnels, options.times, options.asked)
            rounds[peer].append(result)
            figures = ", ".join(f"{result[kind]:.0f} us a {NAMES[kind]}" for kind in KINDS)
            print(
                f"round {number}/{options.rounds} {peer}: {figures}, {result['answers_per_second']:.0f} answers/s",
                file=sys.stderr,
            )
        alone.append(measure_alone(responder))
    machine = common.describe()
    alone_us = {kind: round(statistics.median(each[kind] for each in alone), 1) for kind in ("child", "ike")}
    results = {peer: summarise(of_peer) for peer, of_peer in rounds.items()}
    command = common.command_line("rekey", sys.argv[1:])
    report = {"machine": machine, "command": command, "results": results, "cryptography_us": alone_us, "rounds": rounds}
    common.write_json(options.json, report)
    table = markdown(results, alone_us, machine, options)
    print(table)
    if options.readme:
        common.put_into_readme("rekey", table)


if __name__ == "__main__":
    main()
