"""The program that a socket runs in the kernel on each datagram, to turn away what would only cost us.

It looks at the header, and knows three kinds of datagrams:

* First requests of new peers. Of those that come from suspects a share gets in, of those that come from strangers
  another, and of all that are left a third (`cygnet.gateway.overload.suspects`, `cygnet.gateway.overload.newcomers`).
  Which ones is left to chance. Suspects and strangers get in with what may be a cookie of ours, and all others with
  whatever begins with a Notify payload, since that is how a peer returns with its cookie (RFC 7296 section 2.6).
* What names an SPI of ours. If rules for SPIs are set, those without our seal (`cygnet.ike.spi`) and those that are
  barred stay out (`cygnet.gateway.overload.dead_letters`).
* All else passes: ESP, and what is too short to tell.

Classic BPF has neither loops nor tables. To look something up is to search by halves in a tree of comparisons, two
instructions for each key, and the kernel takes 4096 instructions in all.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from cygnet.iana import ExchangeType, PayloadType
from cygnet.ike.known_sources import MAX_KNOWN
from cygnet.ike.spi import SpiSeal
from cygnet.net.bpf import Instruction, Label, Op, assemble
from cygnet.net.source_key import SourceKeys
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, HEADER_OCTETS

MAX_SUSPECTS: Final = 512
MAX_TRUSTED: Final = MAX_KNOWN
MAX_BARRED: Final = 512
"""With as many of each the program has 3,200 instructions."""

_SKF_AD_RANDOM: Final = 0xFFFFF000 + 56
"""Where a filter finds a random word (linux/filter.h)."""
_UDP_HEADER_OCTETS: Final = 8
_MARKER_OCTETS: Final = 4
_SPI_I, _SPI_R, _NEXT_PAYLOAD, _EXCHANGE_TYPE, _FLAGS = 0, 8, 16, 18, 19
_FIRST_NOTIFY_DATA: Final = HEADER_OCTETS + 8
"""Of a notify that is about no SA, and so has no SPI."""
_PASS: Final = 0xFFFFFFFF
_DROP: Final = 0
_WORDS: Final = 1 << 32
_NODE_AND_SEAL: Final = 0xFF00FFFF
"""Of the first word of an IKE SPI; the worker that is between them has been seen to by steering."""
_BLOCK: Final = 100
"""Keys that are searched with short jumps: they reach over 255 instructions."""
_SPI_WORDS: Final = (0, 1)
"""Places in the filter's memory."""

Source = list[Instruction | Label]


class Sources(msgspec.Struct, frozen=True):
    """Whose first requests get in, by the prefix that they come from."""

    keys: SourceKeys
    suspects: tuple[int, ...] = ()
    """Keys of those that never return a cookie; at most MAX_SUSPECTS."""
    suspects_share: float = 1.0
    """Which part of their requests gets in, 0 to 1."""
    trusted: tuple[int, ...] = ()
    """Keys of those that are no strangers; at most MAX_TRUSTED. Without meaning while all strangers get in."""
    strangers_share: float = 1.0
    """Which part of the requests of those gets in that are neither."""
    cookie_tags: tuple[bytes, ...] = ()
    """What a cookie of ours begins with: a request that brings such a one gets in."""

    @property
    def is_needed(self) -> bool:
        """Whether any of this keeps somebody out."""
        return bool(self.suspects) or self.strangers_share < 1

    def at_most(self, n: int) -> "Sources":
        """The same with no more suspects and trusted ones than that."""
        return msgspec.structs.replace(self, suspects=self.suspects[:n], trusted=self.trusted[:n])


class SpiRules(msgspec.Struct, frozen=True):
    """Which SPIs of ours get in: those with our seal that are not barred."""

    node: int
    seal: SpiSeal
    barred: tuple[int, ...] = ()
    """The last words of SPIs for which nothing is to come; at most MAX_BARRED."""
    sample: float = 0.0
    """Which part of what stays out gets in all the same, so that it is seen what comes."""

    def at_most(self, n: int) -> "SpiRules":
        """The same with no more that are barred than that."""
        return msgspec.structs.replace(self, barred=self.barred[:n])


