"""What crosses a tunnel, and how: selectors, families, DSCP and ECN, padding, the path's MTU, virtual addresses."""

import re
import sys

import msgspec
import pytest
from tests.interop.cygnet_gateway import Cygnet
from tests.interop.pairs import CLIENT_INNER, SERVER_INNER, Role, child_of, paired, two_cygnets
from tests.interop.polling import eventually
from tests.interop.strongswan import StrongSwan, client_config, server_config
from tests.interop.test_tunnels import use_virtual_address
from tests.interop.topologies import Topology
from tests.interop.watch import PacketWatch

EXPEDITED = ("-Q", "0xb8")
ECN_CAPABLE = ("-Q", "0x02")


@pytest.mark.parametrize(("remote_ts", "routed"), [("10.1.0.0/24", "10.1.0.0/24"), ("0.0.0.0/0", "0.0.0.0/1")])
def test_our_gateway_is_a_client(direct: Topology, remote_ts: str, routed: str) -> None:
    """The virtual address is on the TUN device, what is remote is routed there; both are gone with the IKE_SA."""
    with paired(Role.INITIATOR, direct, server={"local_ts": remote_ts}, client={"remote_ts": remote_ts}) as pair:
        [virtual] = pair.virtual_addresses(pair.set_up())
        use_virtual_address(pair, direct, virtual)
        [device] = re.findall(rf"(cygnet\d) .* {virtual}/32", direct.client.ip("-brief", "address"))
        assert f"{routed} dev {device}" in direct.client.ip("route")
        # Without a word about the source: the kernel takes the virtual address for it.
        assert direct.client.ping(SERVER_INNER, count=3) == 3
        pair.strongswan.terminate(ike="rw")

        def is_bare() -> bool:
            assert virtual not in direct.client.ip("-brief", "address")
            assert device not in direct.client.ip("route")
            return True

        eventually(is_bare, what="the virtual address and the route are gone")


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_ipv6_outside_with_both_families_inside(direct: Topology, role: Role) -> None:
    outside = msgspec.structs.replace(
        direct, server_address=direct.server_address_v6, client_address=direct.client_address_v6
    )
    inner = {"local_ts": "10.1.0.0/24, fd01::/64", "pools": {"v4": "10.3.0.0/24", "v6": "fd03::/120"}}
    asked = {"virtual_ips": "0.0.0.0, ::", "remote_ts": "10.1.0.0/24, fd01::/64"}
    direct.server.add_address("fd01::1/128")
    with (
        paired(role, outside, server=inner, client=asked) as pair,
        PacketWatch(direct.server, over_ipv6="ip6 nexthdr udp udp dport 4500 @th,64,32 != 0") as arrived,
    ):
        for server_inner, virtual in zip((SERVER_INNER, "fd01::1"), pair.virtual_addresses(pair.set_up()), strict=True):
            use_virtual_address(pair, direct, virtual)
            assert direct.client.ping(server_inner, source=virtual, count=2) == 2
            assert direct.server.ping(virtual, source=server_inner, count=2) == 2
        assert arrived["over_ipv6"] == 8


def test_dscp_and_padding_are_seen_outside(direct: Topology) -> None:
    outside = {"ef": "udp sport 4500 ip dscp ef", "full": "udp sport 4500 @th,64,32 != 0 meta length > 1480"}
    with (
        paired(Role.RESPONDER, direct, server={"child": "tfc_padding = mtu"}) as pair,
        PacketWatch(direct.client, **outside) as arrived,
    ):
        [virtual] = pair.virtual_addresses(pair.set_up())
        assert direct.server.ping(virtual, source=SERVER_INNER, count=3, options=EXPEDITED) == 3
        assert (arrived["ef"], arrived["full"]) == (3, 3)
        assert direct.server.ping(virtual, source=SERVER_INNER, count=2) == 2
        assert (arrived["ef"], arrived["full"]) == (3, 5)


