"""What a worker makes of the events of its core: gauges, the log, routes, and word to the other workers."""

import ipaddress
import logging
from collections.abc import Callable
from typing import Any, Final

from cygnet.gateway.control import AnyMessage
from cygnet.gateway.host.host_network import HostNetwork
from cygnet.gateway.logs.refusals import end_of, say_authentication_refused, say_child_refused, say_offer_refused
from cygnet.gateway.pools.pools import AddressPools
from cygnet.ike.effects import (
    AuthenticationRefused,
    ChildFailed,
    ChildRefused,
    ChildRekeyed,
    Effect,
    HeldBack,
    InitialContact,
    InstallChild,
    OfferRefused,
    RekeyFailed,
    RemoveChild,
    Retransmitted,
    Revive,
    SaClosed,
    SaEstablished,
    SaMoved,
    SaRekeyed,
    TaskDone,
)
from cygnet.ike.sa import IkeSa
from cygnet.ike.selector_text import format_selector
from cygnet.ike.spi import unique_id
from cygnet.observe.counters import CounterWriter
from cygnet.observe.log_groups import AUDIT, about, group_logger

_ike = group_logger("ike")
_chd = group_logger("chd")

LINES_PER_SECOND: Final = 50
"""Of single IKE_SAs in the log; what comes above that is summed up. In a storm a line for each would cost more than
its handshake's parsing."""


class Events:
    """Called with each effect of the core but `Send`."""

    __slots__ = (
        "_children",
        "_count",
        "_established",
        "_handlers",
        "_is_detailed",
        "_lines",
        "_name_of",
        "_network",
        "_on_sa",
        "_pools",
        "_record",
        "_scripts",
        "_set",
        "_threshold",
        "_unlogged",
        "has_scripts",
        "hold",
        "listener",
        "on_effect",
    )

    def __init__(
        self,
        counters: CounterWriter,
        pools: AddressPools,
        *,
        send: Callable[[AnyMessage], object],
        on_sa: Callable[[SaEstablished | SaClosed | ChildFailed], object],
        revive: Callable[[Revive], object],
        has_routes: bool,
        on_initial_contact: Callable[[InitialContact], object] | None,
        name_of: Callable[[bytes], str] = lambda spi: "",
        scripts: Callable[[Effect], object] | None = None,
        settle: Callable[[bytes], object] = lambda spi_in: None,
    ) -> None:
        """`send` takes messages to the supervisor; `on_sa` is told when an IKE_SA begins or ends, or does without a
        CHILD_SA, `revive` what is to be set up again. `name_of` tells the connection of an IKE_SA, by its SPI;
        `scripts` is told of all that makes CHILD_SAs come and go, while `has_scripts`; `settle` that the host's network
        is about to change for a CHILD_SA, by our SPI.

        `on_initial_contact` brings word to the other workers, which may have IKE_SAs with the same peers.
        """
        self._count = counters.count
        self._set = counters.set
        self._pools = pools
        self._on_sa = on_sa
        self._record = counters.histogram("handshake_duration_seconds").record
        self._established = 0
        self._children = 0
        self._network = HostNetwork(send, pools.covers, name_of, settle) if has_routes else None
        self._name_of = name_of
        self._scripts = scripts
        self.has_scripts = False
        self.follow_levels()
        self._lines = 0
        self._unlogged = 0
        self.hold: Callable[[HeldBack], object] = lambda effect: None
        """Takes requests that can't be answered yet."""
        self.on_effect: Callable[[Effect], object] | None = None
        """Told of everything: the traps, where there are any."""
        self.listener: Callable[[Effect], object] | None = None
        """Who else is told, for as long as somebody wants to know."""
        self._handlers: dict[type, Callable[[Any], object]] = {
            InstallChild: self._child_installed,
            RemoveChild: self._child_removed,
            SaEstablished: self._sa_established,
            SaClosed: self._sa_closed,
            SaMoved: self._sa_moved,
            SaRekeyed: self._sa_rekeyed,
            ChildFailed: self._child_failed,
            ChildRefused: self._child_refused,
            OfferRefused: self._offer_refused,
            AuthenticationRefused: self._authentication_refused,
            Revive: revive,
            HeldBack: lambda effect: self.hold(effect),
        }
        if on_initial_contact is not None:
            self._handlers[InitialContact] = on_initial_contact

    @property
    def network(self) -> HostNetwork | None:
        """What the host's network has for our tunnels; None where it has nothing."""
        return self._network

    def __call__(self, effect: Effect) -> None:
        if self.listener is not None:
            self.listener(effect)
        if self.has_scripts and self._scripts is not None:
            self._scripts(effect)
        if self.on_effect is not None:
            self.on_effect(effect)
        handle = self._handlers.get(type(effect))
        if handle is not None:
            handle(effect)
        elif self._is_detailed:
            self._tell_detail(effect)

    def follow_levels(self) -> None:
        """The levels of the log have changed."""
        self._threshold = _ike.getEffectiveLevel()
        self._is_detailed = _chd.isEnabledFor(logging.DEBUG) or self._threshold <= logging.DEBUG

    def tick(self) -> None:
        """A second has passed."""
        if self._unlogged:
            _ike.info("%d more IKE_SAs began or ended in the last second", self._unlogged)
        self._lines = self._unlogged = 0

    def _sa_established(self, effect: SaEstablished) -> None:
        self._established += 1
        self._set('ike_sas{state="established"}', self._established)
        self._count("ike_sas_established_total")
        self._record(effect.took_s)
        self._on_sa(effect)
        if self._network is not None:
            self._network.sa_established(effect)
        if self._may_log(AUDIT):
            addresses = ", ".join(str(ipaddress.ip_address(address)) for address in effect.virtual_ips)
            _ike.log(
                AUDIT,
                "IKE_SA with %s%s established in %.0f ms%s",
                effect.remote_id,
                f" at {end_of(effect.where)}" if effect.where is not None else "",
                1000 * effect.took_s,
                f", virtual address {addresses}" if addresses else "",
                extra=about(effect.connection, unique_id(effect.sa)),
            )

    def _sa_rekeyed(self, effect: SaRekeyed) -> None:
        """There are two until the old one is closed."""
        if self._network is not None:
            self._network.sa_rekeyed(effect.old, effect.sa)
        self._established += 1
        self._set('ike_sas{state="established"}', self._established)
        if self._may_log(AUDIT):
            _ike.log(
                AUDIT,
                "IKE_SA %s with %s rekeyed, now %s",
                effect.old.hex(),
                effect.remote_id,
                effect.sa.hex(),
                extra=about(effect.connection, unique_id(effect.sa)),
            )

    def _sa_closed(self, effect: SaClosed) -> None:
        if effect.was_established:
            self._established -= 1
            self._set('ike_sas{state="established"}', self._established)
        self._count(f'ike_sas_closed_total{{reason="{effect.reason}"}}')
        self._on_sa(effect)
        if self._network is not None:
            self._network.sa_closed(effect.sa)
        # What nobody has answered for is no news of an IKE_SA: anybody can cause it.
        level = AUDIT if effect.was_established else logging.INFO
        if self._may_log(level):
            what = "closed" if effect.was_established else "not established"
            about_it = about(effect.connection, unique_id(effect.sa))
            _ike.log(
                level, "IKE_SA %s%s %s: %s", effect.sa.hex(), _peer_of(effect), what, effect.reason, extra=about_it
            )

    def _sa_moved(self, effect: SaMoved) -> None:
        self._count("ike_sas_moved_total")
        if self._may_log(logging.INFO):
            about_it = about(effect.connection, unique_id(effect.sa))
            _ike.info("IKE_SA with %s is on %s now", effect.remote_id, effect.path, extra=about_it)

    def _may_log(self, level: int) -> bool:
        if level < self._threshold:
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
        if self._is_detailed:
            self._tell_detail(child)

    def _child_failed(self, effect: ChildFailed) -> None:
        self._count(f'child_sas_failed_total{{reason="{effect.reason}"}}')
        self._on_sa(effect)
        if self._may_log(logging.WARNING):
            about_it = about(self._name_of(effect.sa), unique_id(effect.sa))
            _chd.warning("CHILD_SA %s not set up: %s", effect.name, effect.reason, extra=about_it)

    def _child_refused(self, effect: ChildRefused) -> None:
        if self._may_log(logging.INFO):
            about_it = about(self._name_of(effect.sa), unique_id(effect.sa))
            _chd.info("%s", say_child_refused(effect), extra=about_it)

    def _offer_refused(self, effect: OfferRefused) -> None:
        if self._may_log(logging.INFO):
            _ike.info("%s", say_offer_refused(effect))

    def _authentication_refused(self, effect: AuthenticationRefused) -> None:
        if self._may_log(logging.INFO):
            about_it = about(effect.connection, unique_id(effect.sa))
            _ike.info("%s", say_authentication_refused(effect), extra=about_it)

    def _child_removed(self, effect: RemoveChild) -> None:
        self._children -= 1
        self._set("child_sas", self._children)
        if self._network is not None:
            self._network.child_removed(effect.spi_in)
        if self._is_detailed:
            self._tell_detail(effect)

    def _tell_detail(self, effect: Effect) -> None:
        """What is logged at level 2 only."""
        group, text, values = _detail_of(effect)
        if text:
            sa: bytes = effect.sa  # type: ignore[union-attr]
            name = effect.connection if isinstance(effect, RemoveChild) else self._name_of(sa)
            group.debug(text, *values, extra=about(name, unique_id(sa)))


