"""What a second worker brings: the gateway with one worker and with two, on two cores, with the tester's CPU apart.

    python -m benchmarks.scaling [--rounds 3] [--count 3000] [--workers 1,2] [--readme]

Each round starts the gateway with each number of workers, worker n pinned to core n, and opens `--count` tunnels in a
closed loop. The tester has a process on every core in every run, so that what it does to the caches is the same for
all. It takes time from the workers, but not CPU time: what is compared is the CPU that a handshake costs the gateway,
and so what the workers could do if each had its core for itself.

* CPU per handshake: of all processes of the gateway, the supervisor's in it, over the tunnels.
* handshakes per CPU-second, times workers: `workers / CPU per handshake`. It is the rate of the gateway with a core
  for each worker, if all had the same to do.
* rate with the busiest worker: `tunnels / CPU of the busiest worker`. The same when the one that steering gave the
  most to is what limits.
* scaling: the first of the two, over the same with one worker. 2 is all that two workers can bring.
* imbalance: the new SAs of the worker that got most, over the mean. Steering is by a keyed hash.
* other_worker: datagrams that came to another worker than the owner of their SA. Must be 0.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from benchmarks import common
from tests.interop.cygnet_gateway import Cygnet
from tests.interop.daemons import cpu_seconds
from tests.interop.topologies import direct_topology

from cygnet.gateway.process.state_dir import COUNTERS
from cygnet.observe.counters import Counters

WARM_UP_TUNNELS = 50
CONCURRENCY = 64
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


def established_by_worker(gateway: Cygnet, workers: int) -> list[int]:
    """IKE_SAs that each worker has established so far."""
    counters = Counters.open(gateway.state_directory / COUNTERS)
    try:
        return [counters.value_of(worker, "ike_sas_established_total") for worker in range(workers)]
    finally:
        counters.close()


def measure(workers: int, suite: str, count: int) -> Round:
    """Start a gateway, warm it up, and open tunnels."""
    cores = sorted(os.sched_getaffinity(0))
    with direct_topology() as topology, common.cygnet(topology, suite, workers=workers, core=None) as gateway:
        supervisor, pids = gateway.pid, sorted(gateway.workers())
        for pid, core in zip(pids, cores, strict=False):
            os.sched_setaffinity(pid, {core})
        options = ("--concurrency", str(CONCURRENCY), "--processes", str(len(cores)))
        warm_up = common.start_load(topology, suite, *options, "--count", str(WARM_UP_TUNNELS), core=None)
        common.end_load(warm_up, 120)
        before = {pid: cpu_seconds(pid) for pid in (supervisor, *pids)}
        had = established_by_worker(gateway, workers)
        tester = common.start_load(topology, suite, *options, "--count", str(count), core=None)
        result = common.end_load(tester, 600)
        used = {pid: cpu_seconds(pid) - cpu for pid, cpu in before.items()}
        got = [n - m for n, m in zip(established_by_worker(gateway, workers), had, strict=True)]
        wrong = gateway.count(OTHER_WORKER)
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
                f"imbalance {found.imbalance:.2f}, {found.other_worker} datagrams at the wrong worker",
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
        "| with the busiest worker | most SAs over the mean | datagrams at the wrong worker |",
        "|---|---|---|---|---|---|---|",
    ]
    for workers, row in results.items():
        lines.append(
            f"| {workers} | {row['cpu_us']:.0f} us | {row['rate_by_cpu']:.0f} /s | {row['scaling']:.2f} "
            f"| {row['scaling_with_busiest']:.2f} | {row['worst_imbalance']:.2f} "
            f"| {sum(r['other_worker'] for r in row['rounds'])} |"
        )
    lines += [
        "",
        f"{common.machine_line(machine, has_strongswan=False)} Suite {common.SUITES[options.suite][0]}, PSK, virtual "
        f"address, {options.count} tunnels a round, median of {options.rounds} rounds. Command: `{command}`.",
    ]
    return "\n".join(lines)


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(word) for word in text.split(",")]


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=numbers, default=[1, 2], help="numbers of workers (1,2)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--count", type=int, default=3000, help="tunnels a round (3000)")
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
