"""What many tunnels cost: memory, set-up beside a gateway with few, status, liveness checks, new keys, deletion.

    python -m benchmarks.tunnels [--count 250000] [--dataplane userspace] [--json FILE] [--readme]

A gateway with one worker on core 0 and a tester on core 1 hold `--count` tunnels, each an IKE_SA and a CHILD_SA with a
virtual address; another gateway on core 0 holds 1,000. When all are up, and what the one has yet to do for those that
have just come is done, which it would do while the other is measured, set-ups with both are compared in turn
(`held_tunnels.py`). Status is what `stats` over the control socket takes, and the reading of all counters.

Then each peer is asked whether it lives, and each CHILD_SA and each IKE_SA gets new keys, all at the times that the
gateway draws for itself, with the tester answering. These times are a multiple of what the set-up takes by a trial
before: whoever came first is asked when the comparison is over, and gets new keys when it has been asked. The drawn
times of a round are spread over a part of it, and begin as the set-ups did, one after the other: so in its busiest
seconds there is 1.6 times the mean by design.

Memory is the growth of the proportional set size of all processes of the gateway over the tunnels, when the last tunnel
has come up, when the gateway has forgotten the last responses, and after the new keys. Of the deletion of all the first
half is compared with the last.

With `--shared-by 2` the gateway has a third of its core in these rounds, so that more is due than it can do.

A quick trial: --count 2000 --settle 5 --pairs 4.
"""

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
from benchmarks import common
from benchmarks.busy import Busy
from benchmarks.held_tunnels import (
    CONCURRENCY,
    ESP,
    GATEWAY_ID,
    IKE,
    SECRET,
    Held,
    compare,
    make_fleet,
    percentile,
    run_loop,
    sample,
)
from benchmarks.tunnels_result import ROUNDS, Result, Round, Schedule, Step, goals, markdown

from cygnet.config.gateway_settings import DataplaneKind, GatewaySettings
from cygnet.gateway.embedded import GatewayProcess
from cygnet.ike.kept_responses import KEPT_S
from cygnet.ike.resting import IDLE_S
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
from cygnet.load.results import Measured
from cygnet.observe.system import cpu_seconds, process_tree, pss_octets
from cygnet.vici.client import ViciClient

FEW = 1000
TRIAL = 4000
"""Set-ups by which the times are chosen; and that fill a new gateway's caches. Tunnels are packed meanwhile too."""
MARGIN = 1.2
"""The set-up of all takes so much longer than the trial says, at most."""
LEAST_S = 20.0
NEVER_S = 1e6
POLL_S = 0.05
STATUS_READS = 20
TROUBLE = (
    "datagrams_dropped",
    "kernel_drops",
    "cookies_sent",
    "retransmissions",
    "responses_repeated",
    "internal_errors",
)
STEPS = 10
"""Parts of the growth of which the cost is told."""
QUIET_S = Settings().half_open_timeout_s + 2 * IDLE_S
"""After which nothing is left to do for tunnels that have come up: they sleep, and first requests are forgotten."""


