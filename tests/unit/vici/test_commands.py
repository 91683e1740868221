"""Commands on the configuration, against a store alone."""

import asyncio
import datetime
from collections.abc import Callable
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cygnet.config.store import Store
from cygnet.ike.settings import PoolSettings, Settings
from cygnet.vici.backend import Backend, PoolUse
from cygnet.vici.commands import authorities, control, pools, sas
from cygnet.vici.message import Encodable, Section
from cygnet.vici.server import Call, Command, CommandError


class StoreOnly:
    """A daemon that does nothing but keep what it is told."""

    def __init__(self) -> None:
        self.store = Store(Settings())

    async def put_pool(self, pool: PoolSettings) -> None:
        self.store.put_pool(pool)

    async def pools(self, name: str, *, with_leases: bool) -> list[PoolUse]:
        return [PoolUse(pool, 254, 0) for pool in self.store.pools.values()]


class Client:
    """Runs commands, and keeps the events."""

    def __init__(self, *tables: Callable[[Backend], dict[str, Command]]) -> None:
        self.backend = StoreOnly()
        self.events: list[tuple[str, Encodable]] = []
        self._commands = {
            name: command for table in tables for name, command in table(cast("Backend", self.backend)).items()
        }

    async def _emit(self, name: str, message: Encodable) -> None:
        self.events.append((name, message))

    async def _forward(self, name: str, packets: bytes) -> None:
        raise AssertionError("none of these commands has packets of others")

    def run(self, name: str, message: Section | None = None) -> Any:
        return asyncio.run(self._run(name, message or {}))

    async def _run(self, name: str, message: Section) -> Encodable:
        return await self._commands[name].run(Call(message, self._emit, self._forward))


def certificate(encoding: Encoding) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example, Ltd"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "Root"),
        ]
    )
    day = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + datetime.timedelta(1))
    return builder.sign(key, hashes.SHA256()).public_bytes(encoding)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_an_authority_is_kept_listed_and_unloaded(encoding: Encoding) -> None:
    client = Client(authorities.table)
    message: Section = {"root": {"cacert": certificate(encoding), "crl_uris": [b"http://a/crl", b"http://b/crl"]}}
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
                    "cacert": "C=CH, O=Example\\, Ltd, CN=Root",
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
    with pytest.raises(CommandError, match="'root' failed, not found"):
        client.run("unload-authority", {"name": b"root"})


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"root": {"cacert": b"hello"}}, "no X.509 certificate"),
        ({"root": {"cacert": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END"}}, "no X.509 certificate"),
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
            "base": "10.3.0.1",
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
