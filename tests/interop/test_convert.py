"""An ipsec.conf that was converted means the same to charon, to which its own swanctl gives it, and to our gateway."""

from pathlib import Path

from tests.interop.controlled import Controlled
from tests.interop.cygnet_gateway import Cygnet
from tests.interop.pairs import SERVER_INNER, child_of
from tests.interop.strongswan import StrongSwan, client_config
from tests.interop.topologies import Topology

from cygnet.config.ipsec.convert import convert

IPSEC_CONF = """\
config setup
    uniqueids = never
    charondebug = "cfg 1"

conn %default
    keyexchange = ikev2
    ike = aes128-sha256-x25519!
    esp = aes128gcm16
    dpdaction = clear
    dpddelay = 300s

conn rw
    left = %any
    leftid = @gw.example.org
    leftsubnet = 10.9.0.0/24
    right = %any
    rightsourceip = 10.3.0.7/24
    rightdns = 10.1.0.53
    authby = secret
    reauth = no
    auto = add

conn net
    also = rw
    leftsubnet = 10.1.0.0/24
"""
IPSEC_SECRETS = '@gw.example.org *@example.org : PSK "a-shared-secret"\n'


def test_a_converted_file_serves_the_same_client_in_both(direct: Topology, tmp_path: Path) -> None:
    (tmp_path / "ipsec.conf").write_text(IPSEC_CONF)
    (tmp_path / "ipsec.secrets").write_text(IPSEC_SECRETS)
    conversion = convert(str(tmp_path / "ipsec.conf"), str(tmp_path / "ipsec.secrets"))
    assert conversion.is_complete
    direct.server.add_address(f"{SERVER_INNER}/32")
    responders: list[Controlled] = [
        StrongSwan("charon", direct.server, conversion.text),
        Cygnet(direct.server, conversion.text, "--workers", "1"),
    ]
    seen = []
    for responder in responders:
        with responder, StrongSwan("strongswan", direct.client, client_config(direct.server_address)) as client:
            client.initiate("net")
            [ike_sa] = client.sas()
            child = child_of(ike_sa)
            # The first address of a pool is our own gateway's.
            address = "10.3.0.7" if isinstance(responder, StrongSwan) else "10.3.0.8"
            assert ike_sa["local-vips"] == [address]
            assert child["local-ts"] == [f"{address}/32"]
            seen.append((child["remote-ts"], child["encr-alg"], child["encr-keysize"]))
            assert "CPRP(ADDR DNS)" in client.log()
            [connection] = responder.connections()
            children = connection["children"]
            assert isinstance(children, dict)
            assert set(children) == {"rw", "net"}
    assert seen[0] == seen[1]
