"""What a worker makes of the events of its core: gauges, the log, routes, and word to the other workers."""

import ipaddress
import logging
from collections.abc import Callable
from typing import Final

from cygnet.gateway.control import AnyMessage
from cygnet.gateway.host_network import HostNetwork
from cygnet.gateway.pools import AddressPools
from cygnet.ike.effects import (
    ChildFailed,
    Effect,
    InitialContact,
    InstallChild,
    RemoveChild,
    Revive,
    SaClosed,
    SaEstablished,
    SaMoved,
    SaRekeyed,
)
from cygnet.observe.counters import CounterWriter

_log = logging.getLogger(__name__)

LINES_PER_SECOND: Final = 50
"""Of single IKE_SAs in the log; what comes above that is summed up. In a storm a line for each would cost more than
its handshake's parsing."""


class Events:
    """Called with each effect of the core but `Send`."""

    __slots__ = (
        "_children",
        "_count",
        "_established",
        "_is_logging",
        "_lines",
        "_network",
        "_on_initial_contact",
        "_on_sa",
        "_pools",
        "_record",
        "_revive",
        "_set",
        "_unlogged",
        "listener",
    )

    def __init__(
        self,
        counters: CounterWriter,
        pools: AddressPools,
        *,
        send: Callable[[AnyMessage], object],
        on_sa: Callable[[SaEstablished | SaClosed], object],
        revive: Callable[[Revive], object],
        has_routes: bool,
        on_initial_contact: Callable[[InitialContact], object] | None,
    ) -> None:
        """`send` takes messages to the supervisor; `on_sa` is told when an IKE_SA begins or ends, `revive` what is
        to be set up again.

        `on_initial_contact` brings word to the other workers, which may have IKE_SAs with the same peers.
        """
        self._count = counters.count
        self._set = counters.set
        self._pools = pools
        self._on_sa = on_sa
        self._revive = revive
        self._record = counters.histogram("handshake_duration_seconds").record
        self._on_initial_contact = on_initial_contact
        self._established = 0
        self._children = 0
        self._network = HostNetwork(send, pools.covers) if has_routes else None
        self._is_logging = _log.isEnabledFor(logging.INFO)
        self._lines = 0
        self._unlogged = 0
        self.listener: Callable[[Effect], object] | None = None
        """Who else is told, for as long as somebody wants to know."""

    def __call__(self, effect: Effect) -> None:
        if self.listener is not None:
            self.listener(effect)
        kind = type(effect)
        if kind is InstallChild:
            self._child_installed(effect)  # type: ignore[arg-type]
        elif kind is SaEstablished:
            self._sa_established(effect)  # type: ignore[arg-type]
        elif kind is RemoveChild:
            self._child_removed(effect.spi_in)  # type: ignore[union-attr]
        elif kind is SaClosed:
            self._sa_closed(effect)  # type: ignore[arg-type]
        elif kind is SaMoved:
            self._sa_moved(effect)  # type: ignore[arg-type]
        elif kind is SaRekeyed:
            self._sa_rekeyed(effect)  # type: ignore[arg-type]
        elif kind is InitialContact and self._on_initial_contact is not None:
            self._on_initial_contact(effect)  # type: ignore[arg-type]
        elif kind is ChildFailed:
            self._child_failed(effect)  # type: ignore[arg-type]
        elif kind is Revive:
            self._revive(effect)  # type: ignore[arg-type]

    def tick(self) -> None:
        """A second has passed."""
        if self._unlogged:
            _log.info("%d more IKE_SAs began or ended in the last second", self._unlogged)
        self._lines = self._unlogged = 0

    def _sa_established(self, effect: SaEstablished) -> None:
        self._established += 1
        self._set('ike_sas{state="established"}', self._established)
        self._count("ike_sas_established_total")
        self._record(effect.took_s)
        self._on_sa(effect)
        if self._network is not None:
            self._network.sa_established(effect)
        if self._may_log():
            addresses = ", ".join(str(ipaddress.ip_address(address)) for address in effect.virtual_ips)
            _log.info(
                "%s: IKE_SA with %s established in %.0f ms%s",
                effect.connection,
                effect.remote_id,
                1000 * effect.took_s,
                f", virtual address {addresses}" if addresses else "",
            )

    def _sa_rekeyed(self, effect: SaRekeyed) -> None:
        """There are two until the old one is closed."""
        if self._network is not None:
            self._network.sa_rekeyed(effect.old, effect.sa)
        self._established += 1
        self._set('ike_sas{state="established"}', self._established)
        if self._may_log():
            _log.info(
                "%s: IKE_SA %s with %s rekeyed, now %s",
                effect.connection,
                effect.old.hex(),
                effect.remote_id,
                effect.sa.hex(),
            )

    def _sa_closed(self, effect: SaClosed) -> None:
        if effect.was_established:
            self._established -= 1
            self._set('ike_sas{state="established"}', self._established)
        self._count(f'ike_sas_closed_total{{reason="{effect.reason}"}}')
        self._on_sa(effect)
        if self._network is not None:
            self._network.sa_closed(effect.sa)
        if self._may_log():
            what = "closed" if effect.was_established else "not established"
            _log.info("%s: IKE_SA %s %s: %s", effect.connection or "unknown peer", effect.sa.hex(), what, effect.reason)

    def _sa_moved(self, effect: SaMoved) -> None:
        self._count("ike_sas_moved_total")
        if self._may_log():
            _log.info("%s: IKE_SA with %s is on %s now", effect.connection, effect.remote_id, effect.path)

    def _may_log(self) -> bool:
        if not self._is_logging:
            return False
        if self._lines >= LINES_PER_SECOND:
            self._unlogged += 1
            return False
        self._lines += 1
        return True

    def _child_installed(self, child: InstallChild) -> None:
        self._children += 1
        self._set("child_sas", self._children)
        if self._network is not None:
            self._network.child_installed(child)

    def _child_failed(self, effect: ChildFailed) -> None:
        self._count(f'child_sas_failed_total{{reason="{effect.reason}"}}')
        if self._may_log():
            _log.warning("IKE_SA %s: CHILD_SA %s not set up: %s", effect.sa.hex(), effect.name, effect.reason)

    def _child_removed(self, spi_in: bytes) -> None:
        self._children -= 1
        self._set("child_sas", self._children)
        if self._network is not None:
            self._network.child_removed(spi_in)
