"""A worker that is behind: what it would begin itself waits, and nothing else does."""

from collections.abc import Callable, Sequence

import pytest
from tests.sim.world import (
    CLIENT,
    GATEWAY,
    Host,
    ListPool,
    Nat,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    drops,
    gateway_settings,
    request,
    sa_of,
)

from cygnet.gateway.overload.intake import Intake, Standing
from cygnet.gateway.overload.newcomers import Entry
from cygnet.iana import NotifyType, ProtocolId
from cygnet.ike import agenda
from cygnet.ike.agenda import BEHIND_S, LOOK_S, PER_CALL, WHILE_BEHIND
from cygnet.ike.effects import SaRekeyed, SendKeepalive
from cygnet.ike.path import Path
from cygnet.ike.settings import RetransmitPolicy, Settings
from cygnet.ike.tasks import Probe
from cygnet.wire.payloads.notify import Notify

REKEY_S, OVER_S, SET_UP_S = 60.0, 6.0, 1.0
FAR_BEHIND_S = 3.0
ONCE_A_SECOND = RetransmitPolicy(timeout_s=1.0, base=1.0, tries=9)
HALF_A_SECOND = RetransmitPolicy(timeout_s=0.5, base=1.0, tries=9)


@pytest.fixture(autouse=True)
def packing() -> None:
    """Once is enough: SAs are packed when they have been idle for some seconds, as they are in a worker."""


def settings(**changes: object) -> Settings:
    """Those of a gateway that sees to new keys, for all who came together at the same time."""
    return change_connection(gateway_settings(**changes), rekey_time_s=REKEY_S, rand_time_s=0.0, over_time_s=OVER_S)


def joined(world: World, gateway: Host, number: int) -> Host:
    """A host with so many tunnels to the gateway."""
    gateway.pool.free += counted(number)
    client = Host(world, CLIENT, client_settings())
    for _ in range(number):
        client.initiate(gateway, client_connection())
    world.run(SET_UP_S)
    assert len(gateway.established) == number
    return client


def put_behind(host: Host, seconds: float = FAR_BEHIND_S) -> None:
    """Datagrams of SAs that stand have waited for so long."""
    host.env.lag = lambda now: seconds


