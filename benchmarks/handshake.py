"""CPU per handshake, set-up rate and memory per tunnel: Cygnet and Debian's strongSwan under the same tester.

    python -m benchmarks.handshake [--rounds 3] [--count 1000] [--suite x25519] [--json FILE] [--readme]

Each round starts a fresh daemon of each kind in a network namespace of its own, pinned to core 0, and opens
`--count` tunnels to it with `cygnet load` on core 1. The kinds take turns, so that a machine that changes its speed
changes it for both. Reported is the median of the rounds, and the ratio as the median of the rounds' own ratios.

Responder CPU is what all processes of the daemon used while the tunnels came up, memory is the growth of their
proportional set size. Both daemons carry ESP in userspace, over a TUN device. What the cryptography of our responder
takes by itself, see `benchmarks.primitives`, is measured in each round too.

strongSwan runs with cookies and limits off, quiet logs, and a hash table for its SAs. Debian's build has no plugin
that leaves the kernel out, so its figure includes kernel-libipsec, which looks through a list of its CHILD_SAs for
each new one. Measured once against a build of the same version that fakes the kernel, that was about a quarter of its
CPU at 600 tunnels, and more with more of them.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from benchmarks import common, primitives
from benchmarks.common import KINDS, NAMES, RESPONDER_CORE, SUITES
from tests.interop.daemons import Daemon
from tests.interop.topologies import Topology, direct_topology

WARM_UP_TUNNELS = 50
CONCURRENCY = 32


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


def load(topology: Topology, suite: str, count: int) -> dict[str, Any]:
    """Open tunnels in a closed loop."""
    return common.load(topology, suite, "--count", str(count), "--concurrency", str(CONCURRENCY))


def measure(daemon: Daemon, topology: Topology, suite: str, count: int) -> Round:
    """Start the daemon, warm it up, and measure `count` tunnels."""
    with daemon:
        load(topology, suite, WARM_UP_TUNNELS)
        cpu, memory = daemon.cpu_seconds(), daemon.pss_octets()
        result = load(topology, suite, count)
        cpu, memory = daemon.cpu_seconds() - cpu, daemon.pss_octets() - memory
    tester = result["tester"]
    return Round(
        responder_us=cpu / count * 1e6,
        setup_rate=result["setup_rate"],
        memory_octets=memory / count,
        tester_us=tester["cpu_us_per_tunnel"],
        p99_ms=result["setup_delay_ms"]["p99"],
    )


def run(suite: str, rounds: int, count: int) -> tuple[dict[str, list[Round]], list[float]]:
    """All rounds, the daemons in turn; and in each what the cryptography takes, in microseconds."""
    measured: dict[str, list[Round]] = {kind: [] for kind in KINDS}
    alone: list[float] = []
    answer = primitives.Responder(suite).answer_handshake
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
        alone.append(primitives.measure(answer, core=RESPONDER_CORE))
    return measured, alone


def median(rounds: Sequence[Round], field: str) -> float:
    """The median of one figure over the rounds."""
    return float(statistics.median(getattr(r, field) for r in rounds))


def summarise(measured: dict[str, list[Round]], alone: Sequence[float]) -> dict[str, object]:
    """Medians of each kind, and Cygnet's CPU over strongSwan's, round by round."""
    ratios = [a.responder_us / b.responder_us for a, b in zip(measured["cygnet"], measured["strongswan"], strict=True)]
    return {
        **{kind: {f: round(median(r, f), 1) for f in Round.__struct_fields__} for kind, r in measured.items()},
        "cpu_ratio": round(statistics.median(ratios), 3),
        "cryptography_us": round(statistics.median(alone), 1),
        "rounds": {kind: [msgspec.structs.asdict(r) for r in rounds] for kind, rounds in measured.items()},
    }


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
                f"| {SUITES[suite][0]} | {NAMES[kind]} "
                f"| {row['responder_us']:.0f} us{ratio} | {row['setup_rate']:.0f} "
                f"| {row['memory_octets'] / 1000:.1f} kB | {row['tester_us']:.0f} us |"
            )
    alone = ", ".join(f"{result['cryptography_us']:.0f} us with {suite}" for suite, result in results.items())
    lines += [
        "",
        f"{common.machine_line(machine)} PSK, virtual address, {count} tunnels a round, median of {rounds} rounds; "
        f"responder on one core, tester on the other. Of a handshake of Cygnet's, the cryptography takes {alone}, "
        f"measured by itself in each round. Command: `{command}`.",
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
    common.add_output(parser, "handshake")
    options = parser.parse_args()
    common.check_machine()
    machine = common.describe()
    results = {suite: summarise(*run(suite, options.rounds, options.count)) for suite in options.suite or ["x25519"]}
    common.write_json(options.json, {"machine": machine, "command": command_line(options), "results": results})
    table = markdown(results, machine, options)
    print(table)
    if options.readme:
        common.put_into_readme("benchmark", table)


if __name__ == "__main__":
    main()
