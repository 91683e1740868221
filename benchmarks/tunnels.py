"""What many tunnels cost: memory, set-up rate and delay with few and with many, status, liveness checks, deletion.

    python -m benchmarks.tunnels [--count 250000] [--dataplane userspace] [--json FILE] [--readme]

A gateway with one worker on core 0 and a tester on core 1 hold `--count` tunnels, each an IKE_SA and a CHILD_SA with a
virtual address. Memory is the growth of the proportional set size of all processes of the gateway over the tunnels,
once at the end of the set-up and once settled: when the gateway has forgotten the last responses. The first and the
last 1,000 set-ups are compared; so are the first and the last half of the deletion. In the round of liveness checks the
gateway asks each peer once; it is spread well if its busiest second has few more than the mean.

A quick trial: --count 2000 --settle 10.
"""

import argparse
import asyncio
import gc
import json
import math
import os
import re
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec

from cygnet.auth.identity import parse_identity
from cygnet.config.gateway_settings import DataplaneKind, GatewaySettings
from cygnet.gateway.embedded import GatewayProcess
from cygnet.iana import ProtocolId
from cygnet.ike.kept_responses import KEPT_S
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
from cygnet.load.attempts import Tally
from cygnet.load.fleet import Fleet
from cygnet.load.options import LoadOptions
from cygnet.load.results import Measured
from cygnet.load.sources import open_sources
from cygnet.observe.system import cpu_seconds, describe_machine, process_tree, pss_octets

ROOT = Path(__file__).resolve().parent.parent
MARKERS = re.compile(r"(<!-- tunnels:begin -->\n).*?(<!-- tunnels:end -->)", re.DOTALL)

IKE = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519"),)
ESP = (parse_proposal(ProtocolId.ESP, "aes128gcm16"),)
SECRET = b"a-shared-secret"
GATEWAY_ID = parse_identity("gw.example.org")
GATEWAY_CORE, TESTER_CORE = 0, 1
CONCURRENCY = 32
SAMPLE = 1000
"""Set-ups that are compared at the beginning and at the end."""
SLOWEST_RATE = 250
"""Tunnels per second that are set up at least: no peer is to be asked whether it lives before all are up, since that
would count for the last set-ups."""
POLL_S = 0.05
STATUS_READS = 20


class Result(msgspec.Struct):
    """What was measured."""

    count: int
    dataplane: str
    octets_per_tunnel: float = 0.0
    """Growth of the gateway's proportional set size, settled."""
    octets_per_tunnel_at_once: float = 0.0
    """The same when the last tunnel has just come up."""
    total_octets_per_tunnel: float = 0.0
    """The whole of the gateway's proportional set size, settled."""
    tester_octets_per_tunnel: float = 0.0
    rate_first: float = 0.0
    """Tunnels per second."""
    rate_last: float = 0.0
    cpu_first_us: float = 0.0
    """CPU of the gateway per set-up: it doesn't depend on what else the machine does."""
    cpu_last_us: float = 0.0
    p99_first_ms: float = 0.0
    p99_last_ms: float = 0.0
    status_ms: float = 0.0
    """The slowest of some readings of all counters."""
    liveness_round_s: float = 0.0
    """From the first to the last liveness check."""
    liveness_checks: int = 0
    liveness_mean: float = 0.0
    """Checks per second."""
    liveness_peak: float = 0.0
    """In the busiest second."""
    lost: int = 0
    """Tunnels that ended before they were to."""
    delete_s: float = 0.0
    delete_rate_first: float = 0.0
    """Deletions per second in the first half."""
    delete_rate_last: float = 0.0


def gateway_settings(dpd_delay_s: float) -> Settings:
    """One connection for all, with a pool of four million addresses."""
    connection = ConnectionSettings(
        name="rw",
        proposals=IKE,
        local=AuthSettings(id=GATEWAY_ID),
        pools=("v4",),
        dpd_delay_s=dpd_delay_s,
        children=(ChildSettings(name="net", esp_proposals=ESP, local_ts=(parse_selector("0.0.0.0/0"),)),),
    )
    pool = PoolSettings(name="v4", first=bytes((10, 64, 0, 1)), last=bytes((10, 127, 255, 254)))
    return Settings(connections=(connection,), pools=(pool,), secrets=(SharedSecret(SECRET),))


