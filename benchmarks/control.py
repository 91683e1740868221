"""What the control socket costs: handshakes while it is wedged in every way at once, and while many SAs are listed.

    python -m benchmarks.control [--rounds 3] [--count 3000] [--list-count 20000] [--rate 100] [--json FILE]

First the set-up rate in a closed loop, in pairs of a fresh gateway each: with nobody on the control socket, and with
clients that send half a message, ask for lists and read nothing, stop reading their events and the log, are just there
(1,000 of them), and `initiate` every 10 ms with a time limit of 1 ms. Meanwhile somebody else asks for `stats`. The
gateway runs on core 0, all of its processes; everything else on core 1, so the clients take CPU from the load tester
too. To tell that from what the gateway loses, the CPU of each is accounted for, and beside the ratio of the rates
stands that of the set-ups for each second of the gateway's CPU.

Then `--list-count` tunnels are held, and set-ups at `--rate` a second are measured, their rate and their delays,
without and with a client that lists all SAs over and over.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.background import Background
from tests.interop.cygnet_gateway import ESTABLISHED, Cygnet
from tests.interop.polling import eventually
from tests.interop.topologies import Topology, direct_topology
from tests.unit.gateway.commands.wedges import Wedges

from cygnet.observe.counters import Counters
from cygnet.observe.system import cpu_seconds, process_tree
from cygnet.vici.client import ViciClient

CONCURRENCY = 64
CLIENTS = 1000
"""That are just there."""
STATS_EVERY_S = 0.25
PROCESSES = ("supervisor", "worker")
WARM_UP = 1500
"""Tunnels before those that are measured: clients that stop reading have then got all the events that are kept for
them."""
NOWHERE = """
connections {
    nowhere {
        remote_addrs = 192.0.2.99
        local { auth = psk
            id = gw.example.org }
        remote { auth = psk
            id = nobody@example.org }
        children { void { } }
    }
}
"""


@contextmanager
def gateway(topology: Topology, suite: str) -> Iterator[Cygnet]:
    """Our gateway, with a connection whose peer is not there."""
    config = common.configuration(suite) + common.ONE_SOURCE + NOWHERE
    options = ("--workers", "1", "--log-level", "error")
    with Cygnet(topology.server, config, *options, core=common.RESPONDER_CORE) as daemon:
        yield daemon


def wedge(path: Path) -> None:
    """The process of the clients that do harm: until its input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * CLIENTS, 2 * CLIENTS))
    with Wedges(path, "void", many=CLIENTS) as wedges:
        print("ready", flush=True)
        sys.stdin.read()
    print(json.dumps({"initiated": wedges.initiated, "reopened": wedges.reopened, "errors": wedges.errors[:3]}))


