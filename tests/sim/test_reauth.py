"""A new proof of who the ends are, in time: a new IKE_SA takes the place of the old one, and nothing is interrupted."""

from collections.abc import Mapping

import msgspec
import pytest
from tests.sim.test_rekey import Carrier, Ends, chat
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
    request,
    sa_of,
)

from cygnet.auth.identity import parse_identity
from cygnet.dataplane.echo import build_echo_request
from cygnet.iana import ExchangeType, NotifyType, ProtocolId
from cygnet.ike.effects import SaReauthenticated, Send
from cygnet.ike.nat import pack_address
from cygnet.ike.path import Path
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import AuthSettings, ChildSettings, RetransmitPolicy, SharedSecret
from cygnet.ike.tasks import CreateChild, DeleteChild, Reauthenticate, RekeyIke, TakeOver
from cygnet.wire.header import decode_header
from cygnet.wire.payloads.notify import Notify

HOUR = 3600.0
CREATE_CHILD_SA = ExchangeType.CREATE_CHILD_SA
NEVER = {"rekey_time_s": 0.0}
HOURLY = {"reauth_time_s": HOUR, "over_time_s": 600.0, "rand_time_s": 0.0}
WRONG = SharedSecret(b"another secret")


class Pair(Ends):
    """A client with a tunnel for each of `names`, whose settings may differ from the gateway's."""

    def __init__(
        self,
        world: World,
        *,
        client: Mapping[str, object] | None = None,
        gateway: Mapping[str, object] | None = None,
        names: tuple[str, ...] = ("net",),
        kind: type[Host] = Host,
        retransmit: RetransmitPolicy | None = None,
        further: tuple[str, ...] = (),
    ) -> None:
        self.world = world
        servers = [parse_selector(f"10.{number}.0.0/16") for number in range(1, 1 + len(names))]
        ours, theirs = [], []
        for name, server in zip(names, servers, strict=True):
            common = ChildSettings(name=name, esp_proposals=ESP, rekey_time_s=0.0)
            ours.append(msgspec.structs.replace(common, remote_ts=(server,)))
            theirs.append(msgspec.structs.replace(common, local_ts=(server,)))
        policy = retransmit or client_settings().retransmit
        settings = change_connection(
            gateway_settings(retransmit=policy), children=tuple(theirs), **{**NEVER, **(gateway or {})}
        )
        self.pool = ListPool(counted(3))
        self.gateway = kind(world, GATEWAY, settings, self.pool)
        self.client = kind(world, CLIENT, client_settings(retransmit=policy))
        self.connection = client_connection(children=tuple(ours), **{**NEVER, **(client or {})})
        self.client.initiate(self.gateway, self.connection, further=further)

    def add_children(self) -> None:
        """Set up the other ones too."""
        for child in self.connection.children[1:]:
            self.order(self.client, CreateChild(child.name))
        self.world.run(1.0)

    def names(self, host: Host) -> set[str]:
        return {child.name for child in host.children.values()}


def watch(ends: Pair, seconds: float, names: set[str], step: float = 1.0) -> int:
    """Let time pass; at each step both ends have a CHILD_SA of each name. How many IKE_SAs there were at most."""
    most = 0
    for _ in range(int(seconds / step)):
        ends.world.run(step)
        most = max(most, len(ends.client.table.sas))
        assert ends.names(ends.client) == ends.names(ends.gateway) == names
    return most


def test_the_initiator_makes_before_it_breaks(world: World) -> None:
    ends = Pair(world, client=HOURLY, names=("net", "lan", "dmz"))
    world.run(1.0)
    ends.add_children()
    old, address = sa_of(ends.client).spi, sa_of(ends.client).virtual_ips
    world.run(HOUR - 4.0)
    assert sa_of(ends.client).spi == old
    watch(ends, 4.0, {"net", "lan", "dmz"}, step=0.005)
    world.run(60.0)
    new = sa_of(ends.client)
    assert new.spi != old and agree(ends.client, ends.gateway)
    assert len(ends.client.children) == 3, "and each of them once"
    assert new.virtual_ips == sa_of(ends.gateway).virtual_ips == address and ends.pool.used == set(address)
    assert ends.client.closed == ["reauthenticated"] and ends.gateway.closed == ["deleted_by_peer"]
    assert ends.client.of_kind(SaReauthenticated) == [SaReauthenticated(old, new.spi)]
    assert not ends.gateway.initial_contacts
    watch(ends, 2 * HOUR, {"net", "lan", "dmz"}, step=300.0)
    assert len(ends.client.established) == 4
    ends.client.delete(sa_of(ends.client).spi)
    world.run(1.0)
    assert not ends.pool.used and not ends.gateway.table.sas and not ends.gateway.table._children


