"""Headers of inner packets, and the Internet checksum, against scapy."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
from scapy.layers.sctp import SCTP
from scapy.packet import Packet
from scapy.utils import checksum as scapy_checksum
from tests.unit.dataplane.children import packed

from cygnet.dataplane.inner import NO_PORT, SENDERS_PORT, checksum, parse_flow
from cygnet.wire.errors import WireError

V4: dict[str, Any] = {"src": "10.0.0.1", "dst": "10.0.0.2"}
V6: dict[str, Any] = {"src": "fd00::1", "dst": "fd00::2"}
ECHO_REQUEST_PORT = 0x0800


@pytest.mark.parametrize(
    ("packet", "protocol", "ports", "offset", "is_fragment"),
    [
        (IP(**V4) / TCP(sport=1000, dport=80), 6, (1000, 80), 20, False),
        (IP(**V4) / UDP(sport=1000, dport=53), 17, (1000, 53), 20, False),
        (IP(**V4) / SCTP(sport=1000, dport=36412), 132, (1000, 36412), 20, False),
        (IP(**V4) / ICMP(type=8, code=0), 1, (ECHO_REQUEST_PORT, SENDERS_PORT), 20, False),
        (IP(**V4, proto=47) / b"anything", 47, (NO_PORT,) * 2, 20, False),
        (IP(**V4, options=[b"\x94\x04\0\0"]) / UDP(sport=7, dport=9), 17, (7, 9), 24, False),
        (IP(**V4, flags="MF") / UDP(sport=7, dport=9), 17, (7, 9), 20, True),
        (IP(**V4, frag=3, proto=17) / b"no UDP header", 17, (NO_PORT,) * 2, 20, True),
        (IP(**V4, proto=17) / b"abc", 17, (NO_PORT,) * 2, 20, False),
        (IP(**V4, proto=6), 6, (NO_PORT,) * 2, 20, False),
        (IPv6(**V6) / TCP(sport=1000, dport=80), 6, (1000, 80), 40, False),
        (IPv6(**V6, nh=58) / b"\x80\0\0\0\0\0\0\0", 58, (0x8000, SENDERS_PORT), 40, False),
        (IPv6(**V6, nh=135) / b"\x3b\0\5\0\0\0\0\0", 135, (0x0500, SENDERS_PORT), 40, False),
        (IPv6(**V6, nh=135) / b"\x3b\0", 135, (NO_PORT,) * 2, 40, False),
        (IPv6(**V6, nh=59), 59, (NO_PORT,) * 2, 40, False),
        (IPv6(**V6) / IPv6ExtHdrHopByHop() / UDP(sport=7, dport=9), 17, (7, 9), 48, False),
        (
            IPv6(**V6) / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["fd00::9"]) / UDP(sport=7, dport=9),
            17,
            (7, 9),
            72,
            False,
        ),
        (IPv6(**V6) / IPv6ExtHdrFragment(m=1) / UDP(sport=7, dport=9), 17, (7, 9), 48, True),
        (IPv6(**V6) / IPv6ExtHdrFragment(m=0) / UDP(sport=7, dport=9), 17, (7, 9), 48, False),
        (IPv6(**V6) / IPv6ExtHdrFragment(offset=4, nh=6) / b"no TCP header", 6, (NO_PORT,) * 2, 48, True),
    ],
    ids=lambda value: value.summary() if isinstance(value, Packet) else None,
)
def test_flow(packet: Packet, protocol: int, ports: tuple[int, int], offset: int, is_fragment: bool) -> None:
    flow = parse_flow(bytes(packet))
    assert (flow.source, flow.destination) == (packed(packet.src), packed(packet.dst))
    assert (flow.protocol, flow.source_port, flow.destination_port) == (protocol, *ports)
    assert (flow.payload_offset, flow.is_fragment) == (offset, is_fragment)


SOUND_V4 = bytes(IP(**V4) / UDP(sport=7, dport=9) / b"data")
SOUND_V6 = bytes(IPv6(**V6) / UDP(sport=7, dport=9) / b"data")


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        SOUND_V4[:19],
        SOUND_V4[:-1],
        SOUND_V4 + b"\0",
        b"\x44" + SOUND_V4[1:],
        b"\x4f" + SOUND_V4[1:],
        b"\x55" + SOUND_V4[1:],
        SOUND_V6[:39],
        SOUND_V6[:-1],
        SOUND_V6 + b"\0",
        b"\x40" + SOUND_V6[1:],
        bytes(IPv6(**V6, nh=0)),
        bytes(IPv6(**V6, nh=43) / (b"\x11\xff" + bytes(6))),
        bytes(IPv6(**V6, nh=44) / b"\x11\0\0\0"),
    ],
    ids=lambda packet: packet[:24].hex() or "empty",
)
def test_malformed(packet: bytes) -> None:
    with pytest.raises(WireError) as caught:
        parse_flow(packet)
    assert caught.value.reason == "inner_malformed"


@given(st.one_of(st.binary(max_size=90), st.binary(max_size=90).map(lambda b: b"\x45" + b)))
def test_any_octets_are_read_or_refused(packet: bytes) -> None:
    try:
        flow = parse_flow(packet)
    except WireError:
        return
    assert flow.payload_offset <= len(packet)


@given(st.lists(st.sampled_from((b"\0", b"\x3c", b"\x2b", b"\x2c", b"\x11")), max_size=20), st.binary(max_size=200))
def test_any_chain_of_extension_headers_ends(kinds: list[bytes], rest: bytes) -> None:
    payload = b"".join(kind + b"\0" * 7 for kind in kinds) + rest
    packet = b"\x60\0\0\0" + len(payload).to_bytes(2, "big") + b"\0\x40" + bytes(32) + payload
    try:
        assert 40 <= parse_flow(packet).payload_offset <= len(packet)
    except WireError:
        pass


@given(st.one_of(st.binary(max_size=200), st.sampled_from((b"", bytes(20), b"\xff" * 20, b"\0\1\xff\xfe"))))
def test_checksum_is_scapys(octets: bytes) -> None:
    assert checksum(octets) == scapy_checksum(octets)


@given(st.binary(min_size=2, max_size=100).filter(lambda b: any(b[2:])))
def test_checksum_over_itself_is_zero(octets: bytes) -> None:
    blank = b"\0\0" + octets[2:]
    assert checksum(checksum(blank).to_bytes(2, "big") + octets[2:]) == 0
