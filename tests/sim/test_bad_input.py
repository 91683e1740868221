"""Peers that never stop, or speak of what is not there: each ends as the RFC says, is counted, and costs nobody else.

The rest of what a peer may do wrong is tested where it belongs: requests outside the window and responses that nobody
asked for in `test_hostile.py`, fragments that never make a message or that flood in `test_fragments.py`, moves to
addresses that don't answer in `test_mobike.py`, forgeries and floods of strangers in `test_floods.py`.
"""

import pytest
from tests.sim.world import (
    CLIENT,
    GATEWAY,
    Host,
    World,
    client_connection,
    client_settings,
    drops,
    request,
    sa_of,
)

from cygnet.auth.identity import parse_identity
from cygnet.iana import ExchangeType, NotifyType, ProtocolId
from cygnet.ike.effects import RemoveChild, SaClosed, Send
from cygnet.ike.exchanges import child as children
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa
from cygnet.ike.settings import AuthSettings
from cygnet.ike.states import SaState
from cygnet.ike.strays import LAST_WORDS_S
from cygnet.observe.metrics import METRICS
from cygnet.wire.payloads.delete import Delete
from cygnet.wire.payloads.nonce import Nonce
from cygnet.wire.payloads.notify import Notify

FROM_CLIENT = Path(GATEWAY, 500, CLIENT, 500)
OTHER = "192.0.2.99"
SERIES = {series for metric in METRICS for series in metric.series}
MANY = 2000


@pytest.fixture
def other(world: World, client: Host, gateway: Host) -> Host:
    """A peer that has nothing to do with it."""
    host = Host(world, OTHER, client_settings())
    local = AuthSettings(id=parse_identity("other@example.org"))
    host.initiate(gateway, client_connection(local=local))
    world.run(1.0)
    assert len(gateway.table.sas) == 2
    return host


def sa_at(gateway: Host, client: Host) -> IkeSa:
    """The gateway's end of that client's IKE_SA."""
    return gateway.table.sas[sa_of(client).spi_r]


def assert_untouched(world: World, gateway: Host, other: Host) -> None:
    """The other peer has its tunnel, and is answered."""
    sa = sa_of(other)
    assert gateway.table.sas[sa.spi_r].state == SaState.ESTABLISHED and len(other.children) == 1
    before = len(answers(gateway, OTHER))
    gateway.receive(request(other, ()), Path(GATEWAY, 500, OTHER, 500))
    assert len(answers(gateway, OTHER)) == before + 1
    assert set(gateway.counters) <= SERIES, "all that is counted has a name"


def answers(gateway: Host, address: str = CLIENT) -> list[bytes]:
    return [e.datagram for e in gateway.events if isinstance(e, Send) and e.path.remote == address]


class TestAPeerThatRetransmitsForEver:
    def test_is_answered_the_same_and_costs_no_state(
        self, world: World, client: Host, gateway: Host, other: Host
    ) -> None:
        """RFC 7296 section 2.1: the response again, octet for octet, however often; nothing is done again."""
        asked = request(client, (Delete(ProtocolId.ESP, (sa_of(client).children[0].spi_in,)),))
        gateway.receive(asked, FROM_CLIENT)
        timers, events = gateway.table.timers, len(gateway.events)
        for _ in range(MANY):
            gateway.receive(asked, FROM_CLIENT)
        first, *again = answers(gateway)[-MANY - 1 :]
        assert again == [first] * MANY
        assert len(gateway.of_kind(RemoveChild)) == 1 and len(gateway.events) == events + MANY
        assert gateway.counters["responses_repeated_total"] == MANY
        assert gateway.table.timers == timers and not drops(gateway)
        assert_untouched(world, gateway, other)

    def test_of_its_first_request_is_forgotten_all_the_same(self, world: World, gateway: Host, other: Host) -> None:
        """Its half-open SA lives no longer for that."""
        sleepless = Host(world, "192.0.2.50", client_settings())
        sleepless.initiate(gateway, client_connection())
        [first] = [send.datagram for host, send in world.sent if host is sleepless]
        sleepless.is_down = True
        path = Path(GATEWAY, 500, sleepless.address, 500)
        seconds = int(gateway.env.settings.half_open_timeout_s)
        for _ in range(10 * seconds - 1):
            gateway.receive(first, path)
            world.run(0.1)
        assert gateway.table.half_open == 1 and len(set(answers(gateway, sleepless.address))) == 1
        world.run(1.0)
        assert gateway.table.half_open == 0 and gateway.closed == ["half_open_timeout"]
        assert_untouched(world, gateway, other)

    def test_after_its_ike_sa_has_ended_is_answered_for_a_while(
        self, world: World, client: Host, gateway: Host, other: Host
    ) -> None:
        end = request(client, (Delete(ProtocolId.IKE, ()),))
        gateway.receive(end, FROM_CLIENT)
        assert gateway.closed == ["deleted_by_peer"]
        for _ in range(MANY):
            gateway.receive(end, FROM_CLIENT)
        assert len(set(answers(gateway)[-MANY - 1 :])) == 1 and gateway.counters["responses_repeated_total"] == MANY
        world.run(LAST_WORDS_S + 1.0)
        before = len(answers(gateway))
        for _ in range(MANY):
            gateway.receive(end, FROM_CLIENT)
        assert len(answers(gateway)) == before and sum(drops(gateway).values()) == MANY
        assert len(gateway.of_kind(SaClosed)) == 1
        assert_untouched(world, gateway, other)


