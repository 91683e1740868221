"""A worker's side of the control socket: it answers what the supervisor asks, and tells what happened.

Each request is a task of its own, which ends early when nobody wants its answer any more. What takes long is done in
slices between which datagrams are served (`sa_listing.py`): a list of all SAs is made page by page as it is read, and
of many SAs some are ended at a time.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from cygnet.gateway.commands.awaited import Awaited, Awaiting
from cygnet.gateway.commands.installing import Installer
from cygnet.gateway.commands.sa_listing import SaListing
from cygnet.gateway.commands.sa_views import view_child, view_sa
from cygnet.gateway.commands.worker_requests import (
    Configure,
    Counted,
    Done,
    Failed,
    Forget,
    Initiate,
    KeepPools,
    ListSas,
    ListTallies,
    ListTraps,
    NextPage,
    PoolPage,
    PoolsInUse,
    Rekey,
    Reply,
    Request,
    RetirePools,
    SaPage,
    TallyPage,
    Terminate,
    UsePools,
    decode_request,
    encode_body,
    trap_pages,
)
from cygnet.gateway.control import Answer, AnyMessage, Ask, Happened
from cygnet.gateway.initiations import path_to_peer
from cygnet.gateway.pools.pools import AddressPools
from cygnet.ike.connections import Child, Connection
from cygnet.ike.effects import (
    ChildRekeyed,
    Effect,
    InstallChild,
    RemoveChild,
    SaClosed,
    SaEstablished,
    SaMoved,
    SaRekeyed,
)
from cygnet.ike.errors import LocalError
from cygnet.ike.nat import unpack_address
from cygnet.ike.sa import ChildSa, ChildState, IkeSa
from cygnet.ike.states import SaState
from cygnet.ike.tasks import CreateChild, DeleteChild, Reauthenticate, RekeyChild, RekeyIke
from cygnet.net.driver import Driver
from cygnet.vici.backend import Lease
from cygnet.vici.message import Encodable, encode
from cygnet.vici.views import ChildView, SaFilter, SaView

_log = logging.getLogger(__name__)

LEASES_PER_PAGE: Final = 256
_PAGE_OCTETS: Final = 48 * 1024
"""A page must fit into one message to the supervisor, which has at most 64 KiB."""
_TALLIES_A_PAGE: Final = 32
"""Of a kilobyte each, with all there is to count."""


_EVENT_OF: Final[Mapping[type, str]] = {
    SaEstablished: "ike-updown",
    SaClosed: "ike-updown",
    InstallChild: "child-updown",
    RemoveChild: "child-updown",
    SaRekeyed: "ike-rekey",
    ChildRekeyed: "child-rekey",
    SaMoved: "ike-update",
}
"""The events that effects are told as."""


class _Call:
    """A request under way."""

    __slots__ = ("parts", "taken", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.taken = asyncio.Event()
        """Set when the page that was sent last was taken."""


class WorkerService:
    """Answers of one worker."""

    def __init__(
        self,
        driver: Driver,
        pools: AddressPools,
        *,
        port: int,
        send: Callable[[AnyMessage], object],
        installer: Installer,
        listen: Callable[[Callable[[Effect], object] | None], object],
        traps: Callable[[], Iterable[tuple[str, str]]] = lambda: (),
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`port` is our IKE port; `installer` puts new settings into force.

        `listen` is given whom to tell of every effect, and None when there is no need any more. `traps` are there, by
        the names of their connections and children.
        """
        self._driver = driver
        self._table = driver.table
        self._pools = pools
        self._port = port
        self._send = send
        self._installer = installer
        self._listen = listen
        self._traps = traps
        self._loop = loop
        self._listing = SaListing(driver.table, driver.dataplane, driver.clock)
        self._calls: dict[int, _Call] = {}
        self._awaited = Awaited(loop)
        self._asked: dict[tuple[str, str], tuple[Connection, Awaiting]] = {}
        """What is being set up because clients asked for it, by the names of the connection and the child."""
        self._wanted: frozenset[str] = frozenset()
        self._unread: Mapping[str, int] = {}
        self._new: dict[bytes, bytes] = {}
        """The IKE_SAs of CHILD_SAs that have just been set up, by our SPI."""
        self._replaced: set[bytes] = set()
        """CHILD_SAs that have a successor, and are still there."""
        self._leaving: dict[bytes, list[ChildView]] = {}
        """CHILD_SAs that have gone, by the IKE_SA whose end is about to be told."""

    def want(self, events: tuple[str, ...], unread: Mapping[str, int]) -> None:
        """The events that clients want to hear of; and those that are lost on clients that don't read, on how many.

        Of those nothing is made: they are counted as dropped.
        """
        self._wanted = frozenset(events)
        self._unread = unread
        self._leaving.clear()
        self._new.clear()
        self._replaced.clear()
        self._see_to_listening()

    def on_ask(self, ask: Ask) -> None:
        """Begin to do what the supervisor asks for."""
        request = decode_request(ask.body)
        call = self._calls.get(ask.number)
        if isinstance(request, NextPage):
            if call is not None:
                call.taken.set()
        elif isinstance(request, Forget):
            if call is not None and call.task is not None:
                call.task.cancel()
            self._calls.pop(ask.number, None)
            self._installer.forget(ask.number)
        elif isinstance(request, Configure):
            self._installer.take(ask.number, request)
        else:
            call = self._calls[ask.number] = _Call()
            call.task = self._loop.create_task(self._answer(ask.number, call, request))

    # Events.

    def _see_to_listening(self) -> None:
        is_needed = bool(self._awaited or self._wanted or self._unread)
        self._listen(self._on_event if is_needed else None)

    def _on_event(self, effect: Effect) -> None:
        """Something has happened in the core: perhaps what somebody waits for, or wants to hear of."""
        if self._awaited:
            self._awaited.settle(effect)
        event = _EVENT_OF.get(type(effect))
        if event is None:
            return
        if self._wanted:
            self._tell(effect, event)
        if event in self._unread and not (isinstance(effect, SaClosed) and not effect.was_established):
            self._table.env.count("vici_events_dropped_total", self._unread[event])

    def _tell(self, effect: Effect, event: str) -> None:
        is_wanted = event in self._wanted
        if isinstance(effect, SaEstablished) and is_wanted:
            sa = self._table.sas.view(effect.sa)
            if sa is not None:
                self._happened("ike-updown", self._view(sa), is_up=True)
        elif isinstance(effect, InstallChild) and is_wanted:
            # Whether it is the successor of another one is known when all is done that belongs to it.
            if not self._new:
                self._loop.call_soon(self._tell_new)
            self._new[effect.spi_in] = effect.sa
        elif isinstance(effect, RemoveChild):
            if effect.spi_in in self._replaced:
                self._replaced.discard(effect.spi_in)
            elif is_wanted and self._new.pop(effect.spi_in, None) is None:
                self._child_leaves(effect)
        elif isinstance(effect, ChildRekeyed):
            if "child-updown" in self._wanted:
                self._new.pop(effect.spi_in, None)
                self._replaced.add(effect.old)
            if is_wanted:
                self._rekeyed(effect)
        elif isinstance(effect, SaRekeyed) and is_wanted:
            self._rekeyed(effect)
        elif isinstance(effect, SaMoved) and is_wanted:
            sa = self._table.sas.view(effect.sa)
            if sa is not None:
                self._publish("ike-update", sa.name, self._view(sa).layout(()))
        elif isinstance(effect, SaClosed) and (is_wanted or self._leaving):
            leaving = self._leaving.pop(effect.sa, ())
            if effect.was_established and effect.reason != "rekeyed" and isinstance(effect.final, IkeSa):
                view = self._view(effect.final)
                for child in leaving:
                    self._happened("child-updown", view, is_up=False, children=(child,))
                self._happened("ike-updown", view, is_up=False)

    def _tell_new(self) -> None:
        """Of CHILD_SAs that are up, and have no predecessor: a rekeying is told as one."""
        new = dict(self._new)
        self._new.clear()
        for spi_in, spi in new.items():
            sa = self._table.sas.view(spi)
            if sa is not None:
                view = self._view(sa)
                children = tuple(child for child in view.children if child.spi_in == spi_in)
                self._happened("child-updown", view, is_up=True, children=children)

    def _rekeyed(self, effect: ChildRekeyed | SaRekeyed) -> None:
        sa = self._table.sas.view(effect.sa)
        if sa is None:
            return
        view = self._view(sa)
        if isinstance(effect, SaRekeyed):
            old = self._table.sas.view(effect.old)
            before = self._view(old).layout(()) if old is not None else None
            self._publish("ike-rekey", sa.name, {"old": before, "new": view.layout(())})
            return
        pair = {
            which: child.layout()
            for which, spi_in in (("old", effect.old), ("new", effect.spi_in))
            for child in view.children
            if child.spi_in == spi_in
        }
        named = next((child for child in view.children if child.spi_in == effect.spi_in), None)
        if named is not None:
            self._publish("child-rekey", sa.name, {**view.layout(()), "child-sas": {named.name: pair}})

    def _child_leaves(self, effect: RemoveChild) -> None:
        dataplane = self._driver.dataplane
        carried = dataplane.child(effect.spi_in)
        if carried is None:
            return
        child = ChildSa(carried.name, effect.spi_in, carried.spi_out)
        view = view_child(child, dataplane, self._driver.clock())
        sa = self._table.sas.view(effect.sa)
        if sa is not None:
            self._happened("child-updown", self._view(sa), is_up=False, children=(view,))
        else:
            # The IKE_SA is ending, and its end comes after those of its children.
            self._leaving.setdefault(effect.sa, []).append(view)

    def _happened(self, event: str, sa: SaView, *, is_up: bool, children: tuple[ChildView, ...] = ()) -> None:
        if event in self._wanted:
            message: Encodable = {"up": True if is_up else None, sa.name: sa.layout(children)}
            self._send(Happened(event, encode(message)))

    def _publish(self, event: str, name: str, section: Encodable) -> None:
        if event in self._wanted:
            self._send(Happened(event, encode({name: section})))

    # Answers.

    async def _answer(self, number: int, call: _Call, request: Request) -> None:
        try:
            reply = await self._reply(number, call, request)
        except (LocalError, TimeoutError) as exc:
            reply = Failed(str(exc) or "it took too long")
        except Exception as exc:
            # The supervisor must have an answer, and the SAs live on.
            _log.exception("internal error while answering the supervisor")
            reply = Failed(f"internal error in a worker: {type(exc).__name__}")
        self._calls.pop(number, None)
        self._send(Answer(number, encode_body(reply), is_last=True))

    async def _reply(self, number: int, call: _Call, request: Request) -> Reply:
        if isinstance(request, ListSas):
            return await self._list(number, call, request.chosen)
        if isinstance(request, UsePools):
            return await self._use_pools(number, call, request)
        if isinstance(request, ListTraps):
            return await self._list_traps(number, call)
        if isinstance(request, ListTallies):
            return await self._list_tallies(number, call, request.name)
        if isinstance(request, Initiate):
            return await self._initiate(request)
        if isinstance(request, Terminate):
            return await self._terminate(request)
        if isinstance(request, Rekey):
            return await self._rekey(request)
        if isinstance(request, RetirePools):
            in_use = {name: self._pools.retire(name) for name in request.names}
            return PoolsInUse({name: number for name, number in in_use.items() if number})
        if isinstance(request, KeepPools):
            for name in request.names:
                self._pools.keep(name)
            return Done()
        return Failed(f"{type(request).__name__} is no request")

    async def _page(self, number: int, call: _Call, reply: Reply) -> None:
        """Send a page, and wait until it was taken."""
        call.taken.clear()
        self._send(Answer(number, encode_body(reply), is_last=False))
        await call.taken.wait()

    # Lists.

    async def _list(self, number: int, call: _Call, chosen: SaFilter) -> Reply:
        page: list[bytes] = []
        octets = 0
        async for packet in self._listing.packets(chosen):
            if page and octets + len(packet) > _PAGE_OCTETS:
                await self._page(number, call, SaPage(b"".join(page)))
                page, octets = [], 0
            while len(packet) > _PAGE_OCTETS:
                await self._page(number, call, SaPage(packet[:_PAGE_OCTETS], is_whole=False))
                packet = packet[_PAGE_OCTETS:]
            page.append(packet)
            octets += len(packet)
        return SaPage(b"".join(page))

    async def _use_pools(self, number: int, call: _Call, request: UsePools) -> Reply:
        in_use = self._pools.in_use_of(request.name)
        if request.with_leases:
            page: list[Lease] = []
            async for sa in self._listing.each():
                page += [
                    Lease(unpack_address(address), str(sa.remote_id))
                    for address in (sa.virtual_ips if sa.has_leases else ())
                    if self._pools.is_of(request.name, address)
                ]
                if len(page) >= LEASES_PER_PAGE:
                    await self._page(number, call, PoolPage(request.name, in_use, tuple(page)))
                    page = []
            return PoolPage(request.name, in_use, tuple(page))
        return PoolPage(request.name, in_use, ())

    async def _list_traps(self, number: int, call: _Call) -> Reply:
        *pages, last = trap_pages(self._traps(), _PAGE_OCTETS)
        for page in pages:
            await self._page(number, call, page)
        return last

    async def _list_tallies(self, number: int, call: _Call, name: str) -> Reply:
        tallies = self._table.env.connections.tallies(name)
        while len(tallies) > _TALLIES_A_PAGE:
            await self._page(number, call, TallyPage(dict(tallies[:_TALLIES_A_PAGE])))
            del tallies[:_TALLIES_A_PAGE]
        return TallyPage(dict(tallies))

    def _view(self, sa: IkeSa) -> SaView:
        return view_sa(sa, self._driver.dataplane, self._driver.clock())

    # Control.

    async def _initiate(self, request: Initiate) -> Reply:
        connection, child = self._find(request)
        standing = self._table.established_as(connection.settings.name, connection.settings.remote.id)
        if standing is not None and (child is None or _has_child(standing, child.settings.name)):
            return Done()
        names = (connection.settings.name, child.settings.name if child is not None else "")
        asked = self._asked.get(names)
        if asked is None or asked[0] is not connection:
            asked = self._asked[names] = (connection, self._begin(connection, child, standing))
            asked[1].add_done_callback(partial(self._begun, names))
        # Whoever gives up waiting leaves it under way, for others and for when it asks again: else somebody who asks
        # all the time, and is impatient, would have as many attempts under way.
        await asyncio.shield(asked[1])
        return Done()

    def _begin(self, connection: Connection, child: Child | None, standing: IkeSa | None) -> Awaiting:
        """Begin to set up a CHILD_SA in the IKE_SA that stands, or both, or without `child` an IKE_SA."""
        now = self._driver.clock()
        name = child.settings.name if child is not None else ""
        if standing is not None and child is not None:
            awaiting = self._awaited.set_up(standing.spi, name)
            effects = self._table.order(standing.spi, CreateChild(name), now)
        else:
            path = path_to_peer(connection.settings, self._port)
            spi, effects = self._table.initiate(connection, path, now, child=child, is_childless=child is None)
            awaiting = self._awaited.set_up(spi, name)
        self._see_to_listening()
        self._driver.carry_out(effects)
        return awaiting

    def _begun(self, names: tuple[str, str], awaiting: Awaiting) -> None:
        """It stands, or has failed."""
        asked = self._asked.get(names)
        if asked is not None and asked[1] is awaiting:
            del self._asked[names]
        self._see_to_listening()

    def _find(self, request: Initiate) -> tuple[Connection, Child | None]:
        """The connection and the child that are meant. Raises LocalError."""
        connections = self._table.env.connections
        named = connections.named(request.ike) if request.ike else None
        for connection in [named] if named is not None else connections.all() if not request.ike else ():
            if not request.child:
                return connection, None
            for child in connection.children:
                if child.settings.name == request.child:
                    return connection, child
        what = f"CHILD_SA config '{request.child}'" if request.child else f"IKE_SA config '{request.ike}'"
        raise LocalError(f"{what} not found")

    async def _terminate(self, request: Terminate) -> Reply:
        waiting: list[Awaiting] = []
        async for sa, children in self._listing.chosen(request.chosen):
            if request.chosen.is_of_children:
                waiting += [self._end(sa, child.spi_in, is_forced=False) for child in children]
            else:
                waiting.append(self._end(sa, b"", is_forced=request.is_forced))
        try:
            if waiting:
                await asyncio.wait(waiting)
        finally:
            self._see_to_listening()
        return Counted(len(waiting), sum(future.done() for future in waiting))

    def _end(self, sa: IkeSa, spi_in: bytes, *, is_forced: bool) -> Awaiting:
        awaiting = self._awaited.end(spi_in or sa.spi)
        self._see_to_listening()
        now = self._driver.clock()
        if spi_in:
            self._driver.carry_out(self._table.order(sa.spi, DeleteChild(spi_in), now))
        else:
            self._driver.carry_out(self._table.delete(sa.spi, now))
            if is_forced:
                self._driver.carry_out(self._table.abort(sa, now, "terminated"))
        return awaiting

    async def _rekey(self, request: Rekey) -> Reply:
        matches = ordered = 0
        async for sa, children in self._listing.chosen(request.chosen):
            if sa.state != SaState.ESTABLISHED:
                continue
            now = self._driver.clock()
            if request.chosen.is_of_children:
                for child in children:
                    matches += 1
                    ordered += 1
                    self._driver.carry_out(self._table.order(sa.spi, RekeyChild(child.spi_in), now))
            else:
                matches += 1
                # Only the end that began can authenticate itself anew as an initiator.
                if sa.is_line_ours or not request.is_reauthentication:
                    ordered += 1
                    task = Reauthenticate() if request.is_reauthentication else RekeyIke()
                    self._driver.carry_out(self._table.order(sa.spi, task, now))
        return Counted(matches, ordered)


def _has_child(sa: IkeSa, name: str) -> bool:
    return any(child.name == name and child.state == ChildState.INSTALLED for child in sa.children)
