"""A daemon for commands to talk to: the real server and commands on a real socket, over SAs that are made up."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from cygnet.config.load import load_text
from cygnet.config.store import Store
from cygnet.ike.settings import PoolSettings
from cygnet.observe.counters import Counters
from cygnet.vici.backend import Outcome, PoolUse, Reloaded, Stats
from cygnet.vici.commands import EVENTS, command_table
from cygnet.vici.packet import encode_event
from cygnet.vici.server import CommandError, Server, listen
from cygnet.vici.views import Algorithms, ChildView, SaFilter, SaView

CONFIG = """
connections { rw { pools = v4
    local { auth = psk
        id = gw.example.org }
    remote { auth = psk }
    children { net { local_ts = 10.1.0.0/24 } } } }
pools { v4 { addrs = 10.3.0.0/24 } }
secrets { ike-1 { secret = one } }
"""


def child_view(number: int) -> ChildView:
    return ChildView(
        name="net",
        unique_id=100 + number,
        state="INSTALLED",
        mode="TUNNEL",
        is_udp_encapsulated=True,
        spi_in=bytes((1, 0, 0, number)),
        spi_out=bytes((2, 0, 0, number)),
        algorithms=Algorithms("AES_GCM_16", 128),
        is_esn=False,
        octets_in=84,
        packets_in=1,
        used_in_s=1,
        octets_out=1234567,
        packets_out=1234,
        used_out_s=3,
        rekey_s=3000,
        life_s=3600,
        installed_s=60,
        local_ts=("10.1.0.0/24",),
        remote_ts=(f"10.3.0.{number}/32",),
    )


def sa_view(number: int, name: str = "rw", remote: str = "192.0.2.1", identity: str = "") -> SaView:
    return SaView(
        name=name,
        unique_id=number,
        state="ESTABLISHED",
        local_host="198.51.100.1",
        local_port=4500,
        local_id="gw.example.org",
        remote_host=remote,
        remote_port=4500,
        remote_id=identity or f"c{number}@example.org",
        is_initiator=False,
        spi_i=bytes((number,)) * 8,
        spi_r=bytes((255 - number,)) * 8,
        is_behind_nat=False,
        is_peer_behind_nat=True,
        is_nat_feigned=False,
        algorithms=Algorithms("AES_GCM_16", 128, "", "PRF_HMAC_SHA2_256", "CURVE_25519"),
        established_s=60,
        rekey_s=14000,
        reauth_s=None,
        local_vips=(),
        remote_vips=(f"10.3.0.{number}",),
        tasks_active=(),
        tasks_queued=(),
        children=(child_view(number),),
    )


SAS = (
    sa_view(1),
    sa_view(2, remote="192.0.2.2"),
    sa_view(3, name="site", remote="2001:db8::3", identity="branch.example.org"),
)


def fits(chosen: SaFilter, sa: SaView) -> bool:
    """Whether an IKE_SA, or one of its CHILD_SAs, is meant."""
    return (
        chosen.ike in ("", sa.name)
        and chosen.ike_id in (0, sa.unique_id)
        and chosen.peer in ("", sa.remote_host)
        and chosen.identity in ("", sa.remote_id)
        and chosen.vip in ("", *sa.remote_vips, *sa.local_vips)
        and any(chosen.has_child(child.name, child.unique_id) for child in sa.children)
    )


class FakeBackend:
    """The daemon behind the commands. It notes what it is told to do."""

    def __init__(self) -> None:
        self.store = Store(load_text(CONFIG).settings)
        self.sas_up: tuple[SaView, ...] = SAS
        self.done: list[object] = []
        self.fails = ""
        """With that text, whatever is asked for."""
        self.hangs = False
        self.began = threading.Event()
        self.given_up = threading.Event()
        self.unfinished = 0
        self.trapped: set[tuple[str, str]] = set()
        """SAs that do not end."""
        self.warnings: tuple[str, ...] = ()

    async def _do(self, *what: object) -> None:
        self.done.append(what)
        self.began.set()
        if self.fails:
            raise CommandError(self.fails)
        if self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up.set()

    async def take_effect(self) -> None:
        pass

    async def apply(self) -> None:
        pass

    async def put_pool(self, pool: PoolSettings) -> None:
        pass

    async def remove_pool(self, name: str) -> None:
        pass

    async def reload(self) -> Reloaded:
        await self._do("reload")
        return Reloaded(("connection rw changed", "pool v6 added"), self.warnings)

    async def reload_settings(self) -> Reloaded:
        await self._do("reload_settings")
        return Reloaded((), ())

    async def sas(self, chosen: SaFilter) -> AsyncIterator[bytes]:
        for sa in self.sas_up:
            if fits(chosen, sa):
                children = tuple(child for child in sa.children if chosen.has_child(child.name, child.unique_id))
                yield encode_event("list-sa", {sa.name: sa.layout(children)})
        if self.hangs:
            await self._do("list-sas")

    async def traps(self) -> set[tuple[str, str]]:
        return self.trapped

    async def tallies(self, name: str) -> dict[str, dict[str, int]]:
        return {}

    async def initiate(self, ike: str, child: str, *, waits: bool) -> None:
        await self._do("initiate", ike, child)

    async def terminate(self, chosen: SaFilter, *, is_forced: bool) -> Outcome:
        await self._do("terminate", chosen, is_forced)
        matches = sum(fits(chosen, sa) for sa in self.sas_up)
        return Outcome(matches, max(0, matches - self.unfinished))

    async def rekey(self, chosen: SaFilter, *, is_reauthentication: bool) -> Outcome:
        await self._do("rekey", chosen, is_reauthentication)
        matches = sum(fits(chosen, sa) for sa in self.sas_up)
        return Outcome(matches, max(0, matches - self.unfinished))

    async def pools(self, name: str, *, with_leases: bool) -> list[PoolUse]:
        return [PoolUse(pool, 254, len(self.sas_up)) for pool in self.store.pools.values()]

    async def stats(self) -> Stats:
        return Stats(
            started=0.0,
            workers=2,
            workers_ready=2,
            ike_sas=3,
            half_open=1,
            queued=(1, 2, 3, 4),
            busy=(1, 0, 0, 0),
            timers=17,
            listening=("192.0.2.1[500]", "192.0.2.1[4500]"),
            memory_octets=64 << 20,
        )


class Daemon:
    """Serves, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backend = FakeBackend()
        self._loop = asyncio.new_event_loop()
        counters = Counters.create(writers=1)
        self._server = Server(command_table(self.backend, counters), EVENTS, count=counters.writer(0).count)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Daemon":
        self._listener = listen(self.path)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def list_many(self, number: int) -> None:
        """Have so many SAs up."""
        self.backend.sas_up = tuple(msgspec.structs.replace(SAS[0], unique_id=each) for each in range(1, number + 1))

    def _run(self) -> None:
        self._server.start(self._loop, self._listener, self.path)
        self._loop.run_forever()