def shedding_filter(
    share: float, *, is_natt: bool, sources: Sources | None = None, spis: SpiRules | None = None
) -> bytes:
    """A socket filter that passes that `share` (0 to 1) of new peers' first requests, less of some `sources`, what is
    for `spis` that may be ours, and all else. It sees the datagram from its UDP header on.
    """
    marker = _UDP_HEADER_OCTETS
    ike = marker + _MARKER_OCTETS if is_natt else marker
    is_marked = [Instruction(Op.LOAD_WORD, marker), Instruction(Op.JUMP_IF_EQUAL, 0, otherwise="pass")]
    return assemble(
        [
            Instruction(Op.LOAD_LENGTH),
            Instruction(Op.JUMP_IF_AT_LEAST, ike + HEADER_OCTETS, otherwise="pass"),
            *(is_marked if is_natt else ()),
            Instruction(Op.LOAD_OCTET, ike + _FLAGS),
            Instruction(Op.JUMP_IF_ANY_BIT, FLAG_INITIATOR, otherwise="for an initiator"),
            Instruction(Op.LOAD_WORD, ike + _SPI_R),
            Instruction(Op.JUMP_IF_EQUAL, 0, otherwise="for a responder"),
            Instruction(Op.LOAD_WORD, ike + _SPI_R + 4),
            Instruction(Op.JUMP_IF_EQUAL, 0, otherwise="for a responder"),
            Instruction(Op.LOAD_OCTET, ike + _EXCHANGE_TYPE),
            Instruction(Op.JUMP_IF_EQUAL, ExchangeType.IKE_SA_INIT, otherwise="for nobody"),
            Instruction(Op.LOAD_OCTET, ike + _FLAGS),
            Instruction(Op.AND, FLAG_INITIATOR | FLAG_RESPONSE),
            Instruction(Op.JUMP_IF_EQUAL, FLAG_INITIATOR, otherwise="for nobody"),
            Instruction(Op.JUMP, then="new"),
            Label("pass"),
            Instruction(Op.RETURN, _PASS),
            *(_by_spi(spis, ike) if spis is not None else _whatever_the_spi()),
            Label("new"),
            *_by_source(share, sources if sources is not None and sources.is_needed else None, ike),
        ]
    )


def _whatever_the_spi() -> Source:
    return [
        Label("for an initiator"),
        Label("for a responder"),
        Label("for nobody"),
        Instruction(Op.RETURN, _PASS),
    ]


def _by_spi(spis: SpiRules, ike: int) -> Source:
    """Pass what may be for an SPI of ours."""
    first, second = _SPI_WORDS
    seal = spis.seal
    fold_15, fold_13 = (
        [Instruction(Op.TO_X), Instruction(Op.SHIFT_RIGHT, bits), Instruction(Op.XOR_X)] for bits in (15, 13)
    )
    return [
        Label("for nobody"),
        Instruction(Op.JUMP, then="out"),
        Label("for an initiator"),
        Instruction(Op.LOAD_WORD, ike + _SPI_I),
        Instruction(Op.STORE, first),
        Instruction(Op.LOAD_WORD, ike + _SPI_I + 4),
        Instruction(Op.JUMP, then="check"),
        Label("for a responder"),
        Instruction(Op.LOAD_WORD, ike + _SPI_R),
        Instruction(Op.STORE, first),
        Instruction(Op.LOAD_WORD, ike + _SPI_R + 4),
        Label("check"),
        Instruction(Op.STORE, second),
        Instruction(Op.XOR, seal.mask_1),
        Instruction(Op.MULTIPLY, seal.factor_1),
        *fold_15,
        Instruction(Op.XOR, seal.mask_2),
        Instruction(Op.MULTIPLY, seal.factor_2),
        *fold_13,
        Instruction(Op.MULTIPLY, seal.factor_1),
        Instruction(Op.SHIFT_RIGHT, 16),
        Instruction(Op.TO_X),
        Instruction(Op.LOAD_STORED, first),
        Instruction(Op.AND, _NODE_AND_SEAL),
        Instruction(Op.XOR_X),
        Instruction(Op.JUMP_IF_EQUAL, spis.node << 24, then="sealed"),
        Instruction(Op.JUMP, then="out"),
        Label("sealed"),
        Instruction(Op.LOAD_STORED, second),
        *_search([(key, "out") for key in spis.barred], "ours", "barred search"),
        Label("out"),
        *_by_chance(spis.sample, otherwise="ours"),
        Label("ours"),
        Instruction(Op.RETURN, _PASS),
    ]


