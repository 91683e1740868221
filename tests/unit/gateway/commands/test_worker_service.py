"""A worker's answers and events, from two real cores on a fake network."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import count
from typing import cast

import msgspec
import pytest
from tests.sim.world import (
    CLIENT,
    GATEWAY,
    Host,
    ListPool,
    World,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
    sa_of,
)

from cygnet.dataplane.userspace import UserspaceDataplane
from cygnet.gateway.commands.installing import Installer
from cygnet.gateway.commands.worker_requests import (
    Counted,
    Done,
    Failed,
    Forget,
    Initiate,
    Rekey,
    Reply,
    Request,
    Terminate,
    decode_reply,
    encode_body,
    trap_pages,
)
from cygnet.gateway.commands.worker_service import WorkerService
from cygnet.gateway.control import Answer, AnyMessage, Ask, Happened
from cygnet.gateway.pools.pools import AddressPools
from cygnet.ike.effects import Effect, SaMoved
from cygnet.ike.settings import ConnectionSettings, Settings
from cygnet.ike.spi import unique_id
from cygnet.net.driver import Driver
from cygnet.vici.message import Section, decode
from cygnet.vici.views import SaFilter

EVENTS = ("ike-updown", "ike-rekey", "ike-update", "child-updown", "child-rekey")


class NoTimers:
    """The world turns the table's timers."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> "NoTimers":
        return self

    def cancel(self) -> None:
        pass


class ServedHost(Host):
    """A core with a data plane, and the service that tells of both."""

    def __init__(self, world: World, address: str, settings: Settings, pool: ListPool | None = None) -> None:
        super().__init__(world, address, settings, pool)
        self.sent: list[AnyMessage] = []
        self.loop = asyncio.new_event_loop()
        self._listener: Callable[[Effect], object] | None = None
        self._numbers = count(1)
        self.driver = Driver(
            self.table,
            UserspaceDataplane(self, lambda packet, path, is_udp_encapsulated, traffic_class: None, self._count),
            # The world sends.
            lambda datagram, path: None,
            send_keepalive=lambda path: None,
            on_event=self._tell,
            loop=cast(asyncio.AbstractEventLoop, NoTimers()),
            clock=lambda: world.now,
        )
        pools = AddressPools((), workers=1, send=self.sent.append)
        self.service = WorkerService(
            self.driver,
            pools,
            port=500,
            send=self.sent.append,
            installer=Installer(self.env, pools, install=self.env.configure, send=self.sent.append, loop=self.loop),
            listen=self._listen,
            loop=self.loop,
        )
        self._inform = self.driver.carry_out
        self.driver.carry_out = self.carry_out  # type: ignore[method-assign]

    def _listen(self, listener: Callable[[Effect], object] | None) -> None:
        self._listener = listener

    def _tell(self, effect: Effect) -> None:
        if self._listener is not None:
            self._listener(effect)

    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        """Nobody is behind it."""

    def carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self._inform([effect])
            super().carry_out([effect])

    @property
    def is_listening(self) -> bool:
        return self._listener is not None

    def told(self) -> list[tuple[str, Section]]:
        """The events since the last call."""
        self.turn()
        told = [(message.event, decode(message.body)) for message in self.sent if isinstance(message, Happened)]
        self.sent.clear()
        return told

    def ask(self, request: Request, seconds: float = 1.0) -> Reply | None:
        """Ask, let that much time pass, and take the answer, if there is one by then."""
        number = next(self._numbers)
        self.service.on_ask(Ask(number, encode_body(request)))
        self.turn()
        self.world.run(seconds)
        self.turn()
        answers = [each for each in self.sent if isinstance(each, Answer) and each.number == number]
        return decode_reply(answers[-1].body) if answers else None

    def turn(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0.01))


class Ends:
    """A gateway that is served, and a client with a tunnel to it."""

    def __init__(self) -> None:
        self.world = World()
        self.gateway = ServedHost(self.world, GATEWAY, gateway_settings(), ListPool(counted(9)))
        self.client = Host(self.world, CLIENT, client_settings())

    def set_up(self) -> None:
        self.client.initiate(self.gateway, client_connection())
        self.world.run(1.0)
        assert len(self.gateway.table.sas) == 1


@pytest.fixture
def ends() -> Iterable[Ends]:
    ends = Ends()
    yield ends
    ends.gateway.loop.close()


def section(message: Section, *names: str) -> Section:
    found: object = message
    for name in names:
        assert isinstance(found, dict)
        found = found[name]
    assert isinstance(found, dict)
    return found


