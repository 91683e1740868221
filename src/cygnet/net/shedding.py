"""Turns new peers away in the kernel, where it costs us nothing, while there are too many of them.

A socket filter looks at the header of each datagram, and drops a share of those that are first requests of new peers,
by chance. All else passes: what belongs to an IKE_SA, ESP, what is too short to tell, and requests that begin with a
Notify payload, since that is how a peer returns with its cookie (RFC 7296 section 2.6), and has been let in once
already. A peer that was turned away repeats its request, as for any datagram that is lost, and has its chance again.

Sources that never return a cookie (`cygnet.gateway.suspects`) have a share of their own.

The kernel counts what a filter drops together with what finds a socket's queue full. The two are told apart by the
queue: while it is less than half full, it was the filter.
"""

import errno
import logging
import socket
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from cygnet.iana import ExchangeType, PayloadType
from cygnet.net.bpf import SO_ATTACH_FILTER, Instruction, Label, Op, assemble, attach
from cygnet.net.queues import ReceiveQueue, receive_queues
from cygnet.net.sockets import UdpSocket
from cygnet.net.source_key import SourceKeys
from cygnet.observe.counters import CounterWriter
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, HEADER_OCTETS

_log = logging.getLogger(__name__)

SO_DETACH_FILTER: Final = 27
_SKF_AD_RANDOM: Final = 0xFFFFF000 + 56
"""Where a filter finds a random word (linux/filter.h)."""
_UDP_HEADER_OCTETS: Final = 8
_MARKER_OCTETS: Final = 4
_NEXT_PAYLOAD, _EXCHANGE_TYPE, _FLAGS = 16, 18, 19
_FIRST_NOTIFY_DATA: Final = HEADER_OCTETS + 8
"""Of a notify that is about no SA, and so has no SPI."""
_PASS: Final = 0xFFFFFFFF
_DROP: Final = 0
_WORDS: Final = 1 << 32
MAX_SUSPECTS: Final = 512
"""The kernel takes programs of 4096 instructions; each suspect needs up to five."""


def _shed(kind: str) -> str:
    """The counter for a kind of socket."""
    return f'new_peers_shed_total{{socket="{kind}"}}'


class Suspects(msgspec.Struct, frozen=True):
    """Sources of which only a share of first requests gets in, whatever of the others does."""

    sources: SourceKeys
    keys: tuple[int, ...]
    """Those of the suspects, in order; at most MAX_SUSPECTS."""
    share: float
    cookie_tags: tuple[bytes, ...] = ()
    """What a cookie of ours begins with: a request that brings such a one gets in."""


def shedding_filter(share: float, *, is_natt: bool, suspects: Suspects | None = None) -> bytes:
    """A socket filter that passes that `share` (0 to 1) of new peers' first requests, and all else.

    Of those that come from `suspects` it passes their share, and those that bring what looks like a cookie of ours. It
    is looked at more closely than others', since a flood can have a Notify payload first as well.

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
            Instruction(Op.JUMP_IF_EQUAL, FLAG_INITIATOR, then="new"),
            Label("pass"),
            Instruction(Op.RETURN, _PASS),
            Label("new"),
            *(_among(suspects) if suspects is not None and suspects.keys else ()),
            Label("trusted"),
            Instruction(Op.LOAD_OCTET, ike + _NEXT_PAYLOAD),
            Instruction(Op.JUMP_IF_EQUAL, PayloadType.NOTIFY, then="in"),
            *_by_chance(share),
            Label("suspect"),
            *_of_suspects(suspects, ike),
            Label("in"),
            Instruction(Op.RETURN, _PASS),
        ]
    )


def _by_chance(share: float) -> list[Instruction | Label]:
    """Pass that share of what comes here, and drop the others."""
    if share >= 1:
        return [Instruction(Op.RETURN, _PASS)]
    return [
        Instruction(Op.LOAD_WORD, _SKF_AD_RANDOM),
        Instruction(Op.JUMP_IF_AT_LEAST, int(share * _WORDS), otherwise="in"),
        Instruction(Op.RETURN, _DROP),
    ]


def _of_suspects(suspects: Suspects | None, ike: int) -> list[Instruction | Label]:
    """Pass a suspect's request with what may be a cookie of ours, and a share of the others."""
    if suspects is None:
        return []
    return [
        Instruction(Op.LOAD_OCTET, ike + _NEXT_PAYLOAD),
        Instruction(Op.JUMP_IF_EQUAL, PayloadType.NOTIFY, otherwise="by chance"),
        Instruction(Op.LOAD_WORD, ike + _FIRST_NOTIFY_DATA),
        *(Instruction(Op.JUMP_IF_EQUAL, int.from_bytes(tag, "big"), then="in") for tag in suspects.cookie_tags),
        Label("by chance"),
        *_by_chance(suspects.share),
    ]


