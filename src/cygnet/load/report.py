"""Shows a run on the terminal: a progress bar while it lasts, a table of what came of it."""

import textwrap
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from cygnet.load.fleet import TESTER_FULL
from cygnet.load.options import Arrivals, LoadOptions
from cygnet.load.processes import Progress
from cygnet.load.results import TESTER_LIMIT_SHARE, Results, Routines, join_address
from cygnet.load.samples import PERCENTILES, Samples

_NARROWEST: Final = 40
"""Columns that values get at least, also on a terminal that has fewer."""


class ProgressBar:
    """The bar of a run on a terminal, and nothing anywhere else.

    It is drawn when `show` is called, by no thread of its own: one would be in the way of a fork.
    """

    def __init__(self, options: LoadOptions, stream: TextIO, *, is_quiet: bool = False) -> None:
        self._count = options.count
        self._is_shown = stream.isatty() and not is_quiet
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>7.0f}/s"),
            TextColumn("{task.fields[failed]} failed", style="red"),
            TimeElapsedColumn(),
            console=Console(file=stream),
            auto_refresh=False,
            transient=True,
        )
        self._opening = self._bar.add_task("opening tunnels", total=options.count, rate=0.0, failed=0)
        self._deleting = self._bar.add_task("deleting tunnels", total=None, visible=False, rate=0.0, failed=0)

    def __enter__(self) -> "ProgressBar":
        if self._is_shown:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_shown:
            self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Draw it as it is now."""
        if not self._is_shown:
            return
        done = progress.established + progress.failed
        rate = progress.established / progress.seconds if progress.seconds else 0.0
        if done < self._count:
            self._bar.update(self._opening, completed=done, rate=rate, failed=progress.failed)
        else:
            self._bar.update(self._opening, completed=done, failed=progress.failed)
        if progress.deleted:
            self._bar.update(self._deleting, completed=progress.deleted, total=progress.established, visible=True)
        self._bar.refresh()


def print_results(results: Results, stream: TextIO) -> None:
    """The table of a run, and below it what the reader must know to read it rightly."""
    print_table(_rows(results), remarks(results), stream)


def print_table(rows: Sequence[tuple[str, str]], remarks: Iterable[str], stream: TextIO) -> None:
    """Names and values in two columns, and sentences below them.

    On a terminal values that are too long go on below themselves. Elsewhere each row is one line, for programs to read.
    """
    # Values are what users gave and responders said: nothing in them is markup, or stands for an emoji.
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    indent = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        lines = [value]
        if console.is_terminal:
            lines = textwrap.wrap(value, max(_NARROWEST, console.width - indent), break_on_hyphens=False) or [""]
        folded = ("\n" + " " * indent).join(lines)
        console.print(Text.assemble((f"{name:<{indent}}", "bold"), folded), soft_wrap=True)
    for remark in remarks:
        console.print(remark, soft_wrap=True)


def remarks(results: Results, *, is_with_limit: bool = True) -> list[str]:
    """What makes the figures other than they look, as sentences; empty if nothing does.

    Without `is_with_limit` that the tester was the limit is left to others to say.
    """
    found = []
    if results.is_interrupted:
        found.append("Interrupted: these are the results so far.")
    found += [f"A process of the tester reported: {trouble}" for trouble in results.troubles]
    if results.died:
        found.append(f"{results.died} of {results.options.processes} processes of the tester ended without a result.")
    if results.refusals:
        found.append(_refusal(results))
    if results.counted("ike_sa_init_refused_total"):
        found.append(
            f"{join_address(results.options.target, results.options.port)} has begun IKE_SAs with the tester, which "
            "answers none: is it a responder, or does it send back what it gets?"
        )
    for reason, n in results.counted("send_failures_total").items():
        if reason != "refused":
            found.append(f"{n} datagrams could not be sent: {reason.replace('_', ' ')}.")
    dropped = results.counted("datagrams_dropped_total")
    if results.failed and dropped:
        found.append(f"The tester could not use datagrams that it received: {_by_number(dropped)}.")
    if results.options.is_ke_reused:
        found.append(
            "All attempts of a process offered the same public value (--reuse-ke): the tester's CPU is less than that "
            "of so many peers, and the tunnels are for tests only."
        )
    full = results.failures.get(TESTER_FULL, 0)
    if full:
        found.append(
            f"{full} attempts were not made because {results.options.max_pending} were under way already: the tester "
            "keeps no more. Give up sooner (--timeout), or allow more (--max-pending)."
        )
    if results.kernel_drops:
        found.append(f"The kernel dropped {results.kernel_drops} datagrams that the tester was too slow to take.")
    if results.late_starts:
        found.append(f"{results.late_starts} attempts started late: the tester did not keep up with the schedule.")
    if is_with_limit and results.is_tester_limit:
        mend = "Others have them, too: see what runs here, or use another machine."
        if results.cpu_share >= TESTER_LIMIT_SHARE:
            mend = "Give it more with --processes, or another machine."
        found.append(f"The tester was the limit: it used {describe_cpu(results)}. {mend}")
    return found


def _refusal(results: Results) -> str:
    options = results.options
    # A first response came from the target's port: what refuses is the other one, or both later on.
    has_answered = bool(len(results.phases["ike_sa_init"]))
    address = join_address(options.target, options.natt_port if has_answered else options.port)
    if results.established:
        return f"{address} has refused datagrams: for a while no IKE responder listened there."
    hint = " Its NAT traversal port is another one (--natt-port), or a firewall says so." if has_answered else ""
    return f"{address} refuses datagrams: no IKE responder listens there.{hint}"


def _rows(results: Results) -> list[tuple[str, str]]:
    options = results.options
    rows = [
        ("target", join_address(options.target, options.port)),
        ("suite" if results.suites else "suites offered", results.suite),
        ("arrivals", _arrivals(options)),
        ("attempted", str(results.attempted)),
        ("established", str(results.established)),
        ("failed", _failures(results.failed, results.failures)),
        ("duration", f"{results.duration_s:.3f} s"),
        ("attempt rate (TAPS)", f"{results.attempt_rate:.1f} /s"),
        ("setup rate (TPS)", f"{results.setup_rate:.1f} /s"),
        ("setup delay", describe_percentiles(results.delays)),
        *((f"  {phase}", describe_percentiles(samples)) for phase, samples in results.phases.items()),
    ]
    if options.ping is not None:
        rows.append(("time to first packet", describe_percentiles(results.first_packets)))
        rows.append(("echoes unanswered", str(results.echo_failures)))
    rows.append(("retransmits", _failures(results.retransmits.total(), results.retransmits)))
    if options.hold_s:
        rows.append(("lost while held", _failures(sum(results.lost.values()), results.lost)))
    if options.dpd_s:
        checks = results.checks
        unanswered = checks.begun - len(checks.delays)
        overdue = f", {checks.overdue} not asked since the one before had no answer" if checks.overdue else ""
        rows.append(("liveness checks", f"{checks.begun}, {unanswered} unanswered{overdue}"))
        rows.append(("  answered after", describe_percentiles(checks.delays)))
    if options.rekey_s:
        rows += _routine(f"rekeyings ({options.rekeyed.value})", "  rekeyed after", results.rekeyings)
    if options.roam_s:
        rows += _routine(f"moves ({'mobike' if options.mobike else 'nat'})", "  answered after", results.moves)
    if options.churn_rate:
        failed = _failures(results.came_failures.total(), results.came_failures)
        rows.append(("replaced while held", f"{len(results.came_delays)} of {results.came}, failed {failed}"))
        rows.append(("  setup delay", describe_percentiles(results.came_delays)))
        rows.append(("  deleted after", describe_percentiles(results.left_delays)))
    if options.delete:
        unconfirmed = f", {results.delete_failures} unconfirmed" if results.delete_failures else ""
        rows.append(("deleted", f"{results.deleted}{unconfirmed}"))
    per_tunnel = results.cpu_us_per_tunnel
    cost = "" if per_tunnel is None else f"{per_tunnel:.0f} us per tunnel, "
    rows.append(("tester CPU", f"{cost}{describe_cpu(results)}"))
    rows.append(("tester kernel drops", str(results.kernel_drops)))
    return rows


def describe_cpu(results: Results) -> str:
    """What part of its cores the tester used, and whether it had to wait for one."""
    waited = results.waited_share
    return (
        f"{results.cpu_share:.0%} of its cores{f', waited for one {waited:.0%} of the time' if waited >= 0.01 else ''}"
    )


def _routine(name: str, name_of_delay: str, found: Routines) -> list[tuple[str, str]]:
    failed = _failures(found.failures.total(), found.failures)
    overdue = f", {found.overdue} not begun since the tunnel was busy" if found.overdue else ""
    done = f"{len(found.delays)} of {found.begun}, failed {failed}{overdue}"
    return [(name, done), (name_of_delay, describe_percentiles(found.delays))]


def _arrivals(options: LoadOptions) -> str:
    plural = "es" if options.processes > 1 else ""
    processes = f", {options.processes} process{plural}"
    if options.arrivals is Arrivals.CLOSED:
        return f"closed loop, {options.concurrency} at a time{processes}"
    return f"open loop, {options.rate:g} /s, {options.arrivals.value}{processes}"


def _failures(total: int, by_reason: dict[str, int]) -> str:
    if not total:
        return "0"
    return f"{total} ({_by_number(by_reason)})"


def _by_number(by_reason: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in sorted(by_reason.items(), key=lambda item: -item[1]))


def describe_percentiles(samples: Samples) -> str:
    """Percentiles in one line, in milliseconds."""
    values = samples.percentiles_ms()
    if not len(samples):
        return "-"
    return "  ".join(f"{name} {values[name]:.1f}" for name in PERCENTILES) + "  ms"
