"""A day in the life of a gateway whose clients all came in one minute: `tests/unit/ike/test_schedule.py` has more of
them, each by itself; this is the whole core, and both ends of it."""

import pytest
from tests.sim.world import (
    CLIENT,
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
)

from cygnet.dataplane.userspace import LINGER_S

TUNNELS = 8
HOUR = 3600.0
SLOT_S = 600.0
DPD_S = 1800.0


@pytest.fixture(autouse=True)
def packing() -> None:
    """Once is enough: SAs are packed when they have been idle for some seconds, as they are in a worker."""


def test_a_day_is_even(world: World) -> None:
    """With the default times, both ends as eager to rekey as they are, and the gateway asking who lives."""
    settings = change_connection(gateway_settings(), dpd_delay_s=DPD_S)
    pool = ListPool(counted(TUNNELS))
    gateway = Host(world, GATEWAY, settings, pool)
    client = Host(world, CLIENT, client_settings())
    for number in range(TUNNELS):
        world.at(60.0 * number / TUNNELS, lambda: client.initiate(gateway, client_connection()))
    world.run(61.0)
    assert len(gateway.established) == TUNNELS
    names = ("child_sas_rekeyed_total", "ike_sas_rekeyed_total", "liveness_checks_total")
    slots: dict[str, list[int]] = {name: [] for name in names}
    for _ in range(int(24 * HOUR / SLOT_S)):
        before = {name: gateway.counters[name] for name in names}
        world.run(SLOT_S)
        for name in names:
            slots[name].append(gateway.counters[name] - before[name])
    a_day = {name: sum(of_slot) / TUNNELS for name, of_slot in slots.items()}
    assert 24 <= a_day["child_sas_rekeyed_total"] <= 28
    assert 6 <= a_day["ike_sas_rekeyed_total"] <= 8
    assert 24 * HOUR / DPD_S * 0.7 <= a_day["liveness_checks_total"] <= 24 * HOUR / DPD_S * 1.4
    assert max(slots["child_sas_rekeyed_total"]) < TUNNELS, "never all of them in one or two slots"
    # With strongSwan's spread alone there would be none before nine tenths of their times.
    assert sum(slots["child_sas_rekeyed_total"][:5]) >= TUNNELS // 3
    assert sum(slots["ike_sas_rekeyed_total"][:20]) >= TUNNELS // 3
    world.run(LINGER_S + 1.0)
    assert {*gateway.closed, *client.closed} <= {"rekeyed", "redundant"}
    assert len(gateway.table.sas) == len(gateway.pool.used) == TUNNELS
    assert agree(client, gateway)
