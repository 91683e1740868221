"""Transport mode between two hosts: what they send each other travels as ESP, and nothing else does.

strongSwan's part here is its answer alone: its userspace ESP (kernel-libipsec) carries tunnels only.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from tests.interop.cygnet_gateway import ESTABLISHED, Cygnet
from tests.interop.namespaces import Namespace
from tests.interop.pings import Pings
from tests.interop.polling import eventually
from tests.interop.strongswan import StrongSwan, client_config, server_config
from tests.interop.topologies import Topology
from tests.interop.watch import PacketWatch

ECHO_SERVER = """
import socket, sys, threading
family, address = (socket.AF_INET6, "::") if sys.argv[1] == "6" else (socket.AF_INET, "0.0.0.0")
udp = socket.socket(family, socket.SOCK_DGRAM); udp.bind((address, 7))
tcp = socket.socket(family, socket.SOCK_STREAM); tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
tcp.bind((address, 7)); tcp.listen()
def serve_udp():
    while True:
        data, peer = udp.recvfrom(65535)
        udp.sendto(data, peer)
threading.Thread(target=serve_udp, daemon=True).start()
def serve_one(conn):
    while data := conn.recv(65536):
        conn.sendall(data)
    conn.close()
print("serving", flush=True)
while True:
    threading.Thread(target=serve_one, args=(tcp.accept()[0],), daemon=True).start()
"""
ASK = """
import socket, sys, threading
peer = sys.argv[1]; source = sys.argv[2]
family = socket.AF_INET6 if ":" in peer else socket.AF_INET
udp = socket.socket(family, socket.SOCK_DGRAM); udp.settimeout(5)
if source: udp.bind((source, 0))
for size in (1, 1000, 1471, 4000, 20000):
    udp.sendto(b"u" * size, (peer, 7))
    assert udp.recv(65535) == b"u" * size, size
tcp = socket.create_connection((peer, 7), 5, (source, 0) if source else None)
data = b"t" * 1000000
threading.Thread(target=tcp.sendall, args=(data,), daemon=True).start()
got = 0
while got < len(data):
    got += len(tcp.recv(65536))
print("ok", tcp.getsockname()[0])
"""


def config(
    name: str,
    peer: str,
    me: str,
    *,
    child: str = "",
    remote: str = "",
    local_ts: str = "dynamic",
    mode: str = "transport",
    connection: str = "",
) -> str:
    """One host's; `me` and `name` are the identity and the connection's name."""
    return f"""
    connections {{
        {name} {{
            {f"remote_addrs = {peer}" if peer else ""}
            mobike = yes
            {connection}
            local {{ auth = psk; id = {me}.example.org }}
            remote {{ auth = psk; id = {remote}.example.org }}
            children {{ host {{ mode = {mode}
                local_ts = {local_ts}
                {child} }} }}
        }}
    }}
    secrets {{ ike-all {{ secret = "between two hosts" }} }}
    """.replace("; ", "\n")


@contextmanager
def hosts(
    topology: Topology,
    *,
    is_ipv6: bool = False,
    client: str = "start_action = start",
    server: str = "",
    workers: str = "1",
    local_ts: str = "dynamic",
    connection: str = "",
) -> Iterator[tuple[Cygnet, Cygnet]]:
    """Client and server; the client begins. `connection` is what the client's says besides."""
    peer = topology.server_address_v6 if is_ipv6 else topology.server_address
    ours = config("out", peer, "client", child=client, remote="server", connection=connection)
    theirs = config("in", "", "server", child=server, remote="client", local_ts=local_ts)
    with (
        Cygnet(topology.server, theirs, "--workers", workers, label="server") as responder,
        Cygnet(topology.client, ours, "--workers", workers, label="client") as initiator,
    ):
        yield initiator, responder


def clear_of(device: str) -> dict[str, str]:
    """What to watch for on a device: ESP, and all else that IP hosts send each other, but IKE and its kind."""
    esp = f'iifname "{device}" meta l4proto 50'
    return {
        "esp_seen": esp,
        "in_udp": f'iifname "{device}" udp dport 4500 @th,64,32 != 0',
        "icmp_seen": f'iifname "{device}" icmp type {{ echo-request, echo-reply }}',
        "icmpv6_seen": f'iifname "{device}" icmpv6 type {{ echo-request, echo-reply }}',
        "tcp_seen": f'iifname "{device}" meta l4proto tcp',
        "udp_seen": f'iifname "{device}" ip frag-off & 0x1fff == 0 udp dport {{ 7, 1024-4499, 4501-65535 }}',
        "udp6_seen": f'iifname "{device}" ip6 nexthdr udp udp dport {{ 7, 1024-4499, 4501-65535 }}',
    }


