"""What is shown of SAs while something is done in them, in strongSwan's words."""

from typing import get_args

import pytest
from tests.sim.world import CLIENT, GATEWAY, Host, ListPool, World, client_connection, client_settings, counted, sa_of
from tests.sim.world import gateway_settings as plain_settings

from cygnet.dataplane.null import NullDataplane
from cygnet.gateway.commands.sa_views import _TASKS, view_sa
from cygnet.ike.tasks import CreateChild, DeleteChild, DeleteIke, Probe, RekeyChild, RekeyIke, Task
from cygnet.vici.views import SaView


class Ends:
    """A client that is shown, and a gateway that may be silent."""

    def __init__(self) -> None:
        self.world = World()
        self.gateway = Host(self.world, GATEWAY, plain_settings(), ListPool(counted(2)))
        self.client = Host(self.world, CLIENT, client_settings())

    def initiate(self) -> None:
        self.client.initiate(self.gateway, client_connection())

    def shown(self) -> SaView:
        return view_sa(sa_of(self.client), NullDataplane(lambda event: None), self.world.now)


@pytest.fixture
def ends() -> Ends:
    return Ends()


def test_each_task_has_strongswans_name() -> None:
    assert set(_TASKS) == set(get_args(Task))


def test_a_handshake_shows_what_it_is_at(ends: Ends) -> None:
    seen = []
    ends.initiate()
    while True:
        view = ends.shown()
        if (view.state, view.tasks_active) not in seen:
            seen.append((view.state, view.tasks_active))
        if view.state == "ESTABLISHED":
            break
        ends.world.run(0.001)
    assert seen == [
        ("CONNECTING", ("IKE_INIT", "IKE_AUTH", "CHILD_CREATE")),
        ("CONNECTING", ("IKE_AUTH", "CHILD_CREATE")),
        ("ESTABLISHED", ()),
    ]


@pytest.mark.parametrize(
    ("task", "name", "states"),
    [
        (Probe(), "IKE_DPD", ("ESTABLISHED", "INSTALLED")),
        (RekeyIke(), "IKE_REKEY", ("REKEYING", "INSTALLED")),
        (RekeyChild(b""), "CHILD_REKEY", ("ESTABLISHED", "REKEYING")),
        (DeleteChild(b""), "CHILD_DELETE", ("ESTABLISHED", "DELETING")),
        (DeleteIke(), "IKE_DELETE", ("DELETING", "INSTALLED")),
    ],
)
def test_what_is_under_way_is_shown_and_what_waits_for_it(
    ends: Ends, task: Task, name: str, states: tuple[str, str]
) -> None:
    ends.initiate()
    ends.world.run(1.0)
    sa = sa_of(ends.client)
    if isinstance(task, RekeyChild | DeleteChild):
        task = type(task)(sa.children[0].spi_in)
    ends.client.carry_out(ends.client.table.order(sa.spi, task, ends.world.now))
    if not isinstance(task, DeleteIke):
        ends.client.carry_out(ends.client.table.order(sa.spi, CreateChild("net"), ends.world.now))
    view = ends.shown()
    assert view.tasks_active == (name,)
    assert view.tasks_queued == (() if isinstance(task, DeleteIke) else ("CHILD_CREATE",))
    assert (view.state, view.children[0].state) == states
