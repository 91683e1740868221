"""What a worker needs of its libraries is loaded before it gives up the right to read their files."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.sim.world import change_connection, gateway_settings

from cygnet.gateway.process import self_test
from cygnet.gateway.process.self_test import try_algorithms
from cygnet.iana import ProtocolId
from cygnet.ike.errors import LocalError
from cygnet.ike.proposals import covering_suites, ike_suite, parse_proposal

ROOT = Path(__file__).resolve().parents[4]

PROGRAM = """
import sys
from cygnet.gateway import supervisor, worker
from cygnet.gateway.process.self_test import try_algorithms
from cygnet.iana import ProtocolId
from cygnet.ike.proposals import parse_proposal
from tests.sim.world import *

proposals = (parse_proposal(ProtocolId.IKE, sys.argv[1]),)
settings = change_connection(gateway_settings(), proposals=proposals)
world = World()
gateway = Host(world, "198.51.100.1", settings, ListPool(counted(9)))
client = Host(world, "192.0.2.1", client_settings())
try_algorithms(settings)

class Unreadable:
    def find_spec(self, name, path=None, target=None):
        raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Unreadable())
client.initiate(gateway, client_connection(proposals=proposals))
world.run(1.0)
sys.exit(not (agree(client, gateway) and gateway.children))
"""


@pytest.mark.parametrize(
    "proposal",
    [
        "aes128gcm16-prfsha256-x25519",
        "aes256-sha512-ecp384",
        "chacha20poly1305-prfaesxcbc-x448",
        "aes128ctr-aesxcbc-prfaescmac-modp2048",
        "aes256ccm12-prfsha1-ecp512bp",
    ],
)
def test_a_handshake_loads_nothing_after_the_self_test(proposal: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, proposal], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_algorithm_of_a_proposal_is_tried() -> None:
    proposal = parse_proposal(ProtocolId.IKE, "aes128-aes256-sha256-sha384-sha512-x25519")
    suites = covering_suites(proposal)
    assert {t for suite in suites for t in suite} == set(proposal.transforms)
    assert len(suites) == 3


def test_an_algorithm_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = change_connection(gateway_settings(), proposals=(parse_proposal(ProtocolId.IKE, "aes128-sha1-x448"),))
    (suite,) = (ike_suite(t) for t in covering_suites(settings.connections[0].proposals[0]))

    class Broken:
        public = b""

        def shared(self, peer: bytes) -> bytes:
            return bytes(id(self).to_bytes(8, "big"))

    broken = msgspec.structs.replace(suite, ke=msgspec.structs.replace(suite.ke, factory=lambda private: Broken()))
    monkeypatch.setattr(self_test, "ike_suite", lambda transforms: broken)
    with pytest.raises(LocalError, match="key exchange x448 does not work on this machine"):
        try_algorithms(settings)


_LOADS_NOTHING_LATER = """
import os, sys
from cygnet.crypto.encr import ENCR
from cygnet.crypto.ke import KE
from cygnet.gateway.process.self_test import try_algorithms
from cygnet.ike.settings import Settings
try_algorithms(Settings())
before = set(sys.modules)
for row in KE.values():
    if row.keywords[0] in ("modp2048", "modp3072") or not row.keywords[0].startswith("modp"):
        a, b = row.generate(), row.generate()
        assert a.shared(b.public) == b.shared(a.public)
for row in ENCR.values():
    row.factory(os.urandom(row.key_octets(row.key_bits[0]) - row.salt_octets))
print(sorted(set(sys.modules) - before))
"""


def test_nothing_is_loaded_late_for_a_connection_that_comes_later() -> None:
    """A worker may not be able to read the library's files: found where all was in a folder of root's alone."""
    done = subprocess.run([sys.executable, "-c", _LOADS_NOTHING_LATER], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
