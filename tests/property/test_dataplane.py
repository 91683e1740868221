"""The data plane between two hostile sides: whatever comes from inside or outside, nothing raises, nothing leaks."""

import os

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from tests.unit.dataplane.children import GATEWAY_PATH, Plane, child, selector

from cygnet.crypto.protection import make_protection
from cygnet.dataplane.base import COUNTERS
from cygnet.dataplane.inner import parse_flow
from cygnet.dataplane.selection import permits_inbound
from cygnet.esp.sa import OutboundSa
from cygnet.ike.carriage import Carriage
from cygnet.ike.effects import InstallChild
from cygnet.ike.settings import TFC_MTU

TCP, ICMP = 6, 1
PORTS = st.sampled_from(((0, 65535), (80, 80), (65535, 0), (0x0800, 0x08FF)))
SELECTORS = st.builds(
    selector,
    st.sampled_from(("0.0.0.0/0", "::/0", "10.3.0.0/24", "10.3.0.1/32", "fd03::/64")),
    st.sampled_from((0, TCP, ICMP)),
    PORTS,
)
CARRIAGES = st.builds(
    Carriage,
    traffic_class_out=st.sampled_from((0, 3, 0xFC, 0xFF)),
    traffic_class_in=st.sampled_from((0, 3, 0xFC, 0xFF)),
    copy_df=st.booleans(),
    tfc_padding=st.sampled_from((0, 700, TFC_MTU)),
)
CHILDREN = st.builds(
    lambda local, remote, carriage, udp: child(
        1, local=tuple(local), remote=tuple(remote), carriage=carriage, is_udp_encapsulated=udp
    ),
    st.lists(SELECTORS, min_size=1, max_size=3),
    st.lists(SELECTORS, min_size=1, max_size=3),
    CARRIAGES,
    st.booleans(),
)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Something that may be an IP packet: sound, cut, with wrong lengths, or rubbish."""
    payload = draw(st.binary(max_size=60)) + bytes(draw(st.sampled_from((0, 0, 400, 1300))))
    protocol = draw(st.sampled_from((TCP, 17, ICMP, 58, 44, 0, 43, 60, 135, 59, 4)))
    match draw(st.integers(0, 3)):
        case 0:
            header = IP(src="10.3.0.1", dst="10.3.0.9", proto=protocol, tos=draw(st.integers(0, 255)))
            header.flags, header.frag = draw(st.integers(0, 7)), draw(st.sampled_from((0, 0, 1, 185)))
            packet = bytes(header / payload)
        case 1:
            packet = bytes(IPv6(src="fd03::1", dst="fd03::9", nh=protocol, tc=draw(st.integers(0, 255))) / payload)
        case 2:
            packet = draw(st.sampled_from((b"\x45", b"\x60", b"\x4f", b"\x00"))) + payload
        case _:
            packet = payload
    end = draw(st.sampled_from((None, None, None, -1, 20, 40)))
    return packet[:end]


@given(CHILDREN, st.lists(packets(), max_size=5), st.sampled_from((68, 600, 1280, 1500, 65535)))
def test_any_octets_from_inside(end: InstallChild, inside: list[bytes], mtu: int) -> None:
    plane = Plane(path_mtu=lambda _: mtu)
    plane.plane.install(end)
    for packet in inside:
        sent, told = len(plane.sent), len(plane.too_big)
        if plane.plane.send_inner(packet):
            assert len(plane.sent) == sent + 1
            assert plane.classes[-1] & ~end.carriage.traffic_class_out == 0
        else:
            assert len(plane.sent) == sent
            assert len(plane.too_big) in (told, told + 1)
    assert set(plane.counts) <= set(COUNTERS)


@given(st.lists(st.binary(max_size=120) | st.binary(max_size=120).map(lambda b: b"\x01\0\0\x01" + b), max_size=5))
def test_any_octets_from_outside(outside: list[bytes]) -> None:
    plane = Plane()
    plane.plane.install(child(1, remote=(selector("10.3.0.1/32"),)))
    for datagram in outside:
        plane.plane.receive_esp(datagram, GATEWAY_PATH, 0.0)
    assert plane.sink.packets == []
    assert len(plane.counts) == len(outside)
    assert set(plane.counts) <= set(COUNTERS)


@given(
    CHILDREN,
    st.lists(
        st.tuples(packets(), st.sampled_from((4, 41, 59, 6, 0)), st.integers(-1, 255), st.sampled_from((0, 0, 9, 900))),
        max_size=5,
    ),
)
def test_any_inner_packet_of_an_authentic_peer(end: InstallChild, outside: list[tuple[bytes, int, int, int]]) -> None:
    """What reaches the sink is a sound packet that the selectors allow; all else is counted once."""
    plane = Plane()
    plane.plane.install(end)
    protection = make_protection(
        end.suite.encr, end.suite.key_bits, None, encr_key=end.keys_in[0], integ_key=b"", entropy=os.urandom
    )
    peer = OutboundSa(int.from_bytes(end.spi_in, "big"), protection, is_esn=False)
    for packet, next_header, traffic_class, padding in outside:
        esp = peer.encapsulate(packet, next_header, padding)
        plane.plane.receive_esp(esp, GATEWAY_PATH, 0.0, traffic_class)
    for delivered, spi_in in plane.sink.packets:
        assert spi_in == end.spi_in
        assert permits_inbound(end, parse_flow(delivered))
    assert len(plane.counts) + len(plane.sink.packets) == len(outside)
    assert set(plane.counts) <= set(COUNTERS)
