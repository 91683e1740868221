"""Transport mode in the userspace data plane: headers off and on, and checksums through a NAT."""

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Packet
from tests.unit.dataplane.children import CLIENT_PATH, GATEWAY_PATH, Plane, child, other_end, packed, selector

from cygnet.dataplane.inner import checksum
from cygnet.dataplane.transport import mend_checksum
from cygnet.ike.carriage import Carriage
from cygnet.ike.effects import InstallChild

TRANSPORT = Carriage().in_transport_mode()
OURS, THEIRS = "192.0.2.1", "198.51.100.7"
OURS_6, THEIRS_6 = "2001:db8::1", "2001:db8:7::7"
PRIVATE = "10.99.0.7"


def end_of(ours: str, theirs: str) -> InstallChild:
    bits = 128 if ":" in ours else 32
    return child(1, local=(selector(f"{ours}/{bits}"),), remote=(selector(f"{theirs}/{bits}"),), carriage=TRANSPORT)


def pair(ours: str = OURS, theirs: str = THEIRS) -> tuple[Plane, Plane]:
    gateway, client = Plane(), Plane()
    end = end_of(ours, theirs)
    gateway.plane.install(end)
    client.plane.install(other_end(end))
    return gateway, client


def natted() -> tuple[Plane, Plane]:
    """The client has PRIVATE, and the gateway sees THEIRS."""
    end = end_of(OURS, THEIRS)
    theirs = msgspec.structs.replace(other_end(end), ts_local=(selector(f"{PRIVATE}/32"),))
    gateway, client = Plane(), Plane()
    gateway.plane.install(msgspec.structs.replace(end, seen_by_peer=(packed(OURS), packed(PRIVATE))))
    client.plane.install(msgspec.structs.replace(theirs, seen_by_peer=(packed(THEIRS), packed(OURS))))
    return gateway, client


def carry(sender: Plane, receiver: Plane, packet: bytes, traffic_class: int = 0) -> bytes:
    """What comes out of a packet."""
    assert sender.plane.send_inner(packet), sender.counts
    receiver.plane.receive_esp(sender.sent[-1][0], GATEWAY_PATH, 1.0, traffic_class)
    assert not receiver.counts
    return receiver.sink.packets[-1][0]


PACKETS = [
    IP(src=THEIRS, dst=OURS) / ICMP(id=1, seq=2) / b"ping",
    IP(src=THEIRS, dst=OURS) / TCP(sport=1, dport=2, options=[("MSS", 1400)]) / b"data",
    IP(src=THEIRS, dst=OURS) / UDP(sport=1, dport=2) / b"odd",
    IP(src=THEIRS, dst=OURS) / UDP(sport=1, dport=2, chksum=0) / b"without checksum",
    IP(src=THEIRS, dst=OURS, proto=4) / IP(src="10.1.0.1", dst="10.2.0.1") / UDP(sport=1, dport=2) / b"in a tunnel",
    IPv6(src=THEIRS_6, dst=OURS_6) / ICMPv6EchoRequest(data=b"ping"),
    IPv6(src=THEIRS_6, dst=OURS_6) / TCP(sport=1, dport=2) / b"data",
    IPv6(src=THEIRS_6, dst=OURS_6) / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2) / b"options go along",
]


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: packet.summary())
def test_a_packet_comes_out_as_it_went_in_but_for_what_the_outer_header_has(packet: Packet) -> None:
    is_ipv6 = IPv6 in packet
    gateway, client = pair(OURS_6, THEIRS_6) if is_ipv6 else pair()
    sent = bytes(packet)
    came = carry(client, gateway, sent)
    assert came[40 if is_ipv6 else 20 :] == sent[40 if is_ipv6 else 20 :]
    again = (IPv6 if is_ipv6 else IP)(came)
    assert (again.src, again.dst) == (packet.src, packet.dst)
    assert is_ipv6 or checksum(came[:20]) == 0


def test_esp_has_no_ip_header_inside() -> None:
    """RFC 4303 section 3.1.1: SPI, sequence number, IV, the ICMP message, padding, trailer, ICV."""
    _, client = pair()
    message = bytes(ICMP(id=1, seq=2) / b"ping")
    assert client.plane.send_inner(bytes(IP(src=THEIRS, dst=OURS) / message))
    assert len(client.sent[0][0]) == 8 + 8 + len(message) + 2 + 2 + 16
    assert (len(message) + 2) % 4 == 2