def _peer_of(effect: SaClosed) -> str:
    """Who it was with; as long as that is not proven, where that is."""
    sa = effect.final
    if not isinstance(sa, IkeSa):
        return ""
    return f" with {sa.remote_id}" if effect.was_established else f" with {end_of(sa.path)}"


def _detail_of(effect: Effect) -> tuple[logging.Logger, str, tuple[object, ...]]:
    """The group, and what is to be said; an empty text for what is not worth a line."""
    if isinstance(effect, InstallChild):
        ends = [" ".join(map(format_selector, side)) for side in (effect.ts_local, effect.ts_remote)]
        spis = (effect.spi_in.hex(), effect.spi_out.hex())
        text = "CHILD_SA %s established with SPIs %s_i %s_o and TS %s === %s"
        return _chd, text, (effect.name, *spis, *ends)
    if isinstance(effect, RemoveChild):
        return _chd, "CHILD_SA %s with SPI %s_i removed", (effect.name, effect.spi_in.hex())
    if isinstance(effect, ChildRekeyed):
        return _chd, "CHILD_SA %s_i rekeyed, now %s_i", (effect.old.hex(), effect.spi_in.hex())
    if isinstance(effect, RekeyFailed):
        return _ike, "IKE_SA not rekeyed: %s", (effect.reason,)
    if isinstance(effect, Retransmitted):
        return _ike, "no answer to a request, it is sent again", ()
    if isinstance(effect, TaskDone):
        return _ike, "%s done", (type(effect.task).__name__,)
    return _ike, "", ()
