"""Reauthentication begun by us: a new IKE_SA and the same virtual address, and no packet is missed."""

import pytest
from tests.interop.cygnet_gateway import ESTABLISHED
from tests.interop.pairs import SERVER_INNER, Role, paired
from tests.interop.pings import Pings
from tests.interop.polling import eventually
from tests.interop.test_tunnels import use_virtual_address
from tests.interop.topologies import Topology

NEVER = "rekey_time = 0s\n"


@pytest.mark.parametrize("whose", ["ours", "AUTH_LIFETIME"])
def test_a_tunnel_is_authenticated_anew_under_traffic(direct: Topology, whose: str) -> None:
    """By our own `reauth_time`, or by that of strongSwan, which tells us of it (RFC 4478)."""
    often = NEVER + "reauth_time = 2s\n over_time = 20s\n rand_time = 0s"
    client, server = (often, NEVER) if whose == "ours" else (NEVER, often)
    with paired(
        Role.INITIATOR,
        direct,
        client={"connection": client, "child": NEVER},
        server={"connection": server, "child": NEVER},
    ) as pair:
        before = pair.set_up()
        [address] = pair.virtual_addresses(before)
        use_virtual_address(pair, direct, address)
        with Pings(direct.client, SERVER_INNER, source=address, interval_s=0.1) as pings:
            eventually(lambda: pair.cygnet.count("reauthentications_total") >= 2, timeout_s=30.0)
        assert pings.lost == []
        eventually(
            lambda: pair.cygnet.count(ESTABLISHED) == len(pair.strongswan.sas()) == 1,
            what="there is one IKE_SA at both ends",
        )
        [after] = pair.strongswan.sas()
        assert after["uniqueid"] != before["uniqueid"]
        assert pair.virtual_addresses(after) == [address]


@pytest.mark.parametrize("workers", [1, 3])
def test_strongswan_keeps_its_virtual_address(direct: Topology, workers: int) -> None:
    """It asks for the one that it has, while its old IKE_SA still holds it, in time to keep to our `reauth_time`.

    With several workers the new IKE_SA comes to any of them; then the address, and the packets for it, come along.
    """
    # strongSwan takes a second longer now and then, when it asks again for an answer that it has missed.
    often = NEVER + "reauth_time = 5s\n over_time = 3s\n rand_time = 0s"
    with paired(
        Role.RESPONDER,
        direct,
        client={"connection": NEVER + "over_time = 3s", "child": NEVER},
        server={"connection": often, "child": NEVER},
        gateway=f"workers = {workers}",
        settings={"make_before_break": "yes"},
    ) as pair:
        [address] = pair.virtual_addresses(pair.set_up())
        use_virtual_address(pair, direct, address)
        times = 3 if workers == 1 else 7
        with Pings(direct.client, SERVER_INNER, source=address, interval_s=0.1) as pings:
            eventually(lambda: pair.cygnet.count("ike_sas_established_total") >= times, timeout_s=60.0)
        assert pings.lost == []
        assert pair.cygnet.dropped() == {}
        eventually(
            lambda: pair.cygnet.count(ESTABLISHED) == len(pair.strongswan.sas()) == 1, what="there is one IKE_SA"
        )
        [after] = pair.strongswan.sas()
        assert pair.virtual_addresses(after) == [address]
        assert pair.cygnet.count("pool_addresses_in_use") == 1
