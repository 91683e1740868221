"""What a worker has turned away in the kernel: who watches for it, and the filters that do it."""

import os
import time
from collections.abc import Callable, Iterable

from cygnet.gateway.overload.dead_letters import DeadLetters
from cygnet.gateway.overload.spare_time import SpareTime
from cygnet.gateway.overload.suspects import SuspectSources
from cygnet.ike.known_sources import KnownSources
from cygnet.ike.settings import AdmissionSettings
from cygnet.ike.spi import SpiSeal
from cygnet.net.shedding import Shedder
from cygnet.net.sockets import UdpSocket
from cygnet.observe.counters import CounterWriter


class Gate:
    """The filters on one worker's sockets, with those that know what is to stay out."""

    __slots__ = ("_counters", "_losses", "_spare_time", "dead_letters", "shedder", "suspects")

    def __init__(
        self,
        udp: Iterable[UdpSocket],
        counters: CounterWriter,
        limits: AdmissionSettings,
        *,
        cookie_tags: Callable[[], tuple[bytes, ...]],
        known: KnownSources,
        node: int,
        spi_seal: SpiSeal,
    ) -> None:
        now = time.monotonic()
        self._counters = counters
        self.shedder = Shedder(udp, counters)
        self._spare_time = SpareTime()
        self._losses = 0
        self.suspects = SuspectSources(
            limits,
            limit=self.shedder.set_sources,
            cookie_tags=cookie_tags,
            known=known,
            spare=self.spare,
            secret=int.from_bytes(os.urandom(4), "big"),
            now=now,
        )
        self.dead_letters = DeadLetters(node=node, seal=spi_seal, limit=self.shedder.set_spis, now=now)

    def spare(self, now: float) -> float:
        """Which part of a core was left over since the last time, 0 to 1: none if datagrams were lost meanwhile,
        whatever the clocks say.
        """
        spare, losses = self._spare_time.take(now), self.shedder.losses()
        has_lost, self._losses = losses > self._losses, losses
        return 0.0 if has_lost else spare

    def tick(self, now: float) -> None:
        """Some time has passed, perhaps without a datagram that got in."""
        self.suspects.review(now)
        self.dead_letters.review(now)
        self.shedder.account()
        self._counters.set("suspect_sources", len(self.suspects))
        self._counters.set("workers_limiting_strangers", int(self.suspects.limits_strangers))
