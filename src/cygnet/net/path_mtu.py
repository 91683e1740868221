"""What the kernel knows of the MTU of paths.

The sockets of a worker send with the kernel's path MTU discovery (`IP_PMTUDISC_WANT`, the default): outer packets have
DF as long as they fit, the ICMP errors of routers teach the kernel, and what is larger than it knows to fit is
fragmented. We learn from it in turn: connecting a UDP socket sends nothing, and its `IP_MTU` is what the kernel knows.
"""

import socket
import time
from collections.abc import Callable
from typing import Final

from cygnet.ike.path import Path

_IP_MTU: Final = 14
_IPV6_MTU: Final = 24
_IKE_PORT: Final = 500
"""What goes there is in no CHILD_SA: the way is that of ESP."""

KNOWN_FOR_S: Final = 1.0
"""A look costs some microseconds, which a second's packets share."""
MAX_PATHS: Final = 4096
UNREACHABLE_MTU: Final = 65535
"""Where the kernel won't say, it is for the sending socket to meet the reason."""


class PathMtus:
    """The MTU towards each peer, looked up once a second at most."""

    __slots__ = ("_clock", "_known", "_probes")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[int, float]] = {}
        self._probes: dict[bool, socket.socket] = {}

    def mtu(self, path: Path) -> int:
        """Octets of the largest packet, its IP header included, that goes to the remote end of a path in one piece."""
        remote = path.remote
        now = self._clock()
        known = self._known.get(remote)
        if known is not None and now < known[1]:
            return known[0]
        mtu = self._look_up(path)
        if known is None and len(self._known) >= MAX_PATHS:
            self._known.pop(next(iter(self._known)))
        self._known[remote] = (mtu, now + KNOWN_FOR_S)
        return mtu

    def close(self) -> None:
        """Give the probing sockets back."""
        for probe in self._probes.values():
            probe.close()
        self._probes.clear()

    def _look_up(self, path: Path) -> int:
        is_ipv6 = path.is_ipv6
        try:
            probe = self._probes.get(is_ipv6)
            if probe is None:
                family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
                probe = self._probes[is_ipv6] = socket.socket(family, socket.SOCK_DGRAM)
            probe.connect((path.remote, _IKE_PORT))
            if is_ipv6:
                return probe.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
            return probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        except OSError:
            return UNREACHABLE_MTU