def test_no_packet_is_lost() -> None:
    world = World(seed=5)
    ends = Pair(world, client={"reauth_time_s": 5.0, "over_time_s": 3.0, "rand_time_s": 1.0}, kind=Carrier)
    world.run(1.0)
    sent = chat(ends, 1500, 0.02)
    world.run(1.0)
    client, gateway = ends.client, ends.gateway
    assert isinstance(client, Carrier) and isinstance(gateway, Carrier)
    assert sum((client.received + gateway.received).values()) == len(sent), (client.lost, gateway.lost)
    assert client.counters["reauthentications_total"] >= 5


class Slow(Carrier):
    """Whose ESP packets take longer than IKE messages."""

    def _send_esp(self, *packet: object) -> None:
        self.world.at(0.2, lambda: super(Slow, self)._send_esp(*packet))  # type: ignore[arg-type]


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_no_packet_is_lost_that_comes_after_the_delete(whose: str) -> None:
    world = World(seed=5)
    reauth = {"reauth_time_s": 5.0, "over_time_s": 3.0, "rand_time_s": 1.0}
    client_time, gateway_time = (reauth, None) if whose == "ours" else (None, reauth)
    ends = Pair(world, client=client_time, gateway=gateway_time, kind=Slow)
    world.run(1.0)
    sent = chat(ends, 1500, 0.02)
    world.run(1.0)
    client, gateway = ends.client, ends.gateway
    assert isinstance(client, Carrier) and isinstance(gateway, Carrier)
    assert sum((client.received + gateway.received).values()) == len(sent), (client.lost, gateway.lost)
    assert client.counters["reauthentications_total"] >= 4


class Fast(Carrier):
    """Whose ESP packets overtake IKE messages."""

    def _send_esp(self, packet: bytes, path: Path, *how: object) -> None:
        peer = self.world.hosts[path.remote]
        assert isinstance(peer, Carrier)
        back = Path(path.remote, path.remote_port, path.local, path.local_port)
        peer.dataplane.receive_esp(packet, back, self.world.now)


def test_no_packet_is_lost_that_comes_before_the_answer() -> None:
    world = World(seed=5, weather=Weather(delay=0.5))
    ends = Pair(world, kind=Fast)
    client, gateway = ends.client, ends.gateway
    assert isinstance(client, Carrier) and isinstance(gateway, Carrier)
    while not gateway.established:
        world.run(0.1)
    assert not client.established
    packet = build_echo_request(
        bytes((10, 1, 0, 1)), sa_of(gateway).virtual_ips[0], identifier=1, sequence=1, payload=b""
    )
    assert gateway.dataplane.send_inner(packet)
    assert client.lost == {"esp_early": 1}
    world.run(1.0)
    assert client.established and client.received == {packet: 1}


def test_what_ends_for_good_takes_nothing_more() -> None:
    world = World(seed=5)
    ends = Pair(world, kind=Slow)
    world.run(1.0)
    client, gateway = ends.client, ends.gateway
    assert isinstance(client, Carrier) and isinstance(gateway, Carrier)
    chat(ends, 1, 0.0)
    client.delete(sa_of(client).spi)
    world.run(1.0)
    assert not client.received and not gateway.received
    assert client.lost == gateway.lost == {"esp_unknown_spi": 1}


