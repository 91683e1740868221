"""Other settings are put into force while a gateway runs: what begins goes by them, what stands goes on."""

import msgspec
from tests.sim.world import (
    CLIENT,
    GATEWAY,
    Host,
    ListPool,
    World,
    change_connection,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
    sa_of,
)

from cygnet.ike.connection_index import ConnectionIndex
from cygnet.ike.effects import Effect
from cygnet.ike.environment import InForce
from cygnet.ike.path import Path
from cygnet.ike.settings import AdmissionSettings, RetransmitPolicy, Settings


class Ends:
    def __init__(self) -> None:
        self.world = World()
        self.gateway = Host(self.world, GATEWAY, gateway_settings(), ListPool(counted(9)))
        self.client = Host(self.world, CLIENT, client_settings())

    def reload(self, **changes: object) -> None:
        self.gateway.table.configure(msgspec.structs.replace(self.gateway.env.settings, **changes))

    def initiate(self) -> bytes:
        return self.client.initiate(self.gateway, client_connection())


def test_half_open_sas_are_given_up_after_the_time_that_was_set_when_they_came() -> None:
    ends = Ends()
    ends.world.unreachable.add(CLIENT)
    ends.initiate()
    ends.world.run(0.5)
    ends.reload(half_open_timeout_s=2.0)
    ends.world.run(5.0)
    assert ends.gateway.closed == []
    ends.world.run(30.0)
    assert set(ends.gateway.closed) == {"half_open_timeout"}
    closed = len(ends.gateway.closed)
    ends.initiate()
    ends.world.run(2.5)
    assert len(ends.gateway.closed) > closed


def test_strays_are_answered_at_the_new_rate() -> None:
    ends = Ends()
    ends.initiate()
    ends.world.run(1.0)
    ends.gateway.carry_out(ends.gateway.table.abort(sa_of(ends.gateway), ends.world.now, "lost"))
    ends.client.delete(sa_of(ends.client).spi)
    ends.world.run(0.5)
    assert ends.gateway.counters["invalid_ike_spi_sent_total"] == 0
    ends.reload(invalid_ike_spi_rate=5)
    ends.world.run(2.0)
    assert ends.gateway.counters["invalid_ike_spi_sent_total"] > 0


def test_cookies_are_asked_for_by_the_new_threshold() -> None:
    ends = Ends()
    ends.reload(admission=AdmissionSettings(cookie_threshold=0))
    ends.initiate()
    ends.world.run(1.0)
    assert ends.gateway.counters["cookies_accepted_total"] == 1
    assert len(ends.gateway.established) == 1


def test_requests_are_repeated_by_the_new_policy() -> None:
    ends = Ends()
    ends.initiate()
    ends.world.run(1.0)
    ends.world.unreachable.add(CLIENT)
    ends.reload(retransmit=RetransmitPolicy(timeout_s=0.5, base=1.0, tries=3))
    ends.gateway.delete(sa_of(ends.gateway).spi)
    ends.world.run(2.5)
    assert ends.gateway.counters["retransmissions_total"] == 3
    assert not ends.gateway.table.sas


def test_messages_count_for_their_connection_also_after_it_has_changed() -> None:
    ends = Ends()
    ends.initiate()
    ends.world.run(1.0)
    name, tally = "rw", 'ike_messages_total{{message="{}"}}'
    # As in strongSwan, before the peer has said who it is nothing counts for a connection.
    expected = {tally.format("ike-auth-out-resp"): 1}
    assert ends.gateway.env.connections.tallies("") == [(name, expected)]
    assert ends.gateway.env.connections.tallies("other") == []
    ends.gateway.table.configure(change_connection(ends.gateway.env.settings, dpd_delay_s=99.0))
    ends.client.delete(sa_of(ends.client).spi)
    ends.world.run(1.0)
    expected |= {tally.format("info-in-req"): 1, tally.format("info-out-resp"): 1}
    assert ends.gateway.env.connections.tallies(name) == [(name, expected)]
    ends.gateway.table.configure(msgspec.structs.replace(ends.gateway.env.settings, connections=()))
    assert ends.gateway.env.connections.tallies("") == []


def test_a_handshake_under_way_goes_on_by_the_settings_that_it_began_with_and_the_next_one_by_the_new() -> None:
    ends = Ends()
    connections = ends.gateway.env.settings.connections
    receive = ends.gateway.table.receive
    reloaded: list[InForce] = []

    def receive_and_reload(datagram: bytes, path: Path, now: float) -> list[Effect]:
        effects = receive(datagram, path, now)
        if not reloaded:
            # IKE_SA_INIT is answered, and IKE_AUTH is yet to come.
            reloaded.append(InForce(Settings(), ConnectionIndex(), ends.gateway.env.secrets))
            ends.gateway.table.configure(reloaded[0])
        return effects

    ends.gateway.table.receive = receive_and_reload  # type: ignore[method-assign]
    ends.initiate()
    ends.world.run(1.0)
    assert len(ends.gateway.established) == 1
    ends.initiate()
    ends.world.run(1.0)
    assert len(ends.gateway.established) == 1
    ends.gateway.table.configure(InForce(Settings(), ConnectionIndex(connections), ends.gateway.env.secrets))
    ends.initiate()
    ends.world.run(1.0)
    assert len(ends.gateway.established) == 2