class Watch:
    """How a count grew: when it was seen at which height, by a clock of seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.times = array("d")
        self.heights = array("Q")

    def see(self, height: int) -> None:
        """It stands here now."""
        if not self.heights or height != self.heights[-1]:
            self.times.append(self.clock())
            self.heights.append(height)

    def time_of(self, height: float) -> float:
        """When it passed a height, in between by proportion."""
        for n, seen in enumerate(self.heights):
            if seen >= height:
                if n == 0:
                    return self.times[0]
                before, share = self.heights[n - 1], self.times[n] - self.times[n - 1]
                return self.times[n - 1] + share * (height - before) / (seen - before)
        return self.times[-1]

    def rate(self, start: float, stop: float) -> float:
        """How many a second, from one height to another."""
        return (stop - start) / max(self.time_of(stop) - self.time_of(start), 1e-9)

    def busiest_second(self) -> int:
        """The most that came within any second."""
        most = first = 0
        for last, now in enumerate(self.times):
            while self.times[first] < now - 1.0:
                first += 1
            most = max(most, self.heights[last] - self.heights[first])
        return most


async def polled(watch: Watch, height: Callable[[], int], is_over: Callable[[], bool]) -> None:
    """Watch until it is over."""
    while True:
        watch.see(height())
        if is_over():
            return
        await asyncio.sleep(POLL_S)


class Benchmark:
    """One run."""

    def __init__(self, count: int, dataplane: str, settle_s: float, dpd_delay_s: float) -> None:
        self.result = Result(count, dataplane)
        self.settle_s = settle_s
        self.dpd_delay_s = dpd_delay_s
        self.deleting_from = 0.0
        self.ups, self.downs = Watch(), Watch()

    def run(self) -> Result:
        """Measure all of it."""
        settings = GatewaySettings(
            workers=1,
            port=0,
            natt_port=0,
            listen=("127.0.0.1",),
            dataplane=DataplaneKind(self.result.dataplane),
        )
        with GatewayProcess.start(gateway_settings(self.dpd_delay_s), settings) as gateway:
            for pid in process_tree(gateway.pid):
                os.sched_setaffinity(pid, {GATEWAY_CORE})
            os.sched_setaffinity(0, {TESTER_CORE})
            asyncio.run(self._warm_up(gateway))
            asyncio.run(self._measure(gateway))
        return self.result

    def _options(self, gateway: GatewayProcess, count: int) -> LoadOptions:
        return LoadOptions(
            target="127.0.0.1",
            port=gateway.port,
            natt_port=gateway.natt_port,
            secret=SECRET,
            count=count,
            concurrency=CONCURRENCY,
            remote_id=GATEWAY_ID,
            proposals=IKE,
            esp_proposals=ESP,
            vips=(bytes(4),),
            delete=True,
        )

    async def _warm_up(self, gateway: GatewayProcess) -> None:
        options = self._options(gateway, SAMPLE)
        fleet = Fleet(options, open_sources(options, 0), process=0, loop=asyncio.get_running_loop())
        await fleet.run(time.monotonic(), _at_once)

    async def _measure(self, gateway: GatewayProcess) -> None:
        result = self.result
        options = self._options(gateway, result.count)

        cpu = Watch(lambda: cpu_seconds(gateway.pid))

        def on_tick(tally: Tally) -> None:
            self.ups.see(tally.established)
            cpu.see(tally.established)
            self.downs.see(tally.deleted)

        fleet = Fleet(options, open_sources(options, 0), process=0, loop=asyncio.get_running_loop(), on_tick=on_tick)
        gc.collect()
        gc.freeze()
        gc.disable()
        before, tester_before = pss_octets(gateway.pid), _own_pss()

        async def proceed() -> None:
            say(f"{fleet.tally.established} tunnels up, {fleet.tally.failed} failed")
            result.octets_per_tunnel_at_once = (pss_octets(gateway.pid) - before) / result.count
            result.status_ms = max(_reading_ms(gateway) for _ in range(STATUS_READS))
            settled = asyncio.create_task(asyncio.sleep(self.settle_s))
            if self.dpd_delay_s:
                await self._liveness_round(gateway)
            await settled
            total = pss_octets(gateway.pid)
            result.octets_per_tunnel = (total - before) / result.count
            result.total_octets_per_tunnel = total / result.count
            result.tester_octets_per_tunnel = (_own_pss() - tester_before) / result.count
            self.deleting_from = time.monotonic()

        start = time.monotonic()
        self.ups.see(0)
        cpu.see(0)
        measured = await fleet.run(start, proceed)
        result.delete_s = time.monotonic() - self.deleting_from
        self._complete(measured, cpu)

    async def _liveness_round(self, gateway: GatewayProcess) -> None:
        """Until each peer was asked once."""
        result, watch = self.result, Watch()
        counters = gateway.counters
        before = counters.value("liveness_checks_total")
        deadline = time.monotonic() + 2 * self.dpd_delay_s + 60.0
        say(f"waiting for a round of liveness checks: up to {2 * self.dpd_delay_s:.0f} s")

        def checks() -> int:
            return counters.value("liveness_checks_total") - before

        await polled(watch, checks, lambda: checks() >= result.count or time.monotonic() > deadline)
        result.liveness_checks = int(watch.heights[-1])
        # The first height is that before any check.
        if len(watch.times) > 1:
            result.liveness_round_s = watch.times[-1] - watch.times[1]
        result.liveness_mean = result.liveness_checks / max(result.liveness_round_s, 1.0)
        result.liveness_peak = watch.busiest_second()

    def _complete(self, measured: Measured, cpu: Watch) -> None:
        result = self.result
        delays = array("d", measured.delays)
        sample = min(SAMPLE, len(delays) // 2)
        result.rate_first = self.ups.rate(0, sample)
        result.rate_last = self.ups.rate(len(delays) - sample, len(delays))
        result.cpu_first_us = 1e6 / cpu.rate(0, sample)
        result.cpu_last_us = 1e6 / cpu.rate(len(delays) - sample, len(delays))
        result.p99_first_ms = percentile(delays[:sample], 0.99) * 1000
        result.p99_last_ms = percentile(delays[-sample:], 0.99) * 1000
        result.lost = sum(measured.lost.values()) + sum(measured.failures.values()) + measured.delete_failures
        deleted = measured.deleted
        result.delete_rate_first = deleted / 2 / (self.downs.time_of(deleted / 2) - self.deleting_from)
        result.delete_rate_last = self.downs.rate(deleted / 2, deleted)


async def _at_once() -> None:
    """Nothing to wait for."""


def _own_pss() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _reading_ms(gateway: GatewayProcess) -> float:
    start = time.perf_counter()
    gateway.counters.values()
    return (time.perf_counter() - start) * 1000


def percentile(samples: "array[float]", share: float) -> float:
    """By nearest rank."""
    return sorted(samples)[max(1, math.ceil(share * len(samples))) - 1]


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def command_line(options: argparse.Namespace) -> str:
    """How to measure the same again."""
    return f"python -m benchmarks.tunnels --count {options.count} --dataplane {options.dataplane}"


def markdown(result: Result, machine: dict[str, object], options: argparse.Namespace) -> str:
    """The table for the README."""
    first, last = result.rate_first, result.rate_last
    rows = {
        "memory per tunnel": f"{result.octets_per_tunnel / 1000:.2f} kB "
        f"({result.total_octets_per_tunnel / 1000:.2f} kB with the processes themselves)",
        "set-up rate, first and last 1,000": f"{first:.0f}/s and {last:.0f}/s ({last / first:.2f})",
        "gateway CPU per set-up, first and last 1,000": f"{result.cpu_first_us:.0f} us and {result.cpu_last_us:.0f} us",
        "set-up delay p99, first and last 1,000": f"{result.p99_first_ms:.0f} ms and {result.p99_last_ms:.0f} ms",
        "all counters read": f"{result.status_ms:.2f} ms",
        "liveness checks of all peers": f"{result.liveness_round_s:.0f} s, "
        f"at most {result.liveness_peak:.0f}/s at a mean of {result.liveness_mean:.0f}/s",
        "deletion of all": f"{result.delete_s:.0f} s, {result.delete_rate_first:.0f}/s in the first half and "
        f"{result.delete_rate_last:.0f}/s in the last",
        "tunnels lost": f"{result.lost}",
    }
    lines = [f"| {result.count:,} tunnels, one worker, data plane {result.dataplane} | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += [
        "",
        f"{machine['cpu']}, Linux {machine['kernel']}, Python {machine['python']}, gateway on one core, tester on "
        f"another. Command: `{command_line(options)}`.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=250_000, help="tunnels (default 250000)")
    parser.add_argument("--dataplane", choices=["userspace", "null"], default="userspace", help="default userspace")
    parser.add_argument(
        "--settle",
        type=float,
        default=KEPT_S + 30.0,
        help="seconds from the last set-up to the measurement of memory, at least (default %(default)g)",
    )
    parser.add_argument(
        "--dpd", type=float, help=f"dpd_delay in seconds, 0 for no such round (default count/{SLOWEST_RATE})"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "tunnels.json", help="where the result goes")
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("benchmark: two cores are needed, one for the gateway and one for the tester")
    machine = msgspec.to_builtins(describe_machine())
    dpd_delay_s = max(30.0, options.count / SLOWEST_RATE) if options.dpd is None else options.dpd
    result = Benchmark(options.count, options.dataplane, options.settle, dpd_delay_s).run()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine, "command": command_line(options), "result": msgspec.to_builtins(result)}
    with tempfile.NamedTemporaryFile("w", dir=options.json.parent, delete=False) as file:
        json.dump(report, file, indent=2)
    Path(file.name).replace(options.json)
    table = markdown(result, machine, options)
    print(table)
    if options.readme:
        readme = ROOT / "README.md"
        readme.write_text(MARKERS.sub(lambda m: f"{m[1]}{table}\n{m[2]}", readme.read_text()))


if __name__ == "__main__":
    main()
