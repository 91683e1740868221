"""Transport mode: who gets it, how long it stays, and whose selectors it has (RFC 7296 sections 1.3.1 and 2.23.1)."""

from collections.abc import Callable

import msgspec
import pytest
from scapy.layers.inet import IP, UDP
from tests.sim.world import (
    CLIENT,
    ESP,
    GATEWAY,
    Host,
    Nat,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    gateway_settings,
    sa_of,
)

from cygnet.dataplane.userspace import LINGER_S, UserspaceDataplane
from cygnet.iana import NotifyType
from cygnet.ike import transport_mode
from cygnet.ike.effects import ChildFailed, InstallChild, SaEstablished
from cygnet.ike.nat import pack_address
from cygnet.ike.sa import IkeSa
from cygnet.ike.selectors import host_selector, parse_selector
from cygnet.ike.settings import ChildSettings, ConnectionSettings, Mode
from cygnet.ike.tasks import CreateChild, RekeyChild, RekeyIke
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.traffic_selectors import (
    TrafficSelector,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)

OUTSIDE = "203.0.113.1"
CLIENT_6, GATEWAY_6 = "2001:db8:1::1", "2001:db8:2::1"
TUNNEL, TRANSPORT = Mode.TUNNEL, Mode.TRANSPORT


def of_host(address: str) -> tuple[TrafficSelector, ...]:
    return (host_selector(pack_address(address)),)


