"""Goodput, delay and loss at up to ten times the load that a daemon can take: Cygnet, and strongSwan beside it.

    python -m benchmarks.overload [--factors 0.5,1,2,5,10] [--rounds 3] [--seconds 30] [--base 500] [--kind cygnet]
        [--readme]

The responder is pinned to core 0, the tester to core 1. For each factor, a fresh daemon gets a base of tunnels that a
tester of its own holds, each of which asks every `--dpd` seconds whether the daemon lives and gets new keys every
`--rekey` seconds; and then attempts at that many times its capacity for `--seconds`: an open loop, which no slow answer
slows down. Peers send again after 4, 7.2, 13, ... seconds, as strongSwan's do, and give up after `--timeout`. It says
what it is at, and how long that takes.

Before and after each level the capacity is measured, on a fresh daemon with such a base: what comes up in a closed
loop, in which 64 attempts are always under way. The machines that this runs on change their speed by a factor of two
within minutes, so a level is compared with the capacities beside it, not with what another came to minutes before. And
it changes from one to the next: so the same work is timed on the daemon's core meanwhile (`calibrate.py`), of which the
share of time is 1 %, and all is also told with the machine taken out: goodput and capacities over the speed that the
core had at each.

Reported for each factor:

* offered: attempts per second that the tester really made. Where that is less than was meant, the tester was the
  limit; `tester_is_limit` and `late_starts` say so. All attempts offer one public value (`cygnet load --reuse-ke`), or
  one core would not be enough for the tester. It still computes one half of the key exchange with those that are
  answered, as the responder computes two. The dearer the group, the more of its core is left for attempts that nobody
  answers: with MODP-4096, the default here, enough for ten times the capacity.
* goodput: tunnels per second that came up while the load went on, from the second second to its end; as a share of the
  capacity beside it, as it was and with the machine taken out; and as a share of the best that this daemon reached at
  any factor, which is mostly the one at which the machine was fastest.
* tunnels per second of CPU that the daemon used. The base has its part in that, so it grows with the load, and falls if
  what is turned away costs much.
* delay: from the intended start of an attempt to its tunnel, of those that came up.
* handshakes under way: IKE_AUTH requests that the tester sent, and how many of them again; and what the kernel dropped
  because a queue of the daemon was full, of whatever kind (`RcvbufErrors` of its namespace: what a filter turned away
  on purpose is not in it). As a share of those IKE_AUTHs that is the most that can have been lost of them. A share of
  the repeated ones may be lost at the tester: its sockets' drops are told apart, too.
* the base: tunnels lost, questions asked and answered, and their delay; rekeyings begun and completed.
* CPU: shares of their cores that responder and testers used while the load went on.

Each level is measured in several rounds, up and down in turn, and what is reported of it is the median of those: of
what must not happen, tunnels and handshakes lost, the worst.

At the end stand the goals, met or not, from one times the capacity on: goodput at least 95 % of the best at any factor,
and of the capacity beside it, or of what was offered if that was less, the latter also with the machine taken out; less
than 1 % of handshakes under way dropped; no tunnel of the base lost.

strongSwan looks through a list of its CHILD_SAs for each new one (kernel-libipsec), so it gets slower the more tunnels
it has. All factors give it the same time; compare each daemon with its own best.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from benchmarks import common
from benchmarks.calibrate import calibrating
from benchmarks.chart import Line, line_chart
from benchmarks.common import KINDS, NAMES, ROOT
from tests.interop.cygnet_gateway import Cygnet
from tests.interop.daemons import Daemon
from tests.interop.polling import eventually
from tests.interop.strongswan import BenchmarkResponder
from tests.interop.topologies import Topology, direct_topology

from cygnet.observe.system import cpu_seconds, udp_queue_overflows, udp_sockets

PICTURE = ROOT / "docs" / "overload.svg"
CONCURRENCY = 64
MANY = 1_000_000
"""Attempts of a closed loop: the time ends it."""
WARM_UP_S = 1
LAST_OF_LOOP_S = 2.0
"""How long after a closed loop its last attempts end, at most."""
BASE_STAYS_S = 5.0
"""How much longer than the load the base is held."""
IKE_PORTS = (500, 4500)
PROGRESS_S = 10.0
KEEPS, LOSES = 0.95, 0.01
"""The goals: goodput as a share of its best, and handshakes under way that are dropped."""
WORST = ("lost", "lost_at_most", "unanswered")
"""Of what must not happen the worst of all rounds counts."""
OVERHEAD_S = 9.0
"""Of each level, roughly, beside its seconds and the timeout: for progress alone."""


class Capacity(msgspec.Struct, frozen=True):
    """What comes up in a closed loop."""

    per_s: float
    """Tunnels per second."""
    per_unit: float
    """Tunnels for each unit of work that the daemon's core could do meanwhile."""


