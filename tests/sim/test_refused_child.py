"""The first CHILD_SA is refused in IKE_AUTH, and the IKE_SA stands (RFC 7296 sections 1.2 and 2.21.2)."""

import msgspec
import pytest
from tests.sim.world import (
    CLIENT,
    ESP,
    EVERYTHING,
    GATEWAY,
    Host,
    ListPool,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
    sa_of,
)

from cygnet.iana import NotifyType, ProtocolId
from cygnet.ike.effects import ChildFailed, ChildRefused, InstallChild, SaEstablished
from cygnet.ike.errors import ProtocolViolation, Scope
from cygnet.ike.exchanges import child as children
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import Childless, ChildSettings, ConnectionSettings
from cygnet.ike.states import SaState
from cygnet.ike.tasks import CreateChild, Reauthenticate, RekeyIke

RIGHT = gateway_settings().connections[0].children
WRONG = {
    "ts_unacceptable": ChildSettings(name="net", esp_proposals=ESP, local_ts=(parse_selector("10.9.0.0/16"),)),
    "no_proposal_chosen": ChildSettings(
        name="net", esp_proposals=(parse_proposal(ProtocolId.ESP, "aes256-sha512"),), local_ts=EVERYTHING
    ),
}
CONNECTION = client_connection(
    children=(ChildSettings(name="net", esp_proposals=ESP, remote_ts=(parse_selector("10.8.0.0/16"),)),)
)


def begin(
    world: World, child: ChildSettings = RIGHT[0], connection: ConnectionSettings = CONNECTION
) -> tuple[Host, Host]:
    settings = change_connection(gateway_settings(), children=(child,))
    gateway, client = Host(world, GATEWAY, settings, ListPool(counted(2))), Host(world, CLIENT, client_settings())
    client.initiate(gateway, connection)
    world.run(1.0)
    return client, gateway


def order(world: World, host: Host, task: CreateChild | Reauthenticate | RekeyIke) -> None:
    host.carry_out(host.table.order(sa_of(host).spi, task, world.now))
    world.run(1.0)


def refused(host: Host) -> list[tuple[bytes, str]]:
    """The IKE_SAs in which a peer was refused a CHILD_SA, and why."""
    return [(each.sa, each.reason) for each in host.of_kind(ChildRefused) if isinstance(each, ChildRefused)]


@pytest.mark.parametrize("reason", WRONG)
def test_the_ike_sa_stands_at_both_ends(world: World, reason: str) -> None:
    client, gateway = begin(world, WRONG[reason])
    assert agree(client, gateway) and not client.children and not client.closed and not gateway.closed
    assert sa_of(client).state == sa_of(gateway).state == SaState.ESTABLISHED
    told = [e for e in client.events if isinstance(e, ChildFailed | SaEstablished | InstallChild)]
    spi = sa_of(client).spi
    assert told == [ChildFailed(spi, "net", reason), *client.established], "before it is said to be established"
    assert gateway.counters[f'child_sas_refused_total{{reason="{reason}"}}'] == 1
    assert not client.table._children and not gateway.table._children
    assert sa_of(client).virtual_ips == sa_of(gateway).virtual_ips and gateway.pool.used == set(
        sa_of(client).virtual_ips
    )


@pytest.mark.parametrize("reason", WRONG)
def test_the_child_comes_later_with_the_same_address(world: World, reason: str) -> None:
    client, gateway = begin(world, WRONG[reason])
    sa_of(gateway).connection = None
    gateway.env.configure(gateway_settings())
    sa_of(gateway).connection = gateway.env.connections.named("rw")
    order(world, client, CreateChild("net"))
    (child,) = client.children.values()
    assert agree(client, gateway)
    assert [(s.start, s.end) for s in child.ts_local] == [sa_of(client).virtual_ips * 2]
    client.delete(sa_of(client).spi)
    world.run(1.0)
    assert not gateway.pool.used and not gateway.table.sas


@pytest.fixture
def guest(world: World) -> tuple[Host, Host]:
    """A client that has not asked for a virtual address where it should have, and the gateway."""
    return begin(world, connection=msgspec.structs.replace(CONNECTION, vips=(), childless=Childless.FORCE))


