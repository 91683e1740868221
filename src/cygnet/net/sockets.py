"""Opens the gateway's sockets: UDP for IKE and encapsulated ESP, raw for ESP on its own."""

import errno
import socket
from ipaddress import ip_address
from typing import Final

import msgspec

from cygnet.net.bpf import SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF, attach
from cygnet.net.errors import SocketUnavailable, SteeringUnavailable
from cygnet.net.steering import SteeringKey, raw_esp_filter, steering_program

# The values of Linux, for what the socket module of Python 3.11 does not name.
IP_PKTINFO: Final = 8
IP_TOS: Final = 1
IP_RECVTOS: Final = 13
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33

RECEIVE_BUFFER_OCTETS: Final = 4 * 1024 * 1024
"""A small IKE datagram costs the kernel about 1 kB of this: room for 4,000 of them, or for the second that a
worker takes to restart when as many come."""
SEND_BUFFER_OCTETS: Final = 1024 * 1024

_PERMISSION_HINT: Final = {
    errno.EACCES: "needs root or CAP_NET_BIND_SERVICE, or choose a port above 1023",
    errno.EADDRINUSE: "another program has it; is an IKE daemon running? `ss -ulnp` tells which",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EAFNOSUPPORT: "this machine does not have that address family",
    errno.EMFILE: "raise the limit of open files, `ulimit -n`, or open fewer",
    errno.EPERM: "needs root or CAP_NET_RAW",
}


class BufferSizes(msgspec.Struct, frozen=True):
    """Octets that a socket's queues may hold, as the kernel counts them."""

    receive: int = RECEIVE_BUFFER_OCTETS
    send: int = SEND_BUFFER_OCTETS


class UdpSocket:
    """A bound UDP socket that tells the local address of each datagram."""

    __slots__ = ("address", "buffers", "is_for_esp", "is_ipv6", "is_natt", "is_wildcard", "port", "socket")

    def __init__(self, bound: socket.socket, *, is_natt: bool, buffers: BufferSizes, is_for_esp: bool = False) -> None:
        name = bound.getsockname()
        self.socket = bound
        self.address: str = name[0]
        self.port: int = name[1]
        self.is_ipv6 = bound.family == socket.AF_INET6
        self.is_natt = is_natt
        """Whether IKE wears the non-ESP marker here, and ESP may come (RFC 3948)."""
        self.is_for_esp = is_for_esp
        """Whether this is a worker's second socket on a NAT-T port, to which the steering program brings ESP."""
        self.is_wildcard = ip_address(self.address).is_unspecified
        self.buffers = buffers
        """What the kernel granted, which may be less than was asked for."""

    @property
    def kind(self) -> str:
        """What metrics call it: one of `cygnet.observe.metrics.SOCKET_KINDS`."""
        purpose = "natt_esp" if self.is_for_esp else "natt" if self.is_natt else "ike"
        return f"{_family_name(self.is_ipv6)}_{purpose}"

    def close(self) -> None:
        """Leave the port; a group that the socket was in must be closed with it."""
        self.socket.close()


class EspSocket:
    """A raw socket for ESP without UDP, IP protocol 50."""

    __slots__ = ("buffers", "is_ipv6", "socket")

    is_wildcard: Final = True
    """It is bound to no address."""

    def __init__(self, opened: socket.socket, buffers: BufferSizes) -> None:
        self.socket = opened
        self.is_ipv6 = opened.family == socket.AF_INET6
        self.buffers = buffers

    @property
    def kind(self) -> str:
        """What metrics call it."""
        return f"{_family_name(self.is_ipv6)}_esp"

    def close(self) -> None:
        """Receive no more."""
        self.socket.close()


def open_udp_socket(
    address: str,
    port: int,
    *,
    is_natt: bool = False,
    is_for_esp: bool = False,
    reuseport: bool = False,
    buffers: BufferSizes = BufferSizes(),  # noqa: B008  immutable
) -> UdpSocket:
    """Bind a non-blocking UDP socket to an IP address (0.0.0.0 and :: are all of its family) and port (0 is
    any).

    With `reuseport` it joins the group of the sockets that are bound to the same, as its last.
    SocketUnavailable if not.
    """
    family = _family_of(address)
    try:
        opened = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as exc:
        raise _unavailable(_port(port, address), exc) from exc
    try:
        opened.setblocking(False)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuseport:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _ask_for_local_address(opened)
        granted = _set_buffers(opened, buffers)
        opened.bind((address, port))
    except OSError as exc:
        opened.close()
        raise _unavailable(_port(port, address), exc) from exc
    return UdpSocket(opened, is_natt=is_natt, buffers=granted, is_for_esp=is_for_esp)


