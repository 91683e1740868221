"""One word for where a datagram comes from: by it a filter in the kernel and we tell the same prefixes apart.

Of an IPv4 address it is the prefix itself. The first 64 bits of an IPv6 address, which is as much of it as one
subscriber has (RFC 6177), are folded with a secret, so that nobody can look for a prefix that is taken for another's.
"""

import struct
from typing import Final

from cygnet.net.bpf import Instruction, Op

_SKF_NET_OFF: Final = 0xFFF00000
"""Added to an offset: from the IP header on (linux/filter.h)."""
_IPV4_SOURCE, _IPV6_SOURCE = 12, 8
_IPV4_BITS: Final = 32
_WORD: Final = 0xFFFFFFFF
_TWO_WORDS: Final = struct.Struct("!II")


class SourceKeys:
    """Makes keys of the addresses of one family, by the first `bits` of each; of IPv6 by 64 at most."""

    __slots__ = ("_first_mask", "_is_ipv6", "_second_mask", "_secret")

    def __init__(self, *, is_ipv6: bool, bits: int, secret: int) -> None:
        """`secret`: any number, the same for as long as keys are compared."""
        self._is_ipv6 = is_ipv6
        self._first_mask = _mask(bits)
        self._second_mask = _mask(bits - _IPV4_BITS)
        self._secret = (secret | 1) & _WORD

    def key(self, address: bytes) -> int:
        """Of a packed address."""
        if not self._is_ipv6:
            return int.from_bytes(address, "big") & self._first_mask
        first: int
        second: int
        first, second = _TWO_WORDS.unpack_from(address)
        return ((first & self._first_mask) * self._secret & _WORD) ^ (second & self._second_mask)

    def load(self) -> list[Instruction]:
        """Instructions that leave the key of a datagram's source in A. They change X."""
        if not self._is_ipv6:
            return [
                Instruction(Op.LOAD_WORD, _SKF_NET_OFF + _IPV4_SOURCE),
                Instruction(Op.AND, self._first_mask),
            ]
        return [
            Instruction(Op.LOAD_WORD, _SKF_NET_OFF + _IPV6_SOURCE),
            Instruction(Op.AND, self._first_mask),
            Instruction(Op.MULTIPLY, self._secret),
            Instruction(Op.TO_X),
            Instruction(Op.LOAD_WORD, _SKF_NET_OFF + _IPV6_SOURCE + 4),
            Instruction(Op.AND, self._second_mask),
            Instruction(Op.XOR_X),
        ]


def _mask(bits: int) -> int:
    """A word with the first `bits` set: none of them below 0, all above 32."""
    return _WORD << _IPV4_BITS - max(0, min(bits, _IPV4_BITS)) & _WORD