class Offers:
    """What both ends say of traffic and modes, as it is sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notifies: list[int] = []
        self.selectors: list[tuple[TrafficSelector, ...]] = []

        def tap(name: str, place: int) -> None:
            original: Callable[..., None] = getattr(IkeSa, name)

            def tapped(*arguments: object) -> None:
                self._note(arguments[place])  # type: ignore[arg-type]
                original(*arguments)

            monkeypatch.setattr(IkeSa, name, tapped)

        tap("send_request", 2)
        tap("send_response", 3)

    def _note(self, payloads: tuple[Payload, ...]) -> None:
        for payload in payloads:
            if isinstance(payload, Notify):
                self.notifies.append(payload.notify_type)
            elif isinstance(payload, TrafficSelectorsInitiator | TrafficSelectorsResponder):
                self.selectors.append(payload.selectors)

    def count(self, notify: NotifyType) -> int:
        return self.notifies.count(notify)


class Ends:
    """Two hosts of which the client begins."""

    def __init__(
        self,
        world: World,
        *,
        client: Mode = TRANSPORT,
        gateway: Mode = TRANSPORT,
        client_is_able: bool = True,
        gateway_is_able: bool = True,
        addresses: tuple[str, str] = (CLIENT, GATEWAY),
        **changes: object,
    ) -> None:
        self.world = world
        never = {"rekey_time_s": 0.0, **changes}
        theirs = ChildSettings(name="net", esp_proposals=ESP, mode=gateway, **never)  # type: ignore[arg-type]
        ours = ChildSettings(name="net", esp_proposals=ESP, mode=client, **never)  # type: ignore[arg-type]
        settings = change_connection(gateway_settings(), children=(theirs,), pools=(), rekey_time_s=0.0)
        self.gateway = Host(world, addresses[1], settings)
        self.client = Host(world, addresses[0], client_settings())
        self.gateway.env.takes_transport = gateway_is_able
        self.client.env.takes_transport = client_is_able
        self.connection: ConnectionSettings = client_connection(
            children=(ours,), vips=(), rekey_time_s=0.0, mobike=True
        )

    def begin(self) -> "Ends":
        self.client.initiate(self.gateway, self.connection)
        self.world.run(1.0)
        return self

    def of(self, role: str) -> tuple[Host, Host]:
        return (self.client, self.gateway) if role == "client" else (self.gateway, self.client)

    def order(self, host: Host, task: RekeyChild | RekeyIke | CreateChild) -> None:
        host.carry_out(host.table.order(sa_of(host).spi, task, self.world.now))
        self.world.run(1.0)


def only(host: Host) -> InstallChild:
    (child,) = host.children.values()
    return child


def failures(host: Host) -> list[str]:
    return [e.reason for e in host.events if isinstance(e, ChildFailed)]


@pytest.mark.parametrize("addresses", [(CLIENT, GATEWAY), (CLIENT_6, GATEWAY_6)], ids=["IPv4", "IPv6"])
def test_both_want_it_and_have_it(world: World, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, str]) -> None:
    offers = Offers(monkeypatch)
    ends = Ends(world, addresses=addresses).begin()
    assert agree(ends.client, ends.gateway)
    assert offers.count(NotifyType.USE_TRANSPORT_MODE) == 2
    for host, ours, theirs in ((ends.client, *addresses), (ends.gateway, *addresses[::-1])):
        child = only(host)
        assert child.carriage.is_transport and sa_of(host).children[0].is_transport
        assert (child.ts_local, child.ts_remote, child.seen_by_peer) == (of_host(ours), of_host(theirs), None)


MATRIX = [
    # client, is able, gateway, is able: what comes of it
    (TRANSPORT, True, TRANSPORT, True, "transport"),
    (TRANSPORT, True, TRANSPORT, False, "declined"),
    (TRANSPORT, True, TUNNEL, True, "declined"),
    (TRANSPORT, False, TRANSPORT, True, "refused"),
    (TUNNEL, True, TRANSPORT, True, "tunnel"),
    (TUNNEL, True, TUNNEL, True, "tunnel"),
    (TUNNEL, False, TRANSPORT, False, "tunnel"),
]


@pytest.mark.parametrize(("client", "is_able", "gateway", "peer_is_able", "outcome"), MATRIX)
def test_the_modes_of_both_ends_make_one(
    world: World, client: Mode, is_able: bool, gateway: Mode, peer_is_able: bool, outcome: str
) -> None:
    """A responder answers with tunnel mode what it can't or won't do; an initiator that wants no tunnel deletes it."""
    ends = Ends(world, client=client, gateway=gateway, client_is_able=is_able, gateway_is_able=peer_is_able).begin()
    if outcome == "refused":
        assert ends.client.closed == ["transport_mode_unavailable"]
        assert not ends.client.children and not ends.gateway.children
        return
    assert agree(ends.client, ends.gateway)
    assert len(ends.client.established) == 1 and not ends.client.closed
    if outcome == "declined":
        assert failures(ends.client) == ["transport_mode_declined"]
        assert not ends.client.children and not ends.gateway.children, "it was deleted at once"
        kinds = [type(e) for e in ends.client.events]
        assert kinds.index(ChildFailed) < kinds.index(InstallChild) < kinds.index(SaEstablished)
        [installed] = ends.client.of_kind(InstallChild)
        assert isinstance(installed, InstallChild) and not installed.is_outbound
        return
    assert not failures(ends.client)
    assert (
        only(ends.client).carriage.is_transport == only(ends.gateway).carriage.is_transport == (outcome == "transport")
    )


@pytest.mark.parametrize("is_able", [True, False])
def test_further_children_settle_it_likewise(world: World, is_able: bool) -> None:
    ends = Ends(world, client=TUNNEL, gateway_is_able=is_able).begin()
    connection = sa_of(ends.client).connection
    assert connection is not None
    first = connection.children[0]
    first.settings = msgspec.structs.replace(first.settings, name="host", mode=TRANSPORT)
    ends.order(ends.client, CreateChild("host"))
    assert agree(ends.client, ends.gateway)
    modes = sorted(child.carriage.is_transport for child in ends.gateway.children.values())
    assert modes == ([False, True] if is_able else [False])
    assert failures(ends.client) == ([] if is_able else ["transport_mode_declined"])


def test_a_further_child_that_we_cannot_carry_is_not_asked_for(world: World) -> None:
    ends = Ends(world).begin()
    ends.client.env.takes_transport = False
    connection = sa_of(ends.client).connection
    assert connection is not None
    first = connection.children[0]
    first.settings = msgspec.structs.replace(first.settings, name="host")
    sent = len(world.sent)
    ends.order(ends.client, CreateChild("host"))
    assert failures(ends.client) == ["transport_mode_unavailable"] and len(world.sent) == sent


@pytest.mark.parametrize("role", ["client", "gateway"])
@pytest.mark.parametrize("mode", [TUNNEL, TRANSPORT])
def test_a_successor_has_the_mode_of_what_it_replaces(
    world: World, monkeypatch: pytest.MonkeyPatch, role: str, mode: Mode
) -> None:
    """Also where our own policy says otherwise, since the peer had its way."""
    ends = Ends(world, client=mode).begin()
    offers = Offers(monkeypatch)
    host, peer = ends.of(role)
    old = only(host)
    ends.order(host, RekeyChild(old.spi_in))
    world.run(LINGER_S)
    assert only(host).spi_in != old.spi_in and agree(host, peer)
    is_transport = mode is TRANSPORT
    assert only(host).carriage.is_transport == only(peer).carriage.is_transport == is_transport
    assert offers.count(NotifyType.USE_TRANSPORT_MODE) == 2 * is_transport
    ends.order(host, RekeyIke())
    ends.order(host, RekeyChild(only(host).spi_in))
    world.run(LINGER_S)
    assert only(host).carriage.is_transport == only(peer).carriage.is_transport == is_transport


def test_a_successor_in_tunnel_mode_is_not_taken(world: World) -> None:
    """The peer can't do it any more: the old CHILD_SA stands, and it is asked again later."""
    ends = Ends(world).begin()
    old = only(ends.client)
    ends.gateway.env.takes_transport = False
    ends.order(ends.client, RekeyChild(old.spi_in))
    assert failures(ends.client) == ["transport_mode_declined"]
    assert old.spi_in in ends.client.children
    ends.gateway.env.takes_transport = True
    world.run(LINGER_S)
    [child] = [each for each in sa_of(ends.client).children if each.spi_in == old.spi_in]
    assert child.rekey_due > world.now