def gateway_settings(schedule: Schedule) -> Settings:
    """One connection for all, with a pool of four million addresses."""
    rekey_s = schedule.rekey_time_s if schedule.set_up_s else 0.0
    rand_s = rekey_s - schedule.rekey_from_s if rekey_s else None
    child = ChildSettings(
        name="net",
        esp_proposals=ESP,
        local_ts=(parse_selector("0.0.0.0/0"),),
        rekey_time_s=rekey_s,
        rand_time_s=rand_s,
    )
    connection = ConnectionSettings(
        name="rw",
        proposals=IKE,
        local=AuthSettings(id=GATEWAY_ID),
        pools=("v4",),
        dpd_delay_s=schedule.dpd_delay_s,
        rekey_time_s=rekey_s,
        rand_time_s=rand_s,
        children=(child,),
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

    def busiest(self, seconds: float, until: float) -> float:
        """The most that came within so many seconds before some time, per second."""
        most = first = 0
        for last, now in enumerate(self.times):
            if now > until:
                break
            while self.times[first] < now - seconds:
                first += 1
            most = max(most, self.heights[last] - self.heights[first])
        return most / seconds


class Benchmark:
    """One run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.result = Result(options.count, min(FEW, options.count), options.dataplane, options.shared_by)
        self.schedule = Schedule()
        self.ups, self.downs = Watch(), Watch()
        self.gateway_cpu, self.tester_cpu = Watch(), Watch(time.process_time)
        self.up_at = self.deleting_from = 0.0

    def run(self) -> Result:
        """Measure all of it."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            # With the same timers, which never come up.
            few = stack.enter_context(self._start(Schedule(NEVER_S if self.options.rounds else 0.0)))
            common.pin(common.TESTER_CORE)
            rate = run_loop(self._try(few))
            if self.options.rounds:
                self.schedule = self.result.schedule = self._schedule(rate)
            self.socket = folder / "vici"
            many = stack.enter_context(self._start(self.schedule, vici=self.socket))
            self.gateway_cpu.clock = lambda: cpu_seconds(many.pid)
            run_loop(self._try(many))
            run_loop(self._measure(many, few))
        return self.result

    def _start(self, schedule: Schedule, vici: Path | None = None) -> GatewayProcess:
        settings = GatewaySettings(
            workers=1,
            port=0,
            natt_port=0,
            listen=("127.0.0.1",),
            dataplane=DataplaneKind(self.result.dataplane),
        )
        gateway = GatewayProcess.start(gateway_settings(schedule), settings, vici=vici)
        common.pin(common.RESPONDER_CORE, *process_tree(gateway.pid))
        return gateway

    def _schedule(self, rate: float) -> Schedule:
        comparing_s = 4 * self.options.pairs * self.options.set_ups / rate + QUIET_S
        set_up_s = max(LEAST_S, MARGIN * self.options.count / rate + comparing_s)
        found = Schedule(set_up_s, self.options.settle)
        say(f"{rate:.0f} set-ups/s: the rounds end {found.rekey_time_s:.0f} s after the last set-up")
        return found

    async def _try(self, gateway: GatewayProcess) -> float:
        """Fill its caches; the rate of set-ups."""
        start = time.monotonic()
        await sample(gateway, 2 * CONCURRENCY)
        taken = await sample(gateway, min(TRIAL, self.result.count))
        say(f"tried a gateway for {time.monotonic() - start:.1f} s")
        return taken.rate

    async def _measure(self, many: GatewayProcess, few: GatewayProcess) -> None:
        result = self.result
        beside = Held(make_fleet(few, result.few, "f{n}@example.org"))
        await beside.up()
        gc.collect()
        gc.freeze()
        gc.disable()
        before, tester_before = pss_octets(many.pid), common.own_pss_octets()

        def growth() -> float:
            return (pss_octets(many.pid) - before) / result.count

        held = Held(make_fleet(many, result.count, "c{n}@example.org", self._on_tick))
        for watch in (self.ups, self.gateway_cpu, self.tester_cpu):
            watch.see(0)
        await held.up()
        self.up_at = time.monotonic()
        tally = held.fleet.tally
        say(f"{tally.established} tunnels up, {tally.failed} failed, after {self.up_at - self.ups.times[0]:.0f} s")
        result.octets_per_tunnel_at_once = growth()
        await asyncio.sleep(QUIET_S)
        await self._compare(many, few)
        result.counters_ms = max(_took_ms(many.counters.values) for _ in range(STATUS_READS))
        result.stats_ms = max(_took_ms(self._ask_for_stats) for _ in range(STATUS_READS))
        rounds = asyncio.create_task(self._rounds(many))
        await asyncio.sleep(self.up_at + self._settled_s() - time.monotonic())
        result.octets_per_tunnel = growth()
        result.total_octets_per_tunnel = pss_octets(many.pid) / result.count
        result.tester_octets_per_tunnel = (common.own_pss_octets() - tester_before) / result.count
        await rounds
        await asyncio.sleep(2 * IDLE_S)
        result.octets_per_tunnel_rekeyed = growth()
        self.deleting_from = time.monotonic()
        measured = await held.down()
        result.counted = {
            name: value for name, value in many.counters.values().items() if value and name.startswith(TROUBLE)
        }
        result.delete_s = time.monotonic() - self.deleting_from
        self._complete(measured)
        await beside.down()

    def _on_tick(self, tally: Tally) -> None:
        for watch in (self.ups, self.gateway_cpu, self.tester_cpu):
            watch.see(tally.established)
        self.downs.see(tally.deleted)

    def _settled_s(self) -> float:
        """After the last set-up: as late as may be before there are new keys."""
        if not self.schedule.set_up_s:
            return float(self.options.settle)
        return max(self.schedule.rekey_from_s - (self.up_at - self.ups.times[0]), 0.0)

    async def _compare(self, many: GatewayProcess, few: GatewayProcess) -> None:
        set_ups = self.options.set_ups
        counted = list(map(many.counters.value, ROUNDS.values()))
        if self.options.pairs:
            self.result.comparison = await compare(
                lambda: sample(many, set_ups), lambda: sample(few, set_ups), pairs=self.options.pairs, set_ups=set_ups
            )
        self.result.is_disturbed = counted != list(map(many.counters.value, ROUNDS.values()))
        say(f"compared for {time.monotonic() - self.up_at:.0f} s" + " but disturbed" * self.result.is_disturbed)

    def _ask_for_stats(self) -> None:
        with ViciClient(self.socket) as client:
            client.request("stats")

    async def _rounds(self, gateway: GatewayProcess) -> None:
        """Until each was done for each tunnel, or it takes much too long."""
        if not self.schedule.set_up_s:
            return
        periods = (self.schedule.dpd_delay_s, self.schedule.rekey_time_s, self.schedule.rekey_time_s)
        watched = [
            self._round(gateway, series, period) for series, period in zip(ROUNDS.values(), periods, strict=True)
        ]
        with Busy(self.result.shared_by, common.RESPONDER_CORE):
            self.result.rounds = dict(zip(ROUNDS, await asyncio.gather(*watched), strict=True))

    async def _round(self, gateway: GatewayProcess, series: str, period_s: float) -> Round:
        count, watch = self.result.count, Watch()
        before = gateway.counters.value(series)
        deadline = self.up_at + 1.2 * period_s + LEAST_S
        while not watch.heights or (watch.heights[-1] < count and time.monotonic() < deadline):
            watch.see(gateway.counters.value(series) - before)
            await asyncio.sleep(POLL_S)
        done = int(watch.heights[-1])
        end = watch.time_of(min(done, count))
        # The first height is that before any.
        took_s = end - watch.times[1] if len(watch.times) > 1 else 0.0
        say(f"{series}: {done} after {end - self.up_at:.0f} s")
        return Round(
            period_s,
            done,
            end - self.up_at,
            mean=done / max(took_s, 1.0),
            peak=watch.busiest(1.0, end),
            peak_of_ten=watch.busiest(10.0, end),
        )

    def _complete(self, measured: Measured) -> None:
        result = self.result
        delays = array("d", measured.delays)
        for step in range(STEPS):
            first, last = (len(delays) * n // STEPS for n in (step, step + 1))
            ordered = delays[first:last]
            result.growth.append(
                Step(
                    tunnels=last,
                    rate=self.ups.rate(first, last),
                    gateway_us=1e6 / self.gateway_cpu.rate(first, last),
                    tester_us=1e6 / self.tester_cpu.rate(first, last),
                    p99_ms=percentile(ordered, 0.99) * 1000,
                    max_ms=max(ordered) * 1000,
                )
            )
        result.retransmits = measured.retransmits
        result.lost_for = {**measured.failures, **measured.lost}
        result.lost = sum(result.lost_for.values()) + measured.delete_failures
        deleted = measured.deleted
        result.delete_rate_first = deleted / 2 / (self.downs.time_of(deleted / 2) - self.deleting_from)
        result.delete_rate_last = self.downs.rate(deleted / 2, deleted)


def _took_ms(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return (time.perf_counter() - start) * 1000


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, and keep the result; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=250_000, help="tunnels (default 250000)")
    parser.add_argument("--dataplane", choices=["userspace", "null"], default="userspace", help="default userspace")
    parser.add_argument(
        "--settle",
        type=float,
        default=KEPT_S + 30.0,
        help="seconds from the last set-up to the measurement of memory, at least (default %(default)g)",
    )
    parser.add_argument("--pairs", type=int, default=40, help="samples of set-ups with many and with few (40)")
    parser.add_argument("--set-ups", type=int, default=400, help="in each sample (400)")
    parser.add_argument(
        "--rounds",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether peers are asked if they live, and get new keys",
    )
    parser.add_argument(
        "--shared-by",
        type=int,
        default=0,
        metavar="N",
        help="programs that take their part of the gateway's core while peers are asked and get new keys (0)",
    )
    common.add_output(parser, "tunnels")
    options = parser.parse_args()
    common.check_cores()
    machine, command = common.describe(), common.command_line("tunnels", sys.argv[1:])
    result = Benchmark(options).run()
    found = goals(result)
    report = {"machine": machine, "command": command, "result": result, "goals": found}
    common.write_json(options.json, msgspec.to_builtins(report))
    table = markdown(result, machine, command)
    print(table)
    if options.readme:
        common.put_into_readme("tunnels", table)
    return 0 if all(goal.is_met for goal in found.values()) and not result.is_disturbed else 1


if __name__ == "__main__":
    sys.exit(main())