def test_who_has_not_asked_for_an_address_gets_no_child_with_the_first_request(world: World) -> None:
    """RFC 7296 section 2.19: FAILED_CP_REQUIRED. The gateway keeps the IKE_SA, and the client ends it."""
    client, gateway = begin(world, connection=msgspec.structs.replace(CONNECTION, vips=()))
    assert refused(gateway) == [(gateway.established[0].sa, "failed_cp_required")]
    assert gateway.counters['child_sas_refused_total{reason="failed_cp_required"}'] == 1
    assert (client.closed, gateway.closed) == (["failed_cp_required"], ["deleted_by_peer"])
    assert not gateway.of_kind(InstallChild) and not gateway.table._children


def test_who_has_not_asked_for_an_address_gets_no_child_later(world: World, guest: tuple[Host, Host]) -> None:
    client, gateway = guest
    assert agree(client, gateway) and [e.reason for e in client.of_kind(ChildFailed)] == ["failed_cp_required"]  # type: ignore[union-attr]
    assert refused(gateway) == [(sa_of(gateway).spi, "failed_cp_required")]
    order(world, client, RekeyIke())
    order(world, client, CreateChild("net"))
    assert len(refused(gateway)) == 2 and not gateway.children and agree(client, gateway)


def test_a_gateway_that_begins_a_child_itself_asks_for_no_address_first(world: World, guest: tuple[Host, Host]) -> None:
    """What the peer must ask for in its own requests it need not have for ours."""
    client, gateway = guest
    order(world, gateway, CreateChild("net"))
    assert len(gateway.children) == 1 and agree(client, gateway)


@pytest.mark.parametrize(
    ("notify", "stands"),
    [
        (NotifyType.NO_PROPOSAL_CHOSEN, True),
        (NotifyType.SINGLE_PAIR_REQUIRED, True),
        (NotifyType.NO_ADDITIONAL_SAS, True),
        (NotifyType.TS_UNACCEPTABLE, True),
        (NotifyType.INVALID_SELECTORS, True),
        (NotifyType.INTERNAL_ADDRESS_FAILURE, False),
        (NotifyType.FAILED_CP_REQUIRED, False),
        (NotifyType.TEMPORARY_FAILURE, False),
        (NotifyType.INVALID_SYNTAX, False),
    ],
)
def test_what_the_initiator_makes_of_each_refusal(
    world: World, monkeypatch: pytest.MonkeyPatch, notify: NotifyType, stands: bool
) -> None:
    """Without addresses, which it can ask for in IKE_AUTH alone, an IKE_SA is of no use to it: that it deletes."""

    class Refusal(ProtocolViolation):
        scope = Scope.CHILD

    Refusal.notify = notify

    def refuse(*_: object, **__: object) -> None:
        raise Refusal("for the test")

    monkeypatch.setattr(children, "choose", refuse)
    client, gateway = begin(world)
    reason = notify.name.lower()
    assert agree(client, gateway)
    if stands:
        assert [e.reason for e in client.of_kind(ChildFailed)] == [reason]  # type: ignore[union-attr]
        assert len(client.table.sas) == len(gateway.table.sas) == 1
    else:
        assert (client.closed, gateway.closed) == ([reason], ["deleted_by_peer"])
        assert not client.established and not client.of_kind(ChildFailed)


def test_the_others_are_set_up_all_the_same(world: World) -> None:
    lan = ChildSettings(name="lan", esp_proposals=ESP, remote_ts=(parse_selector("10.7.0.0/16"),))
    theirs = msgspec.structs.replace(WRONG["ts_unacceptable"], name="lan", local_ts=lan.remote_ts)
    settings = change_connection(gateway_settings(), children=(theirs,))
    gateway, client = Host(world, GATEWAY, settings, ListPool(counted(1))), Host(world, CLIENT, client_settings())
    connection = msgspec.structs.replace(CONNECTION, children=(*CONNECTION.children, lan))
    client.initiate(gateway, connection, further=("lan",))
    world.run(1.0)
    assert agree(client, gateway) and [child.name for child in client.children.values()] == ["lan"]


def test_one_that_is_to_take_the_place_of_another_goes_and_the_other_stays(world: World) -> None:
    client, gateway = begin(world)
    old = sa_of(client).spi
    gateway.env.configure(change_connection(gateway.env.settings, children=(WRONG["ts_unacceptable"],)))
    order(world, client, Reauthenticate())
    assert client.closed == ["ts_unacceptable"]
    assert sa_of(client).spi == old and agree(client, gateway) and len(client.children) == 1
