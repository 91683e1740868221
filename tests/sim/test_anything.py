"""Anything at any time: both ends do whatever they can do, the network does what it likes to it, and clocks jump.

Whatever has crossed with what, afterwards both ends have the same SAs, and neither has anything else; meanwhile no key
has sealed two messages with one nonce, and no message was taken twice. A seed that once failed has a name.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec
import pytest
from tests.sim.test_rekey import Carrier
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
)

from cygnet.crypto.protection import _AeadProtection
from cygnet.dataplane.echo import build_echo_request
from cygnet.dataplane.userspace import LINGER_S
from cygnet.iana import ProtocolId
from cygnet.ike import requests
from cygnet.ike.effects import InstallChild
from cygnet.ike.exchanges.child import PATIENCE_S
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.path import Path
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import ChildSettings, RetransmitPolicy
from cygnet.ike.states import SaState
from cygnet.ike.tasks import CreateChild, DeleteChild, Probe, Reauthenticate, RekeyChild, RekeyIke, Task

GROUPS, SEEDS = 12, 16
ACTIONS = 14
ELSEWHERE = ("192.0.2.2", "192.0.2.3", "2001:db8:1::1")
GATEWAY_6 = "2001:db8:2::1"
PFS = (parse_proposal(ProtocolId.ESP, "aes128gcm16-x25519"),)
PATIENT = RetransmitPolicy(timeout_s=0.5, base=1.3, tries=14)


@pytest.fixture(autouse=True)
def packing() -> None:
    """Every other seed packs its SAs all the time."""


class Notary:
    """Sees every message sealed and every request and response taken, by all ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nonces: Counter[tuple[bytes, bytes]] = Counter()
        self.taken: Counter[tuple[object, ...]] = Counter()
        seal = _AeadProtection.seal
        notary = self

        def sealing(protection: _AeadProtection, aad: bytes, plaintext: bytes, suffix: bytes = b"") -> bytes:
            sealed = seal(protection, aad, plaintext, suffix)
            notary.nonces[protection.keys[0], sealed[: protection.iv_octets]] += 1
            return sealed

        monkeypatch.setattr(_AeadProtection, "seal", sealing)
        send_response = IkeSa.send_response

        def responding(sa: IkeSa, *arguments: object) -> None:
            notary.taken["request", sa.spi, sa.message_ids.expected_id] += 1
            send_response(sa, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(IkeSa, "send_response", responding)
        finish = requests.finish

        def finishing(sa: IkeSa, parts: Parts, turn: Turn) -> None:
            waiting = sa.message_ids.outstanding
            assert waiting is not None
            notary.taken["response", sa.spi, waiting.message_id] += 1
            finish(sa, parts, turn)

        monkeypatch.setattr(requests, "finish", finishing)

    def check(self) -> None:
        """Raises AssertionError with what came twice."""
        assert not [key for key, times in self.nonces.items() if times > 1], "a nonce was used twice with a key"
        assert not [key for key, times in self.taken.items() if times > 1], "a message was taken twice"


@pytest.fixture
def notary(monkeypatch: pytest.MonkeyPatch) -> Notary:
    return Notary(monkeypatch)


class Life:
    """Two ends, and what happens to them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(seed, Weather(loss=0.12, duplication=0.15, delay=0.03, jitter=0.3))
        esp = PFS if seed % 3 else ESP
        extra = ChildSettings("extra", esp, (parse_selector("10.66.0.0/16"),), (parse_selector("10.77.0.0/16"),))
        mirrored = msgspec.structs.replace(extra, local_ts=extra.remote_ts, remote_ts=extra.local_ts)
        both = {"dpd_delay_s": 7.0}
        ours, theirs = gateway_settings(retransmit=PATIENT), client_connection(mobike=True, **both)
        children = [msgspec.structs.replace(each, esp_proposals=esp) for each in ours.connections[0].children]
        self.pool = ListPool(counted(4))
        self.gateway = End(self.world, GATEWAY, change_connection(ours, children=(*children, extra), **both), self.pool)
        self.gateway.set_addresses(GATEWAY, GATEWAY_6)
        self.client = End(self.world, CLIENT, client_settings(retransmit=PATIENT))
        first = [msgspec.structs.replace(each, esp_proposals=esp) for each in theirs.children]
        self.client.initiate(self.gateway, msgspec.structs.replace(theirs, children=(*first, mirrored)))
        self.number = 0
        self.sent: list[bytes] = []
        self.did: list[str] = []

    def act(self) -> None:
        """One end does something with one of its IKE_SAs; or something happens to it."""
        rng = self.rng
        chance = rng.random()
        host = rng.choice((self.client, self.gateway))
        if chance < 0.12:
            self.did.append("the client moves")
            self.client.set_addresses(*rng.sample((CLIENT, *ELSEWHERE), rng.choice((1, 2))))
            return
        if chance < 0.2:
            jump = rng.random() * 12
            self.did.append(f"clocks jump by {jump:.1f}")
            self.world.now += jump
            return
        standing = [sa for sa in host.table.sas.values() if sa.state == SaState.ESTABLISHED]
        if not standing:
            return
        sa = rng.choice(standing)
        task = self._task(host, sa)
        self.did.append(f"{'client' if host is self.client else 'gateway'}: {type(task).__name__}")
        host.carry_out(host.table.order(sa.spi, task, self.world.now))

    def _task(self, host: Host, sa: IkeSa) -> Task:
        named: list[Callable[[bytes], Task]] = [RekeyChild, RekeyChild, RekeyChild, DeleteChild]
        tasks: list[Task] = [RekeyIke(), RekeyIke(), Probe(), CreateChild("extra")]
        tasks += [self.rng.choice(named)(child.spi_in) for child in sa.children]
        if sa.is_line_ours:
            tasks.append(Reauthenticate())
        return self.rng.choice(tasks)

    def chat(self) -> None:
        """A packet each way, where there is a tunnel for it."""
        self.number += 1
        for host, source, destination in (
            (self.client, bytes((10, 77, 0, 1)), bytes((10, 66, 0, 1))),
            (self.gateway, bytes((10, 66, 0, 1)), bytes((10, 77, 0, 1))),
        ):
            packet = build_echo_request(
                source, destination, identifier=1, sequence=self.number, payload=self.number.to_bytes(4, "big")
            )
            host.dataplane.send_inner(packet)

    def come_to_rest(self) -> None:
        """In fair weather, with time for all that an end waits for."""
        self.world.weather = Weather()
        self.world.run(2 * PATIENCE_S + LINGER_S + 1)
        for _ in range(60):
            if self.is_at_rest():
                return
            self.world.run(0.5)
        raise AssertionError(f"they don't come to rest after {self.did}")

    def is_at_rest(self) -> bool:
        """Both have the same, and wait for nothing but the peer's sign of life."""
        sas = [sa for host in (self.client, self.gateway) for sa in host.table.sas.values()]
        return agree(self.client, self.gateway) and all(
            sa.state == SaState.ESTABLISHED and not sa.pending and sa.message_ids.outstanding is None for sa in sas
        )


class End(Carrier):
    """A host with a data plane, whose ESP the network repeats and loses as well."""

    def _send_esp(self, packet: bytes, path: Path, is_udp_encapsulated: bool, traffic_class: int) -> None:
        rng, weather = self.world.rng, self.world.weather
        peer = next(host for host in self.world.hosts.values() if host is not self)
        assert isinstance(peer, End)
        for _ in range(1 + (rng.random() < weather.duplication)):
            if rng.random() >= weather.loss:
                self.world.at(
                    weather.delay + rng.random() * weather.jitter,
                    lambda: peer.dataplane.receive_esp(packet, peer.any_path, self.world.now),
                )

    @property
    def any_path(self) -> Path:
        return next(iter(self.paths.values()))


def live(seed: int, actions: int = ACTIONS) -> Life:
    """The life of that seed, and what must be so after any."""
    life = Life(seed)
    life.world.run(3.0)
    for _ in range(actions):
        life.act()
        life.chat()
        life.world.run(life.rng.random() ** 2 * 3)
    life.come_to_rest()
    client, gateway = life.client, life.gateway
    assert len(gateway.table.sas) <= 1, "one IKE_SA, if any"
    assert "peer_invalid_syntax" not in client.closed + gateway.closed
    assert len(life.pool.used) == len(gateway.table.sas)
    for host in (client, gateway):
        inside = {child.spi_in for sa in host.table.sas.values() for child in sa.children}
        assert inside == set(host.children) == set(host.table._children), "CHILD_SAs are those of IKE_SAs"
        assert set(host.dataplane._by_spi) == inside
        assert max(host.received.values(), default=0) <= 1, "an ESP packet was taken twice"
        keys = Counter(child.keys_out for child in host.of_kind(InstallChild) if isinstance(child, InstallChild))
        assert max(keys.values(), default=1) == 1, "two CHILD_SAs have the same key"
    return life


def live_all(
    seeds: Iterable[int], notary: Notary, monkeypatch: pytest.MonkeyPatch, actions: int = ACTIONS
) -> Counter[str]:
    """One life after the other; how often what was done in them."""
    did: Counter[str] = Counter()
    for seed in seeds:
        monkeypatch.setattr(Host, "packs_always", seed % 2 == 1)
        try:
            did.update(each.partition(" by ")[0] for each in live(seed, actions).did)
            notary.check()
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
    return did


@pytest.mark.parametrize("group", range(GROUPS))
def test_whatever_crosses(notary: Notary, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    did = live_all(range(group * SEEDS, (group + 1) * SEEDS), notary, monkeypatch)
    for task in ("RekeyIke", "RekeyChild", "DeleteChild", "CreateChild"):
        assert did[f"client: {task}"] and did[f"gateway: {task}"]
    assert did["client: Reauthenticate"] and did["the client moves"] and did["clocks jump"]


def test_seed_43_the_peer_rekeys_a_child_that_we_have_not_heard_of_yet(
    notary: Notary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its response was late; told CHILD_SA_NOT_FOUND it removed what we then installed."""
    live_all([43], notary, monkeypatch)


def test_seed_69_the_peer_deletes_what_we_rekey_before_its_answer_arrives(
    notary: Notary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer, with a new CHILD_SA for one that was gone, was taken for nonsense, and the IKE_SA was closed."""
    live_all([69], notary, monkeypatch)


def test_seed_797_of_20_an_ike_sa_that_is_still_to_inherit_is_authenticated_anew(
    notary: Notary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it inherited took the place of what it knew of its successor, and both stood for good."""
    live_all([797], notary, monkeypatch, actions=20)


def test_seed_898_a_move_in_the_heir_overtakes_the_delete_of_the_old_ike_sa(
    notary: Notary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heir went back to the path of the old one then, where the peer was no longer."""
    live_all([898], notary, monkeypatch)


def test_seed_20278_an_ike_sa_is_authenticated_anew_before_it_has_taken_over_the_one_before(
    notary: Notary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went with that still to do, and the one before stood for good."""
    live_all([20278], notary, monkeypatch)
