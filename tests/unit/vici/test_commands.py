"""Commands on the configuration, against a store alone."""

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests import pki
from tests.unit.vici.client import Client

from cygnet.vici.commands import authorities, control, pools, sas
from cygnet.vici.message import Section
from cygnet.vici.server import CommandError


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_an_authority_is_kept_listed_and_unloaded(encoding: Encoding) -> None:
    client = Client(authorities.table)
    message: Section = {
        "root": {
            "cacert": pki.authority("Example, Ltd").certificate.public_bytes(encoding),
            "crl_uris": [b"http://a/crl", b"http://b/crl"],
        }
    }
    answer = client.run("load-authority", message)
    assert answer["success"] is True
    (warning,) = answer["warnings"]
    assert warning.startswith("authorities.root has no effect: certificates are not built yet")
    client.run("load-authority", {"other": {"file": b"/etc/ca.pem", "cert_uri_base": b"http://a/"}})
    assert client.run("get-authorities") == {"authorities": ("root", "other")}
    client.run("list-authorities")
    assert client.events == [
        (
            "list-authority",
            {
                "root": {
                    "cacert": "C=CH, O=Acme, CN=Example\\, Ltd",
                    "crl_uris": ("http://a/crl", "http://b/crl"),
                    "ocsp_uris": (),
                    "cert_uri_base": None,
                }
            },
        ),
        (
            "list-authority",
            {"other": {"cacert": "/etc/ca.pem", "crl_uris": (), "ocsp_uris": (), "cert_uri_base": "http://a/"}},
        ),
    ]
    client.events.clear()
    client.run("list-authorities", {"name": b"other"})
    assert len(client.events) == 1
    client.run("unload-authority", {"name": b"root"})
    assert client.run("get-authorities") == {"authorities": ("other",)}
    with pytest.raises(CommandError, match="authority 'root' not found"):
        client.run("unload-authority", {"name": b"root"})


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"root": {"cacert": b"hello"}}, "cacert: parsing X509 certificate failed"),
        ({"root": {"cacert": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END"}}, "cacert: parsing X509 certificate"),
        ({"root": {"crl_uris": [b"http://a"]}}, "authorities.root has no certificate"),
        ({"root": {"file": b"a", "handle": b"00"}}, "has both file and handle"),
        ({"root": {"file": b"a", "crl_uri": b"x"}}, 'did you mean "crl_uris"'),
        ({"root": b"a"}, "root is to be a section"),
    ],
)  # fmt: skip
def test_a_wrong_authority_is_refused(message: Section, why: str) -> None:
    client = Client(authorities.table)
    with pytest.raises(CommandError, match=why):
        client.run("load-authority", message)
    assert client.run("get-authorities") == {"authorities": ()}


def test_what_a_pool_tells_is_loaded_and_shown() -> None:
    client = Client(pools.table)
    answer = client.run(
        "load-pool",
        {
            "v4": {
                "addrs": b"10.3.0.0/24",
                "dns": [b"10.1.0.53", b"fd01::53"],
                "subnet": [b"10.1.0.0/16", b"fd01::/64"],
                "25": [b"corp.example.org"],
                "28": [b"\xff\x00"],
                "split_include": [b"10.1.0.0/16"],
            }
        },
    )
    (warning,) = answer["warnings"]
    assert warning.startswith("split_include in pools.v4 has no effect")
    assert client.run("get-pools") == {
        "v4": {
            "base": "10.3.0.0",
            "size": 254,
            "online": 0,
            "offline": 0,
            "leases": None,
            "dns": ["10.1.0.53", "fd01::53"],
            "subnet": ["10.1.0.0/16", "fd01::/64"],
            "25": ["corp.example.org"],
            "28": ["0xff00"],
        }
    }
    with pytest.raises(CommandError, match="is no IP address"):
        client.run("load-pool", {"v4": {"addrs": b"10.3.0.0/24", "dns": [b"dns.example.org"]}})


@pytest.mark.parametrize("command", ["terminate", "rekey", "list-sas"])
def test_a_number_that_no_sa_can_have_does_not_mean_all_of_them(command: str) -> None:
    client = Client(control.table, sas.table)
    with pytest.raises(CommandError, match="ike-id is to be a number from 1 on, not -1"):
        client.run(command, {"ike": b"rw", "ike-id": b"-1"})