class TestRekeysOfWhatIsGone:
    def ask(self, client: Host, gateway: Host, spi: bytes) -> None:
        sa = sa_of(client)
        assert sa.connection is not None
        named = Notify(ProtocolId.ESP, spi, NotifyType.REKEY_SA, b"")
        offer = children.offer(sa, sa.connection.children[0], bytes((9, 9, 9, 9)))
        asked = request(client, (named, offer[0], Nonce(bytes(32)), *offer[1:]), ExchangeType.CREATE_CHILD_SA)
        gateway.receive(asked, FROM_CLIENT)
        sa.message_ids.next_id += 1

    def test_of_a_child_that_was_deleted(self, world: World, client: Host, gateway: Host, other: Host) -> None:
        """RFC 7296 section 2.25: CHILD_SA_NOT_FOUND, and the IKE_SA goes on."""
        [child] = sa_of(client).children
        gateway.receive(request(client, (Delete(ProtocolId.ESP, (child.spi_in,)),)), FROM_CLIENT)
        sa_of(client).message_ids.next_id += 1
        for _ in range(100):
            self.ask(client, gateway, child.spi_in)
        assert gateway.counters['requests_failed_total{reason="child_sa_not_found"}'] == 100
        assert sa_at(gateway, client).state == SaState.ESTABLISHED and not sa_at(gateway, client).children
        assert_untouched(world, gateway, other)

    def test_of_the_child_of_another_peer(self, world: World, client: Host, gateway: Host, other: Host) -> None:
        """An SPI means something within its IKE_SA only."""
        self.ask(client, gateway, sa_of(other).children[0].spi_in)
        assert gateway.counters['requests_failed_total{reason="child_sa_not_found"}'] == 1
        assert len(gateway.children) == 2
        assert_untouched(world, gateway, other)

    def test_in_an_ike_sa_that_has_ended(self, world: World, client: Host, gateway: Host, other: Host) -> None:
        asked = request(client, (), ExchangeType.CREATE_CHILD_SA)
        gateway.carry_out(gateway.table.abort(sa_at(gateway, client), world.now))
        before = len(answers(gateway))
        gateway.receive(asked, FROM_CLIENT)
        assert len(answers(gateway)) == before and drops(gateway) == {"unknown_spi": 1}
        assert_untouched(world, gateway, other)

    def test_deletes_of_what_is_gone(self, world: World, client: Host, gateway: Host, other: Host) -> None:
        """RFC 7296 section 1.4.1: SPIs that mean nothing are passed over."""
        gone = Delete(ProtocolId.ESP, (b"\1\2\3\4", sa_of(other).children[0].spi_in))
        gateway.receive(request(client, (gone,)), FROM_CLIENT)
        assert len(gateway.children) == 2
        assert_untouched(world, gateway, other)


def test_all_of_a_kind_from_one_peer_and_then_the_right_thing(
    world: World, client: Host, gateway: Host, other: Host
) -> None:
    """Requests ahead of the window and behind, answers to nothing, for thousands: then it goes on where it was."""
    sa = sa_of(client)
    for n in range(MANY):
        ahead = sa.seal(ExchangeType.INFORMATIONAL, sa.message_ids.next_id + 1 + n, (), is_response=False)
        gateway.receive(ahead, FROM_CLIENT)
        gateway.receive(sa.seal(ExchangeType.INFORMATIONAL, n, (), is_response=True), FROM_CLIENT)
        gateway.receive(sa.seal(ExchangeType.IKE_AUTH, 0, (), is_response=False), FROM_CLIENT)
    counted = drops(gateway)
    assert counted["message_id"] == counted["unexpected_response"] == MANY
    assert counted["stale_request"] == MANY, counted
    assert sa_at(gateway, client).message_ids.expected_id == sa.message_ids.next_id
    gateway.receive(request(client, ()), FROM_CLIENT)
    assert sa_at(gateway, client).message_ids.expected_id == sa.message_ids.next_id + 1
    assert_untouched(world, gateway, other)
