"""What a flood costs honest peers: `cygnet load` against a gateway that is flooded, and against one that is not.

    python -m benchmarks.attack [--rounds 7] [--seconds 5] [--rate 50000] [--kind ike_sa_init] [--peer strongswan]
        [--suite modp4096] [--honest-rate R] [--strangers | --scattered] [--json FILE] [--readme]

The gateway has core 0. The honest tester and the flood share core 1, so the flood takes time from the tester whether it
hits or not. Therefore each measurement has a control: the same flood, at the same rate, to a socket that nobody reads.
What the kernel does with a datagram of the flood until it is in a queue or dropped, filters and steering included, it
does on core 1 too, since this is the loopback device; a network card would bring it to a core of the gateway's.

`ratio` is the honest set-up rate while the gateway is hit over that of the control; the goal is 0.8. It says what
honest peers lost because the gateway was hit, by whatever became scarce. In a closed loop (the default) that is to be
the gateway's core, so that all that it does for the flood is lost to them: each handshake costs it two exponentiations
of a large group, and the tester, which offers one public value again and again (`cygnet load --reuse-ke`), only one.
`CPU` says whether the gateway's core was full. With `--suite x25519` it isn't: then core 1 is what is scarce.

`ratio_per_cpu` is the same of honest tunnels for each second of CPU time that the gateway used, whatever it used it
for. It hardly changes with what else runs on the machine. With a gateway that has time left it is no loss: Cygnet
spends a part of what is left over on answers to strangers (ADR 10).

The machine may change its speed by a factor of two between two measurements, so single ratios say little. Control and
hit follow each other within seconds, now the one first and now the other, in many short rounds; a ratio is the median
of those of the rounds, and `spread` says between which two quartiles of them. `machine` is the same ratio of how fast
both cores were, measured beside by a fixed piece of work (`calibrate.py`): with 1 the machine had no part in it, and
`ratio_without_machine` is that of rates for each unit of that work.

With `--honest-rate R` honest peers come R a second in both measurements, whatever becomes of those before. With less
than the tester could do in the control, core 1 is not scarce, and the ratio says what the gateway made of those who
came: `ratio` is that of established over attempted then, and the delays say what they had to wait. It is no measure of
how much the gateway could have done.

`flood_took` is the share of its core that the gateway used while hit, beyond what the honest tunnels would have taken
at the control's price.

Everything runs on the loopback device of one network namespace, with sources all over 127.0.0.0/8, and ends by
itself. Each measurement has a fresh daemon. Reported are medians of the rounds: set-up rate of honest peers, the
daemon's CPU share while the tester ran, its start included, by how much its memory grew (the honest tunnels included),
and the rate at which the flood came.

The honest peers have one address. A few of them have had tunnels before the flood begins, as most peers of a gateway
have, and Cygnet knows the address by that. With `--strangers` they have not: then it makes a difference to a flood from
forged addresses (`forged`), in which those that are known go first. The first of them that gets in makes the address
known for all. With `--scattered` each has an address of its own that nobody has come from, and all remain strangers; in
a closed loop most of the loop then waits for its next try, so use `--honest-rate`.

strongSwan (`--peer strongswan`) runs with its protection on, and limits for one source that let the tester through.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import common  # noqa: E402
from benchmarks.calibrate import calibrating  # noqa: E402
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
"""How long the flood has gone on when the honest tester is started: cookies and limits are in force then."""
SCATTERED = "127.192.0.0/16"
"""Where honest peers come from with `--scattered`, each from the next address."""
KNOWN = 16
"""Honest peers that have had tunnels before."""
GOAL = 0.8


class Figures(msgspec.Struct, frozen=True):
    """One measurement."""

    setup_rate: float
    """Honest tunnels established per second."""
    attempted: int
    failed: int
    """Honest attempts that came to nothing."""
    p50_ms: float | None
    p99_ms: float | None
    gateway_cpu: float
    """Share of its core that the daemon used meanwhile."""
    memory_growth_octets: int
    """Of the daemon, with what the honest tunnels take up."""
    tunnels: int
    flood_per_s: float
    flood_cpu: float
    """Share of the tester's core that the flood used."""
    tester_cpu: float
    """Share of its core that the honest tester used, its start included."""
    speed: float
    """How fast both cores were, in pieces of work for a second of CPU: the geometric mean."""
    drops: dict[str, int]
    """What the gateway counted, where it is ours."""

    def result(self, *, is_open: bool) -> float:
        """What is compared: the set-up rate, or in an open loop the part of all attempts that came to a tunnel."""
        return self.tunnels / self.attempted if is_open else self.setup_rate


