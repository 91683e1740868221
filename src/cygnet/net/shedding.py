"""Turns datagrams away in the kernel, where it costs us nothing, while there are too many of them.

The filters say which ones (`cygnet.net.shedding_filter`); here they are put on a worker's sockets, and taken off as
soon as none is needed. A peer that was turned away repeats its request, as for any datagram that is lost, and has its
chance again.

The kernel counts what a filter drops together with what finds a socket's queue full. While the queue is less than half
full, it was the filter. Else at most as much was lost as found a queue full, anywhere in our network namespace: that is
counted apart, but for all sockets together.
"""

import errno
import logging
import math
import socket
from collections.abc import Iterable, Mapping
from typing import Final

from cygnet.net.bpf import SO_ATTACH_FILTER, attach
from cygnet.net.queues import ReceiveQueue, receive_queues
from cygnet.net.shedding_filter import MAX_BARRED, MAX_SUSPECTS, MAX_TRUSTED, Sources, SpiRules, shedding_filter
from cygnet.net.sockets import UdpSocket
from cygnet.observe.counters import CounterWriter
from cygnet.observe.system import udp_queue_overflows

_log = logging.getLogger(__name__)

SO_DETACH_FILTER: Final = 27
_NEW_PEERS: Final = "new_peers_shed_total"
_STRAYS: Final = "strays_shed_total"
_MOST: Final = max(MAX_SUSPECTS, MAX_TRUSTED, MAX_BARRED)
_LEAST: Final = 8


def is_notable(wanted: float, share: float, factor: float) -> bool:
    """Whether the kernel is to be told that another share is wanted than the one that it lets in: it differs by that
    factor, or all are wanted again. Filters take half a millisecond to make and to put in place, large ones five."""
    return wanted != share and (wanted == 1.0 or not 1 / factor < wanted / share < factor)


class Shedder:
    """The filters on the UDP sockets of one worker."""

    def __init__(self, sockets: Iterable[UdpSocket], counters: CounterWriter) -> None:
        """Begin with none: a worker that died may have left some behind."""
        self._sockets = tuple(udp for udp in sockets if not udp.is_for_esp)
        self._counters = counters
        self._is_possible = True
        self._most = _MOST
        """As many suspects, and so on, as the kernel takes."""
        self._share = 1.0
        self._sources: dict[bool, Sources] = {}
        """By whether they are of IPv6."""
        self._spis: SpiRules | None = None
        self._counted_as = _NEW_PEERS
        """What the filters keep out now. Where they keep both out, the kernel doesn't tell which it was."""
        self._attached: dict[tuple[bool, bool], tuple[float, Sources | None, SpiRules | None]] = {}
        """By what the filters were made, for each kind of socket."""
        self._seen: dict[UdpSocket, int] = {}
        """While there are filters: the drops of each socket that are accounted for."""
        self._overflows = 0.0
        """Those of full queues that are accounted for."""
        for udp in self._sockets:
            _detach(udp.socket)

    def set_share(self, share: float) -> None:
        """Let in that share of new peers from now on, 1 for all of them."""
        self._share = share
        self._apply()

    def set_sources(self, ipv4: Sources, ipv6: Sources) -> None:
        """Let in no more than a share of some of them from now on."""
        self._sources = {False: ipv4, True: ipv6}
        self._apply()

    def set_spis(self, rules: SpiRules | None) -> None:
        """Let in only what is for these SPIs from now on; with None whatever is for any."""
        self._spis = rules
        self._apply()

    def _apply(self) -> None:
        self.account()
        if not self._is_possible:
            return
        try:
            limits_new_peers = self._share < 1 or any(each.is_needed for each in self._sources.values())
            if limits_new_peers or self._spis is not None:
                self._attach()
                self._counted_as = _NEW_PEERS if limits_new_peers else _STRAYS
            else:
                self._seen.clear()
                self._attached.clear()
                for udp in self._sockets:
                    _detach(udp.socket)
        except OSError as exc:
            self._is_possible = False
            _log.warning("nothing can be turned away in the kernel: %s", exc.strerror)

    def account(self) -> None:
        """Count what was turned away since the last time."""
        if not self._seen:
            return
        overflows = _overflows()
        lost = overflows - self._overflows if overflows < math.inf else overflows
        self._overflows = overflows
        for udp, seen in self._seen.items():
            queue = receive_queues((udp,))[udp.kind]
            shed = queue.drops - seen
            # The kernel takes twice what it is asked for: this is half of it.
            if queue.waiting_octets >= udp.buffers.receive:
                shed -= int(min(shed, lost))
            self._counters.count(f'{self._counted_as}{{socket="{udp.kind}"}}', shed)
            self._seen[udp] = queue.drops

    def lost(self, queues: Mapping[str, ReceiveQueue]) -> dict[str, ReceiveQueue]:
        """The queues of all sockets, by kind, with only those drops that were not meant."""
        value = self._counters.value
        return {
            kind: ReceiveQueue(
                queue.waiting_octets,
                queue.drops - sum(value(f'{family}{{socket="{kind}"}}') for family in (_NEW_PEERS, _STRAYS)),
            )
            for kind, queue in queues.items()
        }

    def losses(self) -> int:
        """How many datagrams for these sockets found a queue full so far."""
        self.account()
        return sum(queue.drops for queue in self.lost(receive_queues(self._sockets)).values())

    def _attach(self) -> None:
        """Put filters on the sockets, as large as they may be."""
        if not self._seen:
            self._overflows = _overflows()
        for udp in self._sockets:
            if udp not in self._seen:
                self._seen[udp] = receive_queues((udp,))[udp.kind].drops
        while True:
            try:
                self._attach_at_most(self._most)
            except OSError as exc:
                # A filter counts as memory of the socket, next to the one whose place it takes: net.core.optmem_max,
                # which was 20 KiB before Linux 6.7.
                if exc.errno != errno.ENOMEM or self._most < _LEAST:
                    raise
                self._most //= 2
                _log.info("the filters of sockets tell apart %d of a kind: net.core.optmem_max is small", self._most)
            else:
                return

    def _attach_at_most(self, n: int) -> None:
        spis = self._spis.at_most(n) if self._spis is not None else None
        attached, self._attached = self._attached, {}
        rules: dict[tuple[bool, bool], tuple[float, Sources | None, SpiRules | None]] = {}
        programs: dict[tuple[bool, bool], bytes] = {}
        for udp in self._sockets:
            kind = (udp.is_natt, udp.is_ipv6)
            if kind not in rules:
                sources = self._sources.get(udp.is_ipv6)
                rules[kind] = (self._share, sources.at_most(n) if sources is not None else None, spis)
            # A large one takes five milliseconds to make: those of the other family often stay as they are.
            if rules[kind] == attached.get(kind):
                continue
            if kind not in programs:
                share, sources, _ = rules[kind]
                programs[kind] = shedding_filter(share, is_natt=udp.is_natt, sources=sources, spis=spis)
            attach(udp.socket, SO_ATTACH_FILTER, programs[kind])
        self._attached = rules


def _overflows() -> float:
    """Infinitely many where nobody counts them: what may be a loss is taken for one then."""
    try:
        return udp_queue_overflows()
    except (OSError, KeyError):  # a sandbox without these files
        return math.inf


def _detach(opened: socket.socket) -> None:
    try:
        opened.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except OSError as exc:
        if exc.errno != errno.ENOENT:
            raise