def test_what_the_peer_ends_is_received_from_yet_where_another_worker_may_have_the_next() -> None:
    """With addresses of its own; not with one that we gave it, since another peer may get that."""
    world = World(seed=5)
    ends = Pair(world, client={"vips": ()}, gateway={"pools": ()}, kind=Slow)
    world.run(1.0)
    client, gateway = ends.client, ends.gateway
    assert isinstance(client, Carrier) and isinstance(gateway, Carrier)
    packet = build_echo_request(pack_address(CLIENT), bytes((10, 1, 0, 1)), identifier=1, sequence=1, payload=b"")
    assert client.dataplane.send_inner(packet)
    client.delete(sa_of(client).spi)
    world.run(1.0)
    assert gateway.received == {packet: 1}


def test_no_packet_is_lost_while_the_answer_is() -> None:
    """Until the peer is known to know of the new CHILD_SA, the old one is sent on."""
    world = World(seed=6)
    ends = Pair(world, kind=Carrier)
    world.run(1.0)
    client, gateway = ends.client, ends.gateway
    assert isinstance(client, Carrier) and isinstance(gateway, Carrier)
    lost: list[Send] = []

    def lose_answers(host: Host, send: Send) -> tuple[Send, ...]:
        header = decode_header(send.datagram)
        is_answer = host is gateway and header.exchange_type == ExchangeType.IKE_AUTH
        if is_answer and len(lost) < 3:
            lost.append(send)
            return ()
        return (send,)

    world.tamper = lose_answers

    def begin(number: int) -> None:
        if number == 10:
            ends.order(client, Reauthenticate())

    sent = chat(ends, 500, 0.02, begin)
    world.run(1.0)
    assert len(lost) == 3 and len(client.established) == 2 and client.closed == ["reauthenticated"]
    assert sum((client.received + gateway.received).values()) == len(sent), (client.lost, gateway.lost)


def test_the_time_is_spread(world: World) -> None:
    ends = Pair(world, client={"reauth_time_s": 1000.0, "over_time_s": 500.0, "rand_time_s": 400.0})
    begun: list[float] = []
    for _ in range(12):
        before, count = world.now, len(ends.client.established)
        while len(ends.client.established) == count:
            world.run(5.0)
        begun.append(world.now - before)
    ages = begun[1:]
    assert all(595 <= age <= 1010 for age in ages) and max(ages) - min(ages) > 100
    assert set(ends.client.closed) == {"reauthenticated"}


def test_new_keys_do_not_make_the_proof_count_for_longer(world: World) -> None:
    """It is as old as the first IKE_SA of the line, whoever rekeys."""
    ends = Pair(world, client=HOURLY)
    world.run(HOUR / 2)
    ends.order(ends.client, RekeyIke())
    world.run(HOUR / 4)
    ends.order(ends.gateway, RekeyIke())
    world.run(1.0)
    assert not sa_of(ends.client).is_original_initiator
    world.run(HOUR / 4 - 10)
    assert ends.client.counters["reauthentications_total"] == 0
    world.run(20.0)
    assert ends.client.counters["reauthentications_total"] == 1
    assert agree(ends.client, ends.gateway) and sa_of(ends.client).is_original_initiator


def test_one_who_is_refused_tries_until_the_end(world: World) -> None:
    ends = Pair(world, client=HOURLY)
    world.run(1.0)
    right = ends.client.env.settings
    ends.client.env.configure(msgspec.structs.replace(right, secrets=(WRONG,)))
    watch(ends, HOUR + 590.0, {"net"}, step=10.0)
    assert ends.client.counters["reauthentications_total"] >= 5
    assert ends.pool.used == set(sa_of(ends.client).virtual_ips)
    world.run(20.0)
    assert "expired" in ends.client.closed
    assert not ends.client.table.sas and not ends.gateway.table.sas and not ends.pool.used


def test_one_who_is_refused_for_a_while_goes_on(world: World) -> None:
    ends = Pair(world, client=HOURLY)
    world.run(1.0)
    right = ends.client.env.settings
    ends.client.env.configure(msgspec.structs.replace(right, secrets=(WRONG,)))
    watch(ends, HOUR + 200.0, {"net"}, step=10.0)
    ends.client.env.configure(right)
    watch(ends, 600.0, {"net"}, step=10.0)
    assert agree(ends.client, ends.gateway) and len(ends.client.established) == 2