@pytest.mark.parametrize("role", ["client", "gateway"])
def test_through_a_nat_each_end_has_the_addresses_that_it_sees(
    world: World, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """RFC 7296 section 2.23.1's own example, with the client or the server behind the NAT, and after a rekeying."""
    offers = Offers(monkeypatch)
    ends = Ends(world)
    client, gateway = ends.client, ends.gateway
    path_to, seen = GATEWAY, (OUTSIDE, GATEWAY)
    if role == "client":
        world.nats.append(Nat(CLIENT, OUTSIDE))
    else:
        nat = Nat(GATEWAY, OUTSIDE)
        for port in (500, 4500):
            nat.ports[GATEWAY, port], nat.back[OUTSIDE, port] = (OUTSIDE, port), (GATEWAY, port)
        world.nats.append(nat)
        path_to, seen = OUTSIDE, (CLIENT, GATEWAY)
    gateway.address = path_to
    ends.begin()

    def check() -> None:
        ours, theirs = only(client), only(gateway)
        assert ours.carriage.is_transport and theirs.carriage.is_transport
        assert (ours.ts_local, ours.ts_remote) == (of_host(CLIENT), of_host(path_to))
        assert (theirs.ts_local, theirs.ts_remote) == (of_host(seen[1]), of_host(seen[0]))
        theirs_seen, ours_seen = (CLIENT, path_to), seen
        assert theirs.seen_by_peer == (pack_address(theirs_seen[1]), pack_address(theirs_seen[0]))
        assert ours.seen_by_peer == (pack_address(ours_seen[0]), pack_address(ours_seen[1]))

    check()
    assert offers.selectors[:2] == [of_host(CLIENT), of_host(path_to)], "what the client has"
    assert offers.selectors[2:4] == [of_host(seen[0]), of_host(seen[1])], "what the gateway has"
    for host, peer in ((client, gateway), (gateway, client)):
        ends.order(host, RekeyChild(only(host).spi_in))
        world.run(LINGER_S + 1.0)
        assert len(host.children) == len(peer.children) == 1
        check()


def test_a_nat_that_is_feigned_changes_no_address(world: World) -> None:
    ends = Ends(world)
    ends.connection = msgspec.structs.replace(ends.connection, encap=True)
    ends.begin()
    assert only(ends.client).is_udp_encapsulated and only(ends.client).carriage.is_transport
    assert only(ends.client).seen_by_peer is None and only(ends.gateway).seen_by_peer is None


def test_selectors_for_ports_are_narrowed_as_ever(world: World) -> None:
    ends = Ends(world)
    web = parse_selector("dynamic[tcp/80]")
    settings = ends.gateway.env.settings
    child = msgspec.structs.replace(settings.connections[0].children[0], local_ts=(web,))
    ends.gateway.env.configure(change_connection(settings, children=(child,)))
    ends.begin()
    [selector] = only(ends.client).ts_remote
    assert (selector.ip_protocol, selector.start_port, selector.end_port) == (6, 80, 80)
    assert only(ends.client).carriage.is_transport and agree(ends.client, ends.gateway)


@pytest.mark.parametrize("wide", ["0.0.0.0/0", "192.0.2.0/24"])
def test_a_policy_for_more_asks_for_the_two_ends_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, wide: str
) -> None:
    """RFC 7296 section 2.23.1: TSi and TSr have exactly one address, those of the IKE_SA."""
    ends = Ends(world)
    offers = Offers(monkeypatch)
    child = msgspec.structs.replace(ends.connection.children[0], local_ts=(parse_selector(wide),))
    ends.connection = msgspec.structs.replace(ends.connection, children=(child,))
    ends.begin()
    assert offers.selectors[:2] == [of_host(CLIENT), of_host(GATEWAY)]
    assert only(ends.client).carriage.is_transport


