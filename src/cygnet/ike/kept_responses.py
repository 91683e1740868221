"""The last responses of IKE_SAs that sleep, kept for as long as a peer may ask for them again.

RFC 7296 section 2.1 wants each response remembered until the next request comes, but allows "to forget a response after
a timeout of several minutes": with it an idle SA would be nearly twice as large. Responses of the same time lie end to
end in one page, which is forgotten as a whole and goes back to the system as a whole. As objects of their own they
would lie between the records that stay, and hold their memory.
"""

from typing import Final

from cygnet.ike.sharded_map import ShardedMap

KEPT_S: Final = 180.0
"""For how long a response can be had again: the 165 s for which strongSwan repeats a request, and some more."""
_PAGE_S: Final = 15.0
_LENGTH_BITS: Final = 24
_LENGTH_MASK: Final = (1 << _LENGTH_BITS) - 1


class KeptResponses:
    """Responses, by our SPI of the IKE_SA and the time of the answer."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, tuple[bytearray, ShardedMap[bytes, int]]] = {}
        """By time. Of a response its offset, and its length in the low bits."""

    def __len__(self) -> int:
        return sum(len(places) for _, places in self._pages.values())

    def put(self, spi: bytes, response: bytes, answered: float, now: float) -> None:
        """Keep a response of the time `answered`, if it is not too old for that."""
        number = int(answered / _PAGE_S)
        if not response or _expiry(number) <= now:
            return
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = (bytearray(), ShardedMap())
        octets, places = page
        places[spi] = len(octets) << _LENGTH_BITS | len(response)
        octets += response

    def look(self, spi: bytes, answered: float) -> bytes:
        """A response; empty if it is forgotten."""
        page = self._pages.get(int(answered / _PAGE_S))
        return _cut(page[0], page[1].get(spi)) if page is not None else b""

    def take(self, spi: bytes, answered: float) -> bytes:
        """The same, and keep it no longer."""
        page = self._pages.get(int(answered / _PAGE_S))
        return _cut(page[0], page[1].pop(spi, None)) if page is not None else b""

    def next_due(self) -> float | None:
        """When `forget` has something to do; None if nothing is kept."""
        return _expiry(min(self._pages)) if self._pages else None

    def forget(self, now: float) -> None:
        """Give up what nobody will ask for any more."""
        for number in [number for number in self._pages if _expiry(number) <= now]:
            del self._pages[number]


def _cut(octets: bytearray, place: int | None) -> bytes:
    if place is None:
        return b""
    start = place >> _LENGTH_BITS
    return bytes(octets[start : start + (place & _LENGTH_MASK)])


def _expiry(page: int) -> float:
    """When the youngest response that a page may hold is old enough."""
    return (page + 1) * _PAGE_S + KEPT_S
