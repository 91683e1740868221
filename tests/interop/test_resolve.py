"""The DNS servers that strongSwan gives us with a virtual address, in a resolv.conf of the test's own."""

from pathlib import Path

from tests.interop.cygnet_gateway import Cygnet
from tests.interop.pairs import SERVER_INNER
from tests.interop.polling import eventually
from tests.interop.strongswan import StrongSwan, client_config, server_config
from tests.interop.topologies import Topology

POOL = {"v4": "10.3.0.0/24\n        dns = 10.1.0.53, 10.1.0.54"}
OTHERS = "search example.org\nnameserver 192.0.2.53\n"
OURS = "nameserver 10.1.0.53   # by cygnet\nnameserver 10.1.0.54   # by cygnet\n"


def test_servers_come_and_go_with_the_tunnel_and_do_not_outlive_a_crash(direct: Topology, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(OTHERS)
    direct.server.add_address(f"{SERVER_INNER}/32")
    config = client_config(direct.server_address) + f"gateway {{ resolve = file\n resolv_conf = {file} }}\n"
    with (
        StrongSwan("server", direct.server, server_config(pools=POOL)) as server,
        Cygnet(direct.client, config) as cygnet,
    ):
        cygnet.initiate("net")
        eventually(lambda: file.read_text() == OURS + OTHERS)
        cygnet.swanctl("--rekey", "--ike", "home")
        eventually(lambda: cygnet.count("ike_sas_rekeyed_total") == 1)
        cygnet.terminate(ike="home")
        eventually(lambda: file.read_text() == OTHERS)

        cygnet.initiate("net")
        eventually(lambda: file.read_text() == OURS + OTHERS)
        server.terminate(ike="rw")
        eventually(lambda: file.read_text() == OTHERS)

        cygnet.initiate("net")
        eventually(lambda: file.read_text() == OURS + OTHERS)
        cygnet.kill()
        assert file.read_text() == OURS + OTHERS
        cygnet.start()
        assert file.read_text() == OTHERS
        assert "has left DNS servers behind" in cygnet.log()

        cygnet.initiate("net")
        eventually(lambda: file.read_text() == OURS + OTHERS)
        cygnet.stop()
        assert file.read_text() == OTHERS
        cygnet.start()