def configuration(suite: str) -> str:
    """The configuration that both daemons run."""
    ike, esp = common.SUITES[suite]
    return server_config(
        pools={"v4": "10.64.0.0/10"},
        local_ts="0.0.0.0/0",
        proposals=ike,
        esp_proposals=esp,
        secret=SECRET,
        connection="unique = never\n        mobike = no\n        rekey_time = 0",
        child="remote_ts = 10.64.0.0/10\n                rekey_time = 0",
    )


def cygnet(namespace: Namespace, suite: str) -> Daemon:
    """Our gateway with its defaults: one worker, carrying no traffic."""
    options = ("--workers", "1", "--log-level", "warning", "--dataplane", "null")
    return Cygnet(namespace, configuration(suite), *options, core=GATEWAY_CORE)


def strongswan(namespace: Namespace, suite: str) -> Daemon:
    """The peer, defended as well as its options allow with all honest peers at one address."""
    settings = {"dos_protection": True, "cookie_threshold_ip": CONCURRENCY * 4, "block_threshold": CONCURRENCY * 8}
    config = configuration(suite)
    return StrongSwan("strongswan", namespace, config, settings=settings, benchmark=True, core=GATEWAY_CORE)


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
    seconds = options.seconds + options.lead + 1.0
    command = namespace.command(
        *("taskset", "-c", str(TESTER_CORE), sys.executable, str(ROOT / "benchmarks" / "flood.py"), kind),
        *("--target", f"{TARGET}:{port}", "--spis-from", f"{TARGET}:500"),
        *("--seconds", str(seconds), "--rate", str(options.rate), "--proposal", common.SUITES[options.suite][0]),
    )
    report: list[str] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "flooding":
        raise SystemExit(f"attack: the flood did not begin, status {process.wait()}")
    time.sleep(options.lead)
    try:
        yield report
    finally:
        report.append(process.communicate(timeout=seconds + 30)[0])


def load(namespace: Namespace, suite: str, seconds: float, *options: str) -> dict[str, object]:
    """What `cygnet load` says of honest peers that came in so many seconds."""
    ike, esp = common.SUITES[suite]
    command = namespace.command(
        *("taskset", "-c", str(TESTER_CORE), sys.executable, "-m", "cygnet", "load", TARGET),
        *("--psk", SECRET, "--id", "c{n}@example.org", "--remote-id", "gw.example.org"),
        *("--proposal", ike, "--esp", esp, "--vip", "--reuse-ke"),
        *("--max-duration", str(seconds), "--retransmit-timeout", "1", "--quiet", "--json", *options),
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    try:
        result: dict[str, object] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"attack: cygnet load failed:\n{done.stdout}{done.stderr}") from None
    return result


def honest(options: argparse.Namespace) -> tuple[str, ...]:
    """How honest peers come while it is measured."""
    source = ("--source", SCATTERED) if options.scattered else ()
    if options.honest_rate:
        count = round(options.honest_rate * options.seconds)
        return (*source, "--rate", str(options.honest_rate), "--count", str(count))
    return (*source, "--concurrency", str(CONCURRENCY), "--count", str(1_000_000))