@contextmanager
def wedged(daemon: Cygnet, found: dict[str, Any]) -> Iterator[None]:
    """With all of them; what they say at the end comes to `found`."""
    command = ("taskset", "-c", str(common.TESTER_CORE), sys.executable, "-m", "benchmarks.control")
    with subprocess.Popen(
        (*command, "--wedge", str(daemon.vici_socket)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("benchmark: the control socket can't be wedged")
        found["clients_pid"] = process.pid
        yield
        process.stdin.close()
        found.update(json.loads(process.stdout.read()))


class Asking(Background):
    """Somebody who asks for `stats` now and then; a context manager."""

    def __init__(self, path: Path) -> None:
        super().__init__(STATS_EVERY_S)
        self.took_ms: list[float] = []
        self._path = path

    def once(self) -> None:
        began = time.perf_counter()
        with ViciClient(self._path) as client:
            client.request("stats")
        self.took_ms.append(1000 * (time.perf_counter() - began))


class Listing(Background):
    """Somebody who lists all SAs, over and over; a context manager."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.took_s: list[float] = []
        self.listed = 0
        self._path = path

    def once(self) -> None:
        began, listed = time.perf_counter(), 0

        def count(event: object) -> None:
            nonlocal listed
            listed += 1

        with ViciClient(self._path) as client:
            client.request("list-sas", event="list-sa", on_event=count)
        self.took_s.append(time.perf_counter() - began)
        self.listed = max(self.listed, listed)


def measure_rate(suite: str, count: int, *, is_wedged: bool) -> dict[str, Any]:
    """One run in a closed loop on a fresh gateway."""
    found: dict[str, Any] = {}
    with direct_topology() as topology, gateway(topology, suite) as daemon:

        def open_tunnels(name: str, number: int) -> dict[str, Any]:
            identity = f"{name}{{n}}@example.org"
            options = ("--id", identity, "--count", str(number), "--concurrency", str(CONCURRENCY))
            before, clients_before, tester_before = _cpu_seconds(daemon), clients(), _ended_children_seconds()
            result = common.load(topology, suite, *options)
            spent = [now - then for then, now in zip(before, _cpu_seconds(daemon), strict=True)]
            found["cpu_us"] = {name: round(1e6 * s / number) for name, s in zip(PROCESSES, spent, strict=True)}
            found["per_cpu_s"] = number / max(sum(spent), 1e-9)
            lasted = result["duration_s"]
            found["load"] = {
                "gateway": round(sum(spent) / lasted, 3),
                "tester": round((_ended_children_seconds() - tester_before) / lasted, 3),
                "clients": round((clients() - clients_before) / lasted, 3),
            }
            return result

        def clients() -> float:
            return cpu_seconds(found["clients_pid"]) if "clients_pid" in found else 0.0

        if is_wedged:
            with wedged(daemon, found):
                open_tunnels("first", WARM_UP)
                with Asking(daemon.vici_socket) as asking:
                    result = open_tunnels("c", count)
            found["stats_ms"] = {"p50": statistics.median(asking.took_ms), "max": max(asking.took_ms)}
        else:
            open_tunnels("first", WARM_UP)
            result = open_tunnels("c", count)
        counters = Counters.open(daemon.state_directory / "counters")
        found["events_dropped"] = counters.value("vici_events_dropped_total")
        found["resident_octets"] = [_resident_octets(pid) for pid in process_tree(daemon.pid)]
    return found | {"rate": result["setup_rate"], "delay_ms": result["setup_delay_ms"]}


def measure_lists(suite: str, options: argparse.Namespace) -> dict[str, Any]:
    """Delays of set-ups while many SAs stand, without and with lists of them."""
    with direct_topology() as topology, gateway(topology, suite) as daemon:
        base = common.start_load(
            topology,
            suite,
            *("--id", "base{n}@example.org", "--count", str(options.list_count), "--concurrency", str(CONCURRENCY)),
            *("--hold", "86400"),
        )
        try:
            eventually(
                lambda: base.poll() is not None or daemon.count(ESTABLISHED) >= options.list_count,
                timeout_s=60.0 + options.list_count / 100,
                what="the tunnels are up",
            )
            quiet = _paced(topology, suite, options)
            with Listing(daemon.vici_socket) as listing:
                busy = _paced(topology, suite, options)
        finally:
            base.kill()
            base.communicate()
    return {
        "sas": options.list_count,
        "listed": listing.listed,
        "list_s": {"median": statistics.median(listing.took_s), "lists": len(listing.took_s)},
        "sas_per_s": round(listing.listed / statistics.median(listing.took_s)),
        "quiet": quiet,
        "listing": busy,
    }


def _paced(topology: Topology, suite: str, options: argparse.Namespace) -> dict[str, Any]:
    count = max(1, round(options.rate * options.seconds))
    arguments = ("--rate", str(options.rate), "--count", str(count), "--delete")
    result = common.load(topology, suite, *arguments, timeout_s=options.seconds + 120)
    return {
        "rate": result["setup_rate"],
        "failed": result["failed"],
        "delay_ms": result["setup_delay_ms"],
        "retransmits": result["retransmits"],
    }


def _cpu_seconds(daemon: Cygnet) -> list[float]:
    """That the supervisor and the worker have used."""
    worker = cpu_seconds(process_tree(daemon.pid)[-1])
    return [cpu_seconds(daemon.pid) - worker, worker]


def _ended_children_seconds() -> float:
    """CPU of processes that we have started and that have ended: each load tester, after its run."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _resident_octets(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def report_on(rounds: list[tuple[dict[str, Any], dict[str, Any]]], lists: dict[str, Any]) -> dict[str, Any]:
    """The figures that count."""
    quiet, busy = [pair[0] for pair in rounds], [pair[1] for pair in rounds]
    kinds = {"quiet": quiet, "wedged": busy}
    return {
        "rate": {
            "quiet": statistics.median(each["rate"] for each in quiet),
            "wedged": statistics.median(each["rate"] for each in busy),
            "ratio": round(statistics.median(b["rate"] / q["rate"] for q, b in rounds), 3),
        },
        "per_cpu_s": {
            "quiet": round(statistics.median(each["per_cpu_s"] for each in quiet)),
            "wedged": round(statistics.median(each["per_cpu_s"] for each in busy)),
            "ratio": round(statistics.median(b["per_cpu_s"] / q["per_cpu_s"] for q, b in rounds), 3),
        },
        "load": {
            kind: {who: statistics.median(each["load"][who] for each in runs) for who in runs[0]["load"]}
            for kind, runs in kinds.items()
        },
        "cpu_us": {
            process: {kind: statistics.median(each["cpu_us"][process] for each in runs) for kind, runs in kinds.items()}
            for process in PROCESSES
        },
        "stats_ms": {
            "p50": round(statistics.median(each["stats_ms"]["p50"] for each in busy), 1),
            "max": round(max(each["stats_ms"]["max"] for each in busy), 1),
        },
        "lists": lists,
        "rounds": [{"quiet": q, "wedged": b} for q, b in rounds],
    }


def markdown(report: dict[str, Any], machine: dict[str, Any], command: str) -> str:
    """The table."""
    rate, stats, lists = report["rate"], report["stats_ms"], report["lists"]
    quiet, busy = lists["quiet"]["delay_ms"], lists["listing"]["delay_ms"]
    rows = {
        "set-up rate, control socket quiet": f"{rate['quiet']:.0f} /s",
        "set-up rate, control socket wedged": f"{rate['wedged']:.0f} /s ({rate['ratio']:.3f})",
        "set-ups for each second of the gateway's CPU, quiet": f"{report['per_cpu_s']['quiet']}",
        "the same with the socket wedged": f"{report['per_cpu_s']['wedged']} ({report['per_cpu_s']['ratio']:.3f})",
        "cores that the gateway / the load tester / the clients keep busy, quiet": _load(report, "quiet"),
        "the same cores, wedged": _load(report, "wedged"),
        "CPU for each set-up, supervisor and worker, quiet": _cpu(report, "quiet"),
        "the same, wedged": _cpu(report, "wedged"),
        "`stats` meanwhile, p50 / max": f"{stats['p50']:.1f} / {stats['max']:.1f} ms",
        f"{lists['listed']:,} SAs listed": f"{lists['list_s']['median']:.1f} s, {lists['sas_per_s']:,} SAs/s",
        "set-up rate with these SAs": f"{lists['quiet']['rate']:.1f} /s",
        "the same while they are listed over and over": f"{lists['listing']['rate']:.1f} /s",
        "set-up delay with these SAs, p50 / p99 / max": _delays(quiet),
        "the same while they are listed": _delays(busy),
    }
    lines = ["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows.items())]
    return "\n".join([*lines, "", f"{common.machine_line(machine, has_strongswan=False)} Command: `{command}`."])


def _cpu(report: dict[str, Any], kind: str) -> str:
    return " and ".join(f"{report['cpu_us'][process][kind]:.0f} us" for process in PROCESSES)


def _load(report: dict[str, Any], kind: str) -> str:
    return " / ".join(f"{report['load'][kind][who]:.2f}" for who in ("gateway", "tester", "clients"))


def _delays(delay: dict[str, float]) -> str:
    return f"{delay['p50']:.0f} / {delay['p99']:.0f} / {delay['max']:.0f} ms"


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs in a closed loop (3)")
    parser.add_argument("--count", type=int, default=3000, help="tunnels of each (3000)")
    parser.add_argument("--list-count", type=int, default=20_000, help="tunnels that are listed, to 250000 (20000)")
    parser.add_argument("--rate", type=float, default=100.0, help="set-ups a second meanwhile (100)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long, without and with lists (20)")
    parser.add_argument("--wedge", type=Path, help=argparse.SUPPRESS)
    common.add_suite(parser)
    common.add_output(parser, "control", has_readme=False)
    options = parser.parse_args()
    if options.wedge:
        wedge(options.wedge)
        return
    common.check_machine()
    command = common.command_line("control", sys.argv[1:])
    machine = common.describe()
    rounds = []
    for number in range(1, options.rounds + 1):
        pair = [measure_rate(options.suite, options.count, is_wedged=is_wedged) for is_wedged in (False, True)]
        rounds.append((pair[0], pair[1]))
        rates = f"{pair[0]['rate']:.0f}/s, wedged {pair[1]['rate']:.0f}/s"
        print(f"round {number}/{options.rounds}: {rates}; {pair[1]['errors'] or 'no'} errors", file=sys.stderr)
    report = report_on(rounds, measure_lists(options.suite, options))
    common.write_json(options.json, {"machine": machine, "command": command, **report})
    print(markdown(report, machine, command))


if __name__ == "__main__":
    main()