def test_a_policy_for_others_can_not_ask_for_it(world: World) -> None:
    ends = Ends(world)
    child = msgspec.structs.replace(ends.connection.children[0], remote_ts=(parse_selector("10.1.0.0/16"),))
    ends.connection = msgspec.structs.replace(ends.connection, children=(child,))
    ends.begin()
    assert ends.client.closed == ["transport_mode_unavailable"]


def test_a_peer_that_asks_for_other_hosts_gets_a_tunnel(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(world)
    network = (msgspec.structs.replace(of_host("10.2.0.0")[0], end=pack_address("10.2.255.255")),)
    monkeypatch.setattr(transport_mode, "policy", lambda sa, child: (network, of_host(GATEWAY)))
    settings = ends.gateway.env.settings
    child = msgspec.structs.replace(settings.connections[0].children[0], remote_ts=(parse_selector("10.2.0.0/16"),))
    ends.gateway.env.configure(change_connection(settings, children=(child,)))
    ends.begin()
    [installed] = ends.gateway.of_kind(InstallChild)
    assert isinstance(installed, InstallChild) and not installed.carriage.is_transport
    assert installed.ts_remote == network


@pytest.mark.parametrize("client", [TUNNEL, TRANSPORT])
def test_mobike_is_for_tunnels_alone(world: World, monkeypatch: pytest.MonkeyPatch, client: Mode) -> None:
    """RFC 4555 section 1.2 leaves transport mode out."""
    offers = Offers(monkeypatch)
    Ends(world, client=client, gateway=client).begin()
    assert offers.count(NotifyType.MOBIKE_SUPPORTED) == (2 if client is TUNNEL else 0)


def test_padding_is_left_out(world: World) -> None:
    """Only what says its own length can be padded (RFC 4303 section 2.7)."""
    ends = Ends(world, tfc_padding=1000).begin()
    assert only(ends.client).carriage.tfc_padding == 0


def test_what_one_end_sends_the_other_takes(world: World) -> None:
    """Through a NAT, with both data planes: addresses and checksums are right where it comes out."""
    world.nats.append(Nat(CLIENT, OUTSIDE))
    ends = Ends(world).begin()
    wire: list[bytes] = []
    got: list[bytes] = []

    class Sink:
        def deliver(self, packet: bytes, spi_in: bytes) -> None:
            got.append(packet)

    planes = []
    for host in (ends.client, ends.gateway):
        plane = UserspaceDataplane(Sink(), lambda esp, *_: wire.append(esp), lambda name: None)
        plane.install(only(host))
        planes.append(plane)
    assert planes[0].send_inner(bytes(IP(src=CLIENT, dst=GATEWAY) / UDP(sport=1, dport=2) / b"hello"))
    planes[1].receive_esp(wire[-1], only(ends.gateway).path, world.now)
    come = bytes(IP(src=OUTSIDE, dst=GATEWAY) / UDP(sport=1, dport=2) / b"hello")
    assert got[-1][20:] == come[20:] and IP(got[-1]).src == OUTSIDE
