"""A peer that wants new keys: whatever it takes, there is one tunnel afterwards, and it works."""

import pytest
from tests.interop.cygnet_gateway import ESTABLISHED
from tests.interop.pairs import SERVER_INNER, Pair, Role, child_of, paired
from tests.interop.polling import eventually
from tests.interop.topologies import Topology

CLIENT_INNER = "10.2.0.1"


@pytest.mark.parametrize("of", ["child", "ike"])
@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_strongswan_rekeys(direct: Topology, role: Role, of: str) -> None:
    direct.client.add_address(f"{CLIENT_INNER}/32")
    client = {"virtual_ips": "", "child": "local_ts = 10.2.0.0/24"}
    server = {"pools": {}, "child": "remote_ts = 10.2.0.0/24"}
    with paired(role, direct, client=client, server=server) as pair:
        pair.set_up()
        before = _keys(pair, of)
        name = "net" if of == "child" else ("home" if role is Role.RESPONDER else "rw")
        pair.strongswan.rekey(**{of: name})
        eventually(lambda: _keys(pair, of) not in (before, None), what="there are new keys, and no old ones")
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=2) == 2
        assert direct.server.ping(CLIENT_INNER, source=SERVER_INNER, count=2) == 2
        pair.cygnet.await_count(ESTABLISHED, 1)
        pair.cygnet.await_count("child_sas", 1)


def _keys(pair: Pair, of: str) -> tuple[object, object] | None:
    """The SPIs of the one IKE_SA or CHILD_SA: others stand for other keys. None unless there is one of each."""
    ike_sas = pair.strongswan.sas()
    if len(ike_sas) != 1 or len(ike_sas[0]["child-sas"]) != 1:
        return None
    child = child_of(ike_sas[0])
    spis = (child["spi-in"], child["spi-out"])
    return spis if of == "child" else (ike_sas[0]["initiator-spi"], ike_sas[0]["responder-spi"])
