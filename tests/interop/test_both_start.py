"""Both ends set the same connection up, at once or one after the other: whatever comes of it, it is alike at both."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.interop.cygnet_gateway import ESTABLISHED, HALF_OPEN, Cygnet
from tests.interop.pairs import CLIENT_INNER, SERVER_INNER
from tests.interop.polling import eventually
from tests.interop.strongswan import StrongSwan
from tests.interop.topologies import Topology


def site(
    ours: str, theirs: str, *, networks: tuple[str, str], addresses: tuple[str, str], unique: str, start: bool
) -> str:
    """swanctl.conf of one of two sites; each names the other, and either may begin."""
    return f"""
connections {{
    site {{
        version = 2
        local_addrs = {addresses[0]}
        remote_addrs = {addresses[1]}
        unique = {unique}
        local {{
            auth = psk
            id = {ours}
        }}
        remote {{
            auth = psk
            id = {theirs}
        }}
        children {{
            net {{
                local_ts = {networks[0]}
                remote_ts = {networks[1]}
                {"start_action = start" if start else ""}
            }}
        }}
    }}
}}
secrets {{
    ike-site {{
        secret = "a-shared-secret"
    }}
}}
"""


def two_sites(direct: Topology, *, unique: str, start: bool, workers: int) -> tuple[Cygnet, StrongSwan]:
    here, there = ("10.2.0.0/24", "10.1.0.0/24"), ("10.1.0.0/24", "10.2.0.0/24")
    addresses = direct.client_address, direct.server_address
    ours = site("east", "west", networks=here, addresses=addresses, unique=unique, start=start)
    theirs = site("west", "east", networks=there, addresses=addresses[::-1], unique=unique, start=start)
    direct.client.add_address(f"{CLIENT_INNER}/32")
    direct.server.add_address(f"{SERVER_INNER}/32")
    # It looks for no way to its peer in the table that its own routes are in; 0 says that it has none.
    charon = StrongSwan("strongswan", direct.server, theirs, settings={"routing_table": 0})
    return Cygnet(direct.client, ours, "--workers", str(workers)), charon


def _spis(ike_sas: list[dict[str, object]]) -> set[tuple[object, object]]:
    return {(sa["initiator-spi"], sa["responder-spi"]) for sa in ike_sas if sa["state"] == "ESTABLISHED"}


def assert_alike_and_working(cygnet: Cygnet, strongswan: StrongSwan, direct: Topology) -> int:
    """Both have the same IKE_SAs, nothing half open, and traffic crosses; returns how many."""

    def are_alike() -> bool:
        ours, theirs = cygnet.sas(), strongswan.sas()
        assert cygnet.count(HALF_OPEN) == 0
        assert len(ours) == len(theirs) == cygnet.count(ESTABLISHED) >= 1
        assert _spis(ours) == _spis(theirs) and len(_spis(ours)) == len(ours)  # type: ignore[arg-type]
        assert sum(len(sa["child-sas"]) for sa in theirs) == cygnet.count("child_sas")
        return True

    eventually(are_alike, timeout_s=15.0, what="both have the same IKE_SAs")
    assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=3) == 3
    assert direct.server.ping(CLIENT_INNER, source=SERVER_INNER, count=3) == 3
    return cygnet.established


@pytest.mark.parametrize("unique", ["no", "replace", "keep", "never"])
def test_both_begin_at_once(direct: Topology, unique: str) -> None:
    """Several times over: whose request comes first is chance."""
    cygnet, strongswan = two_sites(direct, unique=unique, start=False, workers=1)
    with cygnet, strongswan:
        for _ in range(4):
            with ThreadPoolExecutor(2) as pool:
                for end in (cygnet, strongswan):
                    pool.submit(end.swanctl, "--initiate", "--child", "net", "--timeout", "5")
            left = assert_alike_and_working(cygnet, strongswan, direct)
            assert left <= 2
            strongswan.terminate(ike="site")
            eventually(lambda: cygnet.established == 0 and strongswan.sas() == [], what="all is gone")


@pytest.mark.parametrize("unique", ["no", "replace"])
@pytest.mark.parametrize("workers", [1, 2])
def test_one_begins_what_stands_already(direct: Topology, unique: str, workers: int) -> None:
    """We begin though strongSwan has begun before, whichever worker has that."""
    cygnet, strongswan = two_sites(direct, unique=unique, start=False, workers=workers)
    with cygnet, strongswan:
        for _ in range(2):
            strongswan.initiate("net")
            cygnet.await_count(ESTABLISHED, 1)
            cygnet.initiate("net", ike="site")
            assert_alike_and_working(cygnet, strongswan, direct)
            strongswan.terminate(ike="site")
            eventually(lambda: cygnet.established == 0 and strongswan.sas() == [], what="all is gone")
