"""Exchange collisions: the tables of RFC 7296 section 2.25, and simultaneous rekeying, sections 2.8.1 and 2.8.2.

Each row of a table is a sentence of the RFC: a peer that is doing something receives a request, and answers so.
"""

from collections.abc import Callable

import msgspec
import pytest
from tests.sim.mail import Mail, describe, entropy_with_nonces
from tests.sim.world import (
    CLIENT,
    ESP,
    GATEWAY,
    Host,
    ListPool,
    Weather,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
    sa_of,
)

from cygnet.dataplane.userspace import LINGER_S
from cygnet.ike.exchanges.child import PATIENCE_S
from cygnet.ike.sa import ChildState, IkeSa
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import ChildSettings
from cygnet.ike.states import SaState
from cygnet.ike.tasks import CreateChild, DeleteChild, DeleteIke, RekeyChild, RekeyIke, Task

EXTRA = "extra"

DOING: dict[str, Callable[[IkeSa], Task]] = {
    "create a child": lambda sa: CreateChild(EXTRA),
    "rekey the child": lambda sa: RekeyChild(sa.children[0].spi_in),
    "close the child": lambda sa: DeleteChild(sa.children[0].spi_in),
    "rekey the IKE_SA": lambda sa: RekeyIke(),
    "close the IKE_SA": lambda sa: DeleteIke(),
}

# While it is trying to ..., a peer receives a request to ..., and answers ...
SECTION_2_25_1 = [
    ("close the child", "rekey the child", "TEMPORARY_FAILURE"),
    ("rekey the child", "rekey the child", "as usual"),
    ("do nothing", "rekey a child that does not exist", "CHILD_SA_NOT_FOUND"),
    ("close the child", "close the child", "without a Delete payload"),
    ("rekey the child", "close the child", "with a Delete payload"),
    ("do nothing", "close a child that does not exist", "without a Delete payload"),
    ("create a child", "rekey the IKE_SA", "TEMPORARY_FAILURE"),
    ("rekey the child", "rekey the IKE_SA", "TEMPORARY_FAILURE"),
    ("close the child", "rekey the IKE_SA", "TEMPORARY_FAILURE"),
]
SECTION_2_25_2 = [
    ("rekey the IKE_SA", "rekey the IKE_SA", "as usual"),
    ("close the IKE_SA", "rekey the IKE_SA", "TEMPORARY_FAILURE"),
    ("rekey the IKE_SA", "close the IKE_SA", "without a Delete payload"),
    ("close the IKE_SA", "close the IKE_SA", "without a Delete payload"),
    ("rekey the IKE_SA", "create a child", "TEMPORARY_FAILURE"),
    ("rekey the IKE_SA", "rekey the child", "TEMPORARY_FAILURE"),
    ("rekey the IKE_SA", "close the child", "with a Delete payload"),
]


@pytest.fixture
def pair(world: World) -> tuple[Host, Host]:
    """A client and a gateway with a tunnel, who may have a second CHILD_SA."""
    more = ChildSettings(EXTRA, ESP, (parse_selector("10.66.0.0/16"),), (parse_selector("10.77.0.0/16"),))
    mirrored = msgspec.structs.replace(more, local_ts=more.remote_ts, remote_ts=more.local_ts)
    settings = gateway_settings()
    children = (*settings.connections[0].children, more)
    gateway = Host(world, GATEWAY, change_connection(settings, children=children), ListPool(counted(9)))
    client = Host(world, CLIENT, client_settings())
    connection = client_connection()
    client.initiate(gateway, msgspec.structs.replace(connection, children=(*connection.children, mirrored)))
    world.run(1.0)
    assert agree(client, gateway)
    return client, gateway


def order(host: Host, task: Task, now: float) -> None:
    host.carry_out(host.table.order(sa_of(host).spi, task, now))


def forget_child(host: Host) -> None:
    """Let a host lose its CHILD_SA without a word: a peer that names it then names what does not exist."""
    sa = sa_of(host)
    host.table.release_child_spi(sa.children[0].spi_in)
    del host.children[sa.children[0].spi_in]
    sa.children = ()


