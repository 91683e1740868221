"""Which IKE_SAs stand with which peer, for INITIAL_CONTACT (RFC 7296 section 2.4)."""

from cygnet.auth.identity import Identity


class PeerIndex:
    """From a peer's identity to our SPIs of the IKE_SAs with it. Nearly every peer has one."""

    __slots__ = ("_spis",)

    def __init__(self) -> None:
        self._spis: dict[Identity, bytes | tuple[bytes, ...]] = {}

    def add(self, identity: Identity, spi: bytes) -> None:
        """An IKE_SA with that peer is established."""
        if self._spis.setdefault(identity, spi) != spi:
            self._spis[identity] = (*self.of(identity), spi)

    def remove(self, identity: Identity, spi: bytes) -> None:
        """It is gone."""
        left = tuple(s for s in self.of(identity) if s != spi)
        if not left:
            self._spis.pop(identity, None)
        else:
            self._spis[identity] = left[0] if len(left) == 1 else left

    def of(self, identity: Identity) -> tuple[bytes, ...]:
        """Our SPIs of all IKE_SAs with that peer."""
        found = self._spis.get(identity, ())
        return (found,) if isinstance(found, bytes) else found