def _by_source(share: float, sources: Sources | None, ike: int) -> Source:
    """Pass some of the first requests."""
    in_line = [
        Label("in line"),
        Instruction(Op.LOAD_OCTET, ike + _NEXT_PAYLOAD),
        Instruction(Op.JUMP_IF_EQUAL, PayloadType.NOTIFY, then="in"),
        *_by_chance(share),
    ]
    if sources is None:
        return [*in_line, Label("in"), Instruction(Op.RETURN, _PASS)]
    is_for_all = sources.strangers_share >= 1
    known = [(key, "suspect") for key in sources.suspects]
    if not is_for_all:
        known += [(key, "in line") for key in set(sources.trusted).difference(sources.suspects)]
    return [
        *sources.keys.load(),
        *_search(sorted(known), "in line" if is_for_all else "stranger", "source search"),
        *in_line,
        Label("stranger"),
        *_with_cookie(sources, "stranger", ike),
        *_by_chance(min(share, sources.strangers_share)),
        Label("suspect"),
        *_with_cookie(sources, "suspect", ike),
        *_by_chance(sources.suspects_share),
        Label("in"),
        Instruction(Op.RETURN, _PASS),
    ]


def _with_cookie(sources: Sources, whose: str, ike: int) -> Source:
    """Pass a request with what may be a cookie of ours."""
    return [
        Instruction(Op.LOAD_OCTET, ike + _NEXT_PAYLOAD),
        Instruction(Op.JUMP_IF_EQUAL, PayloadType.NOTIFY, otherwise=f"{whose} without a cookie"),
        Instruction(Op.LOAD_WORD, ike + _FIRST_NOTIFY_DATA),
        *(Instruction(Op.JUMP_IF_EQUAL, int.from_bytes(tag, "big"), then="in") for tag in sources.cookie_tags),
        Label(f"{whose} without a cookie"),
    ]


def _by_chance(share: float, otherwise: str = "in") -> Source:
    """Pass that share of what comes here, by way of the label `otherwise`, and drop the others."""
    if share >= 1:
        return [Instruction(Op.RETURN, _PASS)]
    return [
        Instruction(Op.LOAD_WORD, _SKF_AD_RANDOM),
        Instruction(Op.JUMP_IF_AT_LEAST, int(share * _WORDS), otherwise=otherwise),
        Instruction(Op.RETURN, _DROP),
    ]


def _search(entries: Sequence[tuple[int, str]], otherwise: str, place: str) -> Source:
    """Look for A among sorted keys, and go where each says; `place` makes the labels different from those of others."""
    if not entries:
        return [Instruction(Op.JUMP, then=otherwise)]
    if len(entries) > _BLOCK:
        middle = len(entries) // 2
        return [
            Instruction(Op.JUMP_IF_AT_LEAST, entries[middle][0], otherwise=f"{place}0"),
            Instruction(Op.JUMP, then=f"{place}1"),
            Label(f"{place}0"),
            *_search(entries[:middle], otherwise, f"{place}0"),
            Label(f"{place}1"),
            *_search(entries[middle:], otherwise, f"{place}1"),
        ]
    # A condition reaches over 255 instructions, and what is found may be farther: from here on by an unconditional one.
    exits: Source = []
    for target in sorted({otherwise, *(target for _, target in entries)}):
        exits += [Label(f"{place} {target}"), Instruction(Op.JUMP, then=target)]
    return [*_search_block(entries, place, f"{place} {otherwise}", place), *exits]


def _search_block(entries: Sequence[tuple[int, str]], exit_to: str, otherwise: str, place: str) -> Source:
    if len(entries) == 1:
        key, target = entries[0]
        return [Instruction(Op.JUMP_IF_EQUAL, key, then=f"{exit_to} {target}", otherwise=otherwise)]
    middle = len(entries) // 2
    return [
        Instruction(Op.JUMP_IF_AT_LEAST, entries[middle][0], then=f"{place}1"),
        *_search_block(entries[:middle], exit_to, otherwise, f"{place}0"),
        Label(f"{place}1"),
        *_search_block(entries[middle:], exit_to, otherwise, f"{place}1"),
    ]
