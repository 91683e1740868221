"""Inner packets that come to a worker whose CHILD_SA for them has gone on to another: it hands them on.

The kernel's routes follow a peer that has gone to another worker a moment later, and what has been brought to the old
one's device by then lies in its queue. For such packets, and for no others, the supervisor is asked to bring them to
whoever the kernel brings them to now. It does not look at them.
"""

from collections.abc import Callable
from typing import Final

from cygnet.dataplane.base import Count
from cygnet.dataplane.inner import Flow
from cygnet.dataplane.userspace import UserspaceDataplane
from cygnet.gateway.control import AnyMessage, Stranded
from cygnet.gateway.host.host_network import HostNetwork

MAX_PER_TURN: Final = 512
"""Packets that are handed on from one `refill` to the next: a device's queue holds 500. They go where requests for
addresses and routes go, which must not wait long."""


class HandingOn:
    """Those of one worker of several."""

    __slots__ = ("_budget", "_count_event", "_dataplane", "_is_taking", "_network", "_send", "_send_inner")

    def __init__(
        self,
        dataplane: UserspaceDataplane,
        network: HostNetwork,
        *,
        send: Callable[[AnyMessage], bool],
        send_inner: Callable[[bytes], object],
        count_event: Count,
    ) -> None:
        """`send` takes messages to the supervisor, and `send_inner` packets to the data plane."""
        self._dataplane = dataplane
        self._network = network
        self._send = send
        self._send_inner = send_inner
        self._count_event = count_event
        self._budget = MAX_PER_TURN
        self._is_taking = False

    def refill(self) -> None:
        """To be called some times a second."""
        self._budget = MAX_PER_TURN

    def give(self, packet: bytes, flow: Flow) -> bool:
        """Hand on a packet that no CHILD_SA is for; False if none was a moment ago."""
        if self._is_taking:
            return False
        child = self._dataplane.left(flow)
        if child is None:
            return False
        if self._budget and self._send(Stranded(packet, self._network.key_of(child, flow))):
            self._budget -= 1
            self._count_event("inner_handed_on")
        else:
            self._count_event("inner_not_handed_on")
        return True

    def take(self, packet: bytes) -> None:
        """Send a packet that was handed on. It is not handed on again, so none goes round."""
        self._is_taking = True
        try:
            self._send_inner(packet)
        finally:
            self._is_taking = False
