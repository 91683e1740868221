"""From where peers have come that authenticated themselves: what tells a gateway's own peers from a flood.

The first request of an honest peer looks like any that is forged. But most peers of a gateway come back, and branch
offices and carriers' NATs have many behind one address. A returned cookie is not enough: any host can return one.
"""

from collections.abc import Iterable
from typing import Final

from cygnet.ike.settings import AdmissionSettings

MAX_KNOWN: Final = 512
"""Prefixes of each family that are remembered: as many as a filter in the kernel can look for."""
_IPV4_OCTETS: Final = 4


def prefix_of(address: bytes, limits: AdmissionSettings) -> bytes:
    """The prefix by which a packed address is counted. Those of the two families differ in length."""
    bits = limits.source_prefix_ipv4 if len(address) == _IPV4_OCTETS else limits.source_prefix_ipv6
    octets, rest = bits >> 3, bits & 7
    if not rest:
        return address[:octets]
    return address[:octets] + bytes((address[octets] & (0xFF00 >> rest) & 0xFF,))


class KnownSources:
    """The prefixes from which peers authenticated themselves last, of both families."""

    __slots__ = ("_bits", "_ipv4", "_ipv6")

    def __init__(self, limits: AdmissionSettings) -> None:
        self._bits = (limits.source_prefix_ipv4, limits.source_prefix_ipv6)
        self._ipv4: dict[bytes, None] = {}
        """The last one at the end."""
        self._ipv6: dict[bytes, None] = {}

    def __contains__(self, prefix: bytes) -> bool:
        return prefix in self._ipv4 or prefix in self._ipv6

    def prefixes(self, *, is_ipv6: bool) -> Iterable[bytes]:
        """Those of one family."""
        return self._ipv6 if is_ipv6 else self._ipv4

    def add(self, prefix: bytes) -> None:
        """A peer has authenticated itself from there."""
        known = self._ipv4 if len(prefix) <= _IPV4_OCTETS else self._ipv6
        known.pop(prefix, None)
        if len(known) >= MAX_KNOWN:
            del known[next(iter(known))]
        known[prefix] = None

    def configure(self, limits: AdmissionSettings) -> None:
        """Go on with prefixes of other lengths. Where they are longer, it is not known who was meant: none is."""
        bits = (limits.source_prefix_ipv4, limits.source_prefix_ipv6)
        if bits == self._bits:
            return
        self._ipv4, self._ipv6 = (
            dict.fromkeys(prefix_of(each.ljust(octets, b"\0"), limits) for each in known) if new <= old else {}
            for known, octets, new, old in zip((self._ipv4, self._ipv6), (4, 16), bits, self._bits, strict=True)
        )
        self._bits = bits
