"""CPU per handshake, set-up rate and memory per tunnel: Cygnet and Debian's strongSwan under the same tester.

    python benchmarks/handshake.py [--rounds 3] [--count 1000] [--suite x25519] [--json FILE] [--readme]

Each round starts a fresh daemon of each kind in a network namespace of its own, pinned to core 0, and opens
`--count` tunnels to it with `cygnet load` on core 1. The kinds take turns, so that a machine that changes its speed
changes it for both. Reported is the median of the rounds, and the ratio as the median of the rounds' own ratios.

Responder CPU is what all processes of the daemon used while the tunnels came up, memory is the growth of their
proportional set size. Both daemons carry ESP in userspace, over a TUN device.

strongSwan runs with cookies and limits off, quiet logs, and a hash table for its SAs. Debian's build has no plugin
that leaves the kernel out, so its figure includes kernel-libipsec, which looks through a list of its CHILD_SAs for
each new one. Measured once against a build of the same version that fakes the kernel, that was about a quarter of its
CPU at 600 tunnels, and more with more of them.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.interop.cygnet_gateway import Cygnet  # noqa: E402
from tests.interop.daemons import Daemon  # noqa: E402
from tests.interop.strongswan import BenchmarkResponder, server_config  # noqa: E402
from tests.interop.topologies import Topology, direct_topology  # noqa: E402

from cygnet.observe.system import describe_machine  # noqa: E402

SUITES = {
    "x25519": ("aes128gcm16-prfsha256-x25519", "aes128gcm16"),
    "modp2048": ("aes128gcm16-prfsha256-modp2048", "aes128gcm16"),
    "ecp256": ("aes128gcm16-prfsha256-ecp256", "aes128gcm16"),
}
SECRET = "a-shared-secret"
RESPONDER_CORE, TESTER_CORE = 0, 1
WARM_UP_TUNNELS = 50
CONCURRENCY = 32
MARKERS = re.compile(r"(<!-- benchmark:begin -->\n).*?(<!-- benchmark:end -->)", re.DOTALL)


class Round(msgspec.Struct, frozen=True):
    """One daemon, started fresh, and what the tester and the kernel said of it."""

    responder_us: float
    """CPU of all its processes per tunnel, in microseconds."""
    setup_rate: float
    """Tunnels established per second."""
    memory_octets: float
    """Growth of its proportional set size per tunnel."""
    tester_us: float
    """CPU of the tester per tunnel, in microseconds."""
    p99_ms: float
    """Set-up delay that 99 of 100 tunnels stay below."""


def configuration(suite: str) -> str:
    """The configuration that both daemons run: one pool, all tunnels with the same selectors."""
    ike, esp = SUITES[suite]
    return server_config(
        pools={"v4": "10.64.0.0/10"},
        local_ts="0.0.0.0/0",
        proposals=ike,
        esp_proposals=esp,
        secret=SECRET,
        connection="unique = never\n        mobike = no\n        rekey_time = 0",
        child="remote_ts = 10.64.0.0/10\n                rekey_time = 0",
    )


def load(topology: Topology, suite: str, count: int) -> dict[str, object]:
    """Open tunnels with `cygnet load` from the client's namespace; its result."""
    ike, esp = SUITES[suite]
    command = topology.client.command(
        *("taskset", "-c", str(TESTER_CORE), sys.executable, "-m", "cygnet", "load", topology.server_address),
        *("--psk", SECRET, "--id", "c{n}@example.org", "--remote-id", "gw.example.org"),
        *("--proposal", ike, "--esp", esp, "--vip"),
        *("--count", str(count), "--concurrency", str(CONCURRENCY), "--quiet", "--json"),
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"benchmark: cygnet load failed:\n{done.stdout}{done.stderr}")
    result: dict[str, object] = json.loads(done.stdout)
    return result


def measure(daemon: Daemon, topology: Topology, suite: str, count: int) -> Round:
    """Start the daemon, warm it up, and measure `count` tunnels."""
    with daemon:
        load(topology, suite, WARM_UP_TUNNELS)
        cpu, memory = daemon.cpu_seconds(), daemon.pss_octets()
        result = load(topology, suite, count)
        cpu, memory = daemon.cpu_seconds() - cpu, daemon.pss_octets() - memory
    delay, tester = result["setup_delay_ms"], result["tester"]
    assert isinstance(delay, dict) and isinstance(tester, dict)
    return Round(
        responder_us=cpu / count * 1e6,
        setup_rate=float(str(result["setup_rate"])),
        memory_octets=memory / count,
        tester_us=tester["cpu_us_per_tunnel"],
        p99_ms=delay["p99"],
    )


