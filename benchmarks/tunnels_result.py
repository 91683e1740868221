"""What a run of `tunnels.py` found, and whether that is as it is to be."""

from typing import Any

import msgspec
from benchmarks import common
from benchmarks.held_tunnels import Comparison

MEMORY_GOAL = 1600
SAME_GOAL = 0.05
STATUS_GOAL_MS = 50.0
SPREAD_GOAL = 2.0
"""Times the mean of the round, in the busiest ten seconds; 1.6 of them are by design."""
LINEAR_GOAL = 0.8
LATE_S = 2.0
"""After its period a round may end so much later."""


class Schedule(msgspec.Struct, frozen=True):
    """When the rounds begin and end, in seconds from a tunnel's own set-up."""

    set_up_s: float = 0.0
    """In which all is set up and compared; 0 for no rounds."""
    settle_s: float = 0.0

    @property
    def dpd_delay_s(self) -> float:
        """The first check comes after half of it at least."""
        return 2.0 * self.set_up_s

    @property
    def rekey_from_s(self) -> float:
        return max(2.2 * self.set_up_s, self.set_up_s + self.settle_s)

    @property
    def rekey_time_s(self) -> float:
        return self.rekey_from_s + 1.1 * self.set_up_s


class Round(msgspec.Struct):
    """Something that is done once for each tunnel."""

    period_s: float
    """From the last set-up, in which it is to be done."""
    done: int = 0
    took_s: float = 0.0
    """From the last set-up, until it was done as often as there are tunnels."""
    mean: float = 0.0
    """Per second, from the first to then."""
    peak: float = 0.0
    """Per second, in the busiest second until then."""
    peak_of_ten: float = 0.0
    """The same in the busiest ten seconds: a machine that stands still for a moment does not show there."""


class Step(msgspec.Struct):
    """A part of the growth: it can be told from the next one on a machine that has nothing else to do."""

    tunnels: int
    rate: float
    gateway_us: float
    tester_us: float
    p99_ms: float
    max_ms: float


class Result(msgspec.Struct):
    """What was measured."""

    count: int
    few: int
    """Tunnels of the other gateway."""
    dataplane: str
    shared_by: int = 0
    """Programs that took their part of the gateway's core in the rounds."""
    schedule: Schedule | None = None
    octets_per_tunnel_at_once: float = 0.0
    octets_per_tunnel: float = 0.0
    """Settled."""
    octets_per_tunnel_rekeyed: float = 0.0
    """When the last has its new keys. The responses of the last three minutes are kept then, and before this settles
    the next keys are due."""
    total_octets_per_tunnel: float = 0.0
    """The whole of the gateway's proportional set size, settled."""
    tester_octets_per_tunnel: float = 0.0
    growth: list[Step] = []
    comparison: Comparison | None = None
    is_disturbed: bool = False
    """Whether a round began before the comparison was over."""
    counters_ms: float = 0.0
    """The slowest of some readings."""
    stats_ms: float = 0.0
    rounds: dict[str, Round] = {}
    lost: int = 0
    """Tunnels that ended before they were to, or never came up."""
    lost_for: dict[str, int] = {}
    retransmits: dict[str, int] = {}
    """Of the tester, by exchange."""
    counted: dict[str, float] = {}
    """What the gateway dropped, asked to prove itself, or sent again."""
    delete_s: float = 0.0
    delete_rate_first: float = 0.0
    """Deletions per second in the first half."""
    delete_rate_last: float = 0.0


class Goal(msgspec.Struct):
    """Whether something is as it is to be."""

    found: float
    limit: float
    is_met: bool


ROUNDS = {
    "liveness checks": "liveness_checks_total",
    "new keys of CHILD_SAs": "child_sas_rekeyed_total",
    "new keys of IKE_SAs": "ike_sas_rekeyed_total",
}


