"""What was measured: by one process, by all of them together, and as the JSON object that is printed.

`established + failed == attempted` holds always, and every failure has a reason.
"""

import os
from collections import Counter
from typing import Any, Final

import msgspec

from cygnet.load.churn import Changes
from cygnet.load.options import Arrivals, LoadOptions
from cygnet.load.samples import Samples
from cygnet.load.suites import describe_offer
from cygnet.load.upkeep import Answers
from cygnet.observe.system import describe_machine

PHASES: Final = ("ike_sa_init", "ike_auth")
LATE_START_S: Final = 0.010
"""In an open loop, an attempt that starts later than it was meant to by more than this is a late start: past the
millisecond to which event loops keep time, and small against any delay worth reporting."""
TESTER_LIMIT_SHARE: Final = 0.90
"""From this share on of its cores, or of the time in which it had something to do, the tester limited the run, and not
what it was testing."""
DIED: Final = "process_died"


class Measured(msgspec.Struct):
    """What one process has measured. Times are on the clock of the run, durations octets of `Samples`."""

    attempted: int
    failures: dict[str, int]
    delays: bytes
    """From the intended start to the tunnel."""
    phases: dict[str, bytes]
    """Of `ike_sa_init` from the intended start, so that the phases add up to the delay."""
    first_packets: bytes
    """From the intended start to the first answer through the tunnel."""
    echo_failures: int
    retransmits: dict[str, int]
    """By exchange: `ike_sa_init`, `ike_auth`, or `informational` for all that comes later."""
    timeline: list[int]
    """Tunnels that came up in each second of the run."""
    suites: list[str]
    last_start: float
    last_established: float
    ended: float
    """When the last attempt, and echo, had come to its end."""
    cpu_s: float
    busy_cpu_s: float
    """The part of it while tunnels came up; the rest is waiting for what never comes."""
    busy_waited_s: float
    """For how long the process waited for a core meanwhile."""
    busy_s: float
    """How long that was."""
    late_starts: int
    # What also happens after the attempts.
    kernel_drops: int = 0
    lost: dict[str, int] = {}
    """Tunnels that ended although we had not ended them, by reason."""
    deleted: int = 0
    delete_failures: int = 0
    checks: Answers = Answers()
    """Of whether the responder lives."""
    rekeyings: Answers = Answers()
    moves: Answers = Answers()
    """To other sources."""
    changes: Changes = Changes()
    """Of tunnels for others while they were held."""
    counters: dict[str, int] = {}
    """What core, sockets and data plane counted."""
    is_interrupted: bool = False


class Routines:
    """What came of something that the tunnels of all processes did again and again."""

    def __init__(self) -> None:
        self.begun = 0
        self.overdue = 0
        self.delays = Samples()
        self.failures: Counter[str] = Counter()

    def add(self, answers: Answers) -> None:
        """Add those of one process."""
        self.begun += answers.asked
        self.overdue += answers.overdue
        self.delays.extend(answers.delays)
        self.failures.update(answers.failures)

    def to_json(self) -> dict[str, Any]:
        """How much was begun, and what became of it; the rest was under way at the end."""
        return {
            "begun": self.begun,
            "completed": len(self.delays),
            "failures": dict(self.failures.most_common()),
            "overdue": self.overdue,
        }


