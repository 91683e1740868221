"""The harness's own Cygnet: started, asked, killed, started again, stopped; and nothing of it is left."""

import pytest
from tests.interop.cygnet_gateway import ESTABLISHED, Cygnet
from tests.interop.namespaces import Namespace
from tests.interop.strongswan import server_config


def test_it_serves_until_it_is_stopped() -> None:
    with Namespace("alone") as namespace:
        with Cygnet(namespace, server_config(), "--workers", "2") as cygnet:
            assert len(cygnet.workers()) == 2
            assert cygnet.devices() == ["cygnet0", "cygnet1"]
            assert "10.3.0.0/25 dev cygnet0" in namespace.ip("route")
            assert cygnet.status()[ESTABLISHED] == cygnet.count(ESTABLISHED) == 0
            assert "2 workers" in cygnet.cygnet("status", "--state-dir", str(cygnet.state_directory))
            cygnet.stop()
            assert cygnet.devices() == []
            assert namespace.ip("route") == ""
            assert not cygnet.state_directory.exists()
        assert namespace.processes() == []


def test_it_starts_again_after_it_was_killed() -> None:
    with Namespace("alone") as namespace, Cygnet(namespace, server_config()) as cygnet:
        first = cygnet.pid
        cygnet.kill()
        assert namespace.processes() == []
        cygnet.start()
        assert cygnet.pid != first
        assert cygnet.count(ESTABLISHED) == 0


def test_it_says_what_is_wrong_with_its_configuration() -> None:
    with (
        Namespace("alone") as namespace,
        pytest.raises(AssertionError, match="ended with 2 instead of serving") as raised,
        Cygnet(namespace, server_config(connection="prposals = default")),
    ):
        pass
    assert 'unknown key "prposals"' in raised.value.__notes__[0]