@pytest.mark.parametrize("is_ipv6", [False, True])
def test_another_implementation_reads_it(is_ipv6: bool) -> None:
    """scapy's ESP, both ways."""
    ours, theirs, header = (OURS_6, THEIRS_6, IPv6) if is_ipv6 else (OURS, THEIRS, IP)
    gateway, client = pair(ours, theirs)
    end = gateway.plane.child(end_of(ours, theirs).spi_in)
    assert end is not None
    packet = header(src=theirs, dst=ours) / TCP(sport=5, dport=6) / b"data"
    assert client.plane.send_inner(bytes(packet))
    inbound, outbound = (
        SecurityAssociation(  # type: ignore[no-untyped-call]
            ESP, spi=int.from_bytes(spi, "big"), crypt_algo="AES-GCM", crypt_key=keys[0]
        )
        for spi, keys in ((end.spi_in, end.keys_in), (end.spi_out, end.keys_out))
    )
    plain = header(src=theirs, dst=ours) / client.sent[-1][0]
    plain.fields["nh" if is_ipv6 else "proto"] = 50
    read = inbound.decrypt(header(bytes(plain)))  # type: ignore[no-untyped-call]
    assert bytes(read[TCP]) == bytes(packet)[len(header()) :]
    written: Packet = outbound.encrypt(header(src=ours, dst=theirs) / TCP(sport=6, dport=5) / b"back", seq_num=1)  # type: ignore[no-untyped-call]
    client.plane.receive_esp(bytes(written[ESP]), CLIENT_PATH, 1.0)
    answer = header(client.sink.packets[-1][0])
    assert (answer.src, answer.dst, answer[TCP].dport, bytes(answer[TCP].payload)) == (ours, theirs, 5, b"back")


def test_the_traffic_class_is_that_of_the_outer_header() -> None:
    gateway, client = pair()
    came = carry(client, gateway, bytes(IP(src=THEIRS, dst=OURS, tos=0xB9) / UDP() / b"x"), 0xBB)
    assert client.classes == [0xB9]
    assert IP(came).tos == 0xBB and checksum(came[:20]) == 0, "congestion was met on the way"


REFUSED = [
    (IP(src=THEIRS, dst=OURS, flags="MF") / UDP(sport=1, dport=2) / bytes(16), "inner_fragment"),
    (IP(src=THEIRS, dst=OURS, frag=2, proto=17) / bytes(16), "inner_fragment"),
    (IP(src=THEIRS, dst=OURS, options=[IPOption_Router_Alert()]) / UDP() / b"x", "inner_options"),
    (IPv6(src=THEIRS_6, dst=OURS_6) / IPv6ExtHdrHopByHop() / UDP() / b"x", "inner_options"),
    (IPv6(src=THEIRS_6, dst=OURS_6) / IPv6ExtHdrRouting() / UDP() / b"x", "inner_options"),
    (IPv6(src=THEIRS_6, dst=OURS_6) / IPv6ExtHdrFragment(m=1) / UDP() / bytes(8), "inner_fragment"),
    (IPv6(src=THEIRS_6, dst=OURS_6) / IPv6ExtHdrFragment() / UDP() / b"x", "inner_options"),
]


@pytest.mark.parametrize(("packet", "reason"), REFUSED, ids=lambda each: each if isinstance(each, str) else "")
def test_what_has_no_place_in_it_is_not_sent(packet: Packet, reason: str) -> None:
    _, client = pair(OURS_6, THEIRS_6) if IPv6 in packet else pair()
    assert not client.plane.send_inner(bytes(packet))
    assert client.counts == [reason] and not client.sent


def test_what_does_not_fit_the_path_is_sent_whole() -> None:
    """The operating system fragments the ESP packet; ESP is not for fragments (RFC 4303 section 3.3.4)."""
    end = end_of(OURS, THEIRS)
    client = Plane(path_mtu=lambda path: 1400)
    client.plane.install(other_end(end))
    assert client.plane.send_inner(bytes(IP(src=THEIRS, dst=OURS, flags="DF") / UDP() / bytes(3000)))
    assert not client.too_big


@pytest.mark.parametrize("is_ipv6", [False, True])
def test_what_the_selectors_leave_out_does_not_come_in(is_ipv6: bool) -> None:
    ours, theirs, bits = (OURS_6, THEIRS_6, 128) if is_ipv6 else (OURS, THEIRS, 32)
    web = child(
        1,
        local=(selector(f"{ours}/{bits}", 6, (80, 80)),),
        remote=(selector(f"{theirs}/{bits}", 6),),
        carriage=TRANSPORT,
    )
    gateway, client = Plane(), Plane()
    gateway.plane.install(web)
    everything = msgspec.structs.replace(
        other_end(web), ts_local=(selector(f"{theirs}/{bits}"),), ts_remote=(selector(f"{ours}/{bits}"),)
    )
    client.plane.install(everything)
    header = (IPv6 if is_ipv6 else IP)(src=theirs, dst=ours)
    assert client.plane.send_inner(bytes(header / TCP(sport=9, dport=81)))
    gateway.plane.receive_esp(client.sent[-1][0], GATEWAY_PATH, 1.0)
    assert gateway.counts == ["esp_selectors"] and not gateway.sink.packets
    assert client.plane.send_inner(bytes(header / TCP(sport=9, dport=80)))
    gateway.plane.receive_esp(client.sent[-1][0], GATEWAY_PATH, 1.0)
    assert len(gateway.sink.packets) == 1


