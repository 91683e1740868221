"""Turns new peers away in the kernel, where it costs us nothing, while there are too many of them.

A socket filter looks at the header of each datagram, and drops a share of those that are first requests of new peers,
by chance. All else passes: what belongs to an IKE_SA, ESP, what is too short to tell, and requests that begin with a
Notify payload, since that is how a peer returns with its cookie (RFC 7296 section 2.6), and has been let in once
already. A peer that was turned away repeats its request, as for any datagram that is lost, and has its chance again.

The kernel counts what a filter drops together with what finds a socket's queue full. The two are told apart by the
queue: while it is less than half full, it was the filter.
"""

import errno
import logging
import socket
from collections.abc import Iterable, Mapping
from typing import Final

from cygnet.iana import ExchangeType, PayloadType
from cygnet.net.bpf import SO_ATTACH_FILTER, Instruction, Label, Op, assemble, attach
from cygnet.net.queues import ReceiveQueue, receive_queues
from cygnet.net.sockets import UdpSocket
from cygnet.observe.counters import CounterWriter
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, HEADER_OCTETS

_log = logging.getLogger(__name__)

SO_DETACH_FILTER: Final = 27
_SKF_AD_RANDOM: Final = 0xFFFFF000 + 56
"""Where a filter finds a random word (linux/filter.h)."""
_UDP_HEADER_OCTETS: Final = 8
_MARKER_OCTETS: Final = 4
_NEXT_PAYLOAD, _EXCHANGE_TYPE, _FLAGS = 16, 18, 19
_PASS: Final = 0xFFFFFFFF
_DROP: Final = 0
_WORDS: Final = 1 << 32


def _shed(kind: str) -> str:
    """The counter for a kind of socket."""
    return f'new_peers_shed_total{{socket="{kind}"}}'


def shedding_filter(share: float, *, is_natt: bool) -> bytes:
    """A socket filter that passes that `share` (0 to 1, without 1) of new peers' first requests, and all else.

    It sees the datagram from its UDP header on.
    """
    marker = _UDP_HEADER_OCTETS
    ike = marker + _MARKER_OCTETS if is_natt else marker
    is_marked = [Instruction(Op.LOAD_WORD, marker), Instruction(Op.JUMP_IF_EQUAL, 0, otherwise="pass")]
    return assemble(
        [
            Instruction(Op.LOAD_LENGTH),
            Instruction(Op.JUMP_IF_AT_LEAST, ike + HEADER_OCTETS, otherwise="pass"),
            *(is_marked if is_natt else ()),
            Instruction(Op.LOAD_WORD, ike + 8),
            Instruction(Op.JUMP_IF_EQUAL, 0, otherwise="pass"),
            Instruction(Op.LOAD_WORD, ike + 12),
            Instruction(Op.JUMP_IF_EQUAL, 0, otherwise="pass"),
            Instruction(Op.LOAD_OCTET, ike + _EXCHANGE_TYPE),
            Instruction(Op.JUMP_IF_EQUAL, ExchangeType.IKE_SA_INIT, otherwise="pass"),
            Instruction(Op.LOAD_OCTET, ike + _FLAGS),
            Instruction(Op.AND, FLAG_INITIATOR | FLAG_RESPONSE),
            Instruction(Op.JUMP_IF_EQUAL, FLAG_INITIATOR, otherwise="pass"),
            Instruction(Op.LOAD_OCTET, ike + _NEXT_PAYLOAD),
            Instruction(Op.JUMP_IF_EQUAL, PayloadType.NOTIFY, then="pass"),
            Instruction(Op.LOAD_WORD, _SKF_AD_RANDOM),
            Instruction(Op.JUMP_IF_AT_LEAST, int(share * _WORDS), otherwise="pass"),
            Instruction(Op.RETURN, _DROP),
            Label("pass"),
            Instruction(Op.RETURN, _PASS),
        ]
    )


class Shedder:
    """The filters on the UDP sockets of one worker."""

    def __init__(self, sockets: Iterable[UdpSocket], counters: CounterWriter) -> None:
        """Begin with none: a worker that died may have left some behind."""
        self._sockets = tuple(udp for udp in sockets if not udp.is_for_esp)
        self._counters = counters
        self._is_possible = True
        self._seen: dict[UdpSocket, int] = {}
        """While there are filters: the drops of each socket that are accounted for."""
        for udp in self._sockets:
            _detach(udp.socket)

    def set_share(self, share: float) -> None:
        """Let in that share of new peers from now on, 1 for all of them."""
        self.account()
        if not self._is_possible:
            return
        try:
            if share < 1:
                self._attach(share)
            else:
                self._seen.clear()
                for udp in self._sockets:
                    _detach(udp.socket)
        except OSError as exc:
            self._is_possible = False
            _log.warning("new peers can't be turned away in the kernel: %s", exc.strerror)

    def account(self) -> None:
        """Count what was turned away since the last time."""
        for udp, seen in self._seen.items():
            queue = receive_queues((udp,))[udp.kind]
            # The kernel takes twice what it is asked for: this is half of it.
            if queue.waiting_octets < udp.buffers.receive:
                self._counters.count(_shed(udp.kind), queue.drops - seen)
            self._seen[udp] = queue.drops

    def lost(self, queues: Mapping[str, ReceiveQueue]) -> dict[str, ReceiveQueue]:
        """The queues of all sockets, by kind, with only those drops that were not meant."""
        value = self._counters.value
        return {
            kind: ReceiveQueue(queue.waiting_octets, queue.drops - value(_shed(kind))) for kind, queue in queues.items()
        }

    def _attach(self, share: float) -> None:
        for udp in self._sockets:
            if udp not in self._seen:
                self._seen[udp] = receive_queues((udp,))[udp.kind].drops
            attach(udp.socket, SO_ATTACH_FILTER, shedding_filter(share, is_natt=udp.is_natt))


def _detach(opened: socket.socket) -> None:
    try:
        opened.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except OSError as exc:
        if exc.errno != errno.ENOENT:
            raise
