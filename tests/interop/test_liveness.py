"""Ends that die: peers are found out, and of our workers one dies alone."""

import os
import signal

import pytest
from tests.interop.cygnet_gateway import ESTABLISHED, Cygnet
from tests.interop.pairs import SERVER_INNER, Role, paired
from tests.interop.polling import eventually
from tests.interop.strongswan import StrongSwan, client_config, server_config
from tests.interop.topologies import Topology


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_dead_peer_is_found_out(direct: Topology, role: Role) -> None:
    """Killed, it says nothing: we ask, wait for the last retransmission, and give the IKE_SA up."""
    with paired(role, direct, server=_watched(role is Role.RESPONDER), client=_watched(role is Role.INITIATOR)) as pair:
        pair.set_up()
        pair.strongswan.kill()
        pair.cygnet.await_count('ike_sas_closed_total{reason="timeout_informational"}', 1, timeout_s=8.0)
        for gauge in (ESTABLISHED, "child_sas", "pool_addresses_in_use"):
            pair.cygnet.await_count(gauge, 0)


def _watched(is_ours: bool) -> dict[str, str]:
    return {"connection": "dpd_delay = 1s"} if is_ours else {}


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_living_peer_is_left_alone(direct: Topology, role: Role) -> None:
    """The server asks, the client answers."""
    with paired(role, direct, server=_watched(True)) as pair:
        pair.set_up()
        if role is Role.RESPONDER:
            eventually(lambda: pair.cygnet.count("liveness_checks_total") >= 2)
            pair.cygnet.await_count("retransmissions_total", 0)
        else:
            eventually(lambda: pair.strongswan.log().count("parsed INFORMATIONAL response") >= 2)
            assert "retransmit" not in pair.strongswan.log()
        assert pair.cygnet.established == len(pair.strongswan.sas()) == 1


def test_peer_that_starts_again_replaces_its_ike_sa(direct: Topology) -> None:
    """strongSwan says INITIAL_CONTACT, whichever of our workers it meets; no second address is held for it."""
    with paired(Role.RESPONDER, direct, gateway="workers = 2") as pair:
        pair.set_up()
        pair.strongswan.kill()
        pair.strongswan.start()
        pair.strongswan.initiate("net")
        pair.cygnet.await_count('ike_sas_closed_total{reason="initial_contact"}', 1)
        for gauge in (ESTABLISHED, "child_sas", "pool_addresses_in_use"):
            pair.cygnet.await_count(gauge, 1)
        [ike_sa] = pair.strongswan.sas()
        [virtual] = pair.virtual_addresses(ike_sa)
        assert direct.client.ping(SERVER_INNER, source=virtual, count=2) == 2


def test_a_dead_peer_is_set_up_again_when_it_comes_back(direct: Topology) -> None:
    """`dpd_action = restart`: for as long as it takes, and then the tunnel is there again without anybody's doing."""
    client = {"connection": "dpd_delay = 1s\nkeyingtries = 0", "child": "dpd_action = restart"}
    with paired(Role.INITIATOR, direct, client=client) as pair:
        pair.set_up()
        pair.strongswan.kill()
        pair.cygnet.await_count('ike_sas_closed_total{reason="timeout_informational"}', 1, timeout_s=8.0)
        pair.strongswan.start()
        pair.cygnet.await_count(ESTABLISHED, 1, timeout_s=20.0)
        [ike_sa] = pair.strongswan.sas()
        [virtual] = pair.virtual_addresses(ike_sa)
        direct.client.add_address(f"{virtual}/32")
        assert direct.client.ping(SERVER_INNER, source=virtual, count=2) == 2


def test_a_peer_that_ends_the_ike_sa_is_set_up_again(direct: Topology) -> None:
    """`close_action = start`."""
    with paired(Role.INITIATOR, direct, client={"child": "close_action = start"}) as pair:
        pair.set_up()
        pair.strongswan.terminate(ike="rw")
        pair.cygnet.await_count('ike_sas_closed_total{reason="deleted_by_peer"}', 1)
        pair.cygnet.await_count(ESTABLISHED, 1)
        assert len(pair.strongswan.sas()) == 1