def test_a_child_that_is_refused_does_not_hold_it_up(world: World) -> None:
    ends = Pair(world, client=HOURLY, names=("net", "lan"))
    world.run(1.0)
    ends.add_children()
    settings = ends.gateway.env.settings
    ends.gateway.env.configure(change_connection(settings, children=settings.connections[0].children[:1]))
    world.run(HOUR + 60.0)
    assert agree(ends.client, ends.gateway) and ends.names(ends.client) == {"net"}
    assert ends.client.closed == ["reauthenticated"]


def test_children_that_are_gone_stay_gone_and_new_ones_come_along(world: World) -> None:
    ends = Pair(world, client=HOURLY, names=("net", "lan"))
    world.run(1.0)
    [first] = ends.client.children
    ends.add_children()
    ends.order(ends.client, DeleteChild(first))
    world.run(HOUR + 60.0)
    assert agree(ends.client, ends.gateway) and ends.names(ends.client) == {"lan"}
    assert len(ends.client.established) == 2


def test_a_peer_that_ends_the_old_one_at_once_loses_no_child(world: World) -> None:
    """As one with `unique = replace` does, which believes that a peer has one IKE_SA."""
    ends = Pair(world, names=("net", "lan"))
    world.run(1.0)
    ends.add_children()
    old = sa_of(ends.gateway).spi
    ends.order(ends.client, Reauthenticate())
    while len(ends.gateway.established) < 2:
        world.run(0.005)
    ends.gateway.delete(old)
    world.run(5.0)
    assert agree(ends.client, ends.gateway)
    assert len(ends.client.table.sas) == 1 and ends.names(ends.client) == {"net", "lan"}


def test_an_ike_sa_that_is_rekeyed_meanwhile_goes_too(world: World) -> None:
    ends = Pair(world)
    world.run(1.0)
    ends.order(ends.client, Reauthenticate())
    effects = ends.gateway.table.order(sa_of(ends.gateway).spi, RekeyIke(), world.now)
    ends.gateway.carry_out(effects)
    world.run(5.0)
    assert len(ends.client.table.sas) == 1 and agree(ends.client, ends.gateway)
    assert len(ends.client.established) == 2 and len(ends.client.children) == 1
    assert ends.gateway.counters["ike_sas_rekeyed_total"] == 1


def test_one_successor_is_enough_though_it_is_rekeyed_before_it_has_taken_over(world: World) -> None:
    """Two would each leave the old IKE_SA to the other, and both stand for good."""
    ends = Pair(world, names=("net", "lan"))
    world.run(1.0)
    ends.add_children()
    old = sa_of(ends.client).spi
    late: list[Send] = []

    def hold_rekeying(host: Host, send: Send) -> tuple[Send, ...]:
        header = decode_header(send.datagram)
        is_held = host is ends.gateway and not late and not header.is_response
        late.extend([send] if is_held else [])
        return () if is_held else (send,)

    ends.order(ends.client, Reauthenticate())
    while len(ends.gateway.established) < 2:
        world.run(0.001)
    # The gateway rekeys the successor when it is to make the second child there, and is heard after it has refused.
    world.tamper = hold_rekeying
    successor, successor_i = ends.gateway.established[1].sa, [*ends.client.table.sas][1]
    ends.gateway.carry_out(ends.gateway.table.order(successor, RekeyIke(), world.now))
    world.run(0.5)
    assert ends.client.counters["temporary_failures_total"] == 1
    path = late[0].path
    ends.client.receive(late[0].datagram, Path(path.remote, path.remote_port, path.local, path.local_port))
    # The successor goes, and its heir, whose request for the child is lost, has still to take over.
    world.tamper = lambda host, send: (send,) if decode_header(send.datagram).exchange_type != CREATE_CHILD_SA else ()
    world.run(0.5)
    assert len(ends.client.table.sas) == 2 and ends.client.table.sa(successor_i) is None
    world.tamper = lambda host, send: (send,)
    ends.client.carry_out(ends.client.table.order(old, Reauthenticate(), world.now))
    world.run(60.0)
    assert agree(ends.client, ends.gateway) and ends.names(ends.client) == {"net", "lan"}
    assert len(ends.client.table.sas) == 1 and ends.client.counters["reauthentications_total"] == 1


