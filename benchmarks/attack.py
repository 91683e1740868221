"""What a flood costs honest peers: `cygnet load` against a gateway that is flooded, and against one that is not.

    python -m benchmarks.attack [--rounds 3] [--seconds 10] [--rate 50000] [--kind ike_sa_init] [--peer strongswan]
        [--strangers] [--json FILE] [--readme]

The gateway has core 0. The honest tester (a closed loop) and the flood share core 1, so the flood takes time from
the tester whether it hits or not. Therefore each measurement has a control: the same flood, at the same rate, to a
socket that nobody reads. The ratio of the two set-up rates is what the gateway lost by being hit; the goal is 0.8.

Everything runs on the loopback device of one network namespace, with sources all over 127.0.0.0/8, and ends by
itself. Each measurement has a fresh daemon. Reported are the medians of the rounds: set-up rate of honest peers, the
daemon's CPU share, by how much its memory grew (the honest tunnels included), and the rate at which the flood came.

The honest peers have one address. A few of them have had tunnels before the flood begins, as most peers of a gateway
have, and Cygnet knows the address by that. With `--strangers` they have not: then it makes a difference to a flood from
forged addresses (`forged`), in which those that are known go first.

strongSwan (`--peer strongswan`) runs with its protection on, and limits for one source that let the tester through.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import common  # noqa: E402
from benchmarks.flood import KINDS  # noqa: E402
from tests.interop.cygnet_gateway import Cygnet  # noqa: E402
from tests.interop.daemons import Daemon  # noqa: E402
from tests.interop.namespaces import Namespace  # noqa: E402
from tests.interop.strongswan import StrongSwan, server_config  # noqa: E402

GATEWAY_CORE, TESTER_CORE = 0, 1
TARGET, SINK_PORT = "127.0.0.1", 9500
SECRET = "a-shared-secret"
CONCURRENCY = 64
LEAD_S = 1.5
"""How long the flood has gone on when the honest peers begin: cookies and limits are in force then."""
KNOWN = 16
"""Honest peers that have had tunnels before."""
GOAL = 0.8


class Figures(msgspec.Struct, frozen=True):
    """One measurement."""

    setup_rate: float
    """Honest tunnels established per second."""
    failed: int
    """Honest attempts that came to nothing."""
    p99_ms: float | None
    gateway_cpu: float
    """Share of its core that the daemon used meanwhile."""
    memory_growth_octets: int
    """Of the daemon, with what the honest tunnels take up."""
    tunnels: int
    flood_per_s: float
    flood_cpu: float
    """Share of the tester's core that the flood used."""
    drops: dict[str, int]
    """What the gateway counted, where it is ours."""


def configuration() -> str:
    """The configuration that both daemons run."""
    return server_config(
        pools={"v4": "10.64.0.0/10"},
        local_ts="0.0.0.0/0",
        proposals="aes128gcm16-prfsha256-x25519",
        esp_proposals="aes128gcm16",
        secret=SECRET,
        connection="unique = never\n        mobike = no\n        rekey_time = 0",
        child="remote_ts = 10.64.0.0/10\n                rekey_time = 0",
    )


def cygnet(namespace: Namespace) -> Daemon:
    """Our gateway with its defaults: one worker, carrying no traffic."""
    options = ("--workers", "1", "--log-level", "warning", "--dataplane", "null")
    return Cygnet(namespace, configuration(), *options, core=GATEWAY_CORE)


def strongswan(namespace: Namespace) -> Daemon:
    """The peer, defended as well as its options allow with all honest peers at one address."""
    settings = {"dos_protection": True, "cookie_threshold_ip": CONCURRENCY * 4, "block_threshold": CONCURRENCY * 8}
    return StrongSwan("strongswan", namespace, configuration(), settings=settings, benchmark=True, core=GATEWAY_CORE)


PEERS = {"cygnet": cygnet, "strongswan": strongswan}


