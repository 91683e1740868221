"""One worker: its IKE_SAs, its sockets, one event loop. It shares nothing with the others but counters."""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from cygnet.config.gateway_settings import DataplaneKind, GatewaySettings, ResolveKind
from cygnet.dataplane.base import Dataplane
from cygnet.dataplane.null import NullDataplane
from cygnet.dataplane.tun import NAME_PATTERN
from cygnet.dataplane.userspace import UserspaceDataplane
from cygnet.gateway.commands.installing import Installer
from cygnet.gateway.commands.worker_service import WorkerService
from cygnet.gateway.control import (
    AddressHanded,
    AddressReturned,
    AddressWanted,
    AnyMessage,
    Ask,
    Channel,
    Interest,
    LeaseGrant,
    LeaseRecall,
    LogLevels,
    PeersAreAlone,
    PeersAreHeard,
    Ready,
    Settled,
    Stop,
    Stranded,
)
from cygnet.gateway.errands.name_servers import PeerServers
from cygnet.gateway.errands.updown import ChildScripts
from cygnet.gateway.events import Events
from cygnet.gateway.farewell import Farewell
from cygnet.gateway.initiations import Initiations
from cygnet.gateway.logs.trace import Trace
from cygnet.gateway.lonely_peers import LonelyPeers, obey
from cygnet.gateway.overload.gate import Gate
from cygnet.gateway.overload.intake import WAITING, Intake, Standing
from cygnet.gateway.overload.newcomers import Entry
from cygnet.gateway.overload.receiving import note_receive_queues
from cygnet.gateway.pools.held_requests import HeldRequests
from cygnet.gateway.pools.lent_addresses import LentAddresses
from cygnet.gateway.pools.pools import AddressPools
from cygnet.gateway.process.memory import collect_young, guard_of_this_process, tame_collector
from cygnet.gateway.traffic.carried_traffic import CarriedTraffic
from cygnet.gateway.traffic.inner import InnerTraffic
from cygnet.gateway.traffic.unsent import Unsent
from cygnet.ike.effects import ChildFailed, Effect, Revive, SaClosed, SaEstablished
from cygnet.ike.environment import Environment, InForce
from cygnet.ike.exchanges.virtual_ip import is_held
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa
from cygnet.ike.settings import Settings
from cygnet.ike.spi import SpiSeal
from cygnet.ike.states import SaState
from cygnet.ike.table import IkeTable
from cygnet.net.addresses import AddressWatch
from cygnet.net.driver import Driver
from cygnet.net.endpoint import Endpoint
from cygnet.net.errors import SocketUnavailable
from cygnet.net.path_mtu import PathMtus
from cygnet.net.sockets import EspSocket, UdpSocket
from cygnet.observe.counters import CounterWriter
from cygnet.observe.log_groups import group_logger, put_into_force

try:
    # Here and not where it is used: what a worker becomes may not be able to read our packages.
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop  # type: ignore[assignment]

_log = logging.getLogger(__name__)

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_ESTABLISHED: Final = Standing.ESTABLISHED
_PAST_TRYING: Final = Standing.PAST_TRYING
_STRAY: Final = Standing.STRAY
_SA_ESTABLISHED: Final = SaState.ESTABLISHED
_UNDER_WAY: Final = Standing.UNDER_WAY

_TICK_S: Final = 1.0
_REST_S: Final = 0.1
"""How often idle tunnels are put to sleep: some each time, so that none of it takes long."""
_NO_REST_S: Final = 0.005
"""The same while more are tired than one turn takes: twelve thousand a second, more than ever come."""
_TIDY_S: Final = 0.1
"""How often packets may be handed on again, and young garbage is looked for."""


class Kit(msgspec.Struct, frozen=True):
    """What the supervisor gives a worker on its way."""

    index: int
    """The worker's number, from 0: part of every SPI that it chooses."""
    workers: int
    udp: Sequence[UdpSocket]
    esp: Sequence[EspSocket]
    tun: int | None
    """Descriptor of its TUN device."""
    channel: Channel
    counters: CounterWriter
    leases: Sequence[tuple[str, tuple[int, ...]]]
    """Blocks of the pools that it begins with."""
    spi_seal: SpiSeal
    """What the IKE SPIs of all workers are known by."""
    takes_transport: bool = False  # Whether the host's own packets can be brought to its device.


