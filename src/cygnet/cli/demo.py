"""`cygnet demo`: a gateway and the load tester on loopback, as any user, and what limits the two."""

import argparse
import json
import logging
import os
import secrets
import signal
import sys
from typing import Any, Final, TextIO

import msgspec

from cygnet.auth.identity import parse_identity
from cygnet.cli.arguments import integer
from cygnet.cli.load import EXIT_FAILURE, EXIT_INTERRUPTED
from cygnet.config.gateway_settings import GatewaySettings
from cygnet.config.log_settings import LogSettings
from cygnet.gateway.embedded import GatewayProcess
from cygnet.iana import ProtocolId
from cygnet.ike.errors import LocalError
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import (
    AuthSettings,
    ChildSettings,
    ConnectionSettings,
    PoolSettings,
    Settings,
    SharedSecret,
)
from cygnet.load.options import LoadOptions, PingOptions
from cygnet.load.plan import IdentityPattern
from cygnet.load.processes import run_load
from cygnet.load.report import ProgressBar, describe_percentiles, print_table, remarks
from cygnet.load.results import TESTER_LIMIT_SHARE, Results
from cygnet.observe.system import cpu_seconds, describe_machine, udp_drops

COUNT: Final = 5000
WORKERS: Final = 2
CONCURRENCY: Final = 64
MAX_COUNT: Final = 1_000_000
MAX_WORKERS: Final = 64
LOOPBACK: Final = "127.0.0.1"
PROPOSAL: Final = parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519")
ESP_PROPOSAL: Final = parse_proposal(ProtocolId.ESP, "aes128gcm16")
GATEWAY_ID: Final = parse_identity("gw.example.org")
CLIENT_IDS: Final = "c{n}@example.org"
POOL: Final = PoolSettings(name="clients", first=bytes((10, 0, 0, 2)), last=bytes((10, 255, 255, 254)))
ECHO: Final = bytes((10, 0, 0, 1))
_SECRET_OCTETS: Final = 32
_STOP_TIMEOUT_S: Final = 1.0
_ALL_CORES: Final = 0.95
"""From this share on, the machine's cores count as full."""


class Measured(msgspec.Struct, frozen=True):
    """A run: what the tester says, and what the system says of the gateway meanwhile."""

    results: Results
    gateway_cpu_s: float
    gateway_drops: int
    workers: int

    @property
    def gateway_share(self) -> float:
        """The gateway's CPU time as a share of the cores that its workers could use."""
        usable = min(self.workers, len(os.sched_getaffinity(0)))
        duration_s = self.results.duration_s
        return self.gateway_cpu_s / (duration_s * usable) if duration_s > 0 else 0.0

    @property
    def is_machine_full(self) -> bool:
        """Whether the two together used all the CPU time that there was."""
        cores = len(os.sched_getaffinity(0))
        return self.gateway_cpu_s + self.results.cpu_s >= _ALL_CORES * self.results.duration_s * cores

    @property
    def limit(self) -> str:
        """Which of the two limited the rate: the one with less CPU time to spare; `neither` if both had plenty."""
        shares = {"tester": self.results.cpu_share, "gateway": self.gateway_share}
        busier = max(shares, key=lambda name: shares[name])
        return busier if self.is_machine_full or shares[busier] >= TESTER_LIMIT_SHARE else "neither"

    @property
    def verdict(self) -> str:
        """The same as a sentence, with the evidence."""
        shares = {
            "gateway": f"{self.gateway_share:.0%} of {_cores(self.workers)}",
            "tester": f"{self.results.cpu_share:.0%} of {_cores(self.results.options.processes)}",
        }
        limit = self.limit
        if limit == "neither":
            return (
                f"Neither was the limit: the gateway used {shares['gateway']} and the tester {shares['tester']}, "
                f"so they waited for the machine, which has other work."
            )
        other = "gateway" if limit == "tester" else "tester"
        cores = len(os.sched_getaffinity(0))
        together = f"; together they filled the {_cores(cores)} that they share" if self.is_machine_full else ""
        return f"The {limit} was the limit: it used {shares[limit]}, the {other} {shares[other]}{together}."


