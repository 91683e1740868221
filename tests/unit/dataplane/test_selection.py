"""Which tunnel a packet takes, and which packets a tunnel may carry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dataplane.children import ANY_PORT, child, packed, selector

from cygnet.dataplane.inner import NO_PORT, SENDERS_PORT, Flow
from cygnet.dataplane.selection import AddressTable, TunnelTable, permits_inbound, permits_outbound
from cygnet.dataplane.tunnel import Tunnel
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

TCP, UDP, ICMP = 6, 17, 1


def flow(source: str, destination: str, protocol: int = UDP, ports: tuple[int, int] = (1000, 2000)) -> Flow:
    return Flow(packed(source), packed(destination), protocol, *ports, 20, False)


def tunnel(number: int, remote: str, local: str = "0.0.0.0/0") -> Tunnel:
    return Tunnel(child(number, local=(selector(local),), remote=(selector(remote),)))


def table_of(*tunnels: Tunnel, later: tuple[Tunnel, ...] = ()) -> TunnelTable:
    by_spi = {entry.child.spi_in: entry for entry in tunnels + later}
    table = TunnelTable(by_spi.__getitem__)
    for entry in tunnels:
        table.add(entry.child)
    return table


def test_the_most_specific_wins() -> None:
    host, net, wide = tunnel(1, "10.1.2.3/32"), tunnel(2, "10.1.0.0/16"), tunnel(3, "10.0.0.0/8")
    for order in ((host, net, wide), (wide, net, host), (net, host, wide)):
        table = table_of(*order)
        assert table.find(flow("192.0.2.1", "10.1.2.3")) is host
        assert table.find(flow("192.0.2.1", "10.1.2.4")) is net
        assert table.find(flow("192.0.2.1", "10.2.0.0")) is wide
        assert table.find(flow("192.0.2.1", "11.0.0.0")) is None


def test_a_rekeyed_tunnel_hands_over_and_back() -> None:
    old, new = tunnel(1, "10.1.2.3/32"), tunnel(2, "10.1.2.3/32")
    table = table_of(old, later=(new,))
    table.add(new.child)
    assert table.find(flow("192.0.2.1", "10.1.2.3")) is new
    table.discard(new.child)
    assert table.find(flow("192.0.2.1", "10.1.2.3")) is old
    table.discard(old.child)
    assert table.find(flow("192.0.2.1", "10.1.2.3")) is None


def test_discarding_twice_harms_no_other() -> None:
    first, second = tunnel(1, "10.1.0.0/16"), tunnel(2, "10.1.0.0/16")
    table = table_of(first, second)
    table.discard(first.child)
    table.discard(first.child)
    assert table.find(flow("192.0.2.1", "10.1.2.3")) is second


def test_tunnels_to_everywhere_are_told_apart_by_their_own_address() -> None:
    clients = [tunnel(n, "0.0.0.0/0", f"10.3.0.{n}/32") for n in range(1, 200)]
    table = table_of(*clients)
    for number, client in enumerate(clients, 1):
        assert table.find(flow(f"10.3.0.{number}", "8.8.8.8")) is client
    assert table.find(flow("10.3.0.200", "8.8.8.8")) is None


def test_a_tunnel_to_somewhere_goes_before_one_to_everywhere() -> None:
    somewhere, everywhere = tunnel(1, "10.0.0.0/8"), tunnel(2, "0.0.0.0/0", "10.3.0.1/32")
    table = table_of(somewhere, everywhere)
    assert table.find(flow("10.3.0.1", "10.9.9.9")) is somewhere
    assert table.find(flow("10.3.0.1", "11.9.9.9")) is everywhere


def test_a_specific_tunnel_that_does_not_take_the_packet_is_passed_over() -> None:
    web = Tunnel(child(1, remote=(selector("10.1.2.3/32", TCP, (443, 443)),)))
    rest = tunnel(2, "10.1.0.0/16")
    table = table_of(web, rest)
    assert table.find(flow("192.0.2.1", "10.1.2.3", TCP, (999, 443))) is web
    assert table.find(flow("192.0.2.1", "10.1.2.3", TCP, (999, 80))) is rest


def test_families_do_not_mix() -> None:
    v4, v6 = tunnel(1, "0.0.0.0/0"), tunnel(2, "::/0", "::/0")
    table = table_of(v4, v6)
    assert table.find(flow("10.0.0.1", "10.0.0.2")) is v4
    assert table.find(flow("fd00::1", "fd00::2")) is v6


def test_both_families_in_one_tunnel() -> None:
    both = Tunnel(
        child(
            1,
            local=(selector("0.0.0.0/0"), selector("::/0")),
            remote=(selector("10.3.0.1/32"), selector("fd03::1/128")),
        )
    )
    table = table_of(both)
    assert table.find(flow("192.0.2.1", "10.3.0.1")) is both
    assert table.find(flow("2001:db8::1", "fd03::1")) is both
    table.discard(both.child)
    assert table.find(flow("192.0.2.1", "10.3.0.1")) is None
    assert table.find(flow("2001:db8::1", "fd03::1")) is None


ADDRESSES = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(ADDRESSES, ADDRESSES).map(sorted), max_size=6), ADDRESSES)
def test_ranges_that_are_no_prefix(ranges: list[list[int]], address: int) -> None:
    table = AddressTable()
    entries = []
    for number, (first, last) in enumerate(ranges):
        entry = number.to_bytes(4, "big")
        entries.append((first, last, entry))
        table.add(first.to_bytes(4, "big"), last.to_bytes(4, "big"), entry)
    edges = {address} | {n for first, last, _ in entries for n in (first - 1, first, last, last + 1) if 0 <= n < 2**32}
    for number in edges:
        expected = {entry for first, last, entry in entries if first <= number <= last}
        assert set(table.candidates(number.to_bytes(4, "big"))) == expected
    for first, last, entry in entries:
        table.discard(first.to_bytes(4, "big"), last.to_bytes(4, "big"), entry)
        assert entry not in table.candidates(first.to_bytes(4, "big"))


def test_a_whole_ipv6_range_less_one_address_is_split() -> None:
    table = AddressTable()
    entry = b"spi1"
    table.add(packed("::1"), packed("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"), entry)
    assert list(table.candidates(packed("::"))) == []
    assert list(table.candidates(packed("::1"))) == [entry]
    assert list(table.candidates(packed("8000::"))) == [entry]
    assert list(table.candidates(b"\xff" * 16)) == []


def test_a_selector_of_one_family_covers_nothing_of_the_other() -> None:
    v6 = child(1, local=(selector("::/0"),), remote=(selector("::/0"),))
    v4 = child(2, local=(selector("0.0.0.0/0"),), remote=(selector("0.0.0.0/0"),))
    for packet, own, other in (
        (flow("10.3.0.1", "10.1.0.1"), v4, v6),
        (flow("a03::1", "a01::1"), v6, v4),
    ):
        assert permits_inbound(own, packet) and permits_outbound(own, packet)
        assert not permits_inbound(other, packet) and not permits_outbound(other, packet)


NO_PORTS = (NO_PORT, NO_PORT)


@pytest.mark.parametrize(
    ("protocol", "ports", "packet_protocol", "packet_ports", "is_permitted"),
    [
        (0, (0, 65535), UDP, (1, 2), True),
        (0, (0, 65535), 50, NO_PORTS, True),
        (UDP, (0, 65535), UDP, (1, 2), True),
        (UDP, (0, 65535), TCP, (1, 2), False),
        (UDP, (0, 65535), UDP, NO_PORTS, True),  # a later fragment
        (UDP, (2, 2), UDP, (1, 2), True),
        (UDP, (1, 1), UDP, (1, 2), False),  # the source has it, not the destination
        (UDP, (2, 2), UDP, NO_PORTS, False),
        (UDP, (65535, 0), UDP, NO_PORTS, True),  # OPAQUE
        (UDP, (65535, 0), UDP, (1, 2), False),
    ],
)
def test_protocol_and_ports(
    protocol: int,
    ports: tuple[int, int],
    packet_protocol: int,
    packet_ports: tuple[int, int],
    is_permitted: bool,
) -> None:
    end = child(1, remote=(selector("10.3.0.1/32", protocol, ports),))
    assert permits_outbound(end, flow("192.0.2.1", "10.3.0.1", packet_protocol, packet_ports)) is is_permitted
    backwards = flow("10.3.0.1", "192.0.2.1", packet_protocol, (packet_ports[1], packet_ports[0]))
    assert permits_inbound(end, backwards) is is_permitted


_SELECTORS = st.builds(
    selector,
    st.sampled_from(("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "10.1.2.3-10.1.2.9", "::/0", "fd03::1")),
    st.sampled_from((0, TCP, UDP, ICMP)),
    st.sampled_from((ANY_PORT, (80, 80), (0x0800, 0x08FF), (65535, 0))),
)
_FLOWS = st.builds(
    flow,
    st.sampled_from(("10.1.2.3", "10.2.0.1", "192.0.2.1")),
    st.sampled_from(("10.1.2.3", "10.1.9.9", "10.2.0.1", "192.0.2.1")),
    st.sampled_from((TCP, UDP, ICMP, 47)),
    st.sampled_from(((80, 80), (80, 99), (NO_PORT, NO_PORT), (0x0800, SENDERS_PORT))),
) | st.just(flow("fd03::1", "fd03::1"))


@given(st.lists(st.tuples(st.lists(_SELECTORS, max_size=3), st.lists(_SELECTORS, max_size=3)), max_size=6), _FLOWS)
def test_a_tunnel_is_found_if_and_only_if_one_covers_the_packet(
    pairs: list[tuple[list[TrafficSelector], list[TrafficSelector]]], packet: Flow
) -> None:
    tunnels = [Tunnel(child(n, local=tuple(ours), remote=tuple(theirs))) for n, (ours, theirs) in enumerate(pairs)]
    table = table_of(*tunnels)
    fit = [entry for entry in tunnels if permits_outbound(entry.child, packet)]
    found = table.find(packet)
    assert (found in fit) if fit else found is None
    # Of those with the same selectors, the newest.
    if found is not None:
        twins = [
            t for t in fit if (t.child.ts_local, t.child.ts_remote) == (found.child.ts_local, found.child.ts_remote)
        ]
        assert found is twins[-1]
    for entry in tunnels:
        table.discard(entry.child)
    assert table.find(packet) is None


ECHO_REQUEST, ECHO_REPLY, OPAQUE, ANY = (0x0800, 0x08FF), (0, 0xFF), (65535, 0), (0, 65535)


# RFC 4301 section 4.4.1.3: the selectors of the sender's side are about the type of a message.
@pytest.mark.parametrize(
    ("local", "remote", "sends_request", "sends_reply", "takes_request", "takes_reply"),
    [
        (ANY, ANY, True, True, True, True),
        (ECHO_REQUEST, ECHO_REQUEST, True, False, True, False),
        (ECHO_REQUEST, ECHO_REPLY, True, False, False, True),
        (ECHO_REQUEST, ANY, True, False, True, True),
        (ECHO_REQUEST, OPAQUE, True, False, False, False),
        (OPAQUE, ECHO_REQUEST, False, False, True, False),
        (OPAQUE, OPAQUE, False, False, False, False),
    ],
)
def test_icmp_types(
    local: tuple[int, int],
    remote: tuple[int, int],
    sends_request: bool,
    sends_reply: bool,
    takes_request: bool,
    takes_reply: bool,
) -> None:
    end = child(1, local=(selector("10.1.0.1/32", ICMP, local),), remote=(selector("10.3.0.1/32", ICMP, remote),))
    request, reply = (0x0800, SENDERS_PORT), (0, SENDERS_PORT)
    assert permits_outbound(end, flow("10.1.0.1", "10.3.0.1", ICMP, request)) is sends_request
    assert permits_outbound(end, flow("10.1.0.1", "10.3.0.1", ICMP, reply)) is sends_reply
    assert permits_inbound(end, flow("10.3.0.1", "10.1.0.1", ICMP, request)) is takes_request
    assert permits_inbound(end, flow("10.3.0.1", "10.1.0.1", ICMP, reply)) is takes_reply
    # Later fragments show no type: selectors of any type take them, and OPAQUE (RFC 4301 section 7).
    fragment = flow("10.1.0.1", "10.3.0.1", ICMP, NO_PORTS)
    assert permits_outbound(end, fragment) is (local in (ANY, OPAQUE) and remote in (ANY, OPAQUE))


def test_children_share_a_destination_by_port_and_protocol() -> None:
    """Several CHILD_SAs of one IKE_SA: each packet takes the one that it was negotiated for (RFC 4301 section 5.1)."""
    web = Tunnel(child(1, remote=(selector("10.1.2.3/32", TCP, (443, 443)), selector("10.1.2.3/32", TCP, (80, 80)))))
    names = Tunnel(child(2, remote=(selector("10.1.2.3/32", UDP, (53, 53)),)))
    pings = Tunnel(child(3, remote=(selector("10.1.2.3/32", ICMP),)))
    successor = Tunnel(child(4, remote=names.child.ts_remote))
    table = table_of(web, names, pings, later=(successor,))
    assert table.find(flow("192.0.2.1", "10.1.2.3", TCP, (999, 443))) is web
    assert table.find(flow("192.0.2.1", "10.1.2.3", TCP, (999, 80))) is web
    assert table.find(flow("192.0.2.1", "10.1.2.3", UDP, (999, 53))) is names
    assert table.find(flow("192.0.2.1", "10.1.2.3", ICMP, (0x0800, SENDERS_PORT))) is pings
    assert table.find(flow("192.0.2.1", "10.1.2.3", UDP, (999, 54))) is None
    assert table.find(flow("192.0.2.1", "10.1.2.3", 47, NO_PORTS)) is None
    table.add(successor.child)
    assert table.find(flow("192.0.2.1", "10.1.2.3", UDP, (999, 53))) is successor
    assert table.find(flow("192.0.2.1", "10.1.2.3", TCP, (999, 80))) is web


@pytest.mark.parametrize(
    ("source", "destination", "is_permitted"),
    [
        ("10.3.0.1", "10.1.0.0", True),
        ("10.3.0.1", "10.1.255.255", True),
        ("10.3.0.1", "10.2.0.0", False),
        ("10.3.0.2", "10.1.0.0", False),
        ("10.1.0.0", "10.3.0.1", False),
        ("a03:1::", "a01::", False),
    ],
)
def test_inbound_packets_must_be_the_peers_and_for_us(source: str, destination: str, is_permitted: bool) -> None:
    end = child(1, local=(selector("10.1.0.0/16"),), remote=(selector("10.3.0.1/32"),))
    assert permits_inbound(end, flow(source, destination)) is is_permitted
    assert permits_outbound(end, flow(destination, source)) is is_permitted