class Results:
    """The measurements of a run."""

    def __init__(self, options: LoadOptions, start: float) -> None:
        self.options = options
        self.start = start
        """When the first attempt was meant to start, on the clock of the run."""
        self.attempted = 0
        self.established = 0
        self.failures: Counter[str] = Counter()
        self.delays = Samples()
        self.phases = {phase: Samples() for phase in PHASES}
        self.first_packets = Samples()
        self.echo_failures = 0
        self.retransmits: Counter[str] = Counter()
        self.timeline: Counter[int] = Counter()
        self.suites: dict[str, None] = {}
        self.cpu_s = 0.0
        self.kernel_drops = 0
        self.late_starts = 0
        self.lost: Counter[str] = Counter()
        self.deleted = 0
        self.delete_failures = 0
        self.checks = Routines()
        self.rekeyings = Routines()
        self.moves = Routines()
        self.came = 0
        self.came_delays = Samples()
        self.came_failures: Counter[str] = Counter()
        self.left_delays = Samples()
        self.leave_failures = 0
        self.counters: Counter[str] = Counter()
        self.died = 0
        """Processes that ended without a result."""
        self.troubles: list[str] = []
        """What those have said that still could."""
        self.is_interrupted = False
        self._busy_cpu_s = 0.0
        self._busy_waited_s = 0.0
        self._busy_s = 0.0
        self._last_start = start
        self._last_established = start
        self._ended = start

    def add(self, measured: Measured) -> None:
        """Add what one process has measured."""
        delays_before = len(self.delays)
        self.delays.extend(measured.delays)
        self.established += len(self.delays) - delays_before
        self.attempted += measured.attempted
        self.failures.update(measured.failures)
        for phase, octets in measured.phases.items():
            self.phases[phase].extend(octets)
        self.first_packets.extend(measured.first_packets)
        self.echo_failures += measured.echo_failures
        self.retransmits.update(measured.retransmits)
        self.timeline.update(dict(enumerate(measured.timeline)))
        self.suites.update(dict.fromkeys(measured.suites))
        self.cpu_s += measured.cpu_s
        self.kernel_drops += measured.kernel_drops
        self.late_starts += measured.late_starts
        self.lost.update(measured.lost)
        self.deleted += measured.deleted
        self.delete_failures += measured.delete_failures
        self.checks.add(measured.checks)
        self.rekeyings.add(measured.rekeyings)
        self.moves.add(measured.moves)
        self.came += measured.changes.begun
        self.came_delays.extend(measured.changes.delays)
        self.came_failures.update(measured.changes.failures)
        self.left_delays.extend(measured.changes.closed)
        self.leave_failures += measured.changes.close_failures
        self.counters.update(measured.counters)
        self.is_interrupted |= measured.is_interrupted
        self._busy_cpu_s += measured.busy_cpu_s
        self._busy_waited_s += measured.busy_waited_s
        self._busy_s = max(self._busy_s, measured.busy_s)
        if measured.attempted:
            self._last_start = max(self._last_start, measured.last_start)
        self._last_established = max(self._last_established, measured.last_established)
        self._ended = max(self._ended, measured.ended)

    def add_dead(self, attempted: int, now: float) -> None:
        """Add a process that died after so many attempts: all of them have failed, since nothing holds its tunnels."""
        self.died += 1
        self.attempted += attempted
        if attempted:
            self.failures[DIED] += attempted
        self._ended = max(self._ended, now)

    @property
    def failed(self) -> int:
        """Attempts that brought no tunnel."""
        return sum(self.failures.values())

    @property
    def duration_s(self) -> float:
        """From the start of the run until the last attempt, and its echo, had come to an end."""
        return self._ended - self.start

    @property
    def attempt_rate(self) -> float:
        """Attempts per second, from the start until the last one was started."""
        return _rate(self.attempted - 1, self._last_start - self.start)

    @property
    def setup_rate(self) -> float:
        """Tunnels per second, from the start until the last one was up."""
        return _rate(self.established, self._last_established - self.start)

    @property
    def cpu_share(self) -> float:
        """The tester's CPU time as a share of the cores that it could use, while tunnels came up."""
        usable = min(self.options.processes, len(os.sched_getaffinity(0)))
        return self._busy_cpu_s / (self._busy_s * usable) if self._busy_s > 0 else 0.0

    @property
    def waited_share(self) -> float:
        """For which part of the time its processes waited for a core, while tunnels came up: others had it."""
        return self._busy_waited_s / (self._busy_s * self.options.processes) if self._busy_s > 0 else 0.0

    @property
    def busy_share(self) -> float:
        """For which part of the time its processes had something to do: ran, or waited for a core."""
        ran = self._busy_cpu_s / (self._busy_s * self.options.processes) if self._busy_s > 0 else 0.0
        return ran + self.waited_share

    @property
    def is_tester_limit(self) -> bool:
        """Whether the tester itself, and not the responder, limited the run."""
        return max(self.cpu_share, self.busy_share) >= TESTER_LIMIT_SHARE

    @property
    def cpu_us_per_tunnel(self) -> float | None:
        """CPU time of the tester for each tunnel, in microseconds; None without tunnels."""
        return self.cpu_s / self.established * 1e6 if self.established else None

    @property
    def suite(self) -> str:
        """What was negotiated, or else what was offered."""
        if self.suites:
            return ", ".join(self.suites)
        return describe_offer(self.options.proposals, self.options.esp_proposals)

    @property
    def refusals(self) -> int:
        """How often the target said that nobody listens at the port."""
        return sum(
            self.counted(family).get("refused", 0) for family in ("receive_failures_total", "send_failures_total")
        )

    def counted(self, family: str) -> dict[str, int]:
        """The series of a labelled counter that are not zero, by their label."""
        prefix = f'{family}{{reason="'
        return {name[len(prefix) : -2]: n for name, n in self.counters.items() if name.startswith(prefix) and n}

    def is_success(self, allowed_failures_percent: float = 0.0) -> bool:
        """Whether all attempts, but for the allowed share, brought a tunnel through which traffic passes."""
        if self.died or not self.attempted:
            return False
        bad = self.failed + self.echo_failures
        return bad * 100 <= allowed_failures_percent * self.attempted

    def to_json(self) -> dict[str, Any]:
        """The result as one object of JSON's types."""
        options = self.options
        is_closed = options.arrivals is Arrivals.CLOSED
        result: dict[str, Any] = {
            "target": join_address(options.target, options.port),
            "suite": self.suite,
            "processes": options.processes,
            "arrivals": options.arrivals.value,
            "rate": None if is_closed else options.rate,
            "concurrency": options.concurrency if is_closed else None,
            "reuse_ke": options.is_ke_reused,
            "interrupted": self.is_interrupted,
            "attempted": self.attempted,
            "established": self.established,
            "failed": self.failed,
            "failures": dict(self.failures.most_common()),
            "duration_s": round(self.duration_s, 6),
            "attempt_rate": round(self.attempt_rate, 2),
            "setup_rate": round(self.setup_rate, 2),
            "setup_delay_ms": self.delays.percentiles_ms(),
            "phases": {phase: samples.percentiles_ms() for phase, samples in self.phases.items()},
            "retransmits": self.retransmits.total(),
            "retransmits_by_exchange": dict(self.retransmits),
            "established_per_second": [self.timeline[n] for n in range(max(self.timeline, default=-1) + 1)],
        }
        if options.ping is not None:
            result["time_to_first_packet_ms"] = self.first_packets.percentiles_ms()
            result["echoes"] = {"answered": len(self.first_packets), "unanswered": self.echo_failures}
        if options.hold_s:
            result["lost"] = dict(self.lost)
        if options.dpd_s:
            result["liveness_checks"] = {
                "asked": self.checks.begun,
                "answered": len(self.checks.delays),
                "overdue": self.checks.overdue,
                "delay_ms": self.checks.delays.percentiles_ms(),
            }
        if options.rekey_s:
            result["rekeys"] = {"of": options.rekeyed.value, **self.rekeyings.to_json()}
            result["rekey_delay_ms"] = self.rekeyings.delays.percentiles_ms()
        if options.roam_s:
            result["moves"] = {"by": "mobike" if options.mobike else "nat", **self.moves.to_json()}
            result["move_delay_ms"] = self.moves.delays.percentiles_ms()
        if options.churn_rate:
            result["churn"] = {
                "begun": self.came,
                "established": len(self.came_delays),
                "failures": dict(self.came_failures.most_common()),
                "setup_delay_ms": self.came_delays.percentiles_ms(),
                "deleted": len(self.left_delays),
                "unconfirmed": self.leave_failures,
                "delete_delay_ms": self.left_delays.percentiles_ms(),
            }
        if options.delete:
            result["deleted"] = {"confirmed": self.deleted, "unconfirmed": self.delete_failures}
        per_tunnel = self.cpu_us_per_tunnel
        result["tester"] = {
            "cpu_s": round(self.cpu_s, 6),
            "cpu_us_per_tunnel": None if per_tunnel is None else round(per_tunnel, 1),
            "cpu_share": round(self.cpu_share, 4),
            "waited_share": round(self.waited_share, 4),
            "is_limit": self.is_tester_limit,
            "kernel_drops": self.kernel_drops,
            "late_starts": self.late_starts,
            "send_failures": self.counted("send_failures_total"),
            "receive_failures": self.counted("receive_failures_total"),
            "datagrams_dropped": self.counted("datagrams_dropped_total"),
            "internal_errors": self.counters["internal_errors_total"],
            "died": self.died,
        }
        result["machine"] = msgspec.to_builtins(describe_machine())
        return result


def join_address(address: str, port: int) -> str:
    """An address with a port, as it is written on the command line."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _rate(n: int, seconds: float) -> float:
    return n / seconds if seconds > 0 and n > 0 else 0.0