def test_unique_replace_takes_the_new_one_though_the_peer_says_nothing_of_the_old(direct: Topology) -> None:
    """strongSwan says no INITIAL_CONTACT after it was killed; what it had is deleted, if anybody answers."""
    server, client = {"connection": "unique = replace"}, {"connection": "unique = never"}
    with paired(Role.RESPONDER, direct, gateway="workers = 2", server=server, client=client) as pair:
        pair.set_up()
        pair.strongswan.kill()
        pair.strongswan.start()
        pair.strongswan.initiate("net")
        pair.cygnet.await_count('ike_sas_closed_total{reason="replaced"}', 1, timeout_s=15.0)
        for gauge in (ESTABLISHED, "child_sas", "pool_addresses_in_use"):
            pair.cygnet.await_count(gauge, 1)
        [ike_sa] = pair.strongswan.sas()
        [virtual] = pair.virtual_addresses(ike_sa)
        assert direct.client.ping(SERVER_INNER, source=virtual, count=2) == 2


def test_we_end_in_time_though_no_peer_answers(direct: Topology) -> None:
    with paired(Role.RESPONDER, direct) as pair:
        pair.set_up()
        pair.strongswan.kill()
        # Fails if that takes longer than five seconds, or if the status is not 0.
        pair.cygnet.stop()
        assert pair.cygnet.devices() == []


MAX_CLIENTS = 16
"""Of which one at least falls to each of two workers, but for one time in 32,768."""


def test_one_worker_dies_and_the_tunnels_of_the_other_stay(direct: Topology) -> None:
    direct.server.add_address(f"{SERVER_INNER}/32")
    names = [f"home{n}" for n in range(MAX_CLIENTS)]
    clients = "".join(
        client_config(direct.server_address, name=name, identity=f"{name}@example.org", connection="unique = never")
        for name in names
    )
    with (
        Cygnet(direct.server, server_config(), "--workers", "2") as cygnet,
        StrongSwan("strongswan", direct.client, clients) as strongswan,
    ):
        addresses = _tunnels_of_both_workers(strongswan, names)
        tunnels = sum(map(len, addresses))
        cygnet.await_count(ESTABLISHED, tunnels)
        for address in addresses[0] + addresses[1]:
            assert direct.client.ping(SERVER_INNER, source=address, count=1) == 1

        first, second = sorted(cygnet.workers())
        os.kill(first, signal.SIGKILL)
        cygnet.await_count("worker_restarts_total", 1)
        cygnet.await_count(ESTABLISHED, len(addresses[1]))
        eventually(lambda: len(cygnet.workers()) == 2, what="there are two workers again")
        assert second in cygnet.workers()
        assert first not in cygnet.workers()
        for address in addresses[1]:
            assert direct.client.ping(SERVER_INNER, source=address, count=1) == 1
        assert direct.client.ping(SERVER_INNER, source=addresses[0][0], count=1) == 0

        strongswan.terminate(ike=_peer_on(strongswan, addresses[1][0]))
        cygnet.await_count(ESTABLISHED, len(addresses[1]) - 1)


def _tunnels_of_both_workers(strongswan: StrongSwan, names: list[str]) -> tuple[list[str], list[str]]:
    """Set tunnels up until each of two workers has one; the virtual addresses, by worker."""
    addresses: tuple[list[str], list[str]] = ([], [])
    for name in names:
        strongswan.initiate("net", ike=name)
        [ike_sa] = [each for each in strongswan.sas() if each["name"] == name]
        # The second octet of an SPI of ours is the number of the worker that has the IKE_SA.
        worker = int(str(ike_sa["responder-spi"])[2:4], 16)
        addresses[worker].extend(ike_sa["local-vips"])
        if all(addresses):
            return addresses
    raise AssertionError(f"all of {len(names)} peers fell to one worker")


def _peer_on(strongswan: StrongSwan, address: str) -> str:
    [name] = [str(ike_sa["name"]) for ike_sa in strongswan.sas() if address in ike_sa["local-vips"]]
    return name
