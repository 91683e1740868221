"""Lists of SAs while others want to be served too."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from tests.sim.world import CLIENT, GATEWAY, Host, ListPool, World, client_connection, client_settings, counted
from tests.sim.world import gateway_settings as plain_settings
from tests.unit.gateway.commands.test_worker_service import ServedHost

from cygnet.auth.identity import parse_identity
from cygnet.dataplane.base import Carried
from cygnet.dataplane.userspace import UserspaceDataplane
from cygnet.gateway.commands import sa_listing
from cygnet.gateway.commands.sa_listing import TURN_S, SaListing
from cygnet.gateway.commands.worker_requests import ListSas, NextPage, SaPage, decode_reply, encode_body
from cygnet.gateway.control import Answer, Ask
from cygnet.ike.errors import LocalError
from cygnet.ike.sa import ChildSa
from cygnet.ike.settings import ConnectionSettings
from cygnet.ike.spi import unique_id
from cygnet.vici.message import Section, decode
from cygnet.vici.packet import LENGTH, decode_packet
from cygnet.vici.views import SaFilter

SAS = 24
LOOK_S = 0.0003


def named(number: int) -> ConnectionSettings:
    connection = client_connection()
    local = msgspec.structs.replace(connection.local, id=parse_identity(f"c{number}@example.org"))
    return msgspec.structs.replace(connection, local=local)


@pytest.fixture
def gateway() -> Iterator[ServedHost]:
    """With many tunnels, all of them asleep."""
    world = World()
    gateway = ServedHost(world, GATEWAY, plain_settings(), ListPool(counted(SAS)))
    client = Host(world, CLIENT, client_settings())
    for number in range(SAS):
        client.initiate(gateway, named(number))
    world.run(1.0)
    gateway.table.sas.rest_all(world.now)
    dataplane_of(gateway).rest(world.now + 60, 1000)
    assert gateway.table.sas.awake == 0 and len(gateway.table.sas) == SAS
    yield gateway
    gateway.loop.close()


def dataplane_of(gateway: ServedHost) -> UserspaceDataplane:
    dataplane = gateway.driver.dataplane
    assert isinstance(dataplane, UserspaceDataplane)
    return dataplane


class Stopwatch:
    """A clock that goes on when SAs are looked at, and not else."""

    def __init__(self, gateway: ServedHost) -> None:
        self.now = 0.0
        self._carried = dataplane_of(gateway).carried

    def carried(self, spi_in: bytes) -> Carried | None:
        self.now += LOOK_S
        return self._carried(spi_in)

    def read(self) -> float:
        return self.now

    def read_slowly(self) -> float:
        self.now += 0.0001
        return self.now


async def turns_of(stopwatch: Stopwatch, work: AsyncIterator[object]) -> tuple[list[object], list[float]]:
    """What comes of it, and how long the others had to wait for each of their turns meanwhile."""
    waits: list[float] = []
    before = stopwatch.now
    is_over = False

    async def others() -> None:
        nonlocal before
        while not is_over:
            waits.append(stopwatch.now - before)
            before = stopwatch.now
            await asyncio.sleep(0)
        waits.append(stopwatch.now - before)

    task = asyncio.ensure_future(others())
    found = [each async for each in work]
    is_over = True
    await task
    return found, waits


def events(octets: bytes) -> list[Section]:
    """The messages of packets of `list-sa`."""
    found: list[Section] = []
    while octets:
        (length,) = LENGTH.unpack_from(octets)
        packet = decode_packet(octets[LENGTH.size : LENGTH.size + length])
        assert packet.name == "list-sa"
        found.append(decode(packet.body))
        octets = octets[LENGTH.size + length :]
    return found


def listing(gateway: ServedHost, stopwatch: Stopwatch, *, is_slow: bool = False) -> SaListing:
    dataplane_of(gateway).carried = stopwatch.carried  # type: ignore[method-assign]
    timer = stopwatch.read_slowly if is_slow else stopwatch.read
    return SaListing(gateway.table, gateway.driver.dataplane, gateway.driver.clock, timer=timer)


def test_no_turn_of_a_list_is_longer_than_its_bound(gateway: ServedHost) -> None:
    stopwatch = Stopwatch(gateway)
    found, waits = gateway.loop.run_until_complete(turns_of(stopwatch, listing(gateway, stopwatch).packets(SaFilter())))
    assert len(found) == SAS
    assert sum(waits) == pytest.approx(SAS * LOOK_S)
    assert max(waits) <= TURN_S + LOOK_S
    # And it is not polite without need: what fits into a turn is done in it.
    assert len([wait for wait in waits if wait]) <= SAS * LOOK_S / TURN_S + 1


def test_an_ike_sa_with_many_children_takes_several_turns(gateway: ServedHost) -> None:
    spi = next(iter(gateway.table.sas))
    sa = gateway.table.sas[spi]
    sa.children = tuple(msgspec.structs.replace(sa.children[0], name=f"n{number}") for number in range(40))
    stopwatch = Stopwatch(gateway)
    chosen = SaFilter(ike_id=unique_id(spi))
    found, waits = gateway.loop.run_until_complete(turns_of(stopwatch, listing(gateway, stopwatch).packets(chosen)))
    ((event,),) = [events(packet) for packet in found if isinstance(packet, bytes)]
    shown = event["rw"]
    assert isinstance(shown, dict) and isinstance(shown["child-sas"], dict)
    assert len(shown["child-sas"]) == 40
    assert sum(waits) == pytest.approx(40 * LOOK_S)
    assert max(waits) <= TURN_S + LOOK_S


def test_more_children_than_a_packet_holds_come_in_several(
    gateway: ServedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sa_listing, "_MAX_CHILDREN_OCTETS", 1200)
    sa = gateway.table.sas[next(iter(gateway.table.sas))]
    children: tuple[ChildSa, ...] = tuple(
        msgspec.structs.replace(sa.children[0], name=f"n{number}") for number in range(5)
    )
    sa.children = children
    stopwatch = Stopwatch(gateway)
    work = listing(gateway, stopwatch).packets(SaFilter(ike_id=unique_id(sa.spi)))
    packets, _ = gateway.loop.run_until_complete(turns_of(stopwatch, work))
    shown = [event["rw"] for packet in packets if isinstance(packet, bytes) for event in events(packet)]
    assert len(shown) > 1
    names: list[str] = []
    for part in shown:
        assert isinstance(part, dict) and isinstance(part["child-sas"], dict)
        names += part["child-sas"]
    assert names == [f"{child.name}-{unique_id(child.spi_in)}" for child in children]


@pytest.mark.parametrize("chosen", [SaFilter(ike_id=1), SaFilter(child_id=1), SaFilter(ike="another")])
def test_a_search_that_finds_nothing_leaves_the_others_their_turns(gateway: ServedHost, chosen: SaFilter) -> None:
    stopwatch = Stopwatch(gateway)
    work = listing(gateway, stopwatch, is_slow=True).chosen(chosen)
    found, waits = gateway.loop.run_until_complete(turns_of(stopwatch, work))
    assert not found
    assert sum(waits) > TURN_S
    assert max(waits) <= TURN_S + 0.0003


def test_looking_wakes_nothing_and_finds_what_is_meant(gateway: ServedHost) -> None:
    spis = list(gateway.table.sas)
    sa = gateway.table.sas.view(spis[3])
    assert sa is not None
    [child] = sa.children
    looked = SaListing(gateway.table, gateway.driver.dataplane, gateway.driver.clock)

    async def found(chosen: SaFilter) -> list[bytes]:
        return [each.spi async for each, _ in looked.chosen(chosen)]

    def run(chosen: SaFilter) -> list[bytes]:
        return gateway.loop.run_until_complete(found(chosen))

    assert run(SaFilter(ike_id=unique_id(sa.spi))) == [sa.spi]
    assert run(SaFilter(child_id=unique_id(child.spi_in))) == [sa.spi]
    assert run(SaFilter(identity=str(sa.remote_id))) == [sa.spi]
    assert run(SaFilter(vip=".".join(map(str, sa.virtual_ips[0])))) == [sa.spi]
    assert run(SaFilter(peer=CLIENT, child="net", ike="rw")) == spis
    assert run(SaFilter(child="other")) == run(SaFilter(peer="192.0.2.99")) == []
    assert gateway.table.sas.awake == 0


def test_a_number_that_two_have_is_no_choice(gateway: ServedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sa_listing, "unique_id", lambda spi: 7)
    looked = SaListing(gateway.table, gateway.driver.dataplane, gateway.driver.clock)

    async def first() -> None:
        async for _ in looked.chosen(SaFilter(ike_id=7)):
            raise AssertionError("one was chosen")

    with pytest.raises(LocalError, match="several SAs have that number"):
        gateway.loop.run_until_complete(first())


def test_pages_are_made_as_they_are_taken_and_a_packet_may_go_on_in_the_next(
    gateway: ServedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cygnet.gateway.commands.worker_service._PAGE_OCTETS", 700)
    gateway.service.on_ask(Ask(99, encode_body(ListSas(SaFilter()))))
    pages: list[SaPage] = []
    while True:
        gateway.turn()
        assert len([each for each in gateway.sent if isinstance(each, Answer)]) == len(pages) + 1
        answer = gateway.sent[-1]
        assert isinstance(answer, Answer)
        page = decode_reply(answer.body)
        assert isinstance(page, SaPage) and len(page.packets) <= 700
        pages.append(page)
        if answer.is_last:
            break
        gateway.service.on_ask(Ask(99, encode_body(NextPage())))
    assert len(events(b"".join(page.packets for page in pages))) == SAS
    assert {page.is_whole for page in pages} == {True, False} and pages[-1].is_whole