def open_udp_group(
    address: str,
    port: int,
    *,
    workers: int,
    key: SteeringKey,
    is_natt: bool = False,
    buffers: BufferSizes = BufferSizes(),  # noqa: B008  immutable
) -> list[UdpSocket]:
    """The sockets of all workers on one address and port, in the order of their numbers, with steering
    attached.

    On a NAT-T port they are followed by the sockets of all workers for ESP; a single worker that can't have such a
    pair does with one socket for both.

    They must all stay open, in whatever process, until the last is closed: when one leaves, the kernel moves the last
    one to its place. SocketUnavailable as in `open_udp_socket`; SteeringUnavailable when several workers can't be told
    apart.
    """
    # A group takes in any later socket of the same user, so a second gateway would quietly steal from the
    # first. Binding alone is what notices; and it picks the port where 0 asks for any.
    alone = open_udp_socket(address, port, is_natt=is_natt, buffers=buffers)
    if workers == 1 and not is_natt:
        return [alone]
    port = alone.port
    alone.close()
    try:
        return _open_steered(address, port, workers=workers, key=key, is_natt=is_natt, buffers=buffers)
    except SteeringUnavailable:
        if workers > 1:
            raise
    return [open_udp_socket(address, port, is_natt=is_natt, buffers=buffers)]


def _open_steered(
    address: str, port: int, *, workers: int, key: SteeringKey, is_natt: bool, buffers: BufferSizes
) -> list[UdpSocket]:
    opened: list[UdpSocket] = []
    try:
        for place in range(2 * workers if is_natt else workers):
            is_for_esp = place >= workers
            opened.append(
                open_udp_socket(address, port, is_natt=is_natt, is_for_esp=is_for_esp, reuseport=True, buffers=buffers)
            )
            if place == 0:
                _attach_steering(opened[0].socket, steering_program(workers=workers, key=key, is_natt=is_natt))
    except BaseException:
        for member in opened:
            member.close()
        raise
    return opened


def open_esp_socket(
    *,
    is_ipv6: bool,
    worker: int = 0,
    workers: int = 1,
    buffers: BufferSizes = BufferSizes(),  # noqa: B008  immutable
) -> EspSocket:
    """A raw ESP socket on all addresses, for one worker's packets; SocketUnavailable without CAP_NET_RAW."""
    what = f"a raw ESP socket ({'IPv6' if is_ipv6 else 'IPv4'})"
    try:
        opened = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP)
    except OSError as exc:
        raise _unavailable(what, exc) from exc
    try:
        opened.setblocking(False)
        if workers > 1:
            attach(opened, SO_ATTACH_FILTER, raw_esp_filter(worker=worker, workers=workers, is_ipv6=is_ipv6))
        _ask_for_local_address(opened)
        granted = _set_buffers(opened, buffers)
    except OSError as exc:
        opened.close()
        raise _unavailable(what, exc) from exc
    return EspSocket(opened, granted)


def source_address(remote: str, port: int = 500) -> str:
    """The local address from which an IP address is reached; SocketUnavailable where there is no route."""
    with socket.socket(_family_of(remote), socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a UDP socket sends nothing; it looks up the route.
            probe.connect((remote, port))
        except OSError as exc:
            raise SocketUnavailable(f"no route to {remote}: {exc.strerror}", exc.errno or 0) from exc
        local: str = probe.getsockname()[0]
    return local


def _family_name(is_ipv6: bool) -> str:
    return "ipv6" if is_ipv6 else "ipv4"


def _family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _ask_for_local_address(opened: socket.socket) -> None:
    if opened.family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        opened.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def ask_for_traffic_class(opened: socket.socket) -> None:
    """Have the kernel tell the traffic class that each packet came with."""
    if opened.family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    else:
        opened.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)


def _set_buffers(opened: socket.socket, wanted: BufferSizes) -> BufferSizes:
    return BufferSizes(
        receive=_set_buffer(opened, _SO_RCVBUFFORCE, socket.SO_RCVBUF, wanted.receive),
        send=_set_buffer(opened, _SO_SNDBUFFORCE, socket.SO_SNDBUF, wanted.send),
    )


def _set_buffer(opened: socket.socket, force: int, polite: int, octets: int) -> int:
    """Set a buffer's size past net.core.[rw]mem_max if we may, up to it if not; how much it became."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, force, octets)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, polite, octets)
    # The kernel doubles what it is asked for, to have room for its own book-keeping (socket(7)).
    return opened.getsockopt(socket.SOL_SOCKET, polite) // 2


def _attach_steering(first: socket.socket, program: bytes) -> None:
    try:
        attach(first, SO_ATTACH_REUSEPORT_CBPF, program)
    except OSError as exc:
        raise SteeringUnavailable(
            f"the kernel takes no steering program for a SO_REUSEPORT group ({exc.strerror}): run one worker"
        ) from exc


def _port(port: int, address: str) -> str:
    return f"UDP port {port} on {address}" if port else f"a UDP port on {address}"


def _unavailable(what: str, exc: OSError) -> SocketUnavailable:
    hint = _PERMISSION_HINT.get(exc.errno or 0)
    reason = exc.strerror or str(exc)
    return SocketUnavailable(f"cannot open {what}: {reason}{f' ({hint})' if hint else ''}", exc.errno or 0)