CLEAR = ("icmp_seen", "icmpv6_seen", "tcp_seen", "udp_seen", "udp6_seen")


def rules_of(namespace: Namespace) -> list[str]:
    """Those that are ours."""
    listing = namespace.ip("rule") + namespace.ip("-6", "rule")
    return [line for line in listing.splitlines() if line.startswith(("219:", "220:", "221:"))]


def diversions_of(namespace: Namespace) -> list[str]:
    """The rules that divert; the others exempt something from them."""
    return [rule for rule in rules_of(namespace) if rule.startswith("220:")]


def await_diversions(*namespaces: Namespace, is_ipv6: bool = False) -> None:
    """Until all the rules for one pair of addresses are there."""
    rules = 1 if is_ipv6 else 2
    eventually(lambda: all(len(diversions_of(each)) >= rules for each in namespaces), what="rules are set")


def await_no_diversions(namespace: Namespace) -> None:
    eventually(lambda: not diversions_of(namespace), what="rules are gone")


def is_bare(namespace: Namespace) -> bool:
    assert rules_of(namespace) == []
    tables = namespace.ip("route", "show", "table", "all") + namespace.ip("-6", "route", "show", "table", "all")
    assert "cygnet" not in tables, tables
    return True


@contextmanager
def serving(namespace: Namespace, is_ipv6: bool) -> Iterator[None]:
    with subprocess.Popen(
        namespace.command(sys.executable, "-c", ECHO_SERVER, "6" if is_ipv6 else "4"), stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"serving\n"
            yield
        finally:
            process.kill()


def ask(topology: Topology, peer: str, source: str = "") -> str:
    return topology.client.run(sys.executable, "-c", ASK, peer, source, timeout_s=40.0).stdout


@pytest.mark.parametrize(
    ("is_ipv6", "rp_filter"), [(False, "0"), (False, "1"), (True, "0")], ids=["IPv4", "IPv4 with rp_filter", "IPv6"]
)
def test_what_two_hosts_send_each_other_travels_as_esp(direct: Topology, is_ipv6: bool, rp_filter: str) -> None:
    peer = direct.server_address_v6 if is_ipv6 else direct.server_address
    own = direct.client_address_v6 if is_ipv6 else direct.client_address
    for namespace in (direct.client, direct.server):
        namespace.set_sysctl("net.ipv4.conf.all.rp_filter", rp_filter)
    with (
        hosts(direct, is_ipv6=is_ipv6) as (client, server),
        serving(direct.server, is_ipv6),
        PacketWatch(direct.server, **clear_of("to-client")) as there,
        PacketWatch(direct.client, **clear_of("to-server")) as back,
    ):
        client.await_count("child_sas", 1)
        await_diversions(direct.client, direct.server, is_ipv6=is_ipv6)
        assert direct.client.ping(peer, count=5) == 5
        assert direct.server.ping(own, count=5) == 5
        assert direct.client.ping(peer, count=2, payload_octets=4000) == 2
        assert ask(direct, peer).split() == ["ok", own]
        assert ask(direct, peer, own).startswith("ok")
        for watch in (there, back):
            assert watch["esp_seen"] > 20
            assert [watch[name] for name in CLEAR] == [0] * len(CLEAR)
        for host in (client, server):
            assert "TRANSPORT" in host.swanctl("--list-sas") and "TRANSPORT" in host.swanctl("--list-conns")
        assert "esp_selectors" not in client.cygnet("status", "--state-dir", str(client.state_directory))
        client.terminate(ike="out")
        await_no_diversions(direct.client)
        await_no_diversions(direct.server)
        assert direct.client.ping(peer, count=2) == 2, "in clear again"
    assert is_bare(direct.client) and is_bare(direct.server)


def test_only_what_the_selectors_cover_is_taken(direct: Topology) -> None:
    with (
        hosts(direct, local_ts="dynamic[tcp/7]") as (client, _),
        serving(direct.server, False),
        PacketWatch(direct.server, **clear_of("to-client")) as there,
    ):
        client.await_count("child_sas", 1)
        await_diversions(direct.client, direct.server)
        assert direct.client.ping(direct.server_address, count=3) == 3
        assert ask(direct, direct.server_address).startswith("ok")
        assert (there["icmp_seen"], there["tcp_seen"]) == (3, 0)
        assert there["udp_seen"] > 0 and there["esp_seen"] > 20


def test_another_address_of_ours_is_left_alone(direct: Topology) -> None:
    direct.client.add_address("192.0.2.22/24", "to-server")
    direct.client.add_address("2001:db8::22/64", "to-server")
    with hosts(direct) as (client, _), PacketWatch(direct.server, **clear_of("to-client")) as there:
        client.await_count("child_sas", 1)
        await_diversions(direct.client, direct.server)
        assert direct.client.ping(direct.server_address, source="192.0.2.22", count=3) == 3
        assert there["icmp_seen"] == 3
        assert direct.client.ping(direct.server_address, source=direct.client_address, count=3) == 3
        assert there["icmp_seen"] == 3


def test_through_a_nat(behind_nat: Topology) -> None:
    peer = behind_nat.server_address
    with (
        hosts(behind_nat) as (client, _),
        serving(behind_nat.server, False),
        PacketWatch(behind_nat.server, **clear_of("to-router")) as there,
    ):
        client.await_count("child_sas", 1)
        await_diversions(behind_nat.client, behind_nat.server)
        assert behind_nat.client.ping(peer, count=5) == 5
        assert ask(behind_nat, peer).split()[0] == "ok"
        assert there["in_udp"] > 20 and [there[name] for name in CLEAR] == [0] * len(CLEAR)
        client.rekey(child="host")
        eventually(lambda: client.count("child_sas_rekeyed_total") == 1, what="new keys")
        assert ask(behind_nat, peer).split()[0] == "ok"
        assert behind_nat.server.ping("192.0.2.254", count=3) == 3, "back to the client"
    assert is_bare(behind_nat.client) and is_bare(behind_nat.server)


def test_rules_go_with_a_worker_that_is_killed_and_come_back(direct: Topology) -> None:
    with hosts(direct, client="start_action = start\ndpd_action = restart") as (client, server):
        client.await_count("child_sas", 1)
        await_diversions(direct.server)
        os.kill(server.workers()[0], signal.SIGKILL)
        await_no_diversions(direct.server)
        os.kill(client.workers()[0], signal.SIGKILL)
        eventually(lambda: client.count(ESTABLISHED) == 1 and server.count("child_sas") >= 1, what="it is there again")
        await_diversions(direct.client, direct.server)
        assert direct.client.ping(direct.server_address, count=3) == 3


def test_a_gateway_that_was_killed_leaves_nothing_that_harms_and_its_successor_clears_it_away(
    direct: Topology,
) -> None:
    with hosts(direct) as (client, server):
        client.await_count("child_sas", 1)
        await_diversions(direct.client)
        os.kill(client.pid, signal.SIGKILL)
        client.kill()
        server.stop()
        left = rules_of(direct.client)
        diversions = diversions_of(direct.client)
        assert diversions, "the kernel keeps rules"
        assert direct.client.ping(direct.server_address, count=3) == 3
        server.start()
        client.start()
        client.await_count("child_sas", 1)
        eventually(lambda: len(rules_of(direct.client)) == len(left), what="as many rules as before")
        assert set(rules_of(direct.client)).isdisjoint(diversions)
        assert direct.client.ping(direct.server_address, count=3) == 3
    assert is_bare(direct.client) and is_bare(direct.server)


@pytest.mark.parametrize("is_ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_the_first_packet_sets_it_up_and_none_is_in_clear(direct: Topology, is_ipv6: bool) -> None:
    """`start_action = trap`: from the start on nothing of it is sent unprotected."""
    peer = direct.server_address_v6 if is_ipv6 else direct.server_address
    with ExitStack() as stack:
        client, server = stack.enter_context(hosts(direct, is_ipv6=is_ipv6, client="start_action = trap"))
        there = stack.enter_context(PacketWatch(direct.server, **clear_of("to-client")))
        back = stack.enter_context(PacketWatch(direct.client, **clear_of("to-server")))
        await_diversions(direct.client, is_ipv6=is_ipv6)
        assert client.count("child_sas") == 0
        assert direct.client.ping(peer, count=5) == 5
        assert client.count("child_sas") == 1 and server.count("child_sas") == 1
        client.terminate(child="host")
        assert direct.client.ping(peer, count=5) == 5
        for watch in (there, back):
            assert watch["icmp_seen"] == watch["icmpv6_seen"] == 0 and watch["esp_seen"] >= 10


def test_several_workers(direct: Topology) -> None:
    with hosts(direct, workers="2") as (client, _), PacketWatch(direct.server, **clear_of("to-client")) as there:
        client.await_count("child_sas", 1)
        await_diversions(direct.client, direct.server)
        assert direct.client.ping(direct.server_address, count=5) == 5
        assert there["esp_seen"] >= 5 and there["icmp_seen"] == 0


def test_packets_follow_from_worker_to_worker(direct: Topology) -> None:
    """Each reauthentication comes to any of the server's workers: the host's packets go along, and none in clear."""
    often = "rekey_time = 0s; reauth_time = 2s; over_time = 20s; rand_time = 0s"
    with (
        hosts(direct, workers="3", connection=often) as (client, server),
        PacketWatch(direct.server, **clear_of("to-client")) as there,
        PacketWatch(direct.client, **clear_of("to-server")) as back,
    ):
        client.await_count("child_sas", 1)
        await_diversions(direct.client, direct.server)
        with Pings(direct.client, direct.server_address, source=direct.client_address, interval_s=0.02) as pings:
            eventually(lambda: client.count("reauthentications_total") >= 6, timeout_s=60.0)
        assert pings.lost == []
        assert there["icmp_seen"] == back["icmp_seen"] == 0 < back["esp_seen"]
        eventually(lambda: server.count("child_sas") == 1, what="the old ones are gone")


def test_without_a_device_the_initiator_says_so_and_the_responder_gives_a_tunnel(direct: Topology) -> None:
    ours = config("out", direct.server_address, "client", child="start_action = start", remote="server")
    theirs = config("in", "", "server", remote="client")
    with Cygnet(direct.server, theirs, label="server", has_tun=False) as server:
        with Cygnet(direct.client, ours, label="client") as client:
            client.await_count('child_sas_failed_total{reason="transport_mode_declined"}', 1)
            eventually(lambda: server.count("child_sas") == client.count("child_sas") == 0, what="the tunnel is gone")
            assert server.established == 1 and "transport_mode_declined" in client.log()
        with Cygnet(direct.client, ours, label="client", has_tun=False) as client:
            client.await_count('ike_sas_closed_total{reason="transport_mode_unavailable"}', 1)


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
def test_strongswan_asks_for_it(direct: Topology, mode: str) -> None:
    """We agree if we are to, else it gets a tunnel. Its userspace ESP can do neither, and it deletes the CHILD_SA."""
    theirs = client_config(direct.server_address, virtual_ips="", child="mode = transport\nremote_ts = dynamic")
    ours = server_config(pools={}, local_ts="dynamic", child=f"mode = {mode}\nremote_ts = dynamic")
    with (
        Cygnet(direct.server, ours) as cygnet,
        StrongSwan("strongswan", direct.client, theirs) as strongswan,
    ):
        with pytest.raises(AssertionError, match="unable to install"):
            strongswan.initiate("net")
        [answer] = [line for line in strongswan.log().splitlines() if "parsed IKE_AUTH response" in line]
        assert ("N(USE_TRANSP)" in answer) == (mode == "transport")
        eventually(lambda: cygnet.count("child_sas") == 0, what="no CHILD_SA is left over")
        assert cygnet.established == 1
    assert is_bare(direct.server)


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
def test_strongswan_is_asked_for_it(direct: Topology, mode: str) -> None:
    """It answers as it is configured, and then can't install it."""
    ours = client_config(
        direct.server_address, virtual_ips="", child="mode = transport\nremote_ts = dynamic\nstart_action = start"
    )
    theirs = server_config(pools={}, local_ts="dynamic", child=f"mode = {mode}\nremote_ts = dynamic")
    with (
        StrongSwan("strongswan", direct.server, theirs) as strongswan,
        Cygnet(direct.client, ours) as cygnet,
    ):
        eventually(lambda: "parsed IKE_AUTH request" in strongswan.log(), what="it is asked")
        [request] = [line for line in strongswan.log().splitlines() if "parsed IKE_AUTH request" in line]
        assert "N(USE_TRANSP)" in request and "N(MOBIKE_SUP)" not in request
        cygnet.await_count(ESTABLISHED, 1)
        eventually(lambda: "not set up" in cygnet.log() and cygnet.count("child_sas") == 0, what="there is no CHILD_SA")
    assert is_bare(direct.client)