def _cores(n: int) -> str:
    usable = min(n, len(os.sched_getaffinity(0)))
    return f"{usable} core{'s' if usable > 1 else ''}"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "demo",
        help="gateway and load tester on loopback: the whole story in a few seconds",
        description="Start a gateway on free loopback ports with credentials made for the occasion, open tunnels to "
        "it, send an echo request through each, and say which of the two was the limit. Needs no privileges, and "
        "leaves nothing behind.",
    )
    parser.add_argument("--count", metavar="N", type=integer(1, MAX_COUNT), default=COUNT, help=f"tunnels ({COUNT})")
    parser.add_argument(
        "--workers", metavar="N", type=integer(1, MAX_WORKERS), default=WORKERS, help=f"of the gateway ({WORKERS})"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it; 0 if all tunnels came up and all echoes were answered, 1 if not, 130 if it was interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        measured = measure(count=args.count, workers=args.workers, stream=sys.stderr)
    except LocalError as exc:
        print(f"cygnet demo: {exc}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if args.json:
        print(json.dumps(to_json(measured)))
    else:
        told = (*remarks(measured.results, is_with_limit=False), measured.verdict)
        print_table(_rows(measured), told, sys.stdout)
    if measured.results.is_interrupted:
        return EXIT_INTERRUPTED
    return 0 if measured.results.is_success() else EXIT_FAILURE


def measure(*, count: int, workers: int, stream: TextIO) -> Measured:
    """Start a gateway, open `count` tunnels to it, and stop it. Progress goes to `stream` if that is a terminal.

    Raises LocalError if either of the two can't start.
    """
    secret = secrets.token_bytes(_SECRET_OCTETS)
    gateway_settings = GatewaySettings(
        workers=workers, port=0, natt_port=0, listen=(LOOPBACK,), echo=(ECHO,), log=LogSettings(default=logging.ERROR)
    )
    gateway = GatewayProcess.start(_gateway_side(secret), gateway_settings)
    try:
        return _measure(gateway, secret, count, stream)
    finally:
        # After an interrupt there may be peers that are gone: it need not wait for their answers.
        gateway.stop(_STOP_TIMEOUT_S)


def _measure(gateway: GatewayProcess, secret: bytes, count: int, stream: TextIO) -> Measured:
    options = LoadOptions(
        target=LOOPBACK,
        secret=secret,
        port=gateway.port,
        natt_port=gateway.natt_port,
        count=count,
        concurrency=CONCURRENCY,
        identities=IdentityPattern(CLIENT_IDS),
        remote_id=GATEWAY_ID,
        proposals=(PROPOSAL,),
        esp_proposals=(ESP_PROPOSAL,),
        vips=(bytes(4),),
        ping=PingOptions(target=ECHO),
        encap=True,
        delete=True,
    )
    cpu_before = cpu_seconds(gateway.pid)
    cpu_after = cpu_before

    def look() -> None:
        # Before the tunnels are deleted, which is not what we measure.
        nonlocal cpu_after
        cpu_after = cpu_seconds(gateway.pid)

    with ProgressBar(options, stream) as bar:
        results = run_load(options, on_progress=bar.show, on_over=look)
    return Measured(
        results=results,
        gateway_cpu_s=cpu_after - cpu_before,
        gateway_drops=sum(udp_drops((gateway.port, gateway.natt_port)).values()),
        workers=gateway.worker_count,
    )


def _gateway_side(secret: bytes) -> Settings:
    child = ChildSettings(name="net", esp_proposals=(ESP_PROPOSAL,), local_ts=(parse_selector("0.0.0.0/0"),))
    connection = ConnectionSettings(
        name="demo",
        proposals=(PROPOSAL,),
        local=AuthSettings(id=GATEWAY_ID),
        remote=AuthSettings(id=parse_identity("*@example.org")),
        children=(child,),
        pools=(POOL.name,),
    )
    return Settings(connections=(connection,), pools=(POOL,), secrets=(SharedSecret(secret),))


def to_json(measured: Measured) -> dict[str, Any]:
    """The result as one object of JSON's types: the tester's, with the gateway's side and the verdict."""
    result = measured.results.to_json()
    established = measured.results.established
    result["gateway"] = {
        "workers": measured.workers,
        "cpu_s": round(measured.gateway_cpu_s, 3),
        "cpu_us_per_tunnel": round(measured.gateway_cpu_s / established * 1e6, 1) if established else None,
        "cpu_share": round(measured.gateway_share, 4),
        "kernel_drops": measured.gateway_drops,
    }
    result["limit"] = measured.limit
    result["verdict"] = measured.verdict
    return result


def _rows(measured: Measured) -> list[tuple[str, str]]:
    results = measured.results
    established = results.established
    cost = "-"
    if established:
        cost = (
            f"gateway {measured.gateway_cpu_s / established * 1e6:.0f} us, "
            f"tester {results.cpu_s / established * 1e6:.0f} us (an echo included)"
        )
    failures = ", ".join(f"{reason} {n}" for reason, n in results.failures.most_common())
    return [
        ("machine", str(describe_machine())),
        ("suite", results.suite),
        ("tunnels", f"{established} of {results.attempted} up{f' ({failures})' if failures else ''}"),
        ("echoes", f"{len(results.first_packets)} answered, {results.echo_failures} not"),
        (
            "setup rate",
            f"{results.setup_rate:.0f} /s with {measured.workers} worker{'' if measured.workers == 1 else 's'}",
        ),
        ("setup delay", describe_percentiles(results.delays)),
        ("time to first packet", describe_percentiles(results.first_packets)),
        ("dropped by the kernel", f"gateway {measured.gateway_drops}, tester {results.kernel_drops}"),
        ("CPU per handshake", cost),
    ]
