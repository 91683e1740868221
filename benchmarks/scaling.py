"""What a second worker brings: the gateway with one worker and with two, a core for each, with the tester's CPU apart.

    python -m benchmarks.scaling [--rounds 5] [--count 10000] [--workers 1,2] [--readme]

Each round starts the gateway with each number of workers, worker n pinned to core n, and opens `--count` tunnels for
each worker in a closed loop. The tester has a process on each of these cores, and none on another: so every worker is
interrupted as often, and finds as little of its caches left, however many workers there are. (A tester that goes where
it likes leaves the core of a single worker to it, and shares both with two: that was a tenth of a handshake, which is
the tester's doing.) It takes time from the workers, but not CPU time: what is compared is the CPU that a handshake
costs the gateway, and so what the workers could do if each had its core for itself.

* CPU per handshake: of all processes of the gateway, the supervisor's in it, over the tunnels.
* handshakes per CPU-second, times workers: `workers / CPU per handshake`. It is the rate of the gateway with a core
  for each worker, if all had the same to do.
* rate with the busiest worker: `tunnels / CPU of the busiest worker`. The same when the one that steering gave the
  most to is what limits.
* scaling: the first of the two, over the same with one worker. 2 is all that two workers can bring.
* taken out: the same for each unit of work that the first core could do at the time (`benchmarks.calibrate`): two cores
  that are both busy may each be slower than one alone.
* switches: how often a worker was stopped, or waited, for a thousand handshakes; says whether the tester was in the way
  of all workers alike.
* imbalance: the new SAs of the worker that got most, over the mean. Steering is by a keyed hash.
* other_worker: datagrams that came to another worker than the owner of their SA. Must be 0.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from benchmarks import common
from benchmarks.calibrate import calibrating
from tests.interop.cygnet_gateway import Cygnet
from tests.interop.daemons import cpu_seconds
from tests.interop.topologies import Topology, direct_topology

from cygnet.gateway.process.state_dir import COUNTERS
from cygnet.observe.counters import Counters

WARM_UP_TUNNELS = 500
CONCURRENCY = 32
"""Of each process of the tester."""
PATIENCE_S = 30.0
"""Until all processes of the tester are there."""
OTHER_WORKER = 'datagrams_dropped_total{reason="other_worker"}'


class Round(msgspec.Struct, frozen=True):
    """One run with so many workers."""

    cpu_us: float
    """Of all processes of the gateway for a handshake, in microseconds."""
    rate_by_cpu: float
    """Handshakes per CPU-second, times workers."""
    rate_by_busiest: float
    """Tunnels over the CPU seconds of the busiest worker."""
    supervisor_us: float
    """Of the supervisor for a handshake, in microseconds."""
    imbalance: float
    """Most new SAs of a worker, over the mean."""
    other_worker: int
    """Datagrams that came to the wrong worker."""
    setup_rate: float
    """Tunnels per second, the tester on the same cores."""
    tester_us: float
    """CPU of the tester for a tunnel, in microseconds."""
    switches: float
    """Context switches of the workers for a thousand handshakes."""
    speed: float
    """Units of work that the first core could do in a second of CPU time, meanwhile."""

    @property
    def rate_by_work(self) -> float:
        """Handshakes for each unit of work, times workers."""
        return self.rate_by_cpu / self.speed


def children(pid: int) -> list[int]:
    """The processes that it has started, the oldest first."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def context_switches(pid: int) -> int:
    """How often the process has left its core, because it waited or had to."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches:" in line)


def load(topology: Topology, suite: str, cores: Sequence[int], count: int) -> dict[str, Any]:
    """Open so many tunnels for each core, with a process of the tester on each."""
    per_core = {"--concurrency": CONCURRENCY, "--count": count, "--processes": 1}
    options = [word for option, n in per_core.items() for word in (option, str(n * len(cores)))]
    tester = common.start_load(topology, suite, *options, core=cores[0])
    deadline = time.monotonic() + PATIENCE_S
    # They stay where they begin: on the first core, all of them.
    while len(found := children(tester.pid)) < len(cores) and tester.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    for pid, core in zip(found, cores, strict=False):
        common.pin(core, pid)
    result = common.end_load(tester, 600)
    if len(found) != len(cores):
        raise SystemExit(f"benchmark: {len(found)} of {len(cores)} processes of the tester were there in time")
    return result


def established_by_worker(gateway: Cygnet, workers: int) -> list[int]:
    """IKE_SAs that each worker has established so far."""
    counters = Counters.open(gateway.state_directory / COUNTERS)
    try:
        return [counters.value_of(worker, "ike_sas_established_total") for worker in range(workers)]
    finally:
        counters.close()


def measure(workers: int, suite: str, count: int) -> Round:
    """Start a gateway, warm it up, and open so many tunnels for each worker."""
    cores = sorted(os.sched_getaffinity(0))[:workers]
    with direct_topology() as topology, common.cygnet(topology, suite, workers=workers, core=None) as gateway:
        supervisor, pids = gateway.pid, sorted(gateway.workers())
        for pid, core in zip(pids, cores, strict=True):
            common.pin(core, pid)
        load(topology, suite, cores, WARM_UP_TUNNELS)
        before = {pid: cpu_seconds(pid) for pid in (supervisor, *pids)}
        switches = sum(map(context_switches, pids))
        had = established_by_worker(gateway, workers)
        with calibrating(cores[0], suite) as machine:
            result = load(topology, suite, cores, count)
        used = {pid: cpu_seconds(pid) - cpu for pid, cpu in before.items()}
        switches = sum(map(context_switches, pids)) - switches
        got = [n - m for n, m in zip(established_by_worker(gateway, workers), had, strict=True)]
        wrong = gateway.count(OTHER_WORKER)
    count *= workers
    if result["failed"] or sum(got) != count:
        raise SystemExit(f"benchmark: {result['established']} of {count} tunnels came up, {sum(got)} at the gateway")
    return Round(
        cpu_us=sum(used.values()) / count * 1e6,
        rate_by_cpu=workers * count / sum(used.values()),
        rate_by_busiest=count / max(used[pid] for pid in pids),
        supervisor_us=used[supervisor] / count * 1e6,
        imbalance=max(got) * workers / count,
        other_worker=wrong,
        setup_rate=result["setup_rate"],
        tester_us=result["tester"]["cpu_us_per_tunnel"],
        switches=switches / count * 1000,
        speed=machine.units_per_s,
    )


def run(options: argparse.Namespace) -> dict[int, list[Round]]:
    """All rounds, the numbers of workers in turn: a machine that changes its speed changes it for all."""
    measured: dict[int, list[Round]] = {workers: [] for workers in options.workers}
    for number in range(1, options.rounds + 1):
        for workers in options.workers:
            found = measure(workers, options.suite, options.count)
            measured[workers].append(found)
            print(
                f"round {number}/{options.rounds}, workers {workers}: {found.cpu_us:.0f} us a handshake, "
                f"{found.switches:.0f} switches for a thousand, imbalance {found.imbalance:.2f}, "
                f"{found.other_worker} datagrams at the wrong worker",
                file=sys.stderr,
            )
    return measured


def summarise(measured: dict[int, list[Round]]) -> dict[str, Any]:
    """Medians, and the scaling round by round."""
    first = measured[min(measured)]

    def scaling(rounds: Sequence[Round], field: str) -> float:
        ratios = [getattr(a, field) / getattr(b, field) for a, b in zip(rounds, first, strict=True)]
        return round(float(statistics.median(ratios)), 3)

    return {
        str(workers): {
            **{f: round(statistics.median(getattr(r, f) for r in rounds), 3) for f in Round.__struct_fields__},
            "scaling": scaling(rounds, "rate_by_cpu"),
            "scaling_taken_out": scaling(rounds, "rate_by_work"),
            "scaling_with_busiest": scaling(rounds, "rate_by_busiest"),
            "worst_imbalance": round(max(r.imbalance for r in rounds), 3),
            "rounds": [msgspec.structs.asdict(r) for r in rounds],
        }
        for workers, rounds in measured.items()
    }


def markdown(results: dict[str, Any], machine: dict[str, Any], options: argparse.Namespace, command: str) -> str:
    """The table for the README."""
    lines = [
        "| workers | gateway CPU per handshake | handshakes per CPU-second, times workers | scaling "
        "| taken out | with the busiest worker | switches for 1,000 handshakes | most SAs over the mean "
        "| datagrams at the wrong worker |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for workers, row in results.items():
        lines.append(
            f"| {workers} | {row['cpu_us']:.0f} us | {row['rate_by_cpu']:.0f} /s | {row['scaling']:.2f} "
            f"| {row['scaling_taken_out']:.2f} | {row['scaling_with_busiest']:.2f} | {row['switches']:.0f} "
            f"| {row['worst_imbalance']:.2f} | {sum(r['other_worker'] for r in row['rounds'])} |"
        )
    lines += [
        "",
        f"{common.machine_line(machine, has_strongswan=False)} Suite {common.SUITES[options.suite][0]}, PSK, virtual "
        f"address, {options.count} tunnels for each worker a round, median of {options.rounds} rounds. "
        f"Command: `{command}`.",
    ]
    return "\n".join(lines)


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(word) for word in text.split(",")]


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=numbers, default=[1, 2], help="numbers of workers (1,2)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--count", type=int, default=10_000, help="tunnels a round for each worker (10000)")
    common.add_suite(parser)
    common.add_output(parser, "scaling")
    options = parser.parse_args()
    common.check_machine()
    command = common.command_line("scaling", sys.argv[1:])
    machine = common.describe()
    results = summarise(run(options))
    common.write_json(options.json, {"machine": machine, "command": command, "results": results})
    table = markdown(results, machine, options, command)
    print(table)
    if options.readme:
        common.put_into_readme("scaling", table)


if __name__ == "__main__":
    main()
