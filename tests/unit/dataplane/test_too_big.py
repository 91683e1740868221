"""What a tunnel does with packets that its path does not take."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet
from tests.unit.dataplane.children import AES_GCM, CLIENT_PATH, GATEWAY_PATH, Plane, child, other_end, selector

from cygnet.crypto.encr import ENCR
from cygnet.crypto.integ import INTEG
from cygnet.crypto.keymat import ChildSuite
from cygnet.dataplane.inner import checksum
from cygnet.dataplane.too_big import MESSAGES_PER_SECOND, SenderNotices, build_too_big
from cygnet.iana import EncrId, IntegId
from cygnet.ike.carriage import Carriage
from cygnet.ike.path import Path
from cygnet.ike.settings import TFC_MTU
from cygnet.wire.errors import WireError

CBC = ChildSuite(encr=ENCR[EncrId.AES_CBC], key_bits=256, integ=INTEG[IntegId.HMAC_SHA2_512_256], is_esn=True)
PATH_V6 = Path("2001:db8::1", 4500, "2001:db8::7", 4500)
LOCAL = (selector("0.0.0.0/0"), selector("::/0"))
REMOTE = (selector("10.3.0.1/32"), selector("fd03::1/128"))


def ipv4(octets: int, flags: str = "DF") -> bytes:
    header = IP(src="192.0.2.80", dst="10.3.0.1", flags=flags)
    return bytes(header / UDP(sport=80, dport=9) / bytes(octets - 28))


def ipv6(octets: int) -> bytes:
    return bytes(IPv6(src="2001:db8::80", dst="fd03::1") / UDP(sport=80, dport=9) / bytes(octets - 48))


@pytest.mark.parametrize("suite", [AES_GCM, CBC], ids=["gcm", "cbc"])
@pytest.mark.parametrize("is_udp_encapsulated", [False, True], ids=["bare", "udp"])
@pytest.mark.parametrize("path", [GATEWAY_PATH, PATH_V6], ids=["over-ipv4", "over-ipv6"])
@pytest.mark.parametrize("mtu", [1280, 1300, 1399, 1500, 9000])
def test_what_is_said_to_fit_is_what_fits(suite: ChildSuite, is_udp_encapsulated: bool, path: Path, mtu: int) -> None:
    plane = Plane(path_mtu=lambda _: mtu)
    end = child(1, local=LOCAL, remote=REMOTE, suite=suite, is_udp_encapsulated=is_udp_encapsulated)
    plane.plane.install(msgspec.structs.replace(end, path=path))
    around = (40 if path.is_ipv6 else 20) + (8 if is_udp_encapsulated else 0)

    assert not plane.plane.send_inner(ipv4(mtu))
    [(_, room)] = plane.too_big
    assert plane.plane.send_inner(ipv4(room))
    assert len(plane.sent[-1][0]) + around <= mtu
    assert not plane.plane.send_inner(ipv4(room + 1))
    assert plane.plane.send_inner(ipv4(room + 1, flags=""))
    assert len(plane.sent[-1][0]) + around > mtu
    assert plane.counts == ["inner_too_big"] * 2


def test_ipv6_packets_of_1280_octets_always_go() -> None:
    plane = Plane(path_mtu=lambda _: 1280)
    plane.plane.install(child(1, local=LOCAL, remote=REMOTE))
    assert plane.plane.send_inner(ipv6(1280))
    assert not plane.plane.send_inner(ipv6(1281))
    assert [len(packet) for packet, _ in plane.too_big] == [1281]


def test_without_copy_df_only_ipv6_senders_are_told() -> None:
    plane = Plane(path_mtu=lambda _: 1400)
    plane.plane.install(child(1, local=LOCAL, remote=REMOTE, carriage=Carriage(copy_df=False)))
    assert plane.plane.send_inner(ipv4(1400))
    assert not plane.plane.send_inner(ipv6(1400))


def test_the_path_is_the_tunnels_own() -> None:
    asked: list[Path] = []

    def look_up(path: Path) -> int:
        asked.append(path)
        return 1500

    plane = Plane(path_mtu=look_up)
    plane.plane.install(child(1, local=LOCAL, remote=REMOTE))
    plane.plane.send_inner(ipv4(440))
    assert asked == []
    plane.plane.send_inner(ipv4(441))
    plane.plane.update_path(b"\x01\0\0\x01", PATH_V6, True)
    plane.plane.send_inner(ipv4(1000))
    assert asked == [GATEWAY_PATH, PATH_V6]


def told(packet: bytes, room: int) -> bytes:
    """What the sender of a packet gets to know."""
    message = build_too_big(packet, room)
    assert message is not None
    return message


def test_a_message_to_an_ipv4_sender() -> None:
    packet = ipv4(1400)
    octets = told(packet, 1322)
    message = IP(octets)
    assert (message.src, message.dst) == ("10.3.0.1", "192.0.2.80")
    assert (message[ICMP].type, message[ICMP].code, message[ICMP].nexthopmtu) == (3, 4, 1322)
    assert len(octets) == 576
    assert octets[28:] == packet[: 576 - 28]
    assert checksum(octets[:20]) == 0 == checksum(octets[20:])


def test_a_message_to_an_ipv6_sender() -> None:
    packet = ipv6(1400)
    message = IPv6(told(packet, 1322))
    assert (message.src, message.dst, message[ICMPv6PacketTooBig].mtu) == ("fd03::1", "2001:db8::80", 1322)
    assert len(message) == 1280
    assert bytes(message[ICMPv6PacketTooBig].payload) == packet[: 1280 - 48]
    right = message.copy()
    del right[ICMPv6PacketTooBig].cksum
    assert bytes(right) == bytes(message)
    # RFC 8200 section 5: no link takes less, and senders do not go below.
    assert IPv6(told(packet, 1200))[ICMPv6PacketTooBig].mtu == 1280


V4: dict[str, Any] = {"src": "192.0.2.80", "dst": "10.3.0.1", "flags": "DF"}
V6: dict[str, Any] = {"src": "2001:db8::80", "dst": "fd03::1"}


@pytest.mark.parametrize(
    ("packet", "is_answered"),
    [
        (IP(**V4) / ICMP(type=8), True),
        (IP(**V4) / ICMP(type=3, code=1), False),
        (IP(**V4) / ICMP(type=11), False),
        (IP(**V4, proto=1), False),  # no telling
        (IP(src="192.0.2.80", dst="10.3.0.1", frag=3, proto=17) / bytes(20), False),
        (IP(src="192.0.2.80", dst="10.3.0.1", frag=512, proto=17) / bytes(20), False),
        (IP(**V4 | {"src": "0.0.0.0"}) / UDP(), False),
        (IP(**V4 | {"src": "224.0.0.1"}) / UDP(), False),
        (IP(**V4 | {"dst": "224.0.0.1"}) / UDP(), False),
        (IPv6(**V6) / ICMPv6EchoRequest(), True),
        (IPv6(**V6) / ICMPv6DestUnreach(), False),
        (IPv6(**V6, nh=58), False),
        (IPv6(**V6 | {"src": "::"}) / UDP(), False),
        (IPv6(**V6 | {"src": "ff02::1"}) / UDP(), False),
        (IPv6(**V6 | {"dst": "ff02::1"}) / UDP(), False),
    ],
    ids=lambda value: value.summary() if isinstance(value, Packet) else None,
)
def test_who_is_told(packet: Packet, is_answered: bool) -> None:
    """RFC 1122 section 3.2.2 and RFC 4443 section 2.4 (e): no errors about errors, fragments, groups, nobody."""
    assert (build_too_big(bytes(packet), 1300) is not None) is is_answered


@given(st.binary(max_size=1500), st.sampled_from((b"", b"\x45", b"\x60")), st.integers(-200, 65535))
def test_any_packet_is_answered_or_not(octets: bytes, start: bytes, room: int) -> None:
    messages: list[bytes] = []
    SenderNotices(messages.append, clock=lambda: 0.0).too_big(start + octets, room)
    assert all(len(message) <= 1280 for message in messages)


def test_senders_are_not_flooded() -> None:
    now = 0.0
    messages: list[bytes] = []
    notices = SenderNotices(messages.append, clock=lambda: now)
    for _ in range(1000):
        notices.too_big(ipv4(1400), 1300)
    assert len(messages) == MESSAGES_PER_SECOND
    now = 0.5
    for _ in range(1000):
        notices.too_big(ipv4(1400), 1300)
    assert len(messages) == MESSAGES_PER_SECOND * 3 // 2
    now = 100.0
    for _ in range(1000):
        notices.too_big(ipv4(1400), 1300)
    assert len(messages) == MESSAGES_PER_SECOND * 5 // 2


def test_padding_hides_the_length_up_to_what_the_path_takes() -> None:
    end = child(1, local=LOCAL, remote=REMOTE, carriage=Carriage(tfc_padding=1000))
    plane, client = Plane(path_mtu=lambda _: 1400), Plane()
    plane.plane.install(end)
    client.plane.install(other_end(end))
    for octets in (28, 500, 1000):
        assert plane.plane.send_inner(ipv4(octets))
        client.plane.receive_esp(plane.sent[-1][0], CLIENT_PATH, 0.0)
    assert len({len(esp) for esp, *_ in plane.sent}) == 1
    assert [packet for packet, _ in client.sink.packets] == [ipv4(28), ipv4(500), ipv4(1000)]
    plane.plane.send_inner(ipv4(1200))
    assert len(plane.sent[-1][0]) > len(plane.sent[0][0])
    usage = plane.plane.usage(end.spi_in)
    assert usage is not None and usage.octets_out == 28 + 500 + 1000 + 1200


@pytest.mark.parametrize("mtu", [1300, 1500])
def test_padding_to_the_mtu_fills_the_path(mtu: int) -> None:
    plane = Plane(path_mtu=lambda _: mtu)
    plane.plane.install(child(1, local=LOCAL, remote=REMOTE, carriage=Carriage(tfc_padding=TFC_MTU)))
    for packet in (ipv4(28), ipv6(48), ipv4(1200)):
        assert plane.plane.send_inner(packet)
    [size] = {len(esp) for esp, *_ in plane.sent}
    assert mtu - 4 < size + 28 <= mtu


def test_a_malformed_packet_is_nobodys() -> None:
    with pytest.raises(WireError):
        build_too_big(b"\x45junk", 1300)