def _among(suspects: Suspects) -> list[Instruction | Label]:
    """Go to "suspect" if the source is one of them, to "trusted" if not: a search by halves."""
    return [*suspects.sources.load(), *_search(suspects.keys, "")]


def _search(keys: tuple[int, ...], place: str) -> list[Instruction | Label]:
    """Look for A among sorted keys; `place` makes the labels different from those of other halves."""
    if len(keys) == 1:
        return [
            Instruction(Op.JUMP_IF_EQUAL, keys[0], otherwise=f"not{place}"),
            Instruction(Op.JUMP, then="suspect"),
            Label(f"not{place}"),
            Instruction(Op.JUMP, then="trusted"),
        ]
    middle = len(keys) // 2
    # A condition jumps over 255 instructions at most, which a half may exceed.
    return [
        Instruction(Op.JUMP_IF_AT_LEAST, keys[middle], otherwise=f"low{place}"),
        Instruction(Op.JUMP, then=f"high{place}"),
        Label(f"low{place}"),
        *_search(keys[:middle], f"{place}0"),
        Label(f"high{place}"),
        *_search(keys[middle:], f"{place}1"),
    ]


class Shedder:
    """The filters on the UDP sockets of one worker."""

    def __init__(self, sockets: Iterable[UdpSocket], counters: CounterWriter) -> None:
        """Begin with none: a worker that died may have left some behind."""
        self._sockets = tuple(udp for udp in sockets if not udp.is_for_esp)
        self._counters = counters
        self._is_possible = True
        self._share = 1.0
        self._suspects: dict[bool, Suspects] = {}
        """By whether it is of IPv6."""
        self._seen: dict[UdpSocket, int] = {}
        """While there are filters: the drops of each socket that are accounted for."""
        for udp in self._sockets:
            _detach(udp.socket)

    def set_share(self, share: float) -> None:
        """Let in that share of new peers from now on, 1 for all of them."""
        self._share = share
        self._apply()

    def set_suspects(self, ipv4: Suspects, ipv6: Suspects) -> None:
        """Let in only a share of those from now on. Without keys there are none."""
        self._suspects = {False: ipv4, True: ipv6}
        self._apply()

    def _apply(self) -> None:
        self.account()
        if not self._is_possible:
            return
        try:
            if self._share < 1 or any(each.keys for each in self._suspects.values()):
                self._attach()
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

    def _attach(self) -> None:
        programs: dict[tuple[bool, bool], bytes] = {}
        for udp in self._sockets:
            if udp not in self._seen:
                self._seen[udp] = receive_queues((udp,))[udp.kind].drops
            kind = (udp.is_natt, udp.is_ipv6)
            if kind not in programs:
                suspects = self._suspects.get(udp.is_ipv6)
                programs[kind] = shedding_filter(self._share, is_natt=udp.is_natt, suspects=suspects)
            attach(udp.socket, SO_ATTACH_FILTER, programs[kind])


def _detach(opened: socket.socket) -> None:
    try:
        opened.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except OSError as exc:
        if exc.errno != errno.ENOENT:
            raise