def established(daemon: Daemon) -> int:
    """How many tunnels it has."""
    if isinstance(daemon, Cygnet):
        return daemon.established
    assert isinstance(daemon, BenchmarkResponder)
    return daemon.established()


def socket_drops(daemon: Daemon) -> dict[str, int]:
    """What was lost at its sockets so far: turned away on purpose, and because their queues were full.

    The kernel counts both together for each socket, but only the latter as `RcvbufErrors`.
    """
    drops = sum(state.drops for state in udp_sockets(IKE_PORTS, pid=daemon.pid))
    queue_full = udp_queue_overflows(pid=daemon.pid)
    return {"shed": drops - queue_full, "queue_full": queue_full}


def measure_capacity(kind: str, options: argparse.Namespace) -> Capacity:
    """What comes up in a closed loop."""
    attempts = ("--concurrency", str(CONCURRENCY), "--count", str(MANY))
    measured = measure(kind, attempts, options.capacity_seconds, LAST_OF_LOOP_S, options)
    capacity = Capacity(measured["goodput"], measured["goodput_per_unit"])
    print(f"{kind}: {capacity.per_s:.0f} tunnels/s in a closed loop", file=sys.stderr)
    return capacity


def measure_level(kind: str, factor: float, capacity: float, options: argparse.Namespace) -> dict[str, Any]:
    """One level of load."""
    rate = factor * capacity
    attempts = ("--rate", f"{rate:.1f}", "--count", str(math.ceil(rate * options.seconds)))
    return measure(kind, attempts, options.seconds, options.timeout, options) | {
        "factor": factor,
        "rate": round(rate, 1),
    }


def measure(
    kind: str, attempts: Sequence[str], seconds: float, last_s: float, options: argparse.Namespace
) -> dict[str, Any]:
    """So many attempts for so long at a fresh daemon that has a base of tunnels; the last end `last_s` later."""
    with direct_topology() as topology, KINDS[kind](topology, options.suite) as daemon:
        base = start_base(topology, daemon, seconds + last_s + BASE_STAYS_S, options)
        before, cpu = socket_drops(daemon), daemon.cpu_seconds()
        tester = common.start_load(
            topology,
            options.suite,
            *(*attempts, "--reuse-ke", "--max-duration", str(seconds), "--timeout", str(options.timeout)),
        )
        began = time.monotonic()
        with calibrating(common.RESPONDER_CORE, options.suite) as speed:
            wait(seconds)
        elapsed = time.monotonic() - began
        cpu, tester_cpu = daemon.cpu_seconds() - cpu, cpu_seconds(tester.pid)
        result = common.end_load(tester, options.timeout + 120)
        drops = {name: n - before[name] for name, n in socket_drops(daemon).items()}
        held = common.end_load(base, seconds + options.timeout + 120)
        if not isinstance(daemon, Cygnet):
            # With so many peers half open it takes longer to end than a test would allow.
            daemon.kill()
    measured = summarise(result, held, seconds)
    under_way = measured["under_way"]
    under_way["lost_at_most"] = round(drops["queue_full"] / max(1, under_way["ike_auth"]), 5)
    per_cpu_second = measured["goodput"] * elapsed / cpu if cpu else 0.0
    return measured | {
        "responder_drops": drops,
        "responder_cpu_share": round(cpu / elapsed, 3),
        "tunnels_per_cpu_second": round(per_cpu_second, 1),
        "machine_speed": speed.units_per_s,
        "goodput_per_unit": measured["goodput"] / speed.units_per_s,
        "tester_cpu_share": round(tester_cpu / elapsed, 3),
    }


