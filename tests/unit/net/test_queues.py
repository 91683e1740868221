import os
import socket
from collections.abc import Callable

import pytest

from cygnet.net import queues
from cygnet.net.queues import ReceiveQueue, kernel_drops, read_drops, receive_queues
from cygnet.net.sockets import BufferSizes, EspSocket, UdpSocket, open_esp_socket, open_udp_socket
from cygnet.observe.metrics import SOCKET_KINDS


def _overflow(bound: UdpSocket, n: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(n):
            sender.sendto(bytes(1000), (bound.address, bound.port))


def _received(bound: UdpSocket) -> int:
    n = 0
    while True:
        try:
            bound.socket.recv(2048)
        except BlockingIOError:
            return n
        n += 1


def _by_meminfo(bound: UdpSocket) -> int:
    return kernel_drops([bound])


def _by_inode(bound: UdpSocket) -> int:
    return read_drops([os.fstat(bound.socket.fileno()).st_ino])


@pytest.mark.parametrize("drops_of", [_by_meminfo, _by_inode])
def test_what_a_full_queue_loses_is_counted(drops_of: Callable[[UdpSocket], int]) -> None:
    bound = open_udp_socket("127.0.0.1", 0, buffers=BufferSizes(receive=8192))
    try:
        assert drops_of(bound) == 0
        _overflow(bound, 100)
        drops = drops_of(bound)
        assert drops > 0
        assert _received(bound) + drops == 100
    finally:
        bound.close()


def test_drops_are_known_without_so_meminfo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_SO_MEMINFO", 9999)
    bound = open_udp_socket("127.0.0.1", 0, buffers=BufferSizes(receive=8192))
    try:
        _overflow(bound, 100)
        assert kernel_drops([bound]) == 100 - _received(bound) > 0
    finally:
        bound.close()


@pytest.mark.parametrize("has_meminfo", [True, False])
def test_what_waits_is_known_and_is_nothing_once_it_was_received(
    has_meminfo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_meminfo:
        monkeypatch.setattr(queues, "_SO_MEMINFO", 9999)
    bound = open_udp_socket("127.0.0.1", 0)
    try:
        assert receive_queues([bound]) == {"ipv4_ike": ReceiveQueue(0, 0)}
        _overflow(bound, 20)
        assert receive_queues([bound])["ipv4_ike"].waiting_octets > 20 * 1000
        assert _received(bound) == 20
        assert receive_queues([bound]) == {"ipv4_ike": ReceiveQueue(0, 0)}
    finally:
        bound.close()


def test_sockets_of_a_kind_are_summed_and_those_of_another_are_not() -> None:
    small = BufferSizes(receive=8192)
    plain = [open_udp_socket("127.0.0.1", 0, buffers=small), open_udp_socket("127.0.0.2", 0, buffers=small)]
    natt = open_udp_socket("127.0.0.1", 0, is_natt=True)
    try:
        for each in plain:
            _overflow(each, 50)
        _overflow(natt, 3)
        found = receive_queues([*plain, natt])
        assert found["ipv4_natt"].drops == 0
        assert found["ipv4_natt"].waiting_octets > 3000
        assert found["ipv4_ike"].drops == 100 - sum(map(_received, plain)) > 0
        assert receive_queues([*plain, natt])["ipv4_ike"].waiting_octets == 0
    finally:
        for each in (*plain, natt):
            each.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
def test_every_kind_of_socket_has_its_place_among_the_metrics() -> None:
    opened: list[UdpSocket | EspSocket] = []
    try:
        for address in ("127.0.0.1", "::1"):
            opened += [open_udp_socket(address, 0), open_udp_socket(address, 0, is_natt=True)]
            opened += [open_udp_socket(address, 0, is_natt=True, is_for_esp=True)]
            opened += [open_esp_socket(is_ipv6=":" in address)]
        assert list(receive_queues(opened)) == list(SOCKET_KINDS)
    finally:
        for each in opened:
            each.close()
