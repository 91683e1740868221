import errno
import os
import socket
import subprocess
import sys

import pytest

from cygnet.net import sockets
from cygnet.net.bpf import SO_ATTACH_REUSEPORT_CBPF
from cygnet.net.errors import SocketUnavailable, SteeringUnavailable
from cygnet.net.sockets import (
    BufferSizes,
    open_esp_socket,
    open_udp_group,
    open_udp_socket,
    source_address,
)
from cygnet.net.steering import SteeringKey

KEY = SteeringKey(1, 2)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")


def test_a_socket_knows_where_it_is() -> None:
    bound = open_udp_socket("127.0.0.1", 0, is_natt=True)
    try:
        assert (bound.address, bound.is_ipv6, bound.is_natt, bound.is_wildcard) == ("127.0.0.1", False, True, False)
        assert bound.port == bound.socket.getsockname()[1] != 0
        assert not bound.socket.getblocking()
    finally:
        bound.close()


def test_ipv4_and_ipv6_wildcards_share_a_port() -> None:
    four = open_udp_socket("0.0.0.0", 0)
    six = open_udp_socket("::", four.port)
    try:
        assert four.is_wildcard
        assert six.is_wildcard
        assert six.is_ipv6
    finally:
        four.close()
        six.close()


def test_a_port_in_use_is_one_clear_line() -> None:
    first = open_udp_socket("127.0.0.1", 0)
    try:
        with pytest.raises(SocketUnavailable) as caught:
            open_udp_socket("127.0.0.1", first.port)
        assert caught.value.errno == errno.EADDRINUSE
        assert f"UDP port {first.port} on 127.0.0.1" in str(caught.value)
        assert "\n" not in str(caught.value)
    finally:
        first.close()


def test_an_address_of_another_machine_is_one_clear_line() -> None:
    with pytest.raises(SocketUnavailable, match="does not have that address"):
        open_udp_socket("192.0.2.1", 0)


def test_a_second_gateway_does_not_join_the_group_of_the_first() -> None:
    group = open_udp_group("127.0.0.1", 0, workers=2, key=KEY)
    try:
        with pytest.raises(SocketUnavailable, match="in use"):
            open_udp_group("127.0.0.1", group[0].port, workers=2, key=KEY)
    finally:
        for member in group:
            member.close()


def test_one_worker_needs_no_group() -> None:
    (alone,) = open_udp_group("127.0.0.1", 0, workers=1, key=KEY)
    try:
        assert not alone.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    finally:
        alone.close()


def test_on_a_natt_port_even_one_worker_has_a_second_socket_for_esp() -> None:
    group = open_udp_group("127.0.0.1", 0, workers=1, key=KEY, is_natt=True)
    try:
        assert [member.kind for member in group] == ["ipv4_natt", "ipv4_natt_esp"]
        assert len({member.port for member in group}) == 1
    finally:
        for member in group:
            member.close()


def test_one_worker_without_steering_takes_ike_and_esp_from_one_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def decline(target: socket.socket, option: int, program: bytes) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(sockets, "attach", decline)
    (alone,) = open_udp_group("127.0.0.1", 0, workers=1, key=KEY, is_natt=True)
    try:
        assert (alone.kind, alone.is_for_esp) == ("ipv4_natt", False)
        assert not alone.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    finally:
        alone.close()


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOPROTOOPT])
def test_a_kernel_without_steering_is_reported_and_nothing_stays_open(
    refusal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decline(target: socket.socket, option: int, program: bytes) -> None:
        assert option == SO_ATTACH_REUSEPORT_CBPF
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(sockets, "attach", decline)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(SteeringUnavailable, match="run one worker"):
        open_udp_group("127.0.0.1", 0, workers=3, key=KEY)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_buffers_are_as_large_as_asked_for_or_as_allowed() -> None:
    bound = open_udp_socket("127.0.0.1", 0, buffers=BufferSizes(receive=65536, send=32768))
    try:
        assert bound.buffers == BufferSizes(receive=65536, send=32768)
    finally:
        bound.close()


_AS_NOBODY = """
import os
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from cygnet.net.sockets import BufferSizes, open_esp_socket, open_udp_socket
from cygnet.net.errors import SocketUnavailable
bound = open_udp_socket("127.0.0.1", 0, buffers=BufferSizes(receive=1 << 30))
limit = int(open("/proc/sys/net/core/rmem_max").read())
assert bound.buffers.receive == limit, (bound.buffers, limit)
bound.close()
try:
    open_esp_socket(is_ipv6=False)
except SocketUnavailable as exc:
    assert "CAP_NET_RAW" in str(exc), exc
else:
    raise AssertionError("nobody got a raw socket")
"""


@needs_root
def test_without_privileges_buffers_end_at_the_limit_and_raw_esp_is_refused() -> None:
    # The interpreter and the package must be readable for nobody, so everything is imported before the switch.
    code = "import cygnet.net.sockets, cygnet.net.errors\n" + _AS_NOBODY
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_source_address_follows_the_route() -> None:
    assert source_address("127.0.0.1") == "127.0.0.1"
    assert source_address("::1") == "::1"


def _raw_send(address: str, packet: bytes) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ESP) as sender:
        sender.sendto(packet, (address, 0))


@needs_root
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_each_worker_gets_its_own_raw_esp(address: str) -> None:
    is_ipv6 = ":" in address
    workers = [open_esp_socket(is_ipv6=is_ipv6, worker=w, workers=3) for w in range(3)]
    try:
        for worker in range(3):
            _raw_send(address, bytes((worker + 1, 1, 2, 3)) + bytes(12))
        for worker, opened in enumerate(workers):
            packet = opened.socket.recv(2048)[0 if is_ipv6 else 20 :]
            assert packet[0] == worker + 1
            with pytest.raises(BlockingIOError):
                opened.socket.recv(2048)
    finally:
        for opened in workers:
            opened.close()