@contextmanager
def sink(namespace: Namespace) -> Iterator[None]:
    """A socket in the namespace that takes what is sent to it, and is never read."""
    bind = f"s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(({TARGET!r}, {SINK_PORT}))"
    command = namespace.command(
        sys.executable, "-c", f"import socket, sys; {bind}; print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.communicate(timeout=10)


@contextmanager
def flooding(namespace: Namespace, kind: str, port: int, options: argparse.Namespace) -> Iterator[list[str]]:
    """A flood that has begun; its report, when it has ended."""
    seconds = options.seconds + LEAD_S + 1.0
    command = namespace.command(
        *("taskset", "-c", str(TESTER_CORE), sys.executable, str(ROOT / "benchmarks" / "flood.py"), kind),
        *("--target", f"{TARGET}:{port}", "--spis-from", f"{TARGET}:500"),
        *("--seconds", str(seconds), "--rate", str(options.rate)),
    )
    report: list[str] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "flooding":
        raise SystemExit(f"attack: the flood did not begin, status {process.wait()}")
    time.sleep(LEAD_S)
    try:
        yield report
    finally:
        report.append(process.communicate(timeout=seconds + 30)[0])


def load(namespace: Namespace, seconds: float, count: int = 1_000_000) -> dict[str, object]:
    """What `cygnet load` says of honest peers in a closed loop of so many seconds, or so many peers."""
    command = namespace.command(
        *("taskset", "-c", str(TESTER_CORE), sys.executable, "-m", "cygnet", "load", TARGET),
        *("--psk", SECRET, "--id", "c{n}@example.org", "--remote-id", "gw.example.org"),
        *("--proposal", "aes128gcm16-prfsha256-x25519", "--esp", "aes128gcm16", "--vip"),
        *("--count", str(count), "--max-duration", str(seconds), "--concurrency", str(CONCURRENCY)),
        *("--retransmit-timeout", "1", "--quiet", "--json"),
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    try:
        result: dict[str, object] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"attack: cygnet load failed:\n{done.stdout}{done.stderr}") from None
    return result


def measure(peer: str, kind: str, options: argparse.Namespace, *, is_hit: bool) -> Figures:
    """A fresh daemon, a flood of it or of the sink, and honest peers."""
    with Namespace("attack") as namespace, sink(namespace), PEERS[peer](namespace) as daemon:
        if not options.strangers:
            load(namespace, options.seconds, KNOWN)
        before = daemon.pss_octets()
        with flooding(namespace, kind, 500 if is_hit else SINK_PORT, options) as report:
            cpu, begun = daemon.cpu_seconds(), time.monotonic()
            result = load(namespace, options.seconds)
            cpu, took = daemon.cpu_seconds() - cpu, time.monotonic() - begun
        flood = json.loads(report[0])
        growth = daemon.pss_octets() - before
        drops = counted(daemon) if isinstance(daemon, Cygnet) else {}
    delay = result["setup_delay_ms"]
    assert isinstance(delay, dict)
    return Figures(
        setup_rate=float(str(result["setup_rate"])),
        failed=int(str(result["failed"])),
        p99_ms=delay["p99"],
        gateway_cpu=cpu / took,
        memory_growth_octets=growth,
        tunnels=int(str(result["established"])),
        flood_per_s=flood["per_s"],
        flood_cpu=flood["cpu_s"] / flood["seconds"],
        drops=drops,
    )


def counted(daemon: Cygnet) -> dict[str, int]:
    """What became of the datagrams that were not served."""
    wanted = ("datagrams_dropped", "kernel_drops", "new_peers_shed", "strays_shed", "cookies_", "puzzles_")
    return {name: value for name, value in daemon.status().items() if value and name.startswith(wanted)}


def summarise(rounds: list[tuple[Figures, Figures]]) -> dict[str, object]:
    """Medians of the control and of the hit, and the median of their ratios."""
    ratios = [hit.setup_rate / control.setup_rate for control, hit in rounds if control.setup_rate]
    fields = ("setup_rate", "failed", "gateway_cpu", "memory_growth_octets", "tunnels", "flood_per_s", "flood_cpu")
    return {
        "ratio": round(statistics.median(ratios), 3) if ratios else None,
        "control": {f: round(statistics.median(getattr(c, f) for c, _ in rounds), 3) for f in fields},
        "hit": {f: round(statistics.median(getattr(h, f) for _, h in rounds), 3) for f in fields},
        "rounds": [[msgspec.structs.asdict(each) for each in pair] for pair in rounds],
    }


def row(peer: str, kind: str, result: dict[str, object]) -> str:
    """One line of the table."""
    control, hit = result["control"], result["hit"]
    assert isinstance(control, dict) and isinstance(hit, dict)
    return (
        f"| {common.NAMES[peer]} | {kind} | {hit['flood_per_s']:.0f}/s "
        f"| {control['setup_rate']:.0f}/s | {hit['setup_rate']:.0f}/s "
        f"| {result['ratio']} | {100 * control['gateway_cpu']:.0f} % | {100 * hit['gateway_cpu']:.0f} % "
        f"| {control['memory_growth_octets'] / 1e6:.1f} MB | {hit['memory_growth_octets'] / 1e6:.1f} MB |"
    )


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each kind is measured (default 3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of honest peers in each measurement (default 10)")
    parser.add_argument("--rate", type=float, default=50_000.0, help="datagrams of the flood a second, at most")
    parser.add_argument("--kind", action="append", choices=KINDS, help="which flood; may be repeated (default all)")
    parser.add_argument("--peer", action="append", choices=sorted(PEERS), help="which daemon (default cygnet)")
    parser.add_argument(
        "--strangers", action="store_true", help="nobody has come from the honest peers' address before"
    )
    common.add_output(parser, "attack")
    options = parser.parse_args()
    common.check_machine()
    results: dict[str, dict[str, object]] = {}
    lines = [
        "| daemon | flood | came | honest | honest, hit | ratio | CPU | CPU, hit | memory | memory, hit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for peer in options.peer or ["cygnet"]:
        results[peer] = {}
        for kind in options.kind or KINDS:
            rounds = []
            for number in range(1, options.rounds + 1):
                pair = (measure(peer, kind, options, is_hit=False), measure(peer, kind, options, is_hit=True))
                rounds.append(pair)
                print(
                    f"{peer} {kind} {number}/{options.rounds}: {pair[0].setup_rate:.0f} -> {pair[1].setup_rate:.0f} "
                    f"tunnels/s under {pair[1].flood_per_s:.0f} datagrams/s",
                    file=sys.stderr,
                )
            result = summarise(rounds)
            results[peer][kind] = result
            lines.append(row(peer, kind, result))
    machine = common.describe()
    command = common.command_line("attack", sys.argv[1:])
    common.write_json(options.json, {"machine": machine, "command": command, "goal": GOAL, "results": results})
    has_strongswan = "strongswan" in results
    lines += [
        "",
        f"{common.machine_line(machine, has_strongswan=has_strongswan)} Honest peers in a closed loop of {CONCURRENCY} "
        f"for {options.seconds:g} s, median of {options.rounds} rounds. Command: `{command}`.",
    ]
    table = "\n".join(lines)
    print(table)
    if options.readme:
        common.put_into_readme("attack", table)


if __name__ == "__main__":
    main()
