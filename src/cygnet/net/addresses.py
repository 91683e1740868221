"""Our own addresses, and word of their changes, by rtnetlink. Asking needs no privilege.

A change is told once for all that happens within `SETTLE_S`: an interface that comes up brings several addresses and
routes, and some of them come and go.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------------------------------------------------------+
    | length                        | type          | flags         |  struct nlmsghdr
    | sequence                      | port                          |
    | family | prefix length | flags | scope | interface             |  struct ifaddrmsg
    | IFA_LOCAL or IFA_ADDRESS, address; IFA_FLAGS, flags           |  struct rtattr
    +---------------------------------------------------------------+
"""

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from cygnet.net.errors import SocketUnavailable
from cygnet.net.sockets import UdpSocket, source_address

_log = logging.getLogger(__name__)

SETTLE_S: Final = 0.1
"""strongSwan waits as long."""
_ROUTE_CACHE: Final = 4096
"""Peers whose source address is remembered until something changes."""

_NLMSGHDR: Final = struct.Struct("=IHHII")
_IFADDRMSG: Final = struct.Struct("=BBBBI")
_RTATTR: Final = struct.Struct("=HH")
_FLAGS: Final = struct.Struct("=I")

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
_NETLINK_ROUTE: Final = 0
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_RTM_GETADDR: Final = 22
_RTM_NEWROUTE: Final = 24
_RTM_DELROUTE: Final = 25
_NLM_F_REQUEST: Final = 0x001
_NLM_F_DUMP: Final = 0x300
_RTMGRP_IPV4_IFADDR: Final = 0x010
_RTMGRP_IPV4_ROUTE: Final = 0x040
_RTMGRP_IPV6_IFADDR: Final = 0x100
_RTMGRP_IPV6_ROUTE: Final = 0x400
_RT_SCOPE_UNIVERSE: Final = 0
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_FLAGS: Final = 8
_UNUSABLE: Final = 0x08 | 0x20 | 0x40
"""IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE."""

_ANSWER_OCTETS: Final = 65536
_ANSWER_TIMEOUT_S: Final = 1.0
"""Never needed: the kernel answers within `send`."""
_MESSAGES_PER_TURN: Final = 256


class AddressWatch:
    """Which addresses of this host peers can reach the given sockets at; it is the core's `LocalAddresses`."""

    def __init__(self, udp: Sequence[UdpSocket], *, inside: str = "") -> None:
        """Begin to watch. Raises SocketUnavailable where there is no rtnetlink.

        Devices whose names are `inside` and a number are our own tunnels: no peer reaches us at an address of theirs.
        """
        self._inside = inside
        self._wildcards = frozenset(each.is_ipv6 for each in udp if each.is_wildcard)
        self._bound = frozenset(each.address for each in udp if not each.is_wildcard)
        self._sources: dict[str, str] = {}
        self._on_change: Callable[[bool], object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._netlink = _open(_RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR | _RTMGRP_IPV4_ROUTE | _RTMGRP_IPV6_ROUTE)
        self._netlink.setblocking(False)
        self._all = self._usable()

    def all(self) -> tuple[str, ...]:
        """All addresses that peers may use; the same object until they change."""
        return self._all

    def source_to(self, remote: str) -> str:
        """The address that packets to `remote` leave from; empty if there is no route."""
        source = self._sources.get(remote)
        if source is None:
            try:
                source = source_address(remote)
            except SocketUnavailable:
                source = ""
            if len(self._sources) >= _ROUTE_CACHE:
                self._sources.clear()
            self._sources[remote] = source
        return source

    def attach(self, loop: asyncio.AbstractEventLoop, on_change: Callable[[bool], object]) -> None:
        """Have `on_change(is_list_new)` called when addresses (True) or only default routes have changed."""
        self._loop = loop
        self._on_change = on_change
        loop.add_reader(self._netlink, self._drain)

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._netlink)
            self._loop = None
        self._netlink.close()

    def _usable(self) -> tuple[str, ...]:
        return tuple(
            address
            for address in read_addresses(self._inside)
            if address in self._bound or (":" in address) in self._wildcards
        )

    def _drain(self) -> None:
        is_changed = False
        for _ in range(_MESSAGES_PER_TURN):
            try:
                packet = self._netlink.recv(_ANSWER_OCTETS)
            except BlockingIOError:
                break
            except OSError as exc:
                # The kernel could not keep up with telling us: something has changed.
                if exc.errno != errno.ENOBUFS:
                    raise
                is_changed = True
                continue
            is_changed = is_changed or any(_matters(kind, body) for kind, body in _messages(packet))
        if is_changed and self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(SETTLE_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._sources.clear()
        addresses = self._usable()
        is_list_new = set(addresses) != set(self._all)
        if is_list_new:
            _log.info("our addresses: %s", ", ".join(addresses) or "none")
            self._all = addresses
        if self._on_change is not None:
            self._on_change(is_list_new)


def read_addresses(inside: str = "") -> tuple[str, ...]:
    """Every address of this host that others may use, IPv4 first; those of devices `inside` and a number left out."""
    bodies = (body for body in _dump() if not inside or not _is_inside(body, inside))
    found = dict.fromkeys(each for body in bodies if (each := _decode_address(body)) is not None)
    return tuple(sorted(found, key=lambda address: ":" in address))


def interface_of(address: str) -> str:
    """The name of the interface that has an address of ours; empty if none has."""
    packed = ipaddress.ip_address(address).packed
    with suppress(OSError, SocketUnavailable):
        for body in _dump():
            attributes = dict(_attributes(body[_IFADDRMSG.size :]))
            if packed == (attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)):
                return socket.if_indextoname(_IFADDRMSG.unpack_from(body)[4])
    return ""