def measure(peer: str, kind: str, options: argparse.Namespace, *, is_hit: bool) -> Figures:
    """A fresh daemon, a flood of it or of the sink, and honest peers."""
    with Namespace("attack") as namespace, sink(namespace), PEERS[peer](namespace, options.suite) as daemon:
        if not options.strangers and not options.scattered:
            load(namespace, options.suite, options.seconds, "--concurrency", str(CONCURRENCY), "--count", str(KNOWN))
        before = daemon.pss_octets()
        with (
            calibrating(GATEWAY_CORE, options.suite) as gateway_speed,
            calibrating(TESTER_CORE, options.suite) as tester_speed,
            flooding(namespace, kind, 500 if is_hit else SINK_PORT, options) as report,
        ):
            cpu, tester_cpu, begun = daemon.cpu_seconds(), children_cpu_seconds(), time.monotonic()
            result = load(namespace, options.suite, options.seconds, *honest(options))
            cpu, took = daemon.cpu_seconds() - cpu, time.monotonic() - begun
            tester_cpu = children_cpu_seconds() - tester_cpu
        flood = json.loads(report[0])
        growth = daemon.pss_octets() - before
        drops = counted(daemon) if isinstance(daemon, Cygnet) else {}
    delay = result["setup_delay_ms"]
    assert isinstance(delay, dict)
    return Figures(
        setup_rate=float(str(result["setup_rate"])),
        attempted=int(str(result["attempted"])),
        failed=int(str(result["failed"])),
        p50_ms=delay["p50"],
        p99_ms=delay["p99"],
        gateway_cpu=cpu / took,
        memory_growth_octets=growth,
        tunnels=int(str(result["established"])),
        flood_per_s=flood["per_s"],
        flood_cpu=flood["cpu_s"] / flood["seconds"],
        tester_cpu=tester_cpu / took,
        speed=math.sqrt(gateway_speed.units_per_s * tester_speed.units_per_s),
        drops=drops,
    )


def children_cpu_seconds() -> float:
    """CPU time of the child processes that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def counted(daemon: Cygnet) -> dict[str, int]:
    """What became of the datagrams that were not served."""
    wanted = ("datagrams_dropped", "kernel_drops", "new_peers_shed", "strays_shed", "cookies_", "puzzles_")
    return {name: value for name, value in daemon.status().items() if value and name.startswith(wanted)}


def flood_took(control: Figures, hit: Figures) -> float:
    """The share of its core that the gateway used beyond what its honest tunnels took at the control's price."""
    return hit.gateway_cpu - hit.setup_rate * control.gateway_cpu / control.setup_rate


def summarise(rounds: list[tuple[Figures, Figures]], *, is_open: bool) -> dict[str, object]:
    """Medians of the control and of the hit, and the median of their ratios."""
    fair = [(control, hit) for control, hit in rounds if control.setup_rate]

    def ratios(value: Callable[[Figures], float]) -> list[float]:
        return [value(hit) / value(control) for control, hit in fair]

    of_results = ratios(lambda each: each.result(is_open=is_open))
    return {
        "ratio": median(of_results),
        "spread": quartiles(of_results),
        "ratio_per_cpu": median(ratios(lambda each: each.setup_rate / each.gateway_cpu)),
        "machine": median(ratios(lambda each: each.speed)),
        "ratio_without_machine": None if is_open else median(ratios(lambda each: each.setup_rate / each.speed)),
        "flood_took": median([flood_took(control, hit) for control, hit in fair]),
        "control": medians([control for control, _ in rounds]),
        "hit": medians([hit for _, hit in rounds]),
        "rounds": [[msgspec.structs.asdict(each) for each in pair] for pair in rounds],
    }


def medians(figures: list[Figures]) -> dict[str, float | None]:
    """Of each figure that is a number."""
    names = [name for name in Figures.__struct_fields__ if name != "drops"]
    return {name: median([value for each in figures if (value := getattr(each, name)) is not None]) for name in names}


def median(values: list[float]) -> float | None:
    """None of nothing."""
    return round(statistics.median(values), 3) if values else None


def quartiles(values: list[float]) -> list[float]:
    """The first and the third; of one value that value, of none nothing."""
    if len(values) < 2:
        return [round(value, 3) for value in values * 2]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [round(first, 3), round(third, 3)]