def goals(result: Result) -> dict[str, Goal]:
    """The verdict, by name."""
    found: dict[str, Goal] = {}

    def at_most(name: str, value: float, limit: float) -> None:
        found[name] = Goal(round(value, 3), limit, value <= limit)

    def at_least(name: str, value: float, limit: float) -> None:
        found[name] = Goal(round(value, 3), limit, value >= limit)

    at_most("octets per tunnel", result.octets_per_tunnel, MEMORY_GOAL)
    if result.comparison is not None:
        at_least("set-up rate, many over few", result.comparison.rate_ratio, 1 - SAME_GOAL)
        at_most("set-up CPU, many over few", result.comparison.cpu_ratio, 1 + SAME_GOAL)
        at_most("set-up p99, many over few", result.comparison.p99_ratio, 1 + SAME_GOAL)
    at_most("status in ms", max(result.counters_ms, result.stats_ms), STATUS_GOAL_MS)
    for name, each in result.rounds.items():
        at_least(f"{name}, share done", each.done / result.count, 1.0)
        at_most(f"{name}, of their period", each.took_s / each.period_s, 1 + LATE_S / each.period_s)
        at_most(f"{name}, busiest seconds over mean", each.peak_of_ten / max(each.mean, 1e-9), SPREAD_GOAL)
    at_most("tunnels lost", result.lost, 0)
    at_least("deletion, last half over first", result.delete_rate_last / result.delete_rate_first, LINEAR_GOAL)
    return found


def markdown(result: Result, machine: dict[str, Any], command: str) -> str:
    """The table for the README."""
    rows = {
        "memory per tunnel": f"{result.octets_per_tunnel / 1000:.2f} kB "
        f"({result.total_octets_per_tunnel / 1000:.2f} kB with the processes themselves; with the responses of the "
        f"last three minutes {result.octets_per_tunnel_at_once / 1000:.2f} kB after set-up and "
        f"{result.octets_per_tunnel_rekeyed / 1000:.2f} kB after new keys)",
        "set-up while it grows, p99 / max": f"{max(step.p99_ms for step in result.growth):.0f} / "
        f"{max(step.max_ms for step in result.growth):.0f} ms, of the worst tenth",
    }
    compared = result.comparison
    if compared is not None:
        beside = f"set-ups beside a gateway with {result.few:,}: rate"
        rows |= {
            beside: f"{compared.many.rate:.0f}/s and {compared.few.rate:.0f}/s ({compared.rate_ratio:.3f})",
            "their CPU of the gateway": f"{compared.many.cpu_us:.0f} us and {compared.few.cpu_us:.0f} us "
            f"({compared.cpu_ratio:.3f})",
            "their delay, p50": f"{compared.many.p50_ms:.1f} ms and {compared.few.p50_ms:.1f} ms "
            f"({compared.p50_ratio:.3f})",
            "their delay, p99": f"{compared.many.p99_ms:.1f} ms and {compared.few.p99_ms:.1f} ms "
            f"({compared.p99_ratio:.3f})",
        }
    rows["status"] = f"`stats` {result.stats_ms:.1f} ms, all counters {result.counters_ms:.1f} ms"
    for name, each in result.rounds.items():
        rows[name] = (
            f"{each.done} within {each.took_s:.0f} s of {each.period_s:.0f} s, "
            f"at most {each.peak:.0f} in a second and {each.peak_of_ten:.0f}/s in ten, at a mean of {each.mean:.0f}/s"
        )
    rows["deletion of all"] = (
        f"{result.delete_s:.0f} s, {result.delete_rate_first:.0f}/s in the first half and "
        f"{result.delete_rate_last:.0f}/s in the last"
    )
    rows["tunnels lost"] = f"{result.lost}"
    lines = [f"| {result.count:,} tunnels, one worker, data plane {result.dataplane} | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    shared = f" Shared with {result.shared_by} other programs in the rounds." if result.shared_by else ""
    pairs = f" Medians of {compared.pairs} pairs of {compared.set_ups} set-ups." if compared is not None else ""
    lines += [
        "",
        verdict(result),
        "",
        f"{common.machine_line(machine, has_strongswan=False)} Gateway on one core, tester on another.{shared}{pairs} "
        f"Command: `{command}`.",
    ]
    return "\n".join(lines)


def verdict(result: Result) -> str:
    """The goals, for people."""
    told = [f"{name} {goal.found:g} ({'met' if goal.is_met else 'missed'})" for name, goal in goals(result).items()]
    return f"Goals: {', '.join(told)}." + " The comparison was disturbed by a round." * result.is_disturbed