def _dump() -> Iterator[bytes]:
    """What the kernel says of each address. Raises OSError."""
    with _open(0) as netlink:
        netlink.settimeout(_ANSWER_TIMEOUT_S)
        header = _NLMSGHDR.pack(_NLMSGHDR.size + _IFADDRMSG.size, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
        netlink.send(header + _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        while True:
            for kind, body in _messages(netlink.recv(_ANSWER_OCTETS)):
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    return
                if kind == _RTM_NEWADDR:
                    yield body


def _is_inside(body: bytes, prefix: str) -> bool:
    """Whether the device of the address has that name and a number."""
    try:
        name = socket.if_indextoname(_IFADDRMSG.unpack_from(body)[4])
    except OSError:
        return False  # gone meanwhile
    return name.startswith(prefix) and name.removeprefix(prefix).isdecimal()


def _decode_address(body: bytes) -> str | None:
    """The address that a message is about; None for one that peers can't or shouldn't use."""
    _, _, flags, scope, _ = _IFADDRMSG.unpack_from(body)
    attributes = dict(_attributes(body[_IFADDRMSG.size :]))
    if _IFA_FLAGS in attributes:
        [flags] = _FLAGS.unpack(attributes[_IFA_FLAGS])
    # On a point-to-point link IFA_ADDRESS is the other end.
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if packed is None or scope != _RT_SCOPE_UNIVERSE or flags & _UNUSABLE:
        return None
    return str(ipaddress.ip_address(packed))


def _matters(kind: int, body: bytes) -> bool:
    """Whether it is about an address or a default route. Other routes are for the most part our own, into tunnels."""
    if kind in (_RTM_NEWADDR, _RTM_DELADDR):
        return True
    return kind in (_RTM_NEWROUTE, _RTM_DELROUTE) and len(body) > 1 and body[1] == 0


def _messages(packet: bytes) -> Iterator[tuple[int, bytes]]:
    """The types and bodies of the messages in one packet from the kernel."""
    while len(packet) >= _NLMSGHDR.size:
        length, kind, *_ = _NLMSGHDR.unpack_from(packet)
        if length < _NLMSGHDR.size:
            return
        yield kind, packet[_NLMSGHDR.size : length]
        packet = packet[_aligned(length) :]


def _attributes(octets: bytes) -> Iterator[tuple[int, bytes]]:
    while len(octets) >= _RTATTR.size:
        length, kind = _RTATTR.unpack_from(octets)
        if length < _RTATTR.size:
            return
        yield kind, octets[_RTATTR.size : length]
        octets = octets[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _open(groups: int) -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    except OSError as exc:
        raise SocketUnavailable(f"no word of our addresses: {os.strerror(exc.errno or 0)}", exc.errno or 0) from exc
    opened.bind((0, groups))
    return opened
