"""Virtual addresses that peers have given us, on the TUN devices of the workers that have the tunnels.

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---------------------------------------------------------------+
| family        | prefix length | flags         | scope         |  struct ifaddrmsg
| interface                                                     |
| IFA_LOCAL, address; IFA_ADDRESS, address                      |  struct rtattr
+---------------------------------------------------------------+
"""

import errno
import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Final

from cygnet.gateway.host.rtnetlink import NLM_F_CREATE, NLM_F_REPLACE, RtNetlink, encode_attribute
from cygnet.ike.errors import LocalError
from cygnet.observe.log_groups import about, group_logger

_log = group_logger("knl")

_IFADDRMSG: Final = struct.Struct("=4BI")

# linux/rtnetlink.h, linux/if_addr.h
_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_F_NODAD: Final = 0x02
_RT_SCOPE_UNIVERSE: Final = 0

MAX_ADDRESSES: Final = 1024
"""Of one worker; each is from a connection of ours with `vips`."""


class VirtualAddresses:
    """Which worker has which address, and how many tunnels it has it from. Workers are numbers."""

    def __init__(self, devices: Sequence[str]) -> None:
        """`devices[w]` is the name of worker w's TUN device. Raises LocalError."""
        try:
            self._indices = [socket.if_nametoindex(name) for name in devices]
            self._netlink = RtNetlink()
        except OSError as exc:
            raise LocalError(f"cannot set addresses: {exc.strerror or exc}") from exc
        self._given: list[Counter[str]] = [Counter() for _ in devices]

    def add(self, address: str, worker: int, sa: tuple[str, int] = ("", 0)) -> None:
        """Put an address on a worker's device. What the kernel refuses is logged, with the connection and the number of
        the IKE_SA that it is for. Raises ValueError for one that no host may have."""
        if not is_assignable(address):
            raise ValueError(f"{address} is no host's address")
        given = self._given[worker]
        if len(given) >= MAX_ADDRESSES and address not in given:
            raise ValueError(f"worker {worker} has too many virtual addresses")
        given[address] += 1
        if given[address] == 1:
            self._tell(_RTM_NEWADDR, address, worker, sa)

    def discard(self, address: str, worker: int) -> None:
        """A tunnel that had brought an address is gone; with the last of them the address goes."""
        given = self._given[worker]
        if address not in given:
            return
        given[address] -= 1
        if not given[address]:
            del given[address]
            self._tell(_RTM_DELADDR, address, worker)

    def discard_all(self, worker: int) -> None:
        """A worker is dead."""
        given = self._given[worker]
        for address in given:
            self._tell(_RTM_DELADDR, address, worker)
        given.clear()

    def close(self) -> None:
        """Let go of the kernel; it drops the addresses with the devices."""
        self._netlink.close()

    def _tell(self, kind: int, address: str, worker: int, sa: tuple[str, int] = ("", 0)) -> None:
        flags = NLM_F_CREATE | NLM_F_REPLACE if kind == _RTM_NEWADDR else 0
        try:
            self._netlink.request(kind, encode_address(address, self._indices[worker]), flags)
        except OSError as exc:
            if kind == _RTM_DELADDR and exc.errno == errno.EADDRNOTAVAIL:
                return
            deed = "set" if kind == _RTM_NEWADDR else "remove"
            _log.warning("cannot %s the virtual address %s: %s", deed, address, exc.strerror, extra=about(*sa))


def is_assignable(address: str) -> bool:
    """Whether a host may have this address on a device. Raises ValueError if it is none."""
    parsed = ipaddress.ip_address(address)
    is_broadcast = parsed.packed == b"\xff" * 4
    return not (
        parsed.is_unspecified or parsed.is_loopback or parsed.is_multicast or parsed.is_link_local or is_broadcast
    )


def encode_address(address: str, interface: int) -> bytes:
    """The body of a request about a single address on an interface."""
    parsed = ipaddress.ip_address(address)
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    # Nobody else is on the link: duplicates need not be looked for, and packets may leave at once.
    flags = 0 if parsed.version == 4 else _IFA_F_NODAD
    body = _IFADDRMSG.pack(family, parsed.max_prefixlen, flags, _RT_SCOPE_UNIVERSE, interface)
    return body + encode_attribute(_IFA_LOCAL, parsed.packed) + encode_attribute(_IFA_ADDRESS, parsed.packed)