def test_set_up_and_end_are_told_with_their_children(ends: Ends) -> None:
    ends.gateway.service.want(EVENTS, {})
    ends.set_up()
    up = ends.gateway.told()
    assert [(name, message.get("up")) for name, message in up] == [("ike-updown", b"yes"), ("child-updown", b"yes")]
    assert section(up[0][1], "rw", "child-sas") == {}
    [child] = section(up[1][1], "rw", "child-sas").values()
    assert isinstance(child, dict) and child["name"] == b"net"
    ends.client.delete(sa_of(ends.client).spi)
    ends.world.run(1.0)
    down = ends.gateway.told()
    assert [(name, message.get("up")) for name, message in down] == [("child-updown", None), ("ike-updown", None)]
    [gone] = section(down[0][1], "rw", "child-sas").values()
    assert isinstance(gone, dict) and gone["spi-in"] == child["spi-in"]


def test_children_that_end_after_a_rekeying_of_their_ike_sa_are_told_of_and_forgotten(ends: Ends) -> None:
    """They were kept for ever under the SPI of the IKE_SA that they were installed with, which had gone before."""
    ends.gateway.service.want(EVENTS, {})
    ends.set_up()
    first = sa_of(ends.gateway)
    assert ends.gateway.ask(Rekey(SaFilter(ike="rw"), False)) == Counted(1, 1)
    assert sa_of(ends.gateway).spi != first.spi
    ends.gateway.told()
    ends.client.delete(sa_of(ends.client).spi)
    ends.world.run(1.0)
    assert [name for name, _ in ends.gateway.told()] == ["child-updown", "ike-updown"]
    assert ends.gateway.service._leaving == {}


def test_a_rekeying_of_an_ike_sa_is_told_with_both(ends: Ends) -> None:
    ends.set_up()
    old = unique_id(sa_of(ends.gateway).spi)
    ends.gateway.service.want(EVENTS, {})
    ends.gateway.ask(Rekey(SaFilter(ike="rw"), False))
    told = ends.gateway.told()
    # And nothing of one that ends, and another one that begins.
    assert [name for name, _ in told] == ["ike-rekey"]
    message = told[0][1]
    new = unique_id(sa_of(ends.gateway).spi)
    assert section(message, "rw", "old")["uniqueid"] == str(old).encode()
    assert section(message, "rw", "new")["uniqueid"] == str(new).encode()


def test_a_rekeying_of_a_child_is_told_with_both(ends: Ends) -> None:
    ends.set_up()
    [old] = sa_of(ends.gateway).children
    ends.gateway.service.want(EVENTS, {})
    assert ends.gateway.ask(Rekey(SaFilter(child="net"), False)) == Counted(1, 1)
    ends.world.run(60.0)
    told = ends.gateway.told()
    assert [name for name, _ in told] == ["child-rekey"]
    message = told[0][1]
    pair = section(message, "rw", "child-sas", "net")
    assert section(pair, "old")["spi-in"] == old.spi_in.hex().encode()
    [new] = sa_of(ends.gateway).children
    assert section(pair, "new")["spi-in"] == new.spi_in.hex().encode()


def test_a_peer_that_moves_is_told_of_and_one_that_sleeps_is_not_woken(ends: Ends) -> None:
    ends.set_up()
    ends.gateway.service.want(("ike-update",), {})
    sa = sa_of(ends.gateway)
    moved = SaMoved(sa.spi, sa.name, sa.remote_id, sa.path)
    ends.gateway.table.sas.rest_all(ends.world.now)
    assert isinstance(ends.gateway.table.sas.look(sa.spi), bytes)
    ends.gateway.carry_out([moved])
    [(name, message)] = ends.gateway.told()
    assert (name, section(message, "rw")["remote-host"]) == ("ike-update", CLIENT.encode())
    assert isinstance(ends.gateway.table.sas.look(sa.spi), bytes)


def test_nobody_listens_when_nobody_wants_to_hear(ends: Ends) -> None:
    ends.gateway.service.want(EVENTS, {})
    assert ends.gateway.is_listening
    ends.gateway.service.want((), {})
    assert not ends.gateway.is_listening
    ends.set_up()
    assert ends.gateway.told() == []


def test_only_what_is_wanted_is_told(ends: Ends) -> None:
    ends.gateway.service.want(("ike-updown",), {})
    ends.set_up()
    assert [name for name, _ in ends.gateway.told()] == ["ike-updown"]


