"""What one process of the tester writes down while it runs."""

import time
from array import array
from collections import Counter

from cygnet.ike.effects import InstallChild
from cygnet.ike.sa import IkeSa
from cygnet.load.results import PHASES, Measured
from cygnet.load.samples import Samples
from cygnet.load.suites import describe_suites
from cygnet.observe.system import waited_seconds


class Timeline:
    """How much happened in each second of a run: eight octets each."""

    __slots__ = ("_seconds", "_start")

    def __init__(self, start: float) -> None:
        self._start = start
        self._seconds = array("Q")

    def add(self, now: float) -> None:
        """Something has happened now."""
        second = max(0, int(now - self._start))
        if second >= len(self._seconds):
            self._seconds.extend([0] * (second + 1 - len(self._seconds)))
        self._seconds[second] += 1

    def to_list(self) -> list[int]:
        """From the first second on."""
        return self._seconds.tolist()


class Books:
    """Counts and durations; what the attempts are is the fleet's to know."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        """What core, sockets and data plane count."""
        self.failures: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.delays = Samples()
        self.phases = {phase: Samples() for phase in PHASES}
        self.first_packets = Samples()
        self.retransmits: Counter[str] = Counter()
        """By exchange."""
        self.late_starts = 0
        self.deleted = 0
        self.delete_failures = 0
        self.begin(0.0)
        self._suites: dict[str, None] = {}
        self._last_suite: tuple[object, object] = (None, None)
        self._seen_established = 0

    def begin(self, start: float) -> None:
        """The run starts, in time as in CPU time."""
        self.start = self.last_start = self.last_established = start
        self.timeline = Timeline(start)
        self._cpu_before = time.process_time()
        self._waited_before = waited_seconds()
        self._busy_cpu = self._busy_waited = self._busy_s = 0.0

    def count(self, name: str, n: int = 1, /) -> None:
        """Add to one of the counters."""
        self.counters[name] += n

    def established(self, intended: float, init_done: float, now: float) -> None:
        """A tunnel is up."""
        self.last_established = now
        self.delays.add(now - intended)
        self.phases["ike_auth"].add(now - init_done)
        self.timeline.add(now)

    def note_suite(self, sa: IkeSa | None, child: InstallChild | None) -> None:
        """Remember what was negotiated."""
        if sa is None or sa.suite is None:
            return
        suite = (sa.suite, child.suite if child is not None else None)
        # Negotiated suites come from a cache: the same suite is the same object.
        if suite[0] is not self._last_suite[0] or suite[1] is not self._last_suite[1]:
            self._last_suite = suite
            self._suites[describe_suites(*suite)] = None

    def tick(self, established: int, now: float) -> None:
        """Note what time and CPU time it took to come to so many tunnels."""
        if self._seen_established != established:
            self._seen_established = established
            self._busy_cpu, self._busy_s = time.process_time() - self._cpu_before, now - self.start
            self._busy_waited = self._waited()

    def _waited(self) -> float:
        """For how long we have waited for a core; 0 where the kernel does not say."""
        waited_s = waited_seconds()
        return waited_s - self._waited_before if waited_s is not None and self._waited_before is not None else 0.0

    def measure(self, *, attempted: int, echo_failures: int, ended: float) -> Measured:
        """All that belongs to the attempts."""
        cpu_s = time.process_time() - self._cpu_before
        return Measured(
            attempted=attempted,
            failures=dict(self.failures),
            delays=self.delays.to_octets(),
            phases={phase: samples.to_octets() for phase, samples in self.phases.items()},
            first_packets=self.first_packets.to_octets(),
            echo_failures=echo_failures,
            retransmits=dict(self.retransmits),
            timeline=self.timeline.to_list(),
            suites=list(self._suites),
            last_start=self.last_start,
            last_established=self.last_established,
            ended=ended,
            cpu_s=cpu_s,
            busy_cpu_s=self._busy_cpu if self._busy_s else cpu_s,
            busy_waited_s=self._busy_waited if self._busy_s else self._waited(),
            busy_s=self._busy_s or ended - self.start,
            late_starts=self.late_starts,
        )

    def complete(self, measured: Measured, *, kernel_drops: int, is_interrupted: bool) -> None:
        """Add what also happens after the attempts."""
        measured.kernel_drops = kernel_drops
        measured.retransmits = dict(self.retransmits)
        measured.lost = dict(self.lost)
        measured.deleted = self.deleted
        measured.delete_failures = self.delete_failures
        measured.counters = dict(self.counters)
        measured.is_interrupted = is_interrupted
