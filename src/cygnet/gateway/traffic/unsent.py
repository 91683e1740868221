"""Inner packets from the kernel that no CHILD_SA is for: handed on to another worker, or kept by a trap, or dropped."""

import logging
from collections.abc import Callable

from cygnet.dataplane.base import Count
from cygnet.dataplane.inner import Flow
from cygnet.dataplane.userspace import UserspaceDataplane
from cygnet.gateway.control import AnyMessage, Stranded
from cygnet.gateway.host.host_network import HostNetwork
from cygnet.gateway.initiations import Initiations
from cygnet.gateway.traffic.handing_on import HandingOn
from cygnet.gateway.traffic.inner import InnerTraffic
from cygnet.gateway.traffic.traps import Traps
from cygnet.net.driver import Driver

_log = logging.getLogger(__name__)


class Unsent:
    """A worker's `unsent`, as a data plane calls it."""

    __slots__ = ("_driver", "_handing_on", "traps")

    def __init__(
        self,
        driver: Driver,
        initiations: Initiations,
        *,
        port: int,
        worker: int,
        workers: int,
        inner: InnerTraffic | None,
        network: HostNetwork | None,
        send: Callable[[AnyMessage], bool],
        count_event: Count,
    ) -> None:
        """`send` takes messages to the supervisor. Without `network` or `inner` the kernel has no packets for us."""
        self._driver = driver
        self.traps: Traps | None = None
        self._handing_on: HandingOn | None = None
        if inner is None or network is None:
            return
        self.traps = Traps(
            driver,
            initiations,
            network,
            port=port,
            worker=worker,
            workers=workers,
            send=inner.send,
            count_event=count_event,
        )
        if workers > 1 and isinstance(driver.dataplane, UserspaceDataplane):
            self._handing_on = HandingOn(
                driver.dataplane, network, send=send, send_inner=inner.send, count_event=count_event
            )

    def __call__(self, packet: bytes, flow: Flow) -> bool:
        if self._handing_on is not None and self._handing_on.give(packet, flow):
            return True
        return self.traps is not None and self.traps.take(packet, flow)

    def take(self, message: Stranded) -> None:
        """Another worker has handed on a packet."""
        if self._handing_on is not None:
            self._handing_on.take(message.packet)

    def refill(self) -> None:
        """Some tenths of a second have passed."""
        if self._handing_on is not None:
            self._handing_on.refill()

    def configure(self) -> None:
        """The configuration is new: have the traps that it asks for."""
        if self.traps is not None:
            self.traps.configure()
            return
        if self._driver.table.env.connections.trapped:
            _log.warning("no packets come here without a TUN device, so traps set nothing up")
