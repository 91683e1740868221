"""`cygnet load`: many tunnels, to strongSwan and to our own gateway."""

import json
from typing import Any

import pytest
from tests.interop.cygnet_gateway import HALF_OPEN, Cygnet
from tests.interop.namespaces import Namespace
from tests.interop.pairs import SERVER_INNER
from tests.interop.strongswan import BENCHMARK_CONFIG, StrongSwan, server_config
from tests.interop.topologies import Topology

SUITE = ("--proposal", "aes128gcm16-prfsha256-x25519", "--esp", "aes128gcm16")


def load(namespace: Namespace, *arguments: str, status: int = 0) -> dict[str, Any]:
    """The result of `cygnet load ARGUMENTS`, which must end with that exit status."""
    completed = namespace.run(
        *Cygnet.program("load", *arguments, *SUITE, "--json", "--quiet"), timeout_s=60.0, check=False
    )
    assert completed.returncode == status, completed.stdout + completed.stderr
    result: dict[str, Any] = json.loads(completed.stdout)
    return result


def test_a_thousand_tunnels_to_strongswan(direct: Topology) -> None:
    with StrongSwan("strongswan", direct.server, BENCHMARK_CONFIG, benchmark=True) as strongswan:
        result = load(
            direct.client,
            *(direct.server_address, "--psk", "benchmark-secret", "--remote-id", "gw.example.org"),
            *("--count", "1000", "--vip", "--local-ts", "0.0.0.0/0", "--delete"),
        )
        assert (result["attempted"], result["established"], result["failed"]) == (1000, 1000, 0)
        assert result["failures"] == {}
        assert result["suite"].startswith("aes128gcm16-prfsha256-x25519")
        assert 0 < result["setup_delay_ms"]["p50"] <= result["setup_delay_ms"]["p99"] <= result["setup_delay_ms"]["max"]
        assert result["deleted"] == {"confirmed": 1000, "unconfirmed": 0}
        assert strongswan.sas() == []


@pytest.mark.parametrize("encap", ["--encap", "--no-encap"])
@pytest.mark.parametrize("target", [SERVER_INNER, "10.64.0.1"], ids=["tun", "echo"])
def test_five_hundred_tunnels_that_carry_pings(direct: Topology, encap: str, target: str) -> None:
    """To a host behind the TUN device, and to the gateway's echo; in UDP and as IP protocol 50."""
    direct.server.add_address(f"{SERVER_INNER}/32")
    config = server_config(pools={"v4": "10.64.0.0/10"}, local_ts="0.0.0.0/0")
    with Cygnet(direct.server, config) as cygnet:
        result = load(
            direct.client,
            *(direct.server_address, "--psk", "a-shared-secret", "--remote-id", "gw.example.org"),
            *("--count", "500", "--vip", "--ping-target", target, encap, "--delete"),
        )
        assert (result["established"], result["failures"]) == (500, {})
        assert result["echoes"] == {"answered": 500, "unanswered": 0}
        assert result["deleted"] == {"confirmed": 500, "unconfirmed": 0}
        assert result["tester"]["internal_errors"] == 0
        cygnet.await_count("ike_sas_established_total", 500)
        cygnet.await_count('ike_sas_closed_total{reason="deleted_by_peer"}', 500)
        cygnet.await_count("pool_addresses_in_use", 0)
        assert (
            cygnet.count('esp_packets_total{direction="in"}')
            == cygnet.count('esp_packets_total{direction="out"}')
            >= 500
        )
        is_echo = target != SERVER_INNER
        assert (cygnet.count('dataplane_events_total{event="echo_answered"}') >= 500) == is_echo
        cygnet.await_count("internal_errors_total", 0)


def test_many_peers_behind_one_nat(behind_nat: Topology) -> None:
    config = server_config(pools={"v4": "10.64.0.0/10"}, local_ts="0.0.0.0/0")
    with Cygnet(behind_nat.server, config) as cygnet:
        result = load(
            behind_nat.client,
            *(behind_nat.server_address, "--psk", "a-shared-secret", "--remote-id", "gw.example.org"),
            *("--count", "200", "--vip", "--ping-target", "10.64.0.1", "--no-encap"),
            *("--source-ports", "30000-30399", "--delete"),
        )
        assert (result["established"], result["failures"]) == (200, {})
        assert result["echoes"] == {"answered": 200, "unanswered": 0}
        cygnet.await_count('ike_sas_closed_total{reason="deleted_by_peer"}', 200)


def test_failures_are_named_and_fail_the_run(direct: Topology) -> None:
    with Cygnet(direct.server, server_config()) as cygnet:
        result = load(direct.client, direct.server_address, "--psk", "wrong", "--count", "20", "--vip", status=1)
        assert (result["established"], result["failures"]) == (0, {"authentication_failed": 20})
        cygnet.await_count('authentication_failures_total{reason="wrong_secret"}', 20)
        cygnet.await_count(HALF_OPEN, 0)
        cygnet.await_count("pool_addresses_in_use", 0)