def test_by_order(world: World) -> None:
    """Only the end that began can; and one at a time."""
    ends = Pair(world)
    world.run(1.0)
    ends.order(ends.gateway, Reauthenticate())
    world.run(1.0)
    assert not ends.gateway.counters["reauthentications_total"]
    old = sa_of(ends.client).spi
    for _ in range(2):
        ends.client.carry_out(ends.client.table.order(old, Reauthenticate(), world.now))
    world.run(1.0)
    assert ends.client.counters["reauthentications_total"] == 1
    assert agree(ends.client, ends.gateway) and len(ends.client.established) == 2


# RFC 4478.


def test_the_responder_says_for_how_long_the_proof_counts(world: World) -> None:
    """And the initiator, whose own settings say nothing of it, begins some time before that is over."""
    ends = Pair(world, gateway=HOURLY)
    world.run(1.0)
    address = sa_of(ends.client).virtual_ips
    watch(ends, HOUR * 0.79, {"net"}, step=300.0)
    assert not ends.client.counters["reauthentications_total"]
    watch(ends, HOUR * 0.21, {"net"}, step=10.0)
    assert len(ends.client.established) == 2
    assert agree(ends.client, ends.gateway) and sa_of(ends.client).virtual_ips == address
    watch(ends, 2 * HOUR, {"net"}, step=300.0)
    assert set(ends.gateway.closed) == {"deleted_by_peer"}


def test_the_earlier_one_counts(world: World) -> None:
    ends = Pair(world, client={**HOURLY, "reauth_time_s": HOUR / 2}, gateway=HOURLY)
    world.run(HOUR / 2 + 10)
    assert ends.client.counters["reauthentications_total"] == 1
    ends = Pair(World(), client={**HOURLY, "reauth_time_s": 2 * HOUR}, gateway=HOURLY)
    ends.world.run(HOUR)
    assert ends.client.counters["reauthentications_total"] == 1


def test_a_peer_that_does_not_authenticate_itself_anew_is_put_out(world: World) -> None:
    ends = Pair(world, gateway=HOURLY)
    world.run(1.0)
    sa_of(ends.client).proof = None
    sa_of(ends.client).dies = 1e9
    watch(ends, HOUR + 590.0, {"net"}, step=10.0)
    world.run(20.0)
    assert ends.gateway.closed == ["expired"] and ends.client.closed == ["deleted_by_peer"]
    assert not ends.pool.used


def test_rekeying_does_not_put_it_off(world: World) -> None:
    ends = Pair(world, gateway=HOURLY)
    world.run(1.0)
    sa_of(ends.client).proof = None
    sa_of(ends.client).dies = 1e9
    for _ in range(7):
        world.run(HOUR / 7)
        ends.order(ends.client, RekeyIke())
    world.run(610.0)
    assert "expired" in ends.gateway.closed and not ends.gateway.table.sas and not ends.client.table.sas


@pytest.mark.parametrize("data", [b"", b"\x00\x01", bytes(5)], ids=len)
def test_an_auth_lifetime_of_another_length_is_none(world: World, data: bytes) -> None:
    ends = Pair(world)
    world.run(1.0)
    tell(ends, data)
    assert sa_of(ends.client).proof is None


def tell(ends: Pair, data: bytes, teller: str = "gateway") -> None:
    host, peer, local, remote = (
        (ends.gateway, ends.client, CLIENT, GATEWAY)
        if teller == "gateway"
        else (ends.client, ends.gateway, GATEWAY, CLIENT)
    )
    message = request(host, (Notify(ProtocolId.NONE, b"", NotifyType.AUTH_LIFETIME, data),))
    peer.receive(message, Path(local, 500, remote, 500))


def test_it_may_be_said_later_too(world: World) -> None:
    """RFC 4478 section 3: in an INFORMATIONAL request. None at all is once a second at most."""
    ends = Pair(world)
    world.run(1.0)
    tell(ends, bytes(4))
    world.run(2.0)
    assert ends.client.counters["reauthentications_total"] == 1
    assert agree(ends.client, ends.gateway) and sa_of(ends.client).proof is None