@pytest.mark.parametrize("is_client", [True, False], ids=["client", "gateway"])
@pytest.mark.parametrize(("doing", "request_to", "answer"), SECTION_2_25_1 + SECTION_2_25_2, ids=str)
def test_section_2_25(
    world: World, pair: tuple[Host, Host], is_client: bool, doing: str, request_to: str, answer: str
) -> None:
    receiver, sender = pair if is_client else pair[::-1]
    mail = Mail(world, receiver, sender)
    sender_sa, receiver_sa = sa_of(sender), sa_of(receiver)
    wanted = DOING[request_to.replace("a child that does not exist", "the child")](sender_sa)
    if "does not exist" in request_to:
        forget_child(receiver)
    elif doing != "do nothing":
        order(receiver, DOING[doing](receiver_sa), world.now)
        held = mail.held[receiver.address].pop()
    order(sender, wanted, world.now)
    mail.carry(sender)
    assert describe(mail.read(receiver, sender_sa)) == answer
    if doing != "do nothing":
        mail.held[receiver.address].insert(0, held)
    mail.release()
    # Whatever it was, the two ends agree in the end, and nothing is left over.
    world.run(2 * PATIENCE_S)
    assert agree(receiver, sender)
    is_closed = "close the IKE_SA" in (doing, request_to)
    assert len(sender.table.sas) == (0 if is_closed else 1)
    is_child_closed = "close the child" in (doing, request_to) or request_to.startswith("close a child")
    if not is_closed:
        is_further = "create a child" in (doing, request_to)
        assert len(sender.children) == (0 if is_child_closed else 2 if is_further else 1)


# Which of the four nonces is the lowest: those of the exchange that A begins, and of the one that B begins.
NONCES = {"A's Ni": (0, 0), "A's Nr": (1, 1), "B's Ni": (1, 0), "B's Nr": (0, 1)}


@pytest.mark.parametrize("lowest", NONCES)
@pytest.mark.parametrize("first", ["A", "B"])
def test_section_2_8_1_both_notice(world: World, pair: tuple[Host, Host], lowest: str, first: str) -> None:
    """The SA made with the lowest of the four nonces is closed by who made it; the other's maker deletes the old."""
    a, b = pair
    old = {host.address: sa_of(host).children[0].spi_in for host in pair}
    mail = Mail(world, a, b)
    lowest_at, lowest_draw = NONCES[lowest]
    for index, host in enumerate(pair):
        octets = [0x80, 0x90]
        if index == lowest_at:
            octets[lowest_draw] = 0x10
        entropy_with_nonces(host, *octets)
        order(host, RekeyChild(old[host.address]), world.now)
    made = {host.address: draft.spi for host in pair if (draft := sa_of(host).draft) is not None}
    # The requests cross; then the answers come, in either order.
    mail.carry(a)
    mail.carry(b)
    for host in (a, b) if first == "A" else (b, a):
        mail.carry(host)
    mail.carry_all()
    loser, winner = (a, b) if lowest.startswith("A") else (b, a)
    assert set(mail.asked) == {
        (a.address, RekeyChild(old[a.address])),
        (b.address, RekeyChild(old[b.address])),
        (loser.address, DeleteChild(made[loser.address])),
        (winner.address, DeleteChild(old[winner.address])),
    }
    world.run(LINGER_S + 1)
    assert agree(a, b)
    assert list(winner.children) == [made[winner.address]]
    assert len(loser.children) == 1 and made[loser.address] not in loser.children


def test_section_2_8_1_only_one_notices(world: World, pair: tuple[Host, Host]) -> None:
    """B's rekeying is done, and the old one deleted, when A's delayed request arrives: A finds out, and leaves it."""
    a, b = pair
    mail = Mail(world, a, b)
    for host in pair:
        order(host, RekeyChild(sa_of(host).children[0].spi_in), world.now)
    delayed = mail.held[a.address].pop()
    mail.carry(b)  # B's request
    mail.carry(a)  # and its answer; B deletes the old one now
    mail.held[a.address].insert(0, delayed)
    mail.carry(a)
    assert describe(mail.read(b, sa_of(a))) != "as usual"  # it is B's Delete
    mail.carry(b)
    assert describe(mail.read(b, sa_of(a))) == "TEMPORARY_FAILURE"
    mail.release()
    world.run(2 * PATIENCE_S)
    assert agree(a, b)
    assert len(a.children) == 1
    assert sum(isinstance(task, RekeyChild) for _, task in mail.asked) == 2, "A has not asked again"


