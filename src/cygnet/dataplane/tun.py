"""TUN devices: inner packets to and from the kernel.

Every worker has a device of its own, and the kernel's routing table steers an inner packet to the worker that owns its
destination. Devices are opened and configured by whoever has CAP_NET_ADMIN; the file descriptor serves without.
"""

import errno
import fcntl
import ipaddress
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from cygnet.dataplane.base import Count
from cygnet.ike.errors import LocalError

NAME_PATTERN = "cygnet%d"
"""The kernel puts the lowest free number in."""

_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TUNGETIFF = 0x800454D2
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFREQ = struct.Struct("16sH22x")
_MAX_PACKET_OCTETS = 65535
_NO_ADDRESS_GENERATION = "1"
_STRICT, _LOOSE = 1, "2"


def open_tun(name: str = NAME_PATTERN) -> int:
    """Make a TUN device without packet information header, and give its non-blocking file descriptor.

    `name` may hold one %d; `tun_name` tells what became of it. The device lives until the last copy of the descriptor
    is closed. Raises LocalError.
    """
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise LocalError(f"cannot open {_DEVICE}: {exc.strerror}; the kernel module tun is needed") from exc
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError as exc:
        os.close(fd)
        hint = "; CAP_NET_ADMIN is needed" if exc.errno == errno.EPERM else ""
        raise LocalError(f'cannot make TUN device "{name}": {exc.strerror}{hint}') from exc
    return fd


def tun_name(fd: int) -> str:
    """The name of the device behind a descriptor of `open_tun`."""
    request: bytes = fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size))
    name: bytes = _IFREQ.unpack(request)[0]
    return name.rstrip(b"\0").decode()


def configure_tun(name: str, addresses: Iterable[str], mtu: int) -> None:
    """Give a device addresses (`10.3.0.1/24`, `fd00::1/64`) and an MTU in octets, and take it up.

    Talks to the kernel and waits for its answer: not to be called from an event loop's own thread. Raises LocalError,
    also where an MTU below 1280 meets an IPv6 address (RFC 8200 section 5).
    """
    interfaces = [ipaddress.ip_interface(address) for address in addresses]
    # The kernel would make up a link-local address and solicit routers through the tunnel.
    generation = Path("/proc/sys/net/ipv6/conf", name, "addr_gen_mode")
    if generation.exists() and os.access(generation, os.W_OK):
        generation.write_text(_NO_ADDRESS_GENERATION)
    with _device(name, "configure") as (netlink, index):
        netlink.link("set", index=index, mtu=mtu, state="up")
        for interface in interfaces:
            netlink.addr("replace", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)


def loosen_source_check(name: str) -> None:
    """Have the kernel take packets from a device also where the route back leads to another one (RFC 3704 section 2.4).

    Where they may come from is checked against the selectors of their CHILD_SA. Nothing is done where the kernel is not
    strict, or may not be told.
    """
    everywhere, here = (Path("/proc/sys/net/ipv4/conf", each, "rp_filter") for each in ("all", name))
    with suppress(OSError):
        # The higher of the two numbers counts.
        if max(int(everywhere.read_text()), int(here.read_text())) == _STRICT:
            here.write_text(_LOOSE)


def add_route(name: str, prefix: str) -> None:
    """Send packets for a prefix (`10.3.0.0/16`) into a device, whatever took them before.

    Not to be called from an event loop's own thread. Raises LocalError.
    """
    destination = str(ipaddress.ip_network(prefix))
    with _device(name, f"route {destination} into") as (netlink, index):
        netlink.route("replace", dst=destination, oif=index)


def del_route(name: str, prefix: str) -> None:
    """Undo `add_route`; nothing happens if the route isn't there.

    Not to be called from an event loop's own thread. Raises LocalError.
    """
    destination = str(ipaddress.ip_network(prefix))
    with _device(name, f"take the route {destination} from") as (netlink, index):
        try:
            netlink.route("del", dst=destination, oif=index)
        except NetlinkError as exc:
            if exc.code != errno.ESRCH:
                raise


@contextmanager
def _device(name: str, deed: str) -> Iterator[tuple[IPRoute, int]]:
    try:
        with IPRoute() as netlink:
            indices = netlink.link_lookup(ifname=name)
            if not indices:
                raise LocalError(f'cannot {deed} "{name}": there is no such device')
            yield netlink, indices[0]
    except NetlinkError as exc:
        hint = "; CAP_NET_ADMIN is needed" if exc.code == errno.EPERM else ""
        raise LocalError(f'cannot {deed} "{name}": {os.strerror(exc.code)}{hint}') from exc


class TunSink:
    """The kernel as the sink for inner packets, and as their source."""

    __slots__ = ("_count", "_fd")

    def __init__(self, fd: int, count: Count) -> None:
        """Serve a descriptor of `open_tun`, which stays its opener's to close."""
        self._fd = fd
        self._count = count

    def fileno(self) -> int:
        """The descriptor, for an event loop to watch."""
        return self._fd

    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        """Hand an inner packet to the kernel; one that it doesn't take is counted and gone."""
        try:
            os.write(self._fd, packet)
        except OSError:
            self._count("tun_dropped")

    def drain(self, send_inner: Callable[[bytes], object], limit: int) -> int:
        """Pass on up to `limit` packets that the kernel has for us, and give their number: `limit` if more may wait."""
        for done in range(limit):
            try:
                packet = os.read(self._fd, _MAX_PACKET_OCTETS)
            except BlockingIOError:
                return done
            except OSError:
                # The device was taken down; it is silent until it is up again.
                self._count("tun_dropped")
                return done
            send_inner(packet)
        return limit