class Worker:
    """Puts the parts together and runs them."""

    def __init__(self, settings: Settings, gateway: GatewaySettings, kit: Kit, loop: asyncio.AbstractEventLoop) -> None:
        self._kit = kit
        self._loop = loop
        self._channel = kit.channel
        self._counters = kit.counters
        self._counters.reset_gauges()
        self._pools = AddressPools(settings.pools, workers=kit.workers, reserved=gateway.echo, send=kit.channel.send)
        self._lent = LentAddresses(
            self._pools, holds=lambda peer, address: is_held(peer, address, self._table), send=kit.channel.send
        )
        for pool, blocks in kit.leases:
            self._pools.granted(pool, blocks)
        self._addresses = _watch_addresses(kit.udp)
        self._carried = CarriedTraffic()
        self._table = IkeTable(self._make_environment(settings, gateway))
        self._memory = guard_of_this_process(kit.counters, gateway.memory_limit, workers=kit.workers)
        self._endpoint = Endpoint(
            kit.udp,
            kit.esp,
            on_ike=self._receive_ike,
            on_esp=lambda batch, now: self._driver.receive_esp(batch, now),
            count=kit.counters.count,
        )
        self._inner: InnerTraffic | None = None
        self._userspace: UserspaceDataplane | None = None
        self._dataplane = self._carried.dataplane = self._make_dataplane(gateway)
        self._is_resolving = gateway.resolve is not ResolveKind.NO and kit.tun is not None
        self._servers = PeerServers(kit.channel.send if self._is_resolving else None)
        self._scripts, self._events = self._make_listeners()
        self._driver = Driver(
            self._table,
            self._dataplane,
            self._endpoint.send_ike,
            send_keepalive=self._endpoint.send_keepalive,
            on_event=self._events,
            loop=loop,
        )
        self._held = HeldRequests(self._driver, kit.counters.count)
        self._events.hold = self._held.add
        port = _ports(kit.udp)[0]
        self._service = self._make_service(port)
        self._initiations = Initiations(self._driver, loop, port=port, worker=kit.index, workers=kit.workers)
        self._trace: Trace | None = None
        self._follow_levels()
        self._unsent = self._see_to_unsent(port)
        self._traps = self._unsent.traps
        self._gate = Gate(
            kit.udp,
            kit.counters,
            settings.admission,
            cookie_tags=self._table.admission.cookie_tags,
            known=self._table.admission.known,
            node=gateway.node,
            spi_seal=kit.spi_seal,
        )
        self._suspects, self._dead_letters = self._gate.suspects, self._gate.dead_letters
        self._intake = self._make_intake()
        self._farewell = Farewell(self._driver, loop)
        self._have_sas_changed = False

    def _make_environment(self, settings: Settings, gateway: GatewaySettings) -> Environment:
        kit = self._kit
        natt_ports = [s.port for s in kit.udp if s.is_natt and not s.is_for_esp]
        return Environment(
            settings,
            entropy=os.urandom,
            count=kit.counters.count,
            addresses=self._pools if kit.workers == 1 else self._lent,
            last_traffic=self._carried.last_received,
            last_sent=self._carried.last_sent,
            packets_carried=self._carried.packets,
            local_addresses=self._addresses,
            natt_ports=dict(zip(_ports(kit.udp), natt_ports, strict=True)),
            node=gateway.node,
            waiting=lambda: self._intake.waiting_new(),
            lag=lambda now: self._intake.lag(now),
            worker=kit.index,
            workers=kit.workers,
            spi_seal=kit.spi_seal,
            takes_transport=kit.takes_transport,
        )

    def _make_listeners(self) -> tuple[ChildScripts, Events]:
        """What is done on this host when tunnels come and go, and what is told of it."""
        kit, loop = self._kit, self._loop
        view = self._table.sas.view
        scripts = ChildScripts(kit.channel.send, loop.call_soon, lambda spi: view(spi), self._servers)
        events = Events(
            kit.counters,
            self._pools,
            send=kit.channel.send,
            on_sa=self._on_sa,
            revive=self._revive,
            has_routes=kit.tun is not None,
            name_of=self._name_of,
            scripts=self._tell_host,
            settle=self._inner.settling.begin if self._inner is not None else lambda spi_in: None,
            on_initial_contact=LonelyPeers(kit.channel.send, loop.call_soon).add if kit.workers > 1 else None,
        )
        events.has_scripts = scripts.configure(self._table.env.connections.scripted) or self._is_resolving
        return scripts, events

    def _make_installer(self) -> Installer:
        return Installer(self._table.env, self._pools, install=self._install, send=self._channel.send, loop=self._loop)

    def _make_service(self, port: int) -> WorkerService:
        return WorkerService(
            self._driver,
            self._pools,
            port=port,
            send=self._channel.send,
            installer=self._make_installer(),
            listen=partial(setattr, self._events, "listener"),
            traps=lambda: self._traps.names() if self._traps is not None else (),
            loop=self._loop,
        )

    def _make_intake(self) -> Intake:
        return Intake(
            standing_of_sa=self._standing_of_sa,
            has_cookie=self._has_cookie,
            ask_cookies=self._ask_cookies,
            serve=self._serve,
            count=self._counters.count,
            again=self._loop.call_soon,
            limit_share=self._gate.shedder.set_share,
        )

    def run(self) -> None:
        """Serve until told to stop."""
        self._channel.attach(self._loop, self._on_message, self._on_supervisor_gone)
        self._endpoint.attach(self._loop)
        if self._addresses is not None:
            self._addresses.attach(self._loop, self._driver.roam)
        if self._kit.tun is not None and self._inner is not None:
            self._loop.add_reader(self._kit.tun, self._inner.drain_tun)
        self._loop.call_later(_TICK_S, self._tick)
        if self._userspace is not None:
            self._let_rest(self._userspace)
        self._tidy()
        self._loop.call_soon(self._initiations.start)
        # Before it says that it serves: the kernel brings packets for traps from then on.
        self._have_traps()
        tame_collector()
        self._channel.send(Ready())
        self._loop.run_forever()
        self._endpoint.detach()
        if self._addresses is not None:
            self._addresses.close()
        self._driver.close()
        self._dataplane.close()
        self._counters.reset_gauges()

    # Datagrams.

    def _receive_ike(self, batch: list[Entry], now: float) -> None:
        if self._trace is not None:
            self._trace.received(batch)
        self._intake.put(batch, now)
        if self._dead_letters.came:
            self._dead_letters.review(now)

    def _standing_of_sa(self, spi: bytes) -> Standing:
        sa = self._table.sas.look(spi)
        if sa is None:
            if self._table.strays.knows(spi):
                return _UNDER_WAY
            self._dead_letters.count(spi)
            return _STRAY
        if not isinstance(sa, IkeSa) or sa.state >= _SA_ESTABLISHED:
            return _ESTABLISHED
        if sa.is_past_trying:
            self._dead_letters.count(spi)
            return _PAST_TRYING
        return _UNDER_WAY

    def _ask_cookies(self, requests: list[Entry], now: float) -> list[Entry]:
        answers, others = self._table.ask_cookies(requests, now)
        for datagram, path in answers:
            self._suspects.asked(path.remote)
            self._driver.send_ike(datagram, path)
        self._suspects.review(now)
        return others

    def _has_cookie(self, datagram: bytes, path: Path, now: float) -> bool:
        is_proven = self._table.admission.is_proven(datagram, path, now)
        if is_proven:
            self._suspects.returned(path.remote)
        else:
            self._suspects.wrong()
        return is_proven

    def _serve(self, batch: Sequence[Entry], now: float) -> None:
        self._driver.receive_ike(batch, now)
        if self._have_sas_changed:
            self._have_sas_changed = False
            self._gauge()

    def _gauge(self) -> None:
        self._counters.set('ike_sas{state="half_open"}', self._table.half_open)
        self._counters.set("pool_addresses_in_use", self._pools.in_use)

    # The data plane.

    def _make_dataplane(self, gateway: GatewaySettings) -> Dataplane:
        count_event = self._counters.by_label("dataplane_events_total")
        if gateway.dataplane is DataplaneKind.NULL:
            return NullDataplane(count_event)
        counts = {"count": self._counters.count, "count_event": count_event}
        self._inner = InnerTraffic(gateway.echo, self._kit.tun, **counts, ask=self._channel.send)
        has_tun = self._kit.tun is not None
        dataplane = UserspaceDataplane(
            self._inner,
            self._endpoint.send_esp,
            count_event,
            moved=lambda spi_in, path: self._driver.follow(spi_in, path),
            limit_reached=lambda spi_in, is_hard: self._driver.limit_reached(spi_in, is_hard),
            path_mtu=PathMtus().mtu,
            too_big=self._inner.too_big if has_tun else None,
            unsent=(lambda packet, flow: self._unsent(packet, flow)) if has_tun else None,
            used=self._child_used,
            is_awaited=lambda spi_in: self._table.owner_of(spi_in) != b"",
            soon=self._loop.call_soon,
        )
        if has_tun:
            self._endpoint.ask_for_traffic_class()
        self._inner.connect(dataplane.send_inner)
        self._userspace = dataplane
        return dataplane

    def _child_used(self, spi_in: bytes) -> None:
        """The peer sends on a CHILD_SA that has yielded: packets for it are to come here, if they went elsewhere."""
        spi = self._table.owner_of(spi_in)
        sa = self._table.sas.view(spi)
        if sa is not None and sa.has_leases:
            self._lent.used(sa.virtual_ips)
        if self._events.network is not None:
            self._events.network.child_used(spi_in, spi)

    # Events, and the supervisor.

    def _on_sa(self, effect: SaEstablished | SaClosed | ChildFailed) -> None:
        self._have_sas_changed = True
        self._initiations.on_sa(effect)

    def _follow_levels(self) -> None:
        """Look at datagrams, or no longer."""
        is_wanted = group_logger("net").isEnabledFor(logging.DEBUG)
        self._trace = Trace(self._endpoint.send_ike, self._table.sas.view) if is_wanted else None
        self._driver.send_ike = self._trace.send if self._trace is not None else self._endpoint.send_ike

    def _tell_host(self, effect: Effect) -> None:
        """What is done on the host hangs on what happens here."""
        self._servers(effect)
        self._scripts(effect)

    def _name_of(self, spi: bytes) -> str:
        """The connection of an IKE_SA."""
        sa = self._table.sas.view(spi)
        return sa.name if sa is not None else ""

    def _revive(self, effect: Revive) -> None:
        self._initiations.revive(effect)
        if effect.trap and self._traps is not None:
            self._traps.lost(effect)
            self._events.on_effect = self._traps.on_event

    def _see_to_unsent(self, port: int) -> Unsent:
        return Unsent(
            self._driver,
            self._initiations,
            port=port,
            worker=self._kit.index,
            workers=self._kit.workers,
            inner=self._inner,
            network=self._events.network,
            send=self._channel.send,
            count_event=self._counters.by_label("dataplane_events_total"),
        )

    def _have_traps(self) -> None:
        self._unsent.configure()
        if self._traps is not None:
            self._events.on_effect = self._traps.on_event if self._traps else None

    def _on_message(self, message: AnyMessage) -> None:
        if isinstance(message, LeaseGrant):
            self._pools.granted(message.pool, message.blocks)
            if message.blocks:
                self._held.serve_again()
        elif isinstance(message, LeaseRecall):
            self._pools.recalled(message.pool, message.free, is_urgent=message.is_urgent)
        elif isinstance(message, AddressWanted | AddressHanded | AddressReturned):
            self._lent.on_message(message)
            self._held.serve_again()
        elif isinstance(message, Stranded):
            self._unsent.take(message)
        elif isinstance(message, Ask):
            self._service.on_ask(message)
        elif isinstance(message, Interest):
            self._service.want(message.events, message.unread)
        elif isinstance(message, LogLevels):
            put_into_force(message.thresholds)
            self._events.follow_levels()
            self._follow_levels()
        elif isinstance(message, PeersAreHeard):
            self._table.claims.difference_update(message.sas)
        elif isinstance(message, Settled):
            if self._inner is not None:
                self._inner.settling.settled(message.number)
        elif isinstance(message, PeersAreAlone):
            obey(message, self._driver)
        elif isinstance(message, Stop):
            self._stop()

    def _install(self, new: InForce) -> None:
        """Go on with another configuration."""
        self._table.configure(new)
        self._suspects.configure(new.settings.admission)
        self._initiations.configure()
        self._events.has_scripts = self._scripts.configure(new.connections.scripted) or self._is_resolving
        self._have_traps()

    def _on_supervisor_gone(self) -> None:
        _log.error("the supervisor is gone")
        self._loop.stop()

    def _let_rest(self, tunnels: UserspaceDataplane) -> None:
        has_more = tunnels.rest(time.monotonic())
        self._loop.call_later(_NO_REST_S if has_more else _REST_S, self._let_rest, tunnels)

    def _tidy(self) -> None:
        self._loop.call_later(_TIDY_S, self._tidy)
        self._unsent.refill()
        collect_young()

    def _tick(self) -> None:
        self._loop.call_later(_TICK_S, self._tick)
        self._intake.tick()
        self._gate.tick(time.monotonic())
        note_receive_queues(self._counters, self._gate.shedder.lost(self._endpoint.receive_queues()))
        for series, waiting in zip(WAITING, self._intake.lengths(), strict=True):
            self._counters.set(series, waiting)
        self._counters.set("timers", self._table.timers)
        self._counters.set("exchanges_put_off", self._table.put_off)
        self._gauge()
        self._table.admission.is_out_of_memory = self._memory.tick(len(self._table.sas))
        self._pools.tick()
        self._lent.tick()
        self._held.serve_again()
        self._events.tick()

    # The end.

    def _stop(self) -> None:
        """Tell every peer, wait for their answers, and end."""
        if self._farewell.has_begun:
            return
        self._intake.is_closed_to_new = True
        self._initiations.stop()
        if self._traps is not None:
            self._traps.stop()
        self._farewell.begin()


def _ports(udp: Sequence[UdpSocket]) -> list[int]:
    """Of IKE, those of NAT traversal left out."""
    return [each.port for each in udp if not each.is_natt]


def _watch_addresses(udp: Sequence[UdpSocket]) -> AddressWatch | None:
    try:
        return AddressWatch(udp, inside=NAME_PATTERN.removesuffix("%d"))
    except SocketUnavailable as exc:
        _log.warning("tunnels don't follow changes of our own addresses: %s", exc)
        return None


def run_worker(settings: Settings, gateway: GatewaySettings, kit: Kit) -> None:
    """A worker's life, in its own process."""
    Worker(settings, gateway, kit, new_event_loop()).run()