def test_the_end_that_began_may_not_say_it(world: World) -> None:
    ends = Pair(world)
    world.run(1.0)
    tell(ends, bytes(4), "client")
    world.run(10.0)
    assert sa_of(ends.gateway).proof is None


# Addresses.


def test_another_peer_does_not_get_an_address_by_asking_for_it(world: World) -> None:
    ends = Pair(world)
    world.run(1.0)
    [address] = sa_of(ends.client).virtual_ips
    other = Host(world, "192.0.2.9", client_settings())
    local = AuthSettings(id=parse_identity("mallory@example.org"))
    other.initiate(ends.gateway, msgspec.structs.replace(ends.connection, vips=(address,), local=local))
    world.run(1.0)
    assert all(sa.virtual_ips != (address,) for sa in other.established)
    for spi in list(other.table.sas):
        other.delete(spi)
    world.run(1.0)
    assert address in ends.pool.used


# Everything at once.


@pytest.mark.parametrize("seed", range(4))
def test_in_bad_weather(seed: int) -> None:
    world = World(seed, Weather(loss=0.15, duplication=0.1, delay=0.05, jitter=0.4))
    often = {"rekey_time_s": 45.0, "over_time_s": 60.0, "rand_time_s": 20.0, "reauth_time_s": 60.0}
    policy = RetransmitPolicy(timeout_s=0.5, base=1.3, tries=12)
    ends = Pair(world, client=often, gateway=often, names=("net", "lan"), retransmit=policy)
    world.run(6.0)
    for sa in list(ends.client.table.sas.values()):
        ends.client.carry_out(ends.client.table.order(sa.spi, CreateChild("lan"), world.now))
    world.run(6.0)
    for _ in range(80):
        world.run(world.rng.random() * 8)
        assert ends.names(ends.client) == ends.names(ends.gateway) == {"net", "lan"}
    world.weather = Weather()
    for _ in range(400):
        world.run(0.5)
        is_one = len(ends.client.table.sas) == 1 and len(ends.client.children) == 2
        if is_one and agree(ends.client, ends.gateway):
            break
    else:
        pytest.fail("they don't come to rest")
    assert ends.client.counters["reauthentications_total"] >= 5
    assert len(ends.pool.used) == 1
    for host in (ends.client, ends.gateway):
        assert set(host.table._children) == set(host.children)
    assert not any(isinstance(task, TakeOver) for host in (ends.client, ends.gateway) for task in sa_of(host).pending)


class HandedOver(ListPool):
    """Addresses that came from another worker."""

    def is_handed_over(self, address: bytes) -> bool:
        return True


@pytest.mark.parametrize(
    ("workers", "pool", "has_vip", "yields"),
    [
        (1, ListPool, True, False),
        (1, ListPool, False, False),
        (3, ListPool, True, False),
        (3, ListPool, False, True),
        (3, HandedOver, True, True),
    ],
)
def test_the_first_child_yields_where_another_worker_may_have_an_older_one(
    world: World, workers: int, pool: type[ListPool], has_vip: bool, yields: bool
) -> None:
    """Of an address it is known whether one may, and of what is behind a peer it is not."""
    addresses = pool(counted(2))
    pools = ("pool",) if has_vip else ()
    gateway = Host(world, GATEWAY, change_connection(gateway_settings(), pools=pools), addresses)
    gateway.env.workers = workers
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(**({} if has_vip else {"vips": ()})))
    world.run(1.0)
    assert [child.yields for child in gateway.children.values()] == [yields]
    assert [child.yields for child in client.children.values()] == [False], "who begins knows that the peer has it"


def test_a_further_child_yields_until_who_asked_for_it_knows(world: World) -> None:
    pair = Pair(world, names=("net", "other"), further=("other",))
    world.run(5.0)
    yields = {child.name: child.yields for child in pair.gateway.children.values()}
    assert yields == {"net": False, "other": True}
    assert not any(child.yields for child in pair.client.children.values())