def cygnet(topology: Topology, suite: str) -> Daemon:
    """Our gateway: one worker, with its counters on."""
    return Cygnet(
        topology.server, configuration(suite), "--workers", "1", "--log-level", "warning", core=RESPONDER_CORE
    )


def strongswan(topology: Topology, suite: str) -> Daemon:
    """The peer."""
    return BenchmarkResponder(topology.server, core=RESPONDER_CORE, config=configuration(suite))


KINDS: dict[str, Callable[[Topology, str], Daemon]] = {"cygnet": cygnet, "strongswan": strongswan}


def run(suite: str, rounds: int, count: int) -> dict[str, list[Round]]:
    """All rounds, the daemons in turn."""
    measured: dict[str, list[Round]] = {kind: [] for kind in KINDS}
    for number in range(1, rounds + 1):
        for kind, make in KINDS.items():
            with direct_topology() as topology:
                result = measure(make(topology, suite), topology, suite, count)
            measured[kind].append(result)
            print(
                f"{suite} round {number}/{rounds} {kind}: {result.responder_us:.0f} us a handshake, "
                f"{result.setup_rate:.0f} tunnels/s, {result.memory_octets / 1000:.1f} kB a tunnel",
                file=sys.stderr,
            )
    return measured


def median(rounds: Sequence[Round], field: str) -> float:
    """The median of one figure over the rounds."""
    return float(statistics.median(getattr(r, field) for r in rounds))


def summarise(measured: dict[str, list[Round]]) -> dict[str, object]:
    """Medians of each kind, and Cygnet's CPU over strongSwan's, round by round."""
    ratios = [a.responder_us / b.responder_us for a, b in zip(measured["cygnet"], measured["strongswan"], strict=True)]
    return {
        **{kind: {f: round(median(r, f), 1) for f in Round.__struct_fields__} for kind, r in measured.items()},
        "cpu_ratio": round(statistics.median(ratios), 3),
        "rounds": {kind: [msgspec.structs.asdict(r) for r in rounds] for kind, rounds in measured.items()},
    }


def strongswan_version() -> str:
    """As Debian's package says it."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "charon-systemd"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def command_line(options: argparse.Namespace) -> str:
    """How to measure the same again."""
    suites = "".join(f" --suite {suite}" for suite in options.suite or [])
    return f'make bench BENCH="--rounds {options.rounds} --count {options.count}{suites}"'


def markdown(results: dict[str, dict[str, object]], machine: dict[str, object], options: argparse.Namespace) -> str:
    """The table for the README."""
    command, count, rounds = command_line(options), options.count, options.rounds
    lines = [
        "| suite | daemon | responder CPU per handshake | tunnels/s | memory per tunnel | tester CPU per tunnel |",
        "|---|---|---|---|---|---|",
    ]
    for suite, result in results.items():
        for kind in KINDS:
            row = result[kind]
            assert isinstance(row, dict)
            ratio = f" ({result['cpu_ratio']} of strongSwan's)" if kind == "cygnet" else ""
            lines.append(
                f"| {SUITES[suite][0]} | {'Cygnet' if kind == 'cygnet' else 'strongSwan'} "
                f"| {row['responder_us']:.0f} us{ratio} | {row['setup_rate']:.0f} "
                f"| {row['memory_octets'] / 1000:.1f} kB | {row['tester_us']:.0f} us |"
            )
    lines += [
        "",
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, "
        f"cryptography {machine['cryptography']} ({machine['openssl']}), strongSwan {strongswan_version()} with "
        f"kernel-libipsec. PSK, virtual address, {count} tunnels a round, median of {rounds} rounds; "
        f"responder on one core, tester on the other. Command: `{command}`.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each daemon is measured (default 3)")
    parser.add_argument("--count", type=int, default=1000, help="tunnels a round (default 1000)")
    parser.add_argument(
        "--suite", action="append", choices=sorted(SUITES), help="what to measure; may be repeated (default x25519)"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "handshake.json", help="where the result goes")
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    if os.geteuid():
        raise SystemExit("benchmark: network namespaces need root; run it as root on Debian")
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("benchmark: two cores are needed, one for the responder and one for the tester")
    machine = msgspec.to_builtins(describe_machine())
    results = {suite: summarise(run(suite, options.rounds, options.count)) for suite in options.suite or ["x25519"]}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine, "command": command_line(options), "results": results}
    with tempfile.NamedTemporaryFile("w", dir=options.json.parent, delete=False) as file:
        json.dump(report, file, indent=2, default=str)
    Path(file.name).replace(options.json)
    table = markdown(results, machine, options)
    print(table)
    if options.readme:
        readme = ROOT / "README.md"
        readme.write_text(MARKERS.sub(lambda m: f"{m[1]}{table}\n{m[2]}", readme.read_text()))


if __name__ == "__main__":
    main()
