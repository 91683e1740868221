"""Packets that come before the answer by which their SA stands."""

from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, UDP
from tests.unit.dataplane.children import GATEWAY_PATH, Plane, child, other_end
from tests.unit.dataplane.test_userspace import END, VIP, esp_from

from cygnet.dataplane.early import HOLD_S, MAX_HELD, MAX_HELD_PER_SPI, EarlyPacket, EarlyPackets

PACKETS = [bytes(IP(src=VIP, dst="192.0.2.80") / UDP(sport=1, dport=n) / b"data") for n in range(1, 4)]


@pytest.fixture
def client() -> Plane:
    plane = Plane()
    plane.plane.install(other_end(END))
    return plane


def early(now: float = 0.0) -> EarlyPacket:
    return EarlyPacket(b"packet", GATEWAY_PATH, now, 0)


def spi(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_they_are_taken_when_the_sa_is_installed(client: Plane) -> None:
    gateway = Plane(is_awaited=lambda spi_in: spi_in == END.spi_in)
    for packet in PACKETS:
        gateway.plane.receive_esp(esp_from(client, packet), GATEWAY_PATH, 0.0)
    assert gateway.counts == ["esp_early"] * 3 and not gateway.sink.packets
    gateway.plane.install(END)
    assert [packet for packet, _ in gateway.sink.packets] == PACKETS
    assert gateway.counts == ["esp_early"] * 3


def test_they_wait_for_all_that_hangs_on_the_sa(client: Plane) -> None:
    """The host's network, for one, is told of an SA only after it was installed."""
    later: list[Callable[[], None]] = []
    gateway = Plane(is_awaited=lambda spi_in: spi_in == END.spi_in, soon=later.append)
    gateway.plane.receive_esp(esp_from(client, PACKETS[0]), GATEWAY_PATH, 0.0)
    gateway.plane.install(END)
    assert not gateway.sink.packets
    [call] = later
    call()
    assert [packet for packet, _ in gateway.sink.packets] == PACKETS[:1]


def test_they_are_checked_then() -> None:
    gateway, stranger = Plane(is_awaited=lambda spi_in: True), Plane()
    stranger.plane.install(other_end(child(1, remote=END.ts_remote)))
    esp = esp_from(stranger, PACKETS[0])
    for datagram in (esp, esp, END.spi_in + bytes(3)):
        gateway.plane.receive_esp(datagram, GATEWAY_PATH, 0.0)
    gateway.plane.install(END)
    assert gateway.counts == [*["esp_early"] * 3, "esp_integrity", "esp_integrity", "esp_short"]
    assert not gateway.sink.packets


def test_what_is_for_no_sa_to_come_is_dropped(client: Plane) -> None:
    gateway = Plane(is_awaited=lambda spi_in: spi_in != END.spi_in)
    gateway.plane.receive_esp(esp_from(client, PACKETS[0]), GATEWAY_PATH, 0.0)
    gateway.plane.install(END)
    assert gateway.counts == ["esp_unknown_spi"] and not gateway.sink.packets


def test_what_comes_to_nothing_is_dropped_in_time(client: Plane) -> None:
    gateway = Plane(is_awaited=lambda spi_in: True)
    for packet in PACKETS:
        gateway.plane.receive_esp(esp_from(client, packet), GATEWAY_PATH, 5.0)
    gateway.plane.rest(5.0 + HOLD_S - 0.1)
    assert gateway.counts == ["esp_early"] * 3
    gateway.plane.rest(5.0 + HOLD_S)
    assert gateway.counts == [*["esp_early"] * 3, *["esp_unknown_spi"] * 3]
    gateway.plane.install(END)
    assert not gateway.sink.packets


def test_an_sa_has_its_share() -> None:
    packets = EarlyPackets(lambda spi_in: True)
    assert [packets.hold(spi(1), early()) for _ in range(MAX_HELD_PER_SPI + 1)] == [True] * MAX_HELD_PER_SPI + [False]
    assert packets.hold(spi(2), early())


def test_all_together_are_bounded() -> None:
    packets = EarlyPackets(lambda spi_in: True)
    held = sum(packets.hold(spi(number), early(number)) for number in range(2 * MAX_HELD))
    assert held == len(packets) == MAX_HELD
    assert packets.take(spi(7)) == [early(7)] and packets.take(spi(7)) == []
    assert packets.hold(spi(7), early(MAX_HELD)) and len(packets) == MAX_HELD
    assert packets.expire(100.0 + HOLD_S) == 100 and packets.expire(1e9) == MAX_HELD - 100 and len(packets) == 0