@pytest.mark.parametrize("lowest", NONCES)
@pytest.mark.parametrize("first", ["A", "B"])
def test_section_2_8_2_both_notice(world: World, pair: tuple[Host, Host], lowest: str, first: str) -> None:
    """The IKE_SA with the lowest nonce is deleted by who made it; the other one inherits all CHILD_SAs."""
    a, b = pair
    children = {host.address: set(host.children) for host in pair}
    mail = Mail(world, a, b)
    lowest_at, lowest_draw = NONCES[lowest]
    for index, host in enumerate(pair):
        octets = [0x80, 0x90]
        if index == lowest_at:
            octets[lowest_draw] = 0x10
        entropy_with_nonces(host, *octets)
        order(host, RekeyIke(), world.now)
    made = {host.address: draft.spi for host in pair if (draft := sa_of(host).draft) is not None}
    mail.carry(a)
    mail.carry(b)
    for host in (a, b) if first == "A" else (b, a):
        mail.carry(host)
    mail.release()
    world.run(1.0)
    loser, winner = (a, b) if lowest.startswith("A") else (b, a)
    deletes = [address for address, task in mail.asked if isinstance(task, DeleteIke)]
    assert sorted(deletes) == sorted((loser.address, winner.address)), "one deletes its own, one the old one"
    assert agree(a, b)
    assert list(winner.table.sas) == [made[winner.address]]
    assert {host.address: set(host.children) for host in pair} == children
    assert all(len(sa_of(host).children) == 1 for host in pair)
    assert sorted(loser.closed) == sorted(winner.closed) == ["redundant", "rekeyed"]


def cross(pair: tuple[Host, Host], mail: Mail, now: float) -> None:
    """Both have answered the other's request to rekey the IKE_SA; what A has made has the lowest nonce."""
    for host, nonce_i in zip(pair, (0x10, 0x80), strict=True):
        entropy_with_nonces(host, nonce_i, 0x90)
        order(host, RekeyIke(), now)
    for host in pair:
        mail.carry(host)


@pytest.mark.parametrize("is_client", [True, False], ids=["client", "gateway"])
def test_section_2_8_2_an_answer_is_lost(world: World, pair: tuple[Host, Host], is_client: bool) -> None:
    """A can ask for it again: B does not delete the old IKE_SA before A has deleted the redundant one."""
    a, b = pair if is_client else pair[::-1]
    mail = Mail(world, a, b)
    cross((a, b), mail, world.now)
    mail.lose(b)
    mail.release()
    assert len(b.table.sas) == 3, "the old one, what both have made of it, and no more to be said"
    world.run(5.0)  # one retransmission
    assert agree(a, b)
    assert len(sa_of(a).children) == 1
    assert sorted(a.closed) == sorted(b.closed) == ["redundant", "rekeyed"]


def test_section_2_8_2_the_peer_does_not_delete_what_is_redundant(world: World, pair: tuple[Host, Host]) -> None:
    """It is to, but not waited for without end."""
    a, b = pair
    mail = Mail(world, a, b)
    cross((a, b), mail, world.now)
    mail.carry(a)
    a.is_down = True
    world.run(PATIENCE_S + 1)
    deleting = [sa for sa in b.table.sas.values() if sa.state == SaState.DELETING]
    assert len(deleting) == 2 and len(b.table.sas) == 3, "it deletes both itself"
    world.run(200.0)
    assert len(b.table.sas) == 1 and sorted(b.closed) == ["redundant", "rekeyed"]


def test_section_2_8_2_only_one_notices(world: World, pair: tuple[Host, Host]) -> None:
    """B has rekeyed when A's delayed request arrives: TEMPORARY_FAILURE; A forgets its attempt, and B's SA inherits."""
    a, b = pair
    mail = Mail(world, a, b)
    for host in pair:
        order(host, RekeyIke(), world.now)
    old = sa_of(a)
    delayed = mail.held[a.address].pop()
    mail.carry(b)
    assert old.state == SaState.ESTABLISHED and old.children, "A waits for what becomes of its own"
    mail.carry(a)
    mail.held[a.address].insert(0, delayed)
    mail.carry(a)
    mail.held[b.address].reverse()
    assert describe(mail.read(b, old)) == "TEMPORARY_FAILURE"
    mail.release()
    world.run(1.0)
    assert agree(a, b)
    assert len(sa_of(a).children) == 1
    assert sum(isinstance(task, RekeyIke) for _, task in mail.asked) == 2


def test_section_2_8_2_the_delete_comes_first(world: World, pair: tuple[Host, Host]) -> None:
    """The same, and A learns by B's Delete for the old IKE_SA that B has not noticed."""
    a, b = pair
    mail = Mail(world, a, b)
    for host in pair:
        order(host, RekeyIke(), world.now)
    mail.lose(a)
    mail.carry(b)
    mail.carry(a)
    mail.release()
    world.run(1.0)
    assert agree(a, b)
    assert len(sa_of(a).children) == 1
    assert a.closed == ["rekeyed"]


