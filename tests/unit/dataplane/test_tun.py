"""A real TUN device, in a network namespace that lasts as long as the test."""

import ctypes
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP
from tests.unit.dataplane.children import packed

from cygnet.dataplane.echo import InnerEcho, build_echo_request, parse_echo_reply
from cygnet.dataplane.tun import TunSink, add_route, configure_tun, del_route, loosen_source_check, open_tun, tun_name
from cygnet.ike.errors import LocalError

CLONE_NEWNET = 0x40000000
DEADLINE_S = 10.0

needs_tun = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/net/tun"),  # noqa: PTH110 - evaluated at import
    reason="a TUN device needs root and /dev/net/tun",
)


def in_new_namespace(body: Callable[[], None]) -> None:
    """Run `body` in a thread with a network namespace of its own, which ends with the thread."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            body()
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def wait_readable(fd: int) -> None:
    ready, _, _ = select.select([fd], [], [], DEADLINE_S)
    assert ready, "nothing came out of the TUN device"


def routes_of(name: str) -> set[str]:
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=name)[0]
        routes = [route for family in (socket.AF_INET, socket.AF_INET6) for route in netlink.get_routes(family=family)]
        return {
            f"{route.get_attr('RTA_DST')}/{route['dst_len']}"
            for route in routes
            if route.get_attr("RTA_OIF") == index and route["type"] == 1
        }


@needs_tun
def test_names_count_up() -> None:
    def body() -> None:
        first, second = open_tun(), open_tun()
        try:
            assert (tun_name(first), tun_name(second)) == ("cygnet0", "cygnet1")
        finally:
            os.close(first)
            os.close(second)

    in_new_namespace(body)


@needs_tun
def test_addresses_mtu_and_routes() -> None:
    def body() -> None:
        fd = open_tun()
        try:
            name = tun_name(fd)
            for _ in range(2):
                configure_tun(name, ("10.3.0.254/24", "fd03::fe/64"), 1400)
            with IPRoute() as netlink:
                [link] = netlink.get_links(ifname=name)
                addresses = {
                    (address.get_attr("IFA_ADDRESS"), address["prefixlen"])
                    for address in netlink.get_addr(index=link["index"])
                }
            assert link.get_attr("IFLA_MTU") == 1400
            assert link["flags"] & 1, "the device is not up"
            assert addresses == {("10.3.0.254", 24), ("fd03::fe", 64)}

            before = routes_of(name)
            for _ in range(2):
                add_route(name, "10.4.0.0/16")
                add_route(name, "fd04::/48")
            assert routes_of(name) - before == {"10.4.0.0/16", "fd04::/48"}
            for _ in range(2):
                del_route(name, "10.4.0.0/16")
                del_route(name, "fd04::/48")
            assert routes_of(name) == before
        finally:
            os.close(fd)

    in_new_namespace(body)


@needs_tun
def test_the_kernel_pings_through_the_device() -> None:
    def body() -> None:
        fd = open_tun()
        try:
            configure_tun(tun_name(fd), ("10.3.0.254/24",), 1400)
            counts: list[str] = []
            sink = TunSink(fd, counts.append)
            peer = InnerEcho((packed("10.3.0.1"),), counts.append)

            def reply_through_device(reply: bytes) -> bool:
                sink.deliver(reply, b"")
                return True

            peer.connect(reply_through_device)
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ping:
                ping.settimeout(DEADLINE_S)
                request = build_echo_request(
                    packed("10.3.0.254"), packed("10.3.0.1"), identifier=5, sequence=6, payload=b"from the kernel"
                )
                ping.sendto(request[20:], ("10.3.0.1", 0))
                wait_readable(sink.fileno())
                assert sink.drain(lambda packet: peer.deliver(packet, b""), 64) == 1
                reply = parse_echo_reply(ping.recv(2048))
            assert reply is not None
            assert (reply.identifier, reply.sequence, reply.payload) == (5, 6, b"from the kernel")
            assert counts == ["echo_answered"]
        finally:
            os.close(fd)

    in_new_namespace(body)


@needs_tun
def test_the_kernel_answers_a_ping_from_the_tunnel() -> None:
    def body() -> None:
        fd = open_tun()
        try:
            configure_tun(tun_name(fd), ("10.3.0.254/24",), 1400)
            sink = TunSink(fd, lambda name: None)
            request = build_echo_request(
                packed("10.3.0.1"), packed("10.3.0.254"), identifier=5, sequence=6, payload=b"to the kernel"
            )
            sink.deliver(request, b"")
            wait_readable(fd)
            packets: list[bytes] = []
            sink.drain(packets.append, 64)
            [reply] = [reply for packet in packets if (reply := parse_echo_reply(packet))]
            assert (reply.source, reply.payload) == (packed("10.3.0.254"), b"to the kernel")
        finally:
            os.close(fd)

    in_new_namespace(body)


@needs_tun
def test_drain_takes_no_more_than_its_share() -> None:
    def body() -> None:
        fd = open_tun()
        try:
            configure_tun(tun_name(fd), ("10.3.0.254/24",), 1400)
            sink = TunSink(fd, lambda name: None)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for number in range(5):
                    sender.sendto(b"%d" % number, ("10.3.0.1", 9))
            packets: list[bytes] = []
            assert sink.drain(packets.append, 3) == 3
            assert sink.drain(packets.append, 3) == 2
            assert sink.drain(packets.append, 3) == 0
            assert [bytes(IP(packet).payload.payload) for packet in packets] == [b"0", b"1", b"2", b"3", b"4"]
        finally:
            os.close(fd)

    in_new_namespace(body)


@needs_tun
def test_a_device_that_is_down_takes_nothing() -> None:
    def body() -> None:
        fd = open_tun()
        try:
            counts: list[str] = []
            sink = TunSink(fd, counts.append)
            sink.deliver(b"\x45" + bytes(19), b"")
            assert counts == ["tun_dropped"]
        finally:
            os.close(fd)

    in_new_namespace(body)


@needs_tun
def test_errors_are_one_clear_line() -> None:
    def body() -> None:
        with pytest.raises(LocalError, match=r'^cannot configure "cygnet9": there is no such device$'):
            configure_tun("cygnet9", (), 1400)
        with pytest.raises(LocalError, match=r'^cannot route 10.4.0.0/16 into "cygnet9"'):
            add_route("cygnet9", "10.4.0.0/16")
        with pytest.raises(LocalError, match=r'^cannot make TUN device "lo": '):
            open_tun("lo")
        fd = open_tun()
        try:
            with pytest.raises(LocalError, match=r'^cannot configure "cygnet0": Invalid argument'):
                configure_tun("cygnet0", (), 1 << 24)
        finally:
            os.close(fd)

    in_new_namespace(body)


@needs_tun
@pytest.mark.parametrize(
    ("everywhere", "here", "after"), [(1, 0, 2), (0, 1, 2), (0, 0, 0), (2, 0, 0), (2, 1, 1), (1, 2, 2)]
)
def test_only_a_strict_check_of_sources_is_loosened(everywhere: int, here: int, after: int) -> None:
    def body() -> None:
        fd = open_tun()
        name = tun_name(fd)
        conf = Path("/proc/sys/net/ipv4/conf")
        (conf / "all/rp_filter").write_text(str(everywhere))
        (conf / name / "rp_filter").write_text(str(here))
        loosen_source_check(name)
        assert int((conf / name / "rp_filter").read_text()) == after
        os.close(fd)

    in_new_namespace(body)


def test_where_it_may_not_be_told_the_kernel_is_left_alone() -> None:
    loosen_source_check("nothing0")