@pytest.fixture
def none_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is begun while we are behind."""
    monkeypatch.setattr(agenda, "WHILE_BEHIND", 0)


def test_new_keys_wait_but_for_a_few_and_are_made_in_their_order(world: World) -> None:
    number = 5 * PER_CALL
    gateway = Host(world, GATEWAY, settings())
    joined(world, gateway, number)
    put_behind(gateway)
    world.run(REKEY_S)
    begun = gateway.counters["ike_sas_rekeyed_by_us_total"]
    most = (SET_UP_S / LOOK_S + 1) * WHILE_BEHIND
    assert most / 2 < begun <= most
    assert number - most <= gateway.table.put_off < number - most / 2
    put_behind(gateway, BEHIND_S)
    world.run(1.0)
    assert gateway.counters["ike_sas_rekeyed_by_us_total"] == number and not gateway.table.put_off
    rekeyed = [event.old for event in gateway.events if isinstance(event, SaRekeyed)]
    assert rekeyed == [event.sa for event in gateway.established]


@pytest.mark.usefixtures("none_begun")
class TestWhileNothingIsBegun:
    def test_peers_are_not_asked_whether_they_live(self, world: World) -> None:
        gateway = Host(world, GATEWAY, change_connection(gateway_settings(), dpd_delay_s=10.0))
        joined(world, gateway, 1)
        put_behind(gateway)
        world.run(60.0)
        before = gateway.counters["liveness_checks_total"]
        assert gateway.table.put_off == 1
        put_behind(gateway, 0.0)
        world.run(LOOK_S)
        assert (before, gateway.counters["liveness_checks_total"]) == (0, 1)

    def test_what_lives_too_long_ends(self, world: World) -> None:
        gateway = Host(world, GATEWAY, settings())
        joined(world, gateway, 1)
        put_behind(gateway)
        world.run(REKEY_S + OVER_S - 2 * SET_UP_S)
        assert gateway.table.put_off == 1 and not gateway.closed
        world.run(2 * SET_UP_S)
        assert gateway.closed == ["expired"] and not gateway.table.put_off

    def test_the_nat_in_front_of_us_is_reminded(self, world: World) -> None:
        world.nats.append(Nat(CLIENT, "203.0.113.7"))
        gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(1)))
        client = Host(world, CLIENT, client_settings(keep_alive_s=20.0))
        client.initiate(gateway, client_connection(rekey_time_s=10.0, rand_time_s=0.0, over_time_s=1000.0))
        world.run(SET_UP_S)
        put_behind(client)
        world.run(100.0)
        assert client.table.put_off == 1 and len(client.of_kind(SendKeepalive)) == 5

    def test_who_says_something_meanwhile_waits_once(self, world: World) -> None:
        gateway = Host(world, GATEWAY, settings())
        client = joined(world, gateway, 1)
        put_behind(gateway)
        world.run(REKEY_S)
        timers = gateway.table.timers
        for _ in range(5):
            note = Notify(ProtocolId.NONE, b"", NotifyType.ADDITIONAL_TS_POSSIBLE, b"")
            client.carry_out(client.table.order(sa_of(client).spi, Probe(), world.now))
            gateway.receive(request(client, (note,)), Path(GATEWAY, 500, CLIENT, 500))
            world.run(0.1)
        assert gateway.table.put_off == 1 and gateway.table.timers <= timers + 5
        client.delete(sa_of(client).spi)
        world.run(0.1)
        assert gateway.closed == ["deleted_by_peer"] and not gateway.table.put_off
        put_behind(gateway, 0.0)
        world.run(1.0)
        assert not gateway.of_kind(SaRekeyed)


@pytest.mark.parametrize(("lag", "again_after"), [(0.0, 1.0), (BEHIND_S, 1.0), (FAR_BEHIND_S, 1.0 + FAR_BEHIND_S)])
def test_a_request_is_sent_again_when_what_had_come_by_then_is_served(
    world: World, lag: float, again_after: float
) -> None:
    gateway = Host(world, GATEWAY, gateway_settings(retransmit=ONCE_A_SECOND))
    client = joined(world, gateway, 1)
    client.is_down = True
    put_behind(gateway, lag)
    gateway.carry_out(gateway.table.order(sa_of(gateway).spi, Probe(), world.now))
    world.run(again_after - 0.1)
    before = gateway.counters["retransmissions_total"]
    world.run(0.2)
    assert (before, gateway.counters["retransmissions_total"]) == (0, 1)


class Worker(Host):
    """A gateway whose work takes time, with the queues of a worker."""

    def __init__(self, world: World, address: str, settings: Settings) -> None:
        super().__init__(world, address, settings)
        self.cost_s = 0.0
        """Of a datagram that is served, and of a request that is begun."""
        self.free_at = 0.0
        self.longest_lag_s = 0.0
        self.intake = Intake(
            standing_of_sa=lambda spi: Standing.ESTABLISHED if spi in self.table.sas else Standing.STRAY,
            has_cookie=lambda datagram, path, now: False,
            ask_cookies=lambda requests, now: requests,
            serve=self._serve,
            count=self._count,
            again=self._again,
            clock=self.clock,
        )
        self.env.lag = self.intake.lag

    def clock(self) -> float:
        return max(self.world.now, self.free_at)

    def receive(self, datagram: bytes, path: Path) -> None:
        self.intake.put([(datagram, path)], self.world.now)

    def _again(self, run: Callable[[], None]) -> None:
        # After timers that are due: an event loop takes turns between them and what it was asked to call.
        self.world.at(self.clock() - self.world.now + 1e-6, run)

    def _serve(self, batch: Sequence[Entry], now: float) -> None:
        self.longest_lag_s = max(self.longest_lag_s, self.intake.lag(now))
        for datagram, path in batch:
            self.free_at = self.clock() + self.cost_s
            super().receive(datagram, path)

    def next_timer(self) -> float | None:
        due = super().next_timer()
        return None if due is None else max(due, self.free_at)

    def wake(self) -> None:
        sent = len(self.world.sent)
        super().wake()
        self.free_at = self.clock() + self.cost_s * (len(self.world.sent) - sent)


def test_new_keys_for_more_than_a_worker_can_do_at_once_come_later(world: World) -> None:
    """Of 600 IKE_SAs each is a request and two responses, 4.5 ms of work: due within 1.6 seconds and done in 2.7."""
    number, spread_s = 600, 1.6
    gateway = Worker(world, GATEWAY, change_connection(settings(retransmit=HALF_A_SECOND), rand_time_s=spread_s))
    client = joined(world, gateway, number)
    world.run(REKEY_S - spread_s - 2 * SET_UP_S)
    gateway.cost_s = 0.0015
    world.run(SET_UP_S + spread_s)
    late = gateway.table.put_off
    world.run(OVER_S - SET_UP_S)
    gateway.cost_s = 0.0
    assert 100 < late < 300
    assert gateway.counters["ike_sas_rekeyed_by_us_total"] == number and agree(gateway, client)
    assert not gateway.counters["retransmissions_total"] and not drops(gateway)
    assert set(gateway.closed) == {"rekeyed"}
    assert gateway.longest_lag_s < 2 * BEHIND_S, "and what peers ask is answered as if there was nothing else to do"
