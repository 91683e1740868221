"""Word of peers that have no other IKE_SA, for the other workers: gathered for a turn of the loop.

Every handshake of a fleet says INITIAL_CONTACT (RFC 7296 section 2.4). A message for each would cost as much as a
tenth of what the handshake computes, here, in the supervisor, and in every other worker.
"""

from collections.abc import Callable
from typing import Final

from cygnet.auth.identity import Identity
from cygnet.gateway.control import AnyMessage, LonelyPeer, PeersAreAlone
from cygnet.ike.effects import Demand, InitialContact
from cygnet.net.driver import Driver

MAX_OCTETS: Final = 32768
"""Of identities in a message; a channel takes twice that."""


class LonelyPeers:
    """Those that nobody else has heard of yet."""

    __slots__ = ("_again", "_octets", "_peers", "_send")

    def __init__(self, send: Callable[[AnyMessage], object], again: Callable[[Callable[[], None]], object]) -> None:
        """`again(run)` has `run` called in the loop's next turn."""
        self._send = send
        self._again = again
        self._peers: list[LonelyPeer] = []
        self._octets = 0

    def add(self, effect: InitialContact) -> None:
        """One more."""
        local, remote = effect.local_id, effect.remote_id
        octets = len(local.data) + len(remote.data)
        if self._octets + octets > MAX_OCTETS:
            self._tell()
        if not self._peers:
            self._again(self._tell)
        ids = (local.id_type, local.data), (remote.id_type, remote.data)
        self._peers.append(LonelyPeer(effect.sa, *ids, int(effect.demand), effect.remote, effect.begun))
        self._octets += octets

    def _tell(self) -> None:
        if self._peers:
            self._send(PeersAreAlone(tuple(self._peers)))
            self._peers.clear()
            self._octets = 0


def obey(message: PeersAreAlone, driver: Driver) -> None:
    """Other workers have said that: do what they ask of the IKE_SAs here."""
    for peer in message.peers:
        effects = driver.table.drop_peer(
            Identity(*peer.remote_id),
            peer.sa,
            driver.clock(),
            local_id=Identity(*peer.local_id),
            demand=Demand(peer.demand),
            remote=peer.remote,
            begun=peer.begun,
        )
        driver.carry_out(effects)