def test_a_child_that_is_waited_for_may_come_after_a_rekeying(ends: Ends) -> None:
    """The rekeying was under way when it was asked for; the successor sets it up."""
    connection = client_connection(
        children=(*client_connection().children, msgspec.structs.replace(client_connection().children[0], name="more"))
    )
    world = World()
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(9)))
    client = ServedHost(world, CLIENT, client_settings(connections=(connection,)))
    try:
        client.initiate(gateway, connection)
        world.run(1.0)
        assert client.ask(Rekey(SaFilter(ike="home"), False), seconds=0.0) == Counted(1, 1)
        assert client.ask(Initiate("home", "more")) == Done()
        assert {child.name for child in sa_of(client).children} == {"net", "more"}
        assert not client.is_listening
    finally:
        client.loop.close()


def test_terminate_waits_for_the_end(ends: Ends) -> None:
    ends.set_up()
    assert ends.gateway.ask(Terminate(SaFilter(ike="rw"), False)) == Counted(1, 1)
    assert not ends.gateway.table.sas and not ends.client.table.sas
    assert not ends.gateway.is_listening


def test_events_that_nobody_reads_are_counted_and_not_made(ends: Ends) -> None:
    ends.gateway.service.want(("ike-updown",), {"child-updown": 3})
    ends.set_up()
    assert [name for name, _ in ends.gateway.told()] == ["ike-updown"]
    assert ends.gateway.counters["vici_events_dropped_total"] == 3
    ends.gateway.service.want((), {"child-updown": 1, "ike-updown": 2})
    ends.client.delete(sa_of(ends.client).spi)
    ends.world.run(1.0)
    assert ends.gateway.told() == []
    assert ends.gateway.counters["vici_events_dropped_total"] == 3 + 1 + 2


def client_of(world: World, connection: ConnectionSettings) -> ServedHost:
    return ServedHost(world, CLIENT, client_settings(connections=(connection,)))


def test_who_asks_again_for_what_is_under_way_waits_for_the_same() -> None:
    """Else a script that asks all the time, and does not wait, had any number of attempts under way."""
    world = World()
    connection = client_connection(remote_addrs=(GATEWAY,), local_addrs=(CLIENT,))
    client = client_of(world, connection)
    try:
        # There is nobody yet.
        for number in range(1, 6):
            assert client.ask(Initiate("home", "net"), seconds=0.0) is None
            client.service.on_ask(Ask(number, encode_body(Forget())))
        assert len(client.table.sas) == 1
        assert client.ask(Initiate("home", "net"), seconds=0.0) is None
        Host(world, GATEWAY, gateway_settings(), ListPool(counted(9)))
        world.run(10.0)
        client.turn()
        [answer] = [decode_reply(message.body) for message in client.sent if isinstance(message, Answer)]
        assert answer == Done()
        assert len(client.table.sas) == 1
        assert not client.is_listening
    finally:
        client.loop.close()


def test_what_is_under_way_by_older_settings_is_left_to_itself() -> None:
    world = World()
    connection = client_connection(remote_addrs=(GATEWAY,), local_addrs=(CLIENT,))
    client = client_of(world, connection)
    try:
        assert client.ask(Initiate("home", "net"), seconds=0.0) is None
        changed = msgspec.structs.replace(connection, mobike=True)
        client.table.configure(client_settings(connections=(changed,)))
        assert client.ask(Initiate("home", "net"), seconds=0.0) is None
        assert len(client.table.sas) == 2
        # Nobody answers either, and nobody is left waiting.
        world.run(1000.0)
        client.turn()
        answers = [decode_reply(message.body) for message in client.sent if isinstance(message, Answer)]
        assert answers == [Failed("timeout ike sa init")] * 2
        assert not client.is_listening
    finally:
        client.loop.close()


@pytest.mark.parametrize("number", [0, 1, 3000])
def test_traps_are_listed_page_by_page(number: int) -> None:
    """A page fits into a message, however many there are and whatever they are called."""
    names = [(f"connection-{n}", "x" * 50) for n in range(number)]
    pages = trap_pages(names, 48 * 1024)
    assert [each for page in pages for each in page.traps] == names
    assert all(len(encode_body(page)) < 64 * 1024 for page in pages)
    assert len(pages) == {0: 1, 1: 1, 3000: 5}[number]


def test_what_stands_is_up_at_once() -> None:
    """To initiate a child that stood already took as long as the client had patience."""
    world = World()
    connection = client_connection()
    Host(world, GATEWAY, gateway_settings(), ListPool(counted(9)))
    client = client_of(world, connection)
    try:
        client.initiate(world.hosts[GATEWAY], connection)
        world.run(1.0)
        sent = len(world.sent)
        for order in (Initiate("home", "net"), Initiate("", "net"), Initiate("home", "")):
            assert client.ask(order, seconds=0.0) == Done()
        assert len(world.sent) == sent
        assert not client.is_listening
    finally:
        client.loop.close()
