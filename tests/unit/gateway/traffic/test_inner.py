import socket
from collections import Counter
from ipaddress import ip_address

import pytest

from cygnet.dataplane.echo import build_echo_request, parse_echo_reply
from cygnet.gateway.control import AnyMessage, Settled
from cygnet.gateway.traffic.inner import InnerTraffic

ECHOES = (ip_address("10.1.0.1").packed, ip_address("fd00::1").packed)
SPI = b"\1\0\0\1"


class Rig:
    def __init__(self, *, has_tun: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        # A socket pair of packets stands in for the device.
        self.kernel, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.setblocking(False)
        self.device.setblocking(False)
        self.sent: list[bytes] = []
        self.has_tunnel = True
        self.asked: list[AnyMessage] = []
        self.traffic = InnerTraffic(
            ECHOES,
            self.device.fileno() if has_tun else None,
            count=self.count,
            count_event=self.event,
            ask=self.ask,
        )
        self.traffic.connect(self.send)

    def count(self, name: str, n: int = 1, /) -> None:
        self.counts[name] += n

    def ask(self, message: AnyMessage) -> bool:
        self.asked.append(message)
        return True

    def event(self, name: str) -> None:
        self.events[name] += 1

    def send(self, packet: bytes) -> bool:
        self.sent.append(packet)
        return self.has_tunnel

    def close(self) -> None:
        self.kernel.close()
        self.device.close()


def request(source: str, destination: str) -> bytes:
    packed = ip_address(source).packed, ip_address(destination).packed
    return build_echo_request(*packed, identifier=1, sequence=2, payload=b"x")


@pytest.mark.parametrize("has_tun", [False, True])
@pytest.mark.parametrize(("source", "echo"), [("10.3.0.2", "10.1.0.1"), ("fd00::2", "fd00::1")])
def test_an_echo_address_answers_by_itself(has_tun: bool, source: str, echo: str) -> None:
    rig = Rig(has_tun=has_tun)
    packet = request(source, echo)
    rig.traffic.deliver(packet, SPI)
    (answer,) = rig.sent
    reply = parse_echo_reply(answer)
    assert reply is not None
    assert reply.destination == ip_address(source).packed
    assert rig.counts == {
        'esp_packets_total{direction="in"}': 1,
        'esp_packets_total{direction="out"}': 1,
        'esp_octets_total{direction="in"}': len(packet),
        'esp_octets_total{direction="out"}': len(answer),
    }
    with pytest.raises(BlockingIOError):
        rig.kernel.recv(100)
    rig.close()


@pytest.mark.parametrize(("source", "host"), [("10.3.0.2", "10.1.0.2"), ("fd00::2", "fd00::3")])
def test_all_else_goes_to_the_kernel_where_there_is_a_device(source: str, host: str) -> None:
    rig = Rig(has_tun=True)
    packet = request(source, host)
    rig.traffic.deliver(packet, SPI)
    assert rig.kernel.recv(2000) == packet
    assert rig.sent == []
    rig.close()


def test_nothing_goes_to_the_kernel_before_it_has_a_way_back() -> None:
    rig = Rig(has_tun=True)
    early, other = request("10.3.0.2", "10.1.0.2"), request("10.3.0.3", "10.1.0.2")
    rig.traffic.settling.begin(SPI)
    rig.traffic.deliver(early, SPI)
    rig.traffic.deliver(request("10.3.0.2", "10.1.0.1"), SPI)
    assert len(rig.sent) == 1, "the echo's answers go through the tunnel as they are"
    rig.traffic.deliver(other, b"\1\0\0\2")
    assert rig.kernel.recv(2000) == other
    assert rig.asked == [Settled(1)]
    rig.traffic.settling.settled(1)
    assert rig.kernel.recv(2000) == early
    rig.traffic.deliver(other, SPI)
    assert rig.kernel.recv(2000) == other
    rig.close()


def test_without_a_device_all_else_is_counted() -> None:
    rig = Rig(has_tun=False)
    rig.traffic.deliver(request("10.3.0.2", "10.1.0.2"), SPI)
    assert rig.events == {"echo_ignored": 1}
    rig.traffic.drain_tun()
    rig.close()


def test_what_the_kernel_has_for_a_peer_is_sent_a_turn_at_a_time() -> None:
    rig = Rig(has_tun=True)
    packet = request("10.1.0.2", "10.3.0.2")
    for _ in range(100):
        rig.kernel.send(packet)
    rig.traffic.drain_tun()
    assert rig.sent == [packet] * 64
    rig.traffic.drain_tun()
    assert len(rig.sent) == 100
    rig.close()


def test_what_has_no_tunnel_is_not_counted_as_carried() -> None:
    rig = Rig(has_tun=True)
    rig.has_tunnel = False
    rig.kernel.send(request("10.1.0.2", "10.3.0.2"))
    rig.traffic.drain_tun()
    assert rig.counts == {}
    rig.close()
