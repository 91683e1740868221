import socket
from collections.abc import Iterator

import pytest

from cygnet.gateway.overload.gate import Gate
from cygnet.gateway.overload.spare_time import SpareTime
from cygnet.ike.known_sources import KnownSources
from cygnet.ike.settings import AdmissionSettings
from cygnet.ike.spi import SpiSeal
from cygnet.net.sockets import BufferSizes, UdpSocket, open_udp_socket
from cygnet.observe.counters import Counters

LIMITS = AdmissionSettings()


@pytest.fixture
def bound() -> Iterator[UdpSocket]:
    opened = open_udp_socket("127.0.0.1", 0, buffers=BufferSizes(receive=8192))
    yield opened
    opened.close()


def flood(target: UdpSocket, times: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(times):
            sender.sendto(bytes(1000), (target.address, target.port))


def test_who_loses_datagrams_has_no_time_to_spare(bound: UdpSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpareTime, "take", lambda self, now: 0.5)
    gate = Gate(
        [bound],
        Counters.create(writers=1).writer(0),
        LIMITS,
        cookie_tags=lambda: (),
        known=KnownSources(LIMITS),
        node=0,
        spi_seal=SpiSeal.from_octets(bytes(16)),
    )
    assert gate.spare(0.0) == 0.5
    flood(bound, 2)
    assert gate.spare(0.5) == 0.5, "they only wait"
    flood(bound, 100)
    assert gate.spare(1.0) == 0.0
    assert gate.spare(1.5) == 0.5, "that is over"