@pytest.mark.parametrize(("is_ipv6", "encap"), [(False, True), (True, False)], ids=["ipv4-in-udp", "ipv6-bare"])
def test_congestion_outside_is_told_inside(direct: Topology, is_ipv6: bool, encap: bool) -> None:
    """RFC 6040: what a router marks outside arrives inside, or costs a packet that can't say it."""
    outer = direct.server_address_v6 if is_ipv6 else direct.server_address
    header = "ip6" if is_ipv6 else "ip"
    esp = "udp dport 4500 @th,64,32 != 0" if encap else "meta l4proto esp"
    direct.server.load_rules(
        f"table inet router {{\nchain arriving {{\ntype filter hook prerouting priority -300\n"
        f"{esp} {header} ecn ect0 {header} ecn set ce\n"
        f"{esp} {header} dscp ef {header} ecn set ce\n}}\n}}"
    )
    inside = {"marked": 'iifname "cygnet*" ip ecn ce', "unmarked": 'iifname "cygnet*" ip ecn not-ect'}
    forced = "encap = yes" if encap else ""
    with two_cygnets(direct, outer, connection=forced) as (_, server), PacketWatch(direct.server, **inside) as arrived:
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=2, options=ECN_CAPABLE) == 2
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=2) == 2
        assert (arrived["marked"], arrived["unmarked"]) == (2, 2)
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=1, options=EXPEDITED) == 0
        server.await_count('dataplane_events_total{event="esp_ecn"}', 1)


def test_senders_are_told_what_fits_a_narrow_path(behind_nat: Topology) -> None:
    """A router takes 1300 octets. Its word reaches our kernel, and ours the sender of what must not be cut."""
    router = behind_nat.nat
    assert router is not None
    for namespace, device in ((router, "to-client"), (behind_nat.client, "to-router")):
        namespace.ip("link", "set", device, "mtu", "1300")
    with paired(Role.RESPONDER, behind_nat) as pair:
        [virtual] = pair.virtual_addresses(pair.set_up())
        server = behind_nat.server

        def room() -> int:
            """What the server's kernel knows of the way to the client."""
            server.ping(virtual, source=SERVER_INNER, count=1, payload_octets=1300, options=("-M", "do"))
            known = re.search(r"mtu (\d+)", server.ip("route", "get", virtual, "from", SERVER_INNER))
            return int(known[1]) if known else 0

        fits = eventually(room, timeout_s=8, what="the sender is told what fits")
        # 1300 less 20 for IP, 8 for UDP, 8 and 8 for ESP's header and IV, 16 for the ICV, 2 and 2 for the trailer.
        assert fits in range(1236, 1240)
        largest = fits - 28
        assert server.ping(virtual, source=SERVER_INNER, payload_octets=largest, options=("-M", "do")) == 3
        # What may be cut goes whole into ESP, and ESP in fragments.
        assert server.ping(virtual, source=SERVER_INNER, payload_octets=1372, options=("-M", "dont")) == 3
        assert pair.cygnet.count('dataplane_events_total{event="inner_too_big"}') > 0


CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.5, (sys.argv[3], 0))
except ConnectionRefusedError:
    print("reached")
except OSError:
    print("lost")
"""


def test_children_with_different_selectors(direct: Topology) -> None:
    """Between the same two addresses, one child has pings and one a port: each its own, and nothing has the rest."""
    pings, web = f"{SERVER_INNER}/32[icmp]", f"{SERVER_INNER}/32[tcp/8080]"
    mine = f"{CLIENT_INNER}/32"
    direct.client.add_address(mine)
    direct.server.add_address(f"{SERVER_INNER}/32")
    server_text = server_config(
        pools={},
        local_ts=pings,
        child=f"remote_ts = {mine}[icmp]\n}}\nweb {{\nlocal_ts = {web}\nremote_ts = {mine}[tcp]",
    )
    # Of two identities, since strongSwan would put both children into one IKE_SA.
    client_text = "".join(
        client_config(
            direct.server_address,
            name=name,
            identity=f"{name}@example.org",
            virtual_ips="",
            remote_ts=theirs,
            child=f"local_ts = {mine}[{protocol}]",
        )
        for name, theirs, protocol in (("home", pings, "icmp"), ("work", web, "tcp"))
    )
    with (
        Cygnet(direct.server, server_text, "--workers", "1") as cygnet,
        StrongSwan("strongswan", direct.client, client_text) as strongswan,
    ):
        strongswan.initiate("net", ike="home")
        strongswan.initiate("net", ike="work")
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=3) == 3
        assert direct.server.ping(CLIENT_INNER, source=SERVER_INNER, count=2) == 2
        said = [
            direct.client.run(sys.executable, "-c", CONNECT, SERVER_INNER, port, CLIENT_INNER).stdout.strip()
            for port in ("8080", "8081")
        ]
        assert said == ["reached", "lost"]
        carried = {str(sa["name"]): child_of(sa) for sa in strongswan.sas()}
        assert {name: int(str(child["packets-in"])) for name, child in carried.items()} == {"home": 5, "work": 1}
        # From the server's side, too, nothing but the children's own traffic enters a tunnel.
        direct.server.run(sys.executable, "-c", CONNECT, CLIENT_INNER, "8081", SERVER_INNER)
        assert cygnet.count('dataplane_events_total{event="inner_no_tunnel"}') > 0
