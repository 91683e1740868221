"""Joins the sans-IO core with sockets, a data plane, a clock and an event loop.

The daemon's workers and the load tester drive the same core through this. What the driver does not carry out itself
it hands on: `on_event` sees every effect but those that only send.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final, Protocol

from cygnet.dataplane.base import Dataplane
from cygnet.ike.connections import Connection
from cygnet.ike.effects import (
    Effect,
    InstallChild,
    MoveChild,
    RemoveChild,
    RetireChild,
    Send,
    SendKeepalive,
    UseChild,
)
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa
from cygnet.ike.spi import unique_id
from cygnet.ike.table import IkeTable
from cygnet.ike.tasks import Task
from cygnet.observe.log_groups import about

_log = logging.getLogger(__name__)

_TOGETHER: Final = 16
"""Datagrams that the core handles before their effects are carried out. The core's code and data and those of what
carries its effects out evict each other from the processor's caches: to take turns less often saves a tenth of a
handshake. The first answer waits for the last, some three milliseconds in a burst, and for nothing when it is alone."""


_MOMENT_S: Final = 0.02
"""After which the timers are looked at that datagrams and orders may have set. To ask for the next one after every few
datagrams takes an eighth of the time of answering one, and a timer may be late by 50 ms anyway."""


class SendIke(Protocol):
    """Puts an IKE datagram on the wire; `Endpoint.send_ike` is one."""

    def __call__(self, datagram: bytes, path: Path, /) -> object: ...


class SendNatKeepalive(Protocol):
    """Puts a NAT keepalive on the wire; `Endpoint.send_keepalive` is one."""

    def __call__(self, path: Path, /) -> object: ...


class Driver:
    """Runs a table of IKE_SAs on an event loop."""

    def __init__(
        self,
        table: IkeTable,
        dataplane: Dataplane,
        send_ike: SendIke,
        *,
        send_keepalive: SendNatKeepalive,
        on_event: Callable[[Effect], None],
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.table = table
        self.dataplane = dataplane
        self.clock = clock
        self.send_ike = send_ike
        """Who looks at what is sent puts itself in its place."""
        self._on_event = on_event
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._carriers: dict[type, Callable[[Any], object]] = {
            SendKeepalive: lambda each: send_keepalive(each.path),
            InstallChild: self._telling(dataplane.install),
            MoveChild: self._telling(
                lambda each: dataplane.update_path(each.spi_in, each.path, each.is_udp_encapsulated)
            ),
            UseChild: self._telling(lambda each: dataplane.use(each.spi_in)),
            RetireChild: self._telling(lambda each: dataplane.retire(each.spi_in)),
            RemoveChild: self._remove,
        }
        """What carries an effect out; what has no entry is but told of, and what is sent is the common case."""

    def receive_ike(self, batch: Iterable[tuple[bytes, Path]], now: float) -> None:
        """Handle IKE datagrams, and carry out their effects, in this order.

        An error in our code costs the SA that it happened in, and no other.
        """
        table = self.table
        receive = table.receive
        datagrams = iter(batch)
        while chunk := list(islice(datagrams, _TOGETHER)):
            outcomes: list[tuple[list[Effect], IkeSa | None]] = []
            for datagram, path in chunk:
                try:
                    outcomes.append((receive(datagram, path, now), table.serving))
                except Exception:
                    outcomes.append((self._give_up(table.serving, now), None))
            for effects, sa in outcomes:
                try:
                    self._carry_out(effects)
                except Exception:
                    # Its end comes after all that the core has asked for before, and so is seen to by this loop.
                    outcomes.append((self._give_up(sa, now), None))
        self._look_soon(now)

    def receive_esp(self, batch: Iterable[tuple[bytes, Path, int]], now: float) -> None:
        """Handle ESP packets, each from its SPI on, with the traffic class that it came with (`EspBatch`)."""
        receive = self.dataplane.receive_esp
        for packet, path, traffic_class in batch:
            try:
                receive(packet, path, now, traffic_class)
            except Exception:
                _log.exception("internal error in the data plane; the packet is dropped")
                self.table.env.count("internal_errors_total")

    def initiate(self, connection: Connection, path: Path) -> bytes:
        """Begin an IKE_SA as initiator; returns our SPI, under which its events will come."""
        now = self.clock()
        spi, effects = self.table.initiate(connection, path, now)
        self._carry_out(effects)
        self._look_soon(now)
        return spi

    def delete(self, spi: bytes) -> None:
        """End an IKE_SA, and tell the peer."""
        self._carry_out(self.table.delete(spi, self.clock()))
        self._arm()

    def order(self, spi: bytes, task: Task) -> None:
        """Have an IKE_SA do something."""
        now = self.clock()
        self._carry_out(self.table.order(spi, task, now))
        self._look_soon(now)

    def follow(self, spi_in: bytes, path: Path) -> None:
        """A peer's ESP comes on another path now; `UserspaceDataplane` calls this as its `moved`."""
        self._carry_out(self.table.follow(spi_in, path, self.clock()))

    def roam(self, is_list_new: bool) -> None:
        """Our routes or addresses have changed; `AddressWatch` calls this as its `on_change`."""
        self._carry_out(self.table.roam(self.clock(), is_list_new=is_list_new))
        self._arm()

    def move(self, spi: bytes, path: Path) -> None:
        """Have an IKE_SA go on from another address or port of ours."""
        self._carry_out(self.table.move(spi, path, self.clock()))
        self._arm()

    def limit_reached(self, spi_in: bytes, is_hard: bool) -> None:
        """A CHILD_SA has carried what it may; `UserspaceDataplane` calls this as its `limit_reached`."""
        self._carry_out(self.table.limit_reached(spi_in, self.clock(), is_hard=is_hard))
        self._arm()

    def carry_out(self, effects: Iterable[Effect]) -> None:
        """Carry out what a call to the table returned, and see to its timers."""
        self._carry_out(effects)
        self._arm()

    def close(self) -> None:
        """Stop the timers. The table and the data plane stay as they are."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                self.send_ike(effect.datagram, effect.path)  # type: ignore[union-attr]
            else:
                self._carriers.get(kind, self._on_event)(effect)

    def _telling(self, change: Callable[[Any], object]) -> Callable[[Any], object]:
        """A change of the data plane that is told of when it is done."""

        def carry_out(effect: Effect) -> None:
            change(effect)
            self._on_event(effect)

        return carry_out

    def _remove(self, effect: RemoveChild) -> None:
        """Told of before it is done: until then it is known what the CHILD_SA has carried."""
        self._on_event(effect)
        self.dataplane.remove(effect.spi_in, is_succeeded=effect.is_succeeded)

    def _give_up(self, sa: IkeSa | None, now: float) -> list[Effect]:
        """After an error that nobody expected: end the SA that was being served, so that the others go on."""
        whose = about(sa.name, unique_id(sa.spi)) if sa is not None else None
        _log.exception("internal error; giving up %s", sa if sa is not None else "the datagram", extra=whose)
        self.table.env.count("internal_errors_total")
        return self.table.abort(sa, now) if sa is not None else []

    def _look_soon(self, now: float) -> None:
        """Have the loop wake us in a moment, to see which timer is next."""
        if self._timer is None or self._timer_due > now + _MOMENT_S:
            self._wake_at(now + _MOMENT_S)

    def _arm(self) -> None:
        """Have the loop wake us when the table's next timer is due."""
        due = self.table.next_timer()
        if due is not None and (self._timer is None or due < self._timer_due):
            self._wake_at(due)

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(max(0.0, due - self.clock()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self.clock()
        try:
            self._carry_out(self.table.handle_timers(now))
        except Exception:
            self._carry_out(self._give_up(self.table.serving, now))
        self._arm()