@pytest.mark.parametrize("next_header", [0, 43, 44])
def test_extension_headers_that_stand_before_esp_do_not_come_out_of_it(next_header: int) -> None:
    gateway, client = pair(OURS_6, THEIRS_6)
    tunnel = client.plane._by_spi[other_end(end_of(OURS_6, THEIRS_6)).spi_in]
    esp = tunnel.outbound(bytes).encapsulate(bytes(8), next_header)
    gateway.plane.receive_esp(esp, GATEWAY_PATH, 1.0)
    assert gateway.counts == ["esp_next_header"] and not gateway.sink.packets


def test_one_that_has_slept_goes_on_in_transport_mode() -> None:
    gateway, client = natted()
    packet = bytes(IP(src=PRIVATE, dst=OURS) / UDP(sport=1, dport=2) / b"x")
    first = carry(client, gateway, packet)
    for plane in (gateway, client):
        plane.plane._by_spi.rest_all(1.0)
        plane.plane._by_spi.rest_all(2.0)
        assert all(isinstance(plane.plane._by_spi.look(spi), bytes) for spi in list(plane.plane._by_spi))
    assert carry(client, gateway, packet) == first


def fresh(packet: Packet) -> bytes:
    """The packet with its checksums computed anew, by scapy."""
    for layer in packet.layers():
        if "chksum" in packet[layer].fields:
            del packet[layer].chksum
        elif "cksum" in packet[layer].fields:
            del packet[layer].cksum
    return bytes(packet)


@pytest.mark.parametrize(
    "segment", [TCP(sport=5, dport=6) / b"odd", UDP(sport=5, dport=6) / b"even", ICMP(id=5) / b"ping"], ids=str
)
def test_checksums_are_right_at_both_sides_of_a_nat(segment: Packet) -> None:
    gateway, client = natted()
    there = IP(carry(client, gateway, bytes(IP(src=PRIVATE, dst=OURS) / segment)))
    assert (there.src, there.dst) == (THEIRS, OURS)
    assert fresh(there.copy()) == bytes(there)
    assert gateway.plane.send_inner(bytes(IP(src=OURS, dst=THEIRS) / segment))
    client.plane.receive_esp(gateway.sent[-1][0], CLIENT_PATH, 2.0)
    back = IP(client.sink.packets[-1][0])
    assert (back.src, back.dst) == (OURS, PRIVATE)
    assert fresh(back.copy()) == bytes(back)


def test_a_datagram_without_checksum_stays_without() -> None:
    gateway, client = natted()
    sent = IP(src=PRIVATE, dst=OURS) / UDP(sport=5, dport=6, chksum=0) / b"x"
    assert IP(carry(client, gateway, bytes(sent)))[UDP].chksum == 0


ADDRESS = st.ip_addresses(v=4).map(lambda address: address.packed)
ADDRESS_6 = st.ip_addresses(v=6).map(lambda address: address.packed)


@given(
    addresses=st.tuples(*[ADDRESS] * 4) | st.tuples(*[ADDRESS_6] * 4),
    payload=st.binary(max_size=64),
    protocol=st.sampled_from([6, 17, 58]),
)
def test_a_mended_checksum_is_the_one_that_is_computed_anew(
    addresses: tuple[bytes, bytes, bytes, bytes], payload: bytes, protocol: int
) -> None:
    def segment(source: bytes, destination: bytes) -> bytes:
        head = {6: TCP(sport=1, dport=2), 17: UDP(sport=1, dport=2), 58: ICMPv6EchoRequest()}[protocol]
        family = IP if len(source) == 4 else IPv6
        return bytes(family(src=text(source), dst=text(destination)) / head / payload)[20 if len(source) == 4 else 40 :]

    source, destination, source_now, destination_now = addresses
    if protocol == 58 and len(source) == 4:
        return
    mended = mend_checksum(protocol, segment(source, destination), source + destination, source_now + destination_now)
    assert mended == segment(source_now, destination_now)


def text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))


@given(protocol=st.integers(0, 255), payload=st.binary(max_size=40))
def test_anything_can_be_mended(protocol: int, payload: bytes) -> None:
    """Lengths are the peer's: too short for a checksum is left as it is."""
    mended = mend_checksum(protocol, payload, bytes(8), b"\xff" * 8)
    assert len(mended) == len(payload)
