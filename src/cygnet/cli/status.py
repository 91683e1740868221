"""`cygnet status`: what a running gateway does, from its counters alone: the gateway doesn't notice."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cygnet.config import defaults
from cygnet.gateway.process.state_dir import COUNTERS, LIMITS, running_gateway
from cygnet.ike.errors import LocalError
from cygnet.observe.counters import Counters
from cygnet.observe.metrics import Kind
from cygnet.observe.shared_words import UnreadableWords

_PERCENTILES: Final = (0.5, 0.9, 0.99)
_LATENCY: Final = "handshake_duration_seconds"
# What the first lines of the table show; of the other counters and gauges those that are not zero.
_SUMMARY: Final = (
    ("IKE_SAs established", 'ike_sas{state="established"}'),
    ("IKE_SAs half open", 'ike_sas{state="half_open"}'),
    ("CHILD_SAs", "child_sas"),
    ("virtual addresses in use", "pool_addresses_in_use"),
    ("handshakes completed", "ike_sas_established_total"),
    ("dropped in the kernel", "kernel_drops_total"),
    ("worker restarts", "worker_restarts_total"),
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "status",
        help="show what a running gateway does",
        description="Show the counters of a running gateway. It isn't asked, so it isn't kept from its work.",
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        default=defaults.STATE_DIR,
        help="folder of the running gateway (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print every counter and gauge as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    pid, counters = open_running(Path(args.state_dir))
    if args.json:
        print(json.dumps({**counters.values(), "limits": read_limits(Path(args.state_dir))}))
    else:
        print("\n".join(table(pid, counters)))
        for finding in read_limits(Path(args.state_dir)):
            print("limit of {what}: {found} instead of {wanted}; {mend}".format(**finding))
    return 0


def read_limits(state_dir: Path) -> list[dict[str, str]]:
    """The limits that the gateway found at its start."""
    try:
        found: list[dict[str, str]] = json.loads((state_dir / LIMITS).read_bytes())
    except (OSError, ValueError):
        # Of a gateway that could not write it.
        return []
    return found


def open_running(state_dir: Path) -> tuple[int, Counters]:
    """The process id and the counters of the gateway that runs on a state directory. Raises LocalError."""
    try:
        pid = running_gateway(state_dir)
        if pid is None:
            raise LocalError(f"no gateway runs on the state directory {state_dir}: choose another with --state-dir")
        return pid, Counters.open(state_dir / COUNTERS)
    except OSError as exc:
        raise LocalError(f"cannot read the state directory {state_dir}: {exc.strerror}") from exc
    except UnreadableWords as exc:
        raise LocalError(f"cannot read {state_dir / COUNTERS}: {exc}") from exc


def table(pid: int, counters: Counters) -> Iterator[str]:
    """The lines for people."""
    workers = counters.writers - 1
    yield f"gateway running, pid {pid}, {workers} worker{'' if workers == 1 else 's'}"
    yield from (_line(text, counters.value(name)) for text, name in _SUMMARY)
    histogram = counters.histogram(_LATENCY)
    if histogram.count:
        shares = zip(_PERCENTILES, histogram.percentiles(_PERCENTILES), strict=True)
        in_ms = "".join(f"p{100 * share:.0f} {1000 * seconds:.1f} ms, " for share, seconds in shares)
        yield f"  {'handshake duration':<30} {in_ms}max {1000 * histogram.max_s:.1f} ms"
    shown = {name for _, name in _SUMMARY}
    for metric in counters.metrics:
        if metric.kind is Kind.HISTOGRAM:
            continue
        values = {series: counters.value(series) for series in metric.series if series not in shown}
        counted = {series: value for series, value in values.items() if value}
        if counted:
            yield metric.help.rstrip(".")
            for series, value in counted.items():
                yield _line(_label_of(series) or "in all", value)


def _line(text: str, value: int) -> str:
    return f"  {text:<30} {value:>14,}"


def _label_of(series: str) -> str:
    """`wrong_secret` of `authentication_failures_total{reason="wrong_secret"}`; empty without a label."""
    return series.partition('="')[2].rstrip('"}').replace("_", " ")