def test_a_peer_that_uses_its_new_ike_sa_early(world: World, pair: tuple[Host, Host]) -> None:
    """B has not noticed A's rekeying, and rekeys the child in its new IKE_SA before A sees the Delete for the old."""
    a, b = pair
    mail = Mail(world, a, b)
    for host in pair:
        order(host, RekeyIke(), world.now)
    mail.lose(a)
    mail.carry(b)
    mail.carry(a)
    delayed = mail.held[b.address].pop()  # the Delete
    [heir] = [sa for sa in b.table.sas.values() if sa.state == SaState.ESTABLISHED]
    b.carry_out(b.table.order(heir.spi, RekeyChild(heir.children[0].spi_in), world.now))
    mail.carry(b)
    [sa] = [sa for sa in a.table.sas.values() if sa.state == SaState.ESTABLISHED]
    assert [child.state for child in sa.children] == [ChildState.REPLACED, ChildState.INSTALLED]
    mail.held[b.address].append(delayed)
    mail.release()
    world.run(LINGER_S + 1)
    assert agree(a, b)
    assert len(a.children) == 1


def test_what_is_ordered_of_an_ike_sa_that_has_not_inherited_yet(world: World, pair: tuple[Host, Host]) -> None:
    """A child that was made in it was forgotten when it inherited, but not by the data plane."""
    a, b = pair
    mail = Mail(world, a, b)
    for host in pair:
        order(host, RekeyIke(), world.now)
    mail.lose(a)
    mail.carry(b)
    mail.carry(a)
    delayed = mail.held[b.address].pop()  # B's Delete for the old one: for B its own heir has all now.
    [heir] = [sa for sa in a.table.sas.values() if sa.predecessor]
    a.carry_out(a.table.order(heir.spi, CreateChild(EXTRA), world.now))
    mail.carry_all()
    mail.held[b.address].append(delayed)
    mail.release()
    world.run(2 * PATIENCE_S)
    assert agree(a, b)
    assert sorted(child.name for child in a.children.values()) == [EXTRA, "net"]
    for host in pair:
        assert set(host.table._children) == set(host.children) == {child.spi_in for child in sa_of(host).children}


@pytest.mark.parametrize("doing", ["rekey the child", "create a child"])
@pytest.mark.parametrize("request_to", ["rekey", "close"])
def test_a_peer_that_rekeys_or_closes_what_it_has_just_made_for_us(
    world: World, pair: tuple[Host, Host], doing: str, request_to: str
) -> None:
    """Its response, in which we see the new CHILD_SA for the first time, is late or lost: its request comes first."""
    a, b = pair
    mail = Mail(world, a, b)
    order(a, DOING[doing](sa_of(a)), world.now)
    mail.carry(a)
    late = mail.held[b.address].pop()
    new = sa_of(b).children[-1].spi_in
    order(b, RekeyChild(new) if request_to == "rekey" else DeleteChild(new), world.now)
    mail.carry(b)
    answer = describe(mail.read(a, sa_of(b)))
    assert answer == ("TEMPORARY_FAILURE" if request_to == "rekey" else "without a Delete payload")
    mail.held[b.address].insert(0, late)
    mail.release()
    world.run(2 * PATIENCE_S)
    assert agree(a, b)
    is_rekeyed = doing == "rekey the child"
    assert len(a.children) == (1 if is_rekeyed else 2) - (request_to == "close")
    for host in pair:
        assert set(host.table._children) == set(host.children) == {child.spi_in for child in sa_of(host).children}


def test_a_peer_that_closes_the_old_child_before_we_know_of_the_new_one(world: World, pair: tuple[Host, Host]) -> None:
    """It may, once it has answered; and what it has answered stands, though its Delete overtakes it."""
    a, b = pair
    mail = Mail(world, a, b)
    [old_a], [old_b] = a.children, b.children
    order(a, RekeyChild(old_a), world.now)
    mail.carry(a)
    late = mail.held[b.address].pop()
    order(b, DeleteChild(old_b), world.now)
    mail.carry(b)
    mail.held[b.address].insert(0, late)
    mail.release()
    world.run(2 * PATIENCE_S)
    assert agree(a, b)
    assert len(a.children) == 1 and old_a not in a.children
    assert not a.closed and not b.closed


@pytest.mark.parametrize("seed", [4, 12, 26, 30, 32])
def test_both_rekey_at_once_in_bad_weather(seed: int) -> None:
    """Seeds with which one end kept a redundant IKE_SA: its maker never got the answer that it was made with."""
    world = World(seed)
    gateway = Host(world, GATEWAY, gateway_settings(retransmit=client_settings().retransmit), ListPool(counted(1)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection())
    world.run(1.0)
    world.weather = Weather(loss=0.1, duplication=0.1, delay=0.03, jitter=0.3)
    for host in (client, gateway):
        order(host, RekeyIke(), world.now)
    world.run(15.0)
    assert agree(client, gateway)
    assert len(sa_of(client).children) == 1