def wait(seconds: float) -> None:
    """Let time pass, and say so."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if left < seconds:
            print(f"  {left:.0f} s to go", file=sys.stderr)
        time.sleep(min(PROGRESS_S, left))


def start_base(topology: Topology, daemon: Daemon, hold_s: float, options: argparse.Namespace) -> Any:
    """Have a tester of its own open tunnels and hold them until all is over; wait until they are up."""
    base = common.start_load(
        topology,
        options.suite,
        *("--id", "base{n}@example.org", "--count", str(options.base), "--concurrency", "16"),
        *("--hold", str(hold_s), "--dpd", str(options.dpd)),
        *(("--rekey", str(options.rekey)) if options.rekey else ()),
    )
    eventually(
        lambda: base.poll() is not None or established(daemon) >= options.base,
        timeout_s=60.0,
        what="the base of tunnels is up",
    )
    return base


def summarise(result: dict[str, Any], held: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What the two testers say."""
    window = result["established_per_second"][WARM_UP_S : int(seconds)]
    checks = held["liveness_checks"]
    tester = result["tester"]
    return {
        "offered": result["attempt_rate"],
        "goodput": round(sum(window) / max(1, int(seconds) - WARM_UP_S), 1),
        "attempted": result["attempted"],
        "established": result["established"],
        "failures": result["failures"],
        "delay_ms": result["setup_delay_ms"],
        "retransmits": result["retransmits_by_exchange"],
        "under_way": under_way(result),
        "established_per_second": result["established_per_second"],
        "tester_drops": tester["kernel_drops"],
        "tester_is_limit": tester["is_limit"],
        "late_starts": tester["late_starts"],
        "base": {
            "tunnels": held["established"],
            "lost": held["lost"],
            "checks": checks,
            "unanswered": checks["asked"] - checks["answered"],
            "rekeys": held.get("rekeys"),
        },
    }


def under_way(result: dict[str, Any]) -> dict[str, Any]:
    """IKE_AUTH requests that were sent, at least: those of tunnels that came up, and all that were repeated."""
    again = result["retransmits_by_exchange"].get("ike_auth", 0)
    return {"ike_auth": result["established"] + again, "sent_again": again}


