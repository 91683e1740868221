"""Tunnels that live long: new keys every few seconds, from either end, under traffic that misses nothing."""

from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from tests.interop.cygnet_gateway import ESTABLISHED
from tests.interop.namespaces import PING_INTERVAL_S
from tests.interop.pairs import SERVER_INNER, Pair, Role, paired
from tests.interop.polling import eventually
from tests.interop.topologies import Topology

PING_S = 9.0
CLIENT_INNER = "10.2.0.1"

# Seconds that mean a few rekeyings of each kind while the ping lasts.
OFTEN = {
    "connection": "rekey_time = 4s\n over_time = 20s\n rand_time = 1s",
    "child": "rekey_time = 2s\n life_time = 20s\n rand_time = 1s",
}
NEVER = {"connection": "rekey_time = 0s\n", "child": "rekey_time = 0s"}
PFS = {"esp_proposals": "aes128gcm16-x25519"}
NO_PFS = {"esp_proposals": "aes128gcm16"}


@pytest.mark.parametrize(
    ("role", "who", "proposals"),
    [
        pytest.param(Role.RESPONDER, "strongswan", PFS, id="cygnet-responds, strongswan rekeys with PFS"),
        pytest.param(Role.INITIATOR, "strongswan", NO_PFS, id="cygnet-initiates, strongswan rekeys without PFS"),
        pytest.param(Role.RESPONDER, "cygnet", NO_PFS, id="cygnet-responds and rekeys without PFS"),
        pytest.param(Role.INITIATOR, "cygnet", PFS, id="cygnet-initiates and rekeys with PFS"),
    ],
)
def test_no_ping_is_lost(direct: Topology, role: Role, who: str, proposals: dict[str, str]) -> None:
    is_client = (role is Role.INITIATOR) == (who == "cygnet")
    client, server = (OFTEN, NEVER) if is_client else (NEVER, OFTEN)
    with paired(role, direct, client={**client, **proposals}, server={**server, **proposals}) as pair:
        [address] = pair.virtual_addresses(pair.set_up())
        if role is Role.INITIATOR:
            direct.client.add_address(f"{address}/32")
        count = int(PING_S / PING_INTERVAL_S)
        with ThreadPoolExecutor(1) as pool:
            answered = pool.submit(direct.client.ping, SERVER_INNER, source=address, count=count)
            while who == "strongswan" and not wait([answered], timeout=2.0).done:
                # kernel-libipsec does not tell charon of the age of every CHILD_SA, so it is told to.
                pair.strongswan.rekey(child="net")
            assert answered.result() == count
        assert pair.cygnet.count("child_sas_rekeyed_total") >= 3
        assert pair.cygnet.count("ike_sas_rekeyed_total") >= 2
        if role is Role.RESPONDER:
            assert pair.cygnet.count("pool_addresses_in_use") == 1
        eventually(lambda: _is_one(pair), timeout_s=15.0, what="there is one IKE_SA at both ends")
        assert pair.cygnet.count("temporary_failures_total") == 0
        assert direct.client.ping(SERVER_INNER, source=address, count=1) == 1


def _is_one(pair: Pair) -> bool:
    return pair.cygnet.count(ESTABLISHED) == len(pair.strongswan.sas()) == 1


@pytest.mark.parametrize("make_before_break", ["yes", "no"])
def test_strongswan_reauthenticates(direct: Topology, make_before_break: str) -> None:
    """A new IKE_SA with new CHILD_SAs, and the old one deleted: before the new one, or without a gap after it."""
    direct.client.add_address(f"{CLIENT_INNER}/32")
    client = {
        "virtual_ips": "",
        "connection": "reauth_time = 3s\n over_time = 20s\n rand_time = 0s",
        "child": "local_ts = 10.2.0.0/24",
    }
    server = {"pools": {}, "child": "remote_ts = 10.2.0.0/24"}
    settings = {"make_before_break": make_before_break}
    with paired(Role.RESPONDER, direct, client=client, server=server, settings=settings) as pair:
        pair.set_up()
        count = int(5.0 / PING_INTERVAL_S)
        answered = direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=count)
        assert pair.cygnet.count("ike_sas_established_total") >= 2
        if make_before_break == "yes":
            assert answered == count
        eventually(lambda: _is_one(pair), what="there is one IKE_SA at both ends")
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=2) == 2
