"""Ping in the tunnel, against scapy's idea of ICMP and ICMPv6."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Packet
from tests.unit.dataplane.children import CLIENT_PATH, GATEWAY_PATH, Plane, child, other_end, packed, selector

from cygnet.dataplane.base import COUNTERS
from cygnet.dataplane.echo import EchoReply, InnerEcho, build_echo_request, parse_echo_reply
from cygnet.dataplane.userspace import UserspaceDataplane

V4_US, V4_PEER = "10.3.0.254", "10.3.0.1"
V6_US, V6_PEER = "fd03::fe", "fd03::1"
US = (packed(V4_US), packed(V6_US))
PAYLOADS = st.binary(max_size=120)
NUMBERS = st.integers(0, 65535)


def rebuilt(packet: Packet) -> bytes:
    """The octets of a packet, with every checksum and length computed by scapy."""
    copy = packet.copy()
    computed: tuple[tuple[type[Packet], str], ...] = (
        (IP, "chksum"),
        (IP, "len"),
        (IPv6, "plen"),
        (ICMP, "chksum"),
        (ICMPv6EchoRequest, "cksum"),
        (ICMPv6EchoReply, "cksum"),
    )
    for layer, field in computed:
        if layer in copy:
            copy[layer].delfieldval(field)
    return bytes(copy)


def answer(packet: bytes) -> tuple[bytes | None, list[str]]:
    """What our echo says to a packet, and what it counts."""
    counts: list[str] = []
    reply = InnerEcho(US, counts.append).answer(packet)
    assert set(counts) <= set(COUNTERS)
    return reply, counts


@given(identifier=NUMBERS, sequence=NUMBERS, payload=PAYLOADS)
def test_ipv4_request_is_answered(identifier: int, sequence: int, payload: bytes) -> None:
    request = IP(src=V4_PEER, dst=V4_US, ttl=3) / ICMP(type=8, id=identifier, seq=sequence) / payload
    reply, counts = answer(bytes(request))
    assert reply is not None and not counts
    seen = IP(reply)
    assert (seen.src, seen.dst, seen.ttl) == (V4_US, V4_PEER, 64)
    assert (seen[ICMP].type, seen[ICMP].code, seen[ICMP].id, seen[ICMP].seq) == (0, 0, identifier, sequence)
    assert bytes(seen[ICMP].payload) == payload
    assert rebuilt(seen) == reply


@given(identifier=NUMBERS, sequence=NUMBERS, payload=PAYLOADS)
def test_ipv6_request_is_answered(identifier: int, sequence: int, payload: bytes) -> None:
    request = IPv6(src=V6_PEER, dst=V6_US) / ICMPv6EchoRequest(id=identifier, seq=sequence, data=payload)
    reply, counts = answer(bytes(request))
    assert reply is not None and not counts
    seen = IPv6(reply)
    assert (seen.src, seen.dst, seen.hlim) == (V6_US, V6_PEER, 64)
    echo = seen[ICMPv6EchoReply]
    assert (echo.code, echo.id, echo.seq, echo.data) == (0, identifier, sequence, payload)
    assert rebuilt(seen) == reply


@pytest.mark.parametrize(("source", "destination"), [(V4_PEER, V4_US), (V6_PEER, V6_US)])
@given(identifier=NUMBERS, sequence=NUMBERS, payload=PAYLOADS)
def test_our_request_and_our_answer(
    source: str, destination: str, identifier: int, sequence: int, payload: bytes
) -> None:
    request = build_echo_request(
        packed(source), packed(destination), identifier=identifier, sequence=sequence, payload=payload
    )
    seen = IP(request) if len(packed(source)) == 4 else IPv6(request)
    assert rebuilt(seen) == request
    assert (ICMPv6EchoRequest in seen) or seen[ICMP].type == 8
    reply, _ = answer(request)
    assert reply is not None
    assert parse_echo_reply(reply) == EchoReply(packed(destination), packed(source), identifier, sequence, payload)
    assert parse_echo_reply(request) is None


def test_request_with_options_is_answered_without() -> None:
    v4 = bytes(IP(src=V4_PEER, dst=V4_US, options=[b"\x94\x04\0\0"]) / ICMP(id=1, seq=2) / b"data")
    v6 = bytes(IPv6(src=V6_PEER, dst=V6_US) / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest(id=1, seq=2, data=b"data"))
    for packet in (v4, v6):
        reply, _ = answer(packet)
        assert reply is not None
        seen = parse_echo_reply(reply)
        assert seen is not None and (seen.identifier, seen.sequence, seen.payload) == (1, 2, b"data")


SOUND_V4 = bytes(IP(src=V4_PEER, dst=V4_US) / ICMP(id=1, seq=2) / b"data")
SOUND_V6 = bytes(IPv6(src=V6_PEER, dst=V6_US) / ICMPv6EchoRequest(id=1, seq=2, data=b"data"))


def flip(packet: bytes, place: int) -> bytes:
    return packet[:place] + bytes([packet[place] ^ 1]) + packet[place + 1 :]


@pytest.mark.parametrize(
    ("packet", "counter"),
    [
        (b"", "inner_malformed"),
        (SOUND_V4[:-1], "inner_malformed"),
        (flip(SOUND_V4, 8), "inner_malformed"),  # TTL: the header's checksum is wrong
        (flip(SOUND_V4, 22), "inner_malformed"),
        (flip(SOUND_V4, 31), "inner_malformed"),
        (flip(SOUND_V6, 42), "inner_malformed"),
        (flip(SOUND_V6, 23), "inner_malformed"),  # source: in the pseudo header
        (bytes(IP(src=V4_PEER, dst=V4_US, proto=1) / b"\x08\0"), "inner_malformed"),
        (bytes(IP(src=V4_PEER, dst="10.3.0.2") / ICMP()), "echo_ignored"),
        (bytes(IP(src=V4_PEER, dst=V4_US) / UDP()), "echo_ignored"),
        (bytes(IP(src=V4_PEER, dst=V4_US) / ICMP(type=0)), "echo_ignored"),
        (bytes(IP(src=V4_PEER, dst=V4_US) / ICMP(type=8, code=1)), "echo_ignored"),
        (bytes(IP(src=V4_PEER, dst=V4_US, proto=58) / bytes(8)), "echo_ignored"),
        (bytes(IP(src=V4_PEER, dst=V4_US, flags="MF") / ICMP() / b"eight..."), "echo_ignored"),
        (bytes(IPv6(src=V6_PEER, dst=V6_US) / IPv6ExtHdrFragment(m=1) / ICMPv6EchoRequest()), "echo_ignored"),
        (bytes(IPv6(src=V6_PEER, dst=V6_US) / ICMPv6EchoReply()), "echo_ignored"),
        (bytes(IPv6(src=V6_PEER, dst=V6_US) / ICMP()), "echo_ignored"),
    ],
)
def test_no_answer(packet: bytes, counter: str) -> None:
    assert answer(packet) == (None, [counter])
    assert parse_echo_reply(packet) is None or counter == "echo_ignored"


@given(st.binary(max_size=100), st.integers(0, 70))
def test_noise_behind_a_sound_start(noise: bytes, kept: int) -> None:
    for sound in (SOUND_V4, SOUND_V6):
        reply, counts = answer(sound[:kept] + noise)
        assert (reply is None) == (len(counts) == 1)


def test_ping_through_the_tunnel() -> None:
    end = child(1, remote=(selector(f"{V4_PEER}/32"),))
    client = Plane()
    client.plane.install(other_end(end))
    counts: list[str] = []
    echo = InnerEcho(US, counts.append)
    gateway = UserspaceDataplane(
        echo,
        lambda esp, path, encapsulated, traffic_class: client.plane.receive_esp(esp, CLIENT_PATH, 1.0),
        counts.append,
    )
    gateway.install(end)
    request = build_echo_request(packed(V4_PEER), packed(V4_US), identifier=7, sequence=1, payload=b"ping")
    assert client.plane.send_inner(request)

    # Not connected yet, it has nowhere to send to.
    gateway.receive_esp(client.sent[0][0], GATEWAY_PATH, 0.5)
    assert (client.sink.packets, counts) == ([], [])

    echo.connect(gateway.send_inner)
    client.plane.send_inner(request)
    gateway.receive_esp(client.sent[1][0], GATEWAY_PATH, 0.5)
    assert counts == ["echo_answered"]
    [(packet, spi_in)] = client.sink.packets
    assert spi_in == end.spi_out
    assert parse_echo_reply(packet) == EchoReply(packed(V4_US), packed(V4_PEER), 7, 1, b"ping")
