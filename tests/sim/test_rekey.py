"""New keys for what lives long: by time, by use and by order, from either end, in any weather."""

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec
import pytest
from tests.sim.mail import Mail
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

from cygnet.dataplane.echo import build_echo_request
from cygnet.dataplane.userspace import LINGER_S, UserspaceDataplane
from cygnet.iana import ProtocolId
from cygnet.ike.effects import (
    ChildFailed,
    ChildRekeyed,
    Effect,
    InstallChild,
    RekeyFailed,
    RemoveChild,
    RetireChild,
    UseChild,
)
from cygnet.ike.exchanges.child import PATIENCE_S
from cygnet.ike.path import Path
from cygnet.ike.proposals import ProposalSettings, parse_proposal
from cygnet.ike.settings import ChildSettings, RetransmitPolicy
from cygnet.ike.tasks import DeleteChild, RekeyChild, RekeyIke, Task

NEVER = {"rekey_time_s": 0.0}
PFS = (parse_proposal(ProtocolId.ESP, "aes128gcm16-x25519"),)


def child_settings(side: str, **changes: object) -> ChildSettings:
    """The child of `gateway_settings` or of `client_connection`."""
    connection = gateway_settings().connections[0] if side == "gateway" else client_connection()
    return msgspec.structs.replace(connection.children[0], **changes)


class Ends:
    """A client with a tunnel to a gateway, with the same or with different changes to the settings."""

    def __init__(
        self,
        world: World,
        *,
        connection: Mapping[str, object] | None = None,
        child: Mapping[str, object] | None = None,
        client: Mapping[str, object] | None = None,
        gateway: Mapping[str, object] | None = None,
        kind: type[Host] = Host,
    ) -> None:
        self.world = world
        ours, theirs = {**(child or NEVER), **(client or {})}, {**(child or NEVER), **(gateway or {})}
        settings = change_connection(
            gateway_settings(retransmit=client_settings().retransmit),
            children=(child_settings("gateway", **theirs),),
            **(connection or NEVER),
        )
        self.pool = ListPool(counted(10))
        self.gateway = kind(world, GATEWAY, settings, self.pool)
        self.client = kind(world, CLIENT, client_settings())
        self.client.initiate(
            self.gateway, client_connection(children=(child_settings("client", **ours),), **(connection or NEVER))
        )
        world.run(1.0)
        assert agree(self.client, self.gateway)

    def of(self, role: str) -> tuple[Host, Host]:
        """The one that begins, and its peer."""
        return (self.client, self.gateway) if role == "client" else (self.gateway, self.client)

    def order(self, host: Host, task: Task) -> None:
        host.carry_out(host.table.order(sa_of(host).spi, task, self.world.now))


by_either = pytest.mark.parametrize("role", ["client", "gateway"])
with_and_without_pfs = pytest.mark.parametrize("proposals", [ESP, PFS], ids=["without PFS", "with PFS"])


# Section 1.3.3: CHILD_SAs.


@by_either
@with_and_without_pfs
def test_a_child_gets_new_keys(world: World, role: str, proposals: tuple[ProposalSettings, ...]) -> None:
    ends = Ends(world, child={**NEVER, "esp_proposals": proposals})
    host, peer = ends.of(role)
    [old] = host.children.values()
    ends.order(host, RekeyChild(old.spi_in))
    world.run(1.0)
    [new] = host.children.values()
    assert agree(host, peer)
    assert not {*old.keys_in, *old.keys_out} & ({*new.keys_in, *new.keys_out} - {b""})
    assert (new.ts_local, new.ts_remote) == (old.ts_local, old.ts_remote)
    assert (new.suite.ke is not None) == (proposals is PFS)
    assert host.of_kind(ChildRekeyed) and peer.of_kind(ChildRekeyed)


def test_the_responder_sends_on_the_new_one_when_the_initiator_must_know_of_it(world: World) -> None:
    """Section 2.8: with its Delete for the old one, if not by traffic before that."""
    ends = Ends(world)
    [old] = ends.client.children
    ends.order(ends.client, RekeyChild(old))
    world.run(1.0)
    [_, ours], [_, theirs] = ends.client.of_kind(InstallChild), ends.gateway.of_kind(InstallChild)
    assert isinstance(ours, InstallChild) and isinstance(theirs, InstallChild)
    assert ours.is_outbound and not theirs.is_outbound
    after: list[Effect] = ends.gateway.events[ends.gateway.events.index(theirs) + 1 :]
    changes = [effect for effect in after if isinstance(effect, UseChild | RemoveChild)]
    assert [type(effect) for effect in changes] == [UseChild, RemoveChild]
    assert isinstance(changes[1], RemoveChild) and changes[1].is_succeeded, "what was on the way is still taken"
    assert isinstance(changes[0], UseChild) and changes[0].spi_in == theirs.spi_in