def row(peer: str, kind: str, result: dict[str, object]) -> str:
    """One line of the table."""
    control, hit = result["control"], result["hit"]
    assert isinstance(control, dict) and isinstance(hit, dict)
    taken_out = "" if result["ratio_without_machine"] is None else result["ratio_without_machine"]
    spread = result["spread"]
    assert isinstance(spread, list)
    delays = " / ".join("none" if each["p99_ms"] is None else f"{each['p99_ms']:.0f} ms" for each in (control, hit))
    return (
        f"| {common.NAMES[peer]} | {kind} | {hit['flood_per_s']:.0f}/s "
        f"| {control['setup_rate']:.0f}/s | {hit['setup_rate']:.0f}/s "
        f"| {result['ratio']} | {' to '.join(map(str, spread))} | {result['ratio_per_cpu']} "
        f"| {result['machine']} | {taken_out} | {delays} "
        f"| {100 * control['gateway_cpu']:.0f} % | {100 * hit['gateway_cpu']:.0f} % "
        f"| {control['memory_growth_octets'] / 1e6:.1f} MB | {hit['memory_growth_octets'] / 1e6:.1f} MB |"
    )


def meaning(options: argparse.Namespace) -> str:
    """What was compared, in a sentence or two."""
    whence = "an address that peers have come from before"
    if options.scattered:
        whence = "an address of its own each"
    elif options.strangers:
        whence = "an address that nobody has come from"
    if options.honest_rate:
        return f"Honest peers, {options.honest_rate:g}/s from {whence}; `ratio` is of the part that came in."
    return (
        f"Honest peers in a closed loop of {CONCURRENCY} from {whence}; `ratio` is of set-up rates, `per CPU` of "
        "tunnels for each second of the gateway's CPU, `taken out` of rates over how fast the machine was."
    )


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each kind is measured (default 7)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of honest peers in each measurement (default 5)")
    parser.add_argument(
        "--lead", type=float, default=LEAD_S, help="seconds of the flood before the honest peers (default %(default)g)"
    )
    parser.add_argument("--rate", type=float, default=50_000.0, help="datagrams of the flood a second, at most")
    parser.add_argument("--kind", action="append", choices=KINDS, help="which flood; may be repeated (default all)")
    parser.add_argument("--peer", action="append", choices=sorted(PEERS), help="which daemon (default cygnet)")
    parser.add_argument("--honest-rate", type=float, help="honest attempts a second, in an open loop (a closed loop)")
    whence = parser.add_mutually_exclusive_group()
    whence.add_argument(
        "--strangers", action="store_true", help="nobody has come from the honest peers' address before"
    )
    whence.add_argument("--scattered", action="store_true", help="each honest peer has an address that is not known")
    common.add_suite(parser, default="modp4096")
    common.add_output(parser, "attack")
    options = parser.parse_args()
    common.check_machine()
    results: dict[str, dict[str, object]] = {}
    lines = [
        "| daemon | flood | came | honest | honest, hit | ratio | quartiles | per CPU | machine | taken out "
        "| p99 / hit | CPU | CPU, hit | memory | memory, hit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for peer in options.peer or ["cygnet"]:
        results[peer] = {}
        for kind in options.kind or KINDS:
            rounds = []
            for number in range(1, options.rounds + 1):
                # The one first, and then the other: what gets faster or slower meanwhile favours neither.
                order = (False, True) if number % 2 else (True, False)
                figures = {is_hit: measure(peer, kind, options, is_hit=is_hit) for is_hit in order}
                control, hit = figures[False], figures[True]
                rounds.append((control, hit))
                print(
                    f"{peer} {kind} {number}/{options.rounds}: {control.setup_rate:.0f} -> {hit.setup_rate:.0f} "
                    f"tunnels/s under {hit.flood_per_s:.0f} datagrams/s, p99 {control.p99_ms} -> {hit.p99_ms} ms",
                    file=sys.stderr,
                )
            result = summarise(rounds, is_open=bool(options.honest_rate))
            results[peer][kind] = result
            lines.append(row(peer, kind, result))
    machine = common.describe()
    command = common.command_line("attack", sys.argv[1:])
    report = {"machine": machine, "command": command, "goal": GOAL, "meaning": meaning(options), "results": results}
    common.write_json(options.json, report)
    has_strongswan = "strongswan" in results
    lines += [
        "",
        f"{common.machine_line(machine, has_strongswan=has_strongswan)} "
        f"Suite {common.SUITES[options.suite][0]}. {meaning(options)} "
        f"{options.seconds:g} s, median of {options.rounds} rounds. Command: `{command}`.",
    ]
    table = "\n".join(lines)
    print(table)
    if options.readme:
        common.put_into_readme("attack", table)


if __name__ == "__main__":
    main()
