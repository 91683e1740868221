"""Which IKE_SAs stand with which peer, for INITIAL_CONTACT (RFC 7296 section 2.4)."""

from itertools import islice
from typing import Final

from cygnet.auth.identity import Identity
from cygnet.ike.sharded_map import ShardedMap

_FEW: Final = 4
"""SPIs of one peer that are a tuple yet: there are two while an IKE_SA is rekeyed, or a peer proves itself anew."""

_Spis = bytes | tuple[bytes, ...] | ShardedMap[bytes, None]


class PeerIndex:
    """From a peer's identity to our SPIs of the IKE_SAs with it. Nearly every peer has one."""

    __slots__ = ("_spis",)

    def __init__(self) -> None:
        self._spis = ShardedMap[bytes, _Spis]()
        """By the type and the data of an identity, in one object: there are as many as SAs. One SPI, or several: those
        of a tester are all with the same peer."""

    def add(self, identity: Identity, spi: bytes) -> None:
        """An IKE_SA with that peer is established."""
        key = _key(identity)
        present = self._spis.setdefault(key, spi)
        if isinstance(present, bytes):
            if present != spi:
                self._spis[key] = (present, spi)
        elif spi in present:
            return
        elif isinstance(present, ShardedMap):
            present[spi] = None
        elif len(present) < _FEW:
            self._spis[key] = (*present, spi)
        else:
            many: ShardedMap[bytes, None] = ShardedMap()
            for each in (*present, spi):
                many[each] = None
            self._spis[key] = many

    def remove(self, identity: Identity, spi: bytes) -> None:
        """It is gone."""
        key = _key(identity)
        present = self._spis.get(key)
        if isinstance(present, bytes):
            if present == spi:
                del self._spis[key]
        elif isinstance(present, tuple):
            rest = tuple([each for each in present if each != spi])
            self._spis[key] = rest if len(rest) > 1 else rest[0]
        elif present is not None:
            present.pop(spi, None)
            # Not by looking for the first few: a dict keeps the places of those before them that are gone.
            if not present.has_more_than(_FEW):
                self._spis[key] = tuple(iter(present))

    def of(self, identity: Identity) -> tuple[bytes, ...]:
        """Our SPIs of all IKE_SAs with that peer."""
        found = self._spis.get(_key(identity)) or ()
        return (found,) if isinstance(found, bytes) else tuple(found)

    def newest(self, identity: Identity, besides: bytes) -> bytes | None:
        """Our SPI of the IKE_SA with that peer that came last, but for one; None if there is no other.

        Of more than some hundreds it is any other.
        """
        found = self._spis.get(_key(identity), besides)
        newest = (found,) if isinstance(found, bytes) else islice(reversed(found), 2)
        return next((spi for spi in newest if spi != besides), None)

    def has(self, identity: Identity) -> bool:
        """Whether there is any."""
        return _key(identity) in self._spis


def _key(identity: Identity) -> bytes:
    return identity.id_type.to_bytes(2, "big") + identity.data