@pytest.mark.parametrize("kind", ["child", "ike"])
def test_another_key_exchange_method_is_asked_for_and_used(world: World, kind: str) -> None:
    """Section 1.3: INVALID_KE_PAYLOAD."""
    curves = "x25519-ecp256"
    first = (parse_proposal(ProtocolId.ESP, f"aes128gcm16-{curves}"),)
    other = (parse_proposal(ProtocolId.ESP, "aes128gcm16-ecp256"),)
    ends = Ends(world, child=NEVER, client={"esp_proposals": first}, gateway={"esp_proposals": other})
    if kind == "ike":
        # The gateway allows no longer what the IKE_SA was made with.
        connection = sa_of(ends.gateway).connection
        assert connection is not None
        narrower = msgspec.structs.replace(
            gateway_settings().connections[0],
            proposals=(parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-ecp256"),),
        )
        sa_of(ends.gateway).connection = type(connection)(narrower)
        wider = client_connection(proposals=(parse_proposal(ProtocolId.IKE, f"aes128gcm16-prfsha256-{curves}"),))
        sa_of(ends.client).connection = type(connection)(wider)
    ends.order(ends.client, RekeyIke() if kind == "ike" else RekeyChild(next(iter(ends.client.children))))
    world.run(LINGER_S + 1)
    assert agree(ends.client, ends.gateway)
    assert ends.gateway.counters['requests_failed_total{reason="invalid_ke_payload"}'] == 1
    assert ends.gateway.counters["ike_sas_rekeyed_total" if kind == "ike" else "child_sas_rekeyed_total"] == 1


def test_a_child_that_the_peer_lost_is_set_up_anew(world: World) -> None:
    """Section 2.25: CHILD_SA_NOT_FOUND; the child is deleted without a word, and created from scratch."""
    ends = Ends(world)
    [old] = ends.client.children
    sa = sa_of(ends.gateway)
    [lost] = sa.children
    sa.children = ()
    ends.gateway.table.release_child_spi(lost.spi_in)
    ends.gateway.carry_out([RemoveChild(sa.spi, lost.spi_in)])
    ends.order(ends.client, RekeyChild(old))
    world.run(1.0)
    assert agree(ends.client, ends.gateway)
    assert len(ends.client.children) == 1 and old not in ends.client.children


def test_a_peer_that_never_can_is_given_up(world: World) -> None:
    """Section 2.25: TEMPORARY_FAILURE for minutes means that the two ends are out of step."""
    ends = Ends(world)
    task = RekeyChild(sa_of(ends.gateway).children[0].spi_in)
    # As if it had been closing it for ever.
    sa_of(ends.gateway).pending = (DeleteChild(task.spi_in),)
    sa_of(ends.gateway).quiet_until = world.now + 10_000
    ends.gateway.table._settle = lambda sa, turn: ends.gateway.table.schedule(sa)  # type: ignore[method-assign]
    ends.order(ends.client, RekeyChild(next(iter(ends.client.children))))
    world.run(60.0)
    assert agree(ends.client, ends.gateway)
    assert 3 <= ends.client.counters["temporary_failures_total"] <= 8
    world.run(900.0)
    assert ends.client.closed == ["temporary_failure"]


# Section 1.3.2: IKE_SAs.


@by_either
def test_an_ike_sa_gets_new_keys(world: World, role: str) -> None:
    ends = Ends(world, connection={**NEVER, "dpd_delay_s": 5.0})
    host, peer = ends.of(role)
    old, children = sa_of(host), dict(host.children)
    address = sa_of(ends.client).virtual_ips
    for _ in range(2):
        ends.order(host, RekeyIke())
        world.run(1.0)
        assert agree(host, peer)
    new = sa_of(host)
    assert new.spi != old.spi and new.is_original_initiator
    assert host.children == children, "nothing happens to the CHILD_SAs"
    assert sa_of(host).virtual_ips == sa_of(peer).virtual_ips == address
    assert set(ends.pool.used) == set(address)
    ends.order(peer, RekeyChild(sa_of(peer).children[0].spi_in))
    world.run(LINGER_S + 30.0)
    assert agree(host, peer), "the new IKE_SA rekeys them, and asks whether the peer lives"
    # Either end may be the first to ask, and then the other has heard from it.
    assert ends.client.counters["liveness_checks_total"] + ends.gateway.counters["liveness_checks_total"] >= 2
    host.delete(sa_of(host).spi)
    world.run(1.0)
    assert not host.table.sas and not peer.table.sas and not ends.pool.used
    assert not host.children and not peer.children


def test_what_waits_goes_on_in_the_new_ike_sa(world: World) -> None:
    ends = Ends(world)
    [old] = ends.client.children
    ends.order(ends.client, RekeyIke())
    ends.order(ends.client, RekeyChild(old))
    world.run(LINGER_S + 1)
    assert agree(ends.client, ends.gateway)
    assert ends.client.counters["child_sas_rekeyed_total"] == ends.client.counters["ike_sas_rekeyed_total"] == 1


def test_an_ike_sa_that_is_rekeyed_while_it_is_to_end_ends(world: World) -> None:
    ends = Ends(world)
    ends.order(ends.client, RekeyIke())
    ends.client.delete(sa_of(ends.client).spi)
    world.run(2.0)
    assert not ends.client.table.sas and not ends.gateway.table.sas
    assert not ends.pool.used


def test_a_peer_that_does_not_delete_the_old_one_is_helped(world: World) -> None:
    """Whoever made the new one is to delete the old one; but not for ever."""
    ends = Ends(world)
    mail = Mail(world, ends.client, ends.gateway)
    ends.order(ends.client, RekeyIke())
    mail.carry(ends.client)
    mail.carry(ends.gateway)
    mail.lose(ends.client)  # its Delete
    ends.client.is_down = True
    assert len(ends.gateway.table.sas) == 2
    world.run(PATIENCE_S + 1)
    assert len(mail.held[GATEWAY]) >= 1, "it deletes the old one itself"
    world.run(200.0)
    assert len(ends.gateway.table.sas) == 1
    assert ends.gateway.closed == ["rekeyed"]


# When.


def test_by_time_and_spread(world: World) -> None:
    """strongSwan's meaning of `rekey_time` and `rand_time`: from the difference up to the time, evenly."""
    times = {"rekey_time_s": 1000.0, "life_time_s": 1500.0, "rand_time_s": 400.0}
    ends = Ends(world, child=times)
    rekeyed: list[float] = []
    for _ in range(30):
        begun = world.now
        before = ends.client.counters["child_sas_rekeyed_total"]
        while ends.client.counters["child_sas_rekeyed_total"] == before:
            world.run(1.0)
        rekeyed.append(world.now - begun)
    world.run(LINGER_S + 1)
    assert agree(ends.client, ends.gateway)
    assert all(590 <= age <= 1002 for age in rekeyed)
    assert max(rekeyed) - min(rekeyed) > 150
    assert not ends.client.closed


def test_an_ike_sa_by_time(world: World) -> None:
    ends = Ends(world, connection={"rekey_time_s": 3600.0})
    world.run(10 * 3600.0)
    assert agree(ends.client, ends.gateway)
    assert 10 <= ends.client.counters["ike_sas_rekeyed_total"] <= 12
    assert not any(reason != "rekeyed" and reason != "redundant" for reason in ends.client.closed)


def test_the_end_of_life_of_a_child_that_cannot_be_rekeyed(world: World) -> None:
    """The gateway accepts no key exchange, the client insists on one: refused, again and again, and then closed."""
    life = {"rekey_time_s": 600.0, "life_time_s": 900.0, "rand_time_s": 0.0}
    ends = Ends(world, client={**life, "esp_proposals": PFS}, gateway={"esp_proposals": ESP})
    world.run(890.0)
    assert len(ends.client.of_kind(ChildFailed)) >= 3
    assert len(ends.client.children) == 1
    world.run(20.0)
    assert not ends.client.children and agree(ends.client, ends.gateway)


def test_the_end_of_life_of_an_ike_sa_that_cannot_be_rekeyed(world: World) -> None:
    ends = Ends(world, connection={"rekey_time_s": 600.0, "over_time_s": 120.0, "rand_time_s": 0.0})
    sa = sa_of(ends.gateway)
    assert sa.connection is not None
    sa.rekey_due = sa.dies = 1e9
    other = parse_proposal(ProtocolId.IKE, "aes256gcm16-prfsha512-x25519")
    changed = msgspec.structs.replace(sa.connection.settings, proposals=(other,))
    sa.connection = type(sa.connection)(changed)
    world.run(715.0)
    assert agree(ends.client, ends.gateway) and len(ends.client.table.sas) == 1
    assert ends.client.counters['rekeyings_refused_total{reason="no_proposal_chosen"}'] >= 2
    assert ends.client.of_kind(RekeyFailed)[0] == RekeyFailed(sa_of(ends.client).spi, "no_proposal_chosen")
    world.run(10.0)
    assert not ends.client.table.sas and not ends.gateway.table.sas
    assert "expired" in ends.client.closed + ends.gateway.closed


# Traffic.


class Carrier(Host):
    """A host with a data plane, whose packets cross the same network."""

    def __init__(self, world: World, *arguments: object, **options: object) -> None:
        super().__init__(world, *arguments, **options)  # type: ignore[arg-type]
        self.received: Counter[bytes] = Counter()
        self.lost: Counter[str] = Counter()
        self.dataplane = UserspaceDataplane(
            self,
            self._send_esp,
            self._lose,
            limit_reached=self._limit_reached,
            entropy=world.rng.randbytes,
            is_awaited=lambda spi_in: self.table.owner_of(spi_in) != b"",
            clock=lambda: world.now,
        )

    def carry_out(self, effects: object) -> None:
        for effect in effects:  # type: ignore[attr-defined]
            match effect:
                case InstallChild():
                    self.dataplane.install(effect)
                case RemoveChild():
                    self.dataplane.remove(effect.spi_in, is_succeeded=effect.is_succeeded)
                case UseChild():
                    self.dataplane.use(effect.spi_in)
                case RetireChild():
                    self.dataplane.retire(effect.spi_in)
            super().carry_out((effect,))

    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        self.received[packet] += 1

    def _send_esp(self, packet: bytes, path: Path, is_udp_encapsulated: bool, traffic_class: int) -> None:
        peer = self.world.hosts[path.remote]
        assert isinstance(peer, Carrier)
        weather = self.world.weather
        back = Path(path.remote, path.remote_port, path.local, path.local_port)
        self.world.at(
            weather.delay + self.world.rng.random() * weather.jitter,
            lambda: peer.dataplane.receive_esp(packet, back, self.world.now),
        )

    def _lose(self, name: str) -> None:
        self.lost[name] += 1

    def _limit_reached(self, spi_in: bytes, is_hard: bool) -> None:
        super().carry_out(())
        self.carry_out(self.table.limit_reached(spi_in, self.world.now, is_hard=is_hard))


def chat(ends: Ends, rounds: int, interval_s: float, between: Callable[[int], None] = lambda n: None) -> list[bytes]:
    """Packets both ways, at that interval; returns them."""
    client, gateway = ends.client, ends.gateway
    assert isinstance(client, Carrier) and isinstance(gateway, Carrier)
    [inner] = sa_of(client).virtual_ips
    server = bytes((10, 1, 0, 1))
    sent = []
    for number in range(rounds):
        for host, source, destination in ((client, inner, server), (gateway, server, inner)):
            packet = build_echo_request(
                source, destination, identifier=1, sequence=number & 0xFFFF, payload=number.to_bytes(4, "big")
            )
            assert host.dataplane.send_inner(packet), host.lost
            sent.append(packet)
        between(number)
        ends.world.run(interval_s)
    return sent


@by_either
@with_and_without_pfs
def test_no_packet_is_lost(role: str, proposals: tuple[ProposalSettings, ...]) -> None:
    """Section 2.8: make before break, though packets overtake each other and answers come late."""
    world = World(seed=7, weather=Weather(delay=0.05, jitter=0.1))
    ends = Ends(world, child={**NEVER, "esp_proposals": proposals, "replay_window": 256}, kind=Carrier)
    host, _ = ends.of(role)

    def rekey(number: int) -> None:
        sa = sa_of(host) if len(host.table.sas) == 1 else None
        if number % 300 == 100 and sa is not None:
            ends.order(host, RekeyChild(sa.children[-1].spi_in))
        elif number % 300 == 200 and sa is not None:
            ends.order(host, RekeyIke())

    sent = chat(ends, 2000, 0.01, rekey)
    world.run(LINGER_S + 1)
    assert agree(ends.client, ends.gateway)
    assert host.counters["child_sas_rekeyed_total"] == 7 and host.counters["ike_sas_rekeyed_total"] == 6
    client, gateway = ends.client, ends.gateway
    assert isinstance(client, Carrier) and isinstance(gateway, Carrier)
    assert client.received + gateway.received == Counter(sent), (client.lost, gateway.lost)
    assert not client.lost and not gateway.lost


@pytest.mark.parametrize("limit", [{"rekey_packets": 100, "rand_packets": 20}, {"rekey_bytes": 4000}], ids=str)
def test_by_use(limit: dict[str, object]) -> None:
    """After so many packets or octets in one direction, and never past the hard limit."""
    world = World(seed=3)
    ends = Ends(world, child=NEVER, client=limit, kind=Carrier)
    sent = chat(ends, 1000, 0.05)
    world.run(LINGER_S + 1)
    assert agree(ends.client, ends.gateway)
    client, gateway = ends.client, ends.gateway
    assert isinstance(client, Carrier) and isinstance(gateway, Carrier)
    assert client.received + gateway.received == Counter(sent)
    assert 7 <= client.counters["child_sas_rekeyed_total"] <= 14


def test_a_child_that_has_carried_all_it_may_is_closed() -> None:
    world = World()
    ends = Ends(world, client={"life_packets": 50}, kind=Carrier)
    client = ends.client
    assert isinstance(client, Carrier)
    with pytest.raises(AssertionError, match="inner_no_tunnel"):
        chat(ends, 60, 0.05)
    assert not ends.client.children and agree(ends.client, ends.gateway)


# Everything at once.


@pytest.mark.parametrize("seed", range(12))
def test_random_schedules_in_bad_weather(seed: int) -> None:
    """Both ends rekey whatever they like whenever they like; the network loses, repeats and reorders."""
    world = World(seed, Weather(loss=0.15, duplication=0.1, delay=0.05, jitter=0.4))
    ends = Ends.__new__(Ends)
    patient = RetransmitPolicy(timeout_s=0.5, base=1.3, tries=12)
    proposals = PFS if seed % 2 else ESP
    times = {"rekey_time_s": 20.0, "life_time_s": 60.0, "rand_time_s": 18.0, "esp_proposals": proposals}
    connection = {"rekey_time_s": 45.0, "over_time_s": 60.0, "rand_time_s": 40.0}
    pool = ListPool(counted(3))
    settings = change_connection(
        gateway_settings(retransmit=patient), children=(child_settings("gateway", **times),), **connection
    )
    ends.gateway = Host(world, GATEWAY, settings, pool)
    ends.client = Host(world, CLIENT, client_settings(retransmit=patient))
    ends.client.initiate(ends.gateway, client_connection(children=(child_settings("client", **times),), **connection))
    ends.world = world
    world.run(5.0)
    for _ in range(60):
        for host in (ends.client, ends.gateway):
            for sa in list(host.table.sas.values()):
                chance = world.rng.random()
                if chance < 0.2 and sa.children:
                    host.carry_out(host.table.order(sa.spi, RekeyChild(sa.children[-1].spi_in), world.now))
                elif chance < 0.3:
                    host.carry_out(host.table.order(sa.spi, RekeyIke(), world.now))
        world.run(world.rng.random() * 8)
    # In fair weather, between two rekeyings, both believe the same, and nothing is left over.
    world.weather = Weather()
    world.run(2 * PATIENCE_S)
    for _ in range(120):
        if len(ends.client.table.sas) == len(ends.client.children) == 1 and agree(ends.client, ends.gateway):
            break
        world.run(0.5)
    else:
        pytest.fail("they don't come to rest")
    assert len(pool.used) == 1
    assert not [r for r in ends.client.closed + ends.gateway.closed if r not in ("rekeyed", "redundant")]
    assert ends.client.counters["ike_sas_rekeyed_total"] >= 3
    assert ends.client.counters["child_sas_rekeyed_total"] >= 8
    for host in (ends.client, ends.gateway):
        assert set(host.table._children) == set(host.children)
        assert {child.spi_in for child in sa_of(host).children} == set(host.children)
        keys = Counter(child.keys_out for child in host.of_kind(InstallChild) if isinstance(child, InstallChild))
        assert max(keys.values()) == 1, "no two SAs have the same key"
    host = ends.client
    host.delete(sa_of(host).spi)
    world.run(1.0)
    assert not pool.used and not ends.gateway.table._children and not host.table._children