def run(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """All levels of one daemon, and its capacity beside each."""
    level_s = options.seconds + options.timeout + OVERHEAD_S
    capacity_s = options.capacity_seconds + LAST_OF_LOOP_S + OVERHEAD_S
    n = len(options.factors) * options.rounds
    minutes = (n * (level_s + capacity_s) + capacity_s) / 60
    print(f"{kind}: {n} measurements, and the capacity beside each, about {minutes:.0f} min", file=sys.stderr)
    capacity = measure_capacity(kind, options)
    measured: dict[float, list[dict[str, Any]]] = {factor: [] for factor in options.factors}
    for number, factor in enumerate(course(options.factors, options.rounds), 1):
        print(f"{kind}: {number} of {n}, {factor * capacity.per_s:.0f}/s, {level_s:.0f} s", file=sys.stderr)
        level = measure_level(kind, factor, capacity.per_s, options)
        before, capacity = capacity, measure_capacity(kind, options)
        level |= compared(level, before, capacity)
        measured[factor].append(level)
        print(
            f"{kind} at {factor:g} times that: {level['offered']:.0f}/s offered, {level['goodput']:.0f}/s came up, "
            f"{level['kept']:.0%} of the capacity beside it, {level['kept_without_machine']:.0%} with the machine "
            f"taken out, {sum(level['base']['lost'].values())} of {level['base']['tunnels']} tunnels of the base lost",
            file=sys.stderr,
        )
    levels = [combined(rounds) | {"rounds": rounds} for rounds in measured.values()]
    best = max(level["goodput"] for level in levels)
    for level in levels:
        level["share_of_best"] = round(level["goodput"] / best, 3) if best else 0.0
    return {"levels": levels, "goals": goals(levels)}


def compared(level: dict[str, Any], *beside: Capacity) -> dict[str, Any]:
    """A level, and what was measured before and after it: which part of that it kept.

    No more can come up than was offered, so that is what counts if it was less.
    """
    capacity = max(statistics.fmean(each.per_s for each in beside), 1e-9)
    per_unit = max(statistics.fmean(each.per_unit for each in beside), 1e-9)
    offered = max(level["offered"], 1e-9)
    return {
        "capacity": round(capacity, 1),
        "capacity_per_unit": per_unit,
        "offered_over_capacity": round(offered / capacity, 2),
        "kept": round(level["goodput"] / min(capacity, offered), 3),
        "kept_without_machine": round(level["goodput_per_unit"] / min(per_unit, offered / level["machine_speed"]), 3),
    }


def course(levels: Sequence[float], rounds: int) -> Iterator[float]:
    """In which order the levels are measured: up and down in turn, so that what gets slower meanwhile favours none."""
    for number in range(rounds):
        yield from reversed(levels) if number % 2 else levels


def combined(rounds: Sequence[Any], name: str = "") -> Any:
    """What several measurements of a level say together: of each number the median, or the worst of `WORST`, and
    whether something was so in any of them. What is neither is taken from the first.
    """
    first = rounds[0]
    if isinstance(first, dict):
        keys = dict.fromkeys(key for each in rounds for key in each)
        return {
            key: combined([each[key] for each in rounds if key in each], name if name in WORST else key) for key in keys
        }
    if isinstance(first, bool):
        return any(rounds)
    numbers = [each for each in rounds if isinstance(each, int | float)]
    if not numbers:
        return first
    return max(numbers) if name in WORST else statistics.median_low(numbers)


def goals(levels: list[dict[str, Any]]) -> dict[str, Any]:
    """What each goal came to at the worst level of overload, and whether it is met; None without such a level."""
    loaded = [level for level in levels if level["factor"] >= 1]
    if not loaded:
        return {}
    best = max(level["goodput"] for level in levels)
    of_best = min(level["goodput"] / max(min(best, level["offered"]), 1e-9) for level in loaded)
    kept, without_machine = (min(level[name] for level in loaded) for name in ("kept", "kept_without_machine"))
    lost = max(level["under_way"]["lost_at_most"] for level in loaded)
    base = sum(sum(level["base"]["lost"].values()) for level in loaded)
    return {
        "goodput_of_best_or_of_what_was_offered": {"worst": round(of_best, 3), "is_met": of_best >= KEEPS},
        "goodput_of_capacity_or_of_what_was_offered": {"worst": kept, "is_met": kept >= KEEPS},
        "the_same_with_the_machine_taken_out": {"worst": without_machine, "is_met": without_machine >= KEEPS},
        "under_way_dropped_at_most": {"worst": lost, "is_met": lost < LOSES},
        "base_tunnels_lost": {"worst": base, "is_met": base == 0},
    }


def markdown(results: dict[str, Any], machine: dict[str, Any], options: argparse.Namespace, command: str) -> str:
    """The picture and the table for the README."""
    lines = [
        "![Tunnels per second that came up, over attempts per second](docs/overload.svg)",
        "",
        "| daemon | offered | came up | capacity beside it | kept | machine taken out | of its best | delay p50 / p99 "
        "| under way dropped | base tunnels lost | liveness checks answered | base rekeyed | responder CPU |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, result in results.items():
        for level in result["levels"]:
            delay, base = level["delay_ms"], level["base"]
            checks, rekeys = base["checks"], base["rekeys"] or {"completed": 0, "begun": 0}
            shown = f"{delay['p50']:.0f} / {delay['p99']:.0f} ms" if delay["p50"] is not None else "-"
            lines.append(
                f"| {NAMES[kind]} | {level['offered']:.0f} /s ({level['offered_over_capacity']:.1f}x) "
                f"| {level['goodput']:.0f} /s | {level['capacity']:.0f} /s "
                f"| {level['kept']:.0%} | {level['kept_without_machine']:.0%} "
                f"| {level['share_of_best']:.0%} | {shown} "
                f"| at most {level['under_way']['lost_at_most']:.2%} of {level['under_way']['ike_auth']} "
                f"| {sum(base['lost'].values())} of {base['tunnels']} "
                f"| {checks['answered']} of {checks['asked']}, p99 {checks['delay_ms']['p99'] or 0:.0f} ms "
                f"| {rekeys['completed']} of {rekeys['begun']} | {level['responder_cpu_share']:.0%} |"
            )
    lines += [
        "",
        "*Capacity beside it*: what came up in closed loops right before and after; *kept*: what came up as a share of "
        "that, or of what was offered if it was less, the median of the rounds' own; *machine taken out*: the same of "
        "what came up for each unit of work that the daemon's core could do at the time.",
        *map(verdict, results, results.values()),
        "",
        f"{common.machine_line(machine, has_strongswan='strongswan' in results)} Suite "
        f"{common.SUITES[options.suite][0]}, PSK, median of {options.rounds} times {options.seconds:g} s a level, "
        f"peers that send again after 4 s and give up after {options.timeout:g} s. Command: `{command}`.",
    ]
    return "\n".join(lines)


def verdict(kind: str, result: dict[str, Any]) -> str:
    """The goals, for people."""
    met = [
        f"{name.replace('_', ' ')} {goal['worst']:g} ({'met' if goal['is_met'] else 'not met'})"
        for name, goal in result["goals"].items()
    ]
    return f"{NAMES[kind]} from one times the capacity on, at the worst level: {', '.join(met)}." if met else ""


def picture(results: dict[str, Any]) -> str:
    """Goodput over offered load."""
    lines = [
        Line(NAMES[kind], [(0.0, 0.0), *((level["offered"], level["goodput"]) for level in result["levels"])])
        for kind, result in results.items()
    ]
    return line_chart("Tunnels that come up under overload", "attempts per second", "tunnels per second", lines)


def factors(text: str) -> list[float]:
    """Numbers with commas between them."""
    return [float(word) for word in text.split(",")]


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", type=factors, default=[0.5, 1, 2, 5, 10], help="of the capacity (0.5,1,2,5,10)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each level is measured (3)")
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement (30)")
    parser.add_argument("--capacity-seconds", type=float, default=8, help="of each closed loop beside them (8)")
    parser.add_argument("--timeout", type=float, default=12, help="after which a peer gives up, in seconds (12)")
    parser.add_argument("--base", type=int, default=500, help="tunnels that stand meanwhile (500)")
    parser.add_argument("--dpd", type=float, default=5, help="seconds between two liveness checks of each (5)")
    parser.add_argument("--rekey", type=float, default=15, help="seconds between new keys of each; 0 for none (15)")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="what to measure; may be repeated (all)")
    common.add_suite(parser, default="modp4096")
    common.add_output(parser, "overload")
    options = parser.parse_args()
    common.check_machine()
    command = common.command_line("overload", sys.argv[1:])
    machine = common.describe()
    results = {kind: run(kind, options) for kind in options.kind or KINDS}
    common.write_json(options.json, {"machine": machine, "command": command, "results": results})
    table = markdown(results, machine, options, command)
    print(table)
    if options.readme:
        PICTURE.write_text(picture(results))
        common.put_into_readme("overload", table)


if __name__ == "__main__":
    main()
