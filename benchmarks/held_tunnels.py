"""Tunnels that a tester in this process holds at a gateway, and set-ups beside them that are compared.

A machine that others use changes its speed from one second to the next, so that set-ups at the beginning and at the end
of a long run can't be compared. Here two gateways on one core, one that holds many tunnels and one that holds few, are
given short samples of set-ups in turn; each pair of samples gives one ratio, and the median of these is what counts.
"""

import asyncio
import math
import statistics
import time
from array import array
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cygnet.auth.identity import parse_identity
from cygnet.gateway.embedded import GatewayProcess
from cygnet.iana import ProtocolId
from cygnet.ike.proposals import parse_proposal
from cygnet.load.attempts import Tally
from cygnet.load.fleet import Fleet
from cygnet.load.options import LoadOptions
from cygnet.load.plan import IdentityPattern
from cygnet.load.results import Measured
from cygnet.load.sources import open_sources

IKE = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519"),)
ESP = (parse_proposal(ProtocolId.ESP, "aes128gcm16"),)
SECRET = b"a-shared-secret"
GATEWAY_ID = parse_identity("gw.example.org")
CONCURRENCY = 32

T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run it on the loop that the load tester runs on."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop  # type: ignore[assignment]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def make_fleet(
    gateway: GatewayProcess, count: int, identities: str, on_tick: Callable[[Tally], None] = lambda tally: None
) -> Fleet:
    """The tester's side of so many tunnels. Each has a virtual address, and is deleted at the end."""
    options = LoadOptions(
        target="127.0.0.1",
        port=gateway.port,
        natt_port=gateway.natt_port,
        secret=SECRET,
        count=count,
        concurrency=CONCURRENCY,
        identities=IdentityPattern(identities),
        remote_id=GATEWAY_ID,
        proposals=IKE,
        esp_proposals=ESP,
        vips=(bytes(4),),
        delete=True,
    )
    return Fleet(options, open_sources(options, 0), process=0, loop=asyncio.get_running_loop(), on_tick=on_tick)


class Held:
    """Tunnels that stand until they are to go."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._is_up, self._may_go = asyncio.Event(), asyncio.Event()
        self._run: asyncio.Task[Measured] | None = None

    async def up(self) -> None:
        """Set them up."""
        self._run = asyncio.create_task(self.fleet.run(time.monotonic(), self._hold))
        up = asyncio.create_task(self._is_up.wait())
        await asyncio.wait((self._run, up), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()

    async def down(self) -> Measured:
        """Delete them."""
        self._may_go.set()
        assert self._run is not None
        return await self._run

    async def _hold(self) -> None:
        self._is_up.set()
        await self._may_go.wait()


class Sample(msgspec.Struct):
    """Some set-ups, one after the other with a few at a time."""

    rate: float
    """Tunnels per second."""
    cpu_us: float
    """CPU of the worker for each."""
    p50_ms: float
    p99_ms: float


class Comparison(msgspec.Struct):
    """Many tunnels beside few: medians, and medians of the ratios of each pair."""

    pairs: int
    set_ups: int
    """Of each sample."""
    many: Sample
    few: Sample
    rate_ratio: float
    cpu_ratio: float
    p50_ratio: float
    p99_ratio: float


def worker_seconds(gateway: GatewayProcess) -> float:
    """CPU time of the workers, to the nanosecond."""
    paths = (Path("/proc", str(pid), "schedstat") for pid in gateway.worker_pids())
    return sum(int(path.read_text().split()[0]) for path in paths) / 1e9


async def sample(gateway: GatewayProcess, set_ups: int) -> Sample:
    """Take one; its tunnels are gone afterwards."""
    fleet = make_fleet(gateway, set_ups, "s{n}@example.org")
    cpu = 0.0

    async def proceed() -> None:
        nonlocal cpu
        cpu = worker_seconds(gateway) - before

    before, start = worker_seconds(gateway), time.monotonic()
    measured = await fleet.run(start, proceed)
    if measured.failures:
        raise SystemExit(f"benchmark: set-ups fail: {measured.failures}")
    delays = array("d", measured.delays)
    return Sample(
        rate=set_ups / (measured.last_established - start),
        cpu_us=1e6 * cpu / set_ups,
        p50_ms=percentile(delays, 0.5) * 1000,
        p99_ms=percentile(delays, 0.99) * 1000,
    )


async def compare(
    take_of_many: Callable[[], Awaitable[Sample]],
    take_of_few: Callable[[], Awaitable[Sample]],
    *,
    pairs: int,
    set_ups: int,
) -> Comparison:
    """Take samples in turn. Of every second pair that with few comes first, so that neither is better off."""
    of_many: list[Sample] = []
    of_few: list[Sample] = []
    for pair in range(pairs):
        turns = [(of_many, take_of_many), (of_few, take_of_few)]
        for taken, take in reversed(turns) if pair % 2 else turns:
            taken.append(await take())

    def ratio(name: str) -> float:
        pairs_of = zip(of_many, of_few, strict=True)
        return float(statistics.median(getattr(a, name) / getattr(b, name) for a, b in pairs_of))

    return Comparison(
        pairs,
        set_ups,
        _median(of_many),
        _median(of_few),
        **{f"{name.split('_')[0]}_ratio": ratio(name) for name in Sample.__struct_fields__},
    )


def _median(samples: list[Sample]) -> Sample:
    return Sample(*(statistics.median(getattr(each, name) for each in samples) for name in Sample.__struct_fields__))


def percentile(samples: "array[float]", share: float) -> float:
    """By nearest rank."""
    return sorted(samples)[max(1, math.ceil(share * len(samples))) - 1]
