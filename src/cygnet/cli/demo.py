"""`cygnet demo`: a gateway and the load tester on loopback, as any user, and what limits the two."""

import argparse
import json
import logging
import os
import secrets
import signal
import sys
import time
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
from cygnet.observe.system import (
    cpu_seconds,
    describe_machine,
    idle_seconds,
    process_tree,
    udp_drops,
    waited_seconds,
)

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
_OTHERS: Final = 0.10
"""Up to this share of the cores, others do not count as who kept us waiting: the kernel's own work is in it."""
_WORTH_A_WORD: Final = 0.01


class Measured(msgspec.Struct, frozen=True):
    """A run: what the tester says, and what the system says of the gateway and of itself meanwhile."""

    results: Results
    gateway_cpu_s: float
    gateway_waited_s: float
    """For how long its processes waited for a core."""
    gateway_drops: int
    workers: int
    idle_share: float | None
    """The part of the time for which the cores had nothing to do, on average; None where the system does not say."""

    @property
    def gateway(self) -> "Share":
        """What the gateway had of the cores that its workers could use."""
        duration_s = self.results.duration_s
        if duration_s <= 0:
            return Share(0.0, 0.0, 0.0)
        used, waited = self.gateway_cpu_s / duration_s, self.gateway_waited_s / duration_s
        return Share(used / _usable(self.workers), waited / self.workers, (used + waited) / self.workers)

    @property
    def tester(self) -> "Share":
        """What the tester had of those that its processes could."""
        return Share(self.results.cpu_share, self.results.waited_share, self.results.busy_share)

    @property
    def others_share(self) -> float | None:
        """What all other programs, and the kernel for itself, had of the cores; None where it is not known."""
        available_s = self.results.duration_s * _usable()
        if self.idle_share is None or available_s <= 0:
            return None
        return max(0.0, 1 - self.idle_share - (self.gateway_cpu_s + self.results.cpu_s) / available_s)

    @property
    def limit(self) -> str:
        """What limited the rate: the one of the two that always had something to do, the `machine` if it was others who
        kept that one waiting, or `neither`."""
        shares = {"tester": self.tester, "gateway": self.gateway}
        busier = max(shares, key=lambda name: max(shares[name].used, shares[name].busy))
        if max(shares[busier].used, shares[busier].busy) < TESTER_LIMIT_SHARE:
            return "neither"
        is_crowded_out = shares[busier].used < TESTER_LIMIT_SHARE and (self.others_share or 0.0) > _OTHERS
        return "machine" if is_crowded_out else busier

    @property
    def verdict(self) -> str:
        """The same as a sentence, with the evidence."""
        cores = _cores(_usable())
        shares = {
            "gateway": self.gateway.describe(_usable(self.workers)),
            "tester": self.tester.describe(_usable(self.results.options.processes)),
        }
        limit = self.limit
        if limit in shares:
            other = "gateway" if limit == "tester" else "tester"
            return f"The {limit} was the limit: it used {shares[limit]}; the {other} used {shares[other]}."
        both = f"the gateway used {shares['gateway']}; the tester used {shares['tester']}"
        if limit == "machine":
            return f"The machine was the limit: {both}; other work had {self.others_share:.0%} of {cores}."
        idle = "" if self.idle_share is None else f"; {cores} had nothing to do for {self.idle_share:.0%} of the time"
        return f"Neither was the limit: {both}{idle}. Each waited for the other at times."


class Share(msgspec.Struct, frozen=True):
    """What one of the two had of its cores."""

    used: float
    """CPU time, as a part of what these cores have."""
    waited: float
    """The part of the time for which its processes waited for a core."""
    busy: float
    """For which they had something to do: used one, or waited."""

    def describe(self, cores: int) -> str:
        """As words that follow `used`."""
        waited = f" and waited for one {self.waited:.0%} of the time" if self.waited >= _WORTH_A_WORD else ""
        return f"{self.used:.0%} of {_cores(cores)}{waited}"


def _usable(processes: int | None = None) -> int:
    """The cores that we may run on, or so many processes of ours can."""
    cores = len(os.sched_getaffinity(0))
    return cores if processes is None else min(processes, cores)


def _cores(n: int) -> str:
    return f"{n} core{'s' if n > 1 else ''}"


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
    read: list[_Clocks] = []

    def look() -> None:
        read.append(_Clocks.read(gateway.pid))

    with ProgressBar(options, stream) as bar:
        # The tunnels are deleted afterwards, which is not what we measure.
        results = run_load(options, on_progress=bar.show, on_start=look, on_over=look)
    before, after = read
    return Measured(
        results=results,
        gateway_cpu_s=after.gateway_s - before.gateway_s,
        gateway_waited_s=(after.gateway_waited_s or 0.0) - (before.gateway_waited_s or 0.0),
        gateway_drops=sum(udp_drops((gateway.port, gateway.natt_port)).values()),
        workers=gateway.worker_count,
        idle_share=after.idle_share_since(before),
    )


class _Clocks(msgspec.Struct, frozen=True):
    """What the system says at a time, in seconds."""

    now_s: float
    gateway_s: float
    """CPU time of the gateway."""
    gateway_waited_s: float | None
    """For how long its processes waited for a core."""
    idle_s: float | None
    """For how long our cores had nothing to do, on average."""

    @classmethod
    def read(cls, gateway: int) -> "_Clocks":
        try:
            idle_s = idle_seconds(os.sched_getaffinity(0))
        except (OSError, ValueError):  # a sandbox that does not say
            idle_s = None
        waited_s = waited_seconds(*process_tree(gateway))
        return cls(time.monotonic(), cpu_seconds(gateway), waited_s, idle_s)

    def idle_share_since(self, before: "_Clocks") -> float | None:
        if self.idle_s is None or before.idle_s is None or self.now_s <= before.now_s:
            return None
        # It comes in ticks of the system's clock.
        return min(1.0, (self.idle_s - before.idle_s) / (self.now_s - before.now_s))


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
        "cpu_share": round(measured.gateway.used, 4),
        "waited_share": round(measured.gateway.waited, 4),
        "kernel_drops": measured.gateway_drops,
    }
    result["idle_share"] = None if measured.idle_share is None else round(measured.idle_share, 4)
    result["others_share"] = None if measured.others_share is None else round(measured.others_share, 4)
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
