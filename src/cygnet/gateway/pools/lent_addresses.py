"""Virtual addresses that go from one worker to another with their peer: a worker's side. For the supervisor's see
`lending.py`.

A peer that authenticates itself anew keeps its address (RFC 7296 section 2.8.3), also if its new IKE_SA comes to
another worker than the old one. That worker asks for the address, and whoever has an IKE_SA with that peer hands it
over; the request of the peer is held back until then. Of an address that no IKE_SA has nobody knows whose it was:
that one is not handed over.
"""

from collections.abc import Callable
from typing import Final

from cygnet.auth.identity import Identity
from cygnet.gateway.claims import RESERVED, USED, WAITING
from cygnet.gateway.control import AddressClaimed, AddressHanded, AddressReturned, AddressWanted, AnyMessage
from cygnet.gateway.pools.pools import AddressPools
from cygnet.ike.errors import AddressElsewhere
from cygnet.ike.sharded_map import ShardedMap
from cygnet.wire.payloads.configuration import ConfigurationAttribute

MAX_ASKED: Final = 64
"""Addresses that are asked for at a time. Peers that come besides get others: so many come only in a storm."""
PATIENCE_TICKS: Final = 2
"""For which an answer is awaited, and an address that nobody uses is kept."""


class _Adopted:
    """An address that another worker has handed to us, and that may have gone on to the next since."""

    __slots__ = ("has_gone_on", "idle_ticks", "is_claimed", "peer")

    def __init__(self, peer: Identity) -> None:
        self.peer = peer
        self.idle_ticks = 0
        self.is_claimed = True
        """Whether packets for it may be brought here: the supervisor has seen to that when it was handed over."""
        self.has_gone_on = False
        """Whether the next one has it, and the packets for it."""


class LentAddresses:
    """The `VirtualAddresses` of a worker that is not alone: its pools, and what it has of others'."""

    def __init__(
        self,
        pools: AddressPools,
        *,
        holds: Callable[[Identity, bytes], bool],
        send: Callable[[AnyMessage], object],
    ) -> None:
        """`holds` says whether an IKE_SA that stands with that peer has the packed address from us."""
        self._pools = pools
        self._holds = holds
        self._send = send
        self._adopted = ShardedMap[bytes, _Adopted]()
        self._idle: dict[bytes, None] = {}
        """Those of them that no IKE_SA here has: the tick looks at these alone."""
        self._away = ShardedMap[bytes, bool]()
        """Addresses of our blocks that were handed over, and whether an IKE_SA here has them still."""
        self._asked: dict[tuple[bytes, Identity], int] = {}
        """What we wait for, and for how many ticks we have."""
        self._denied: dict[tuple[bytes, Identity], int] = {}
        """What we have asked for in vain, and how many ticks ago."""

    # What the core asks.

    def acquire(self, pools: tuple[str, ...], octets: int, wanted: bytes, identity: Identity) -> bytes | None:
        """As `AddressPools.acquire`. Raises AddressElsewhere while another worker may have to hand it over."""
        if any(wanted):
            adopted = self._adopted.get(wanted)
            if adopted is not None and adopted.peer == identity and not adopted.has_gone_on:
                self._idle.pop(wanted, None)
                if not adopted.is_claimed:
                    adopted.is_claimed = True
                    self._send(AddressClaimed(wanted, WAITING))
                return wanted
            pool = self._pools.pool_of(pools, wanted)
            if pool and (wanted in self._away or not self._pools.owns(wanted)):
                self._ask(pool, wanted, identity)
        return self._pools.acquire(pools, octets, wanted, identity)

    def release(self, address: bytes) -> bool:
        """No IKE_SA here has the address any more. Whether the peer has gone on with it to another worker."""
        adopted = self._adopted.get(address)
        if adopted is not None or address in self._away:
            self._send(AddressClaimed(address, RESERVED))
        if adopted is not None:
            # It goes back a little later: the request that it is for may come again.
            adopted.is_claimed, adopted.idle_ticks = False, 0
            self._idle[address] = None
        if address in self._away:
            self._away[address] = False
            return True
        return self._pools.release(address) if adopted is None else adopted.has_gone_on

    def is_handed_over(self, address: bytes) -> bool:
        """As `VirtualAddresses.is_handed_over`."""
        return address in self._adopted

    def used(self, addresses: tuple[bytes, ...]) -> None:
        """The peer uses an IKE_SA here that has these."""
        for address in addresses:
            if address in self._adopted or self._away.get(address):
                self._send(AddressClaimed(address, USED))

    def attributes(self, pools: tuple[str, ...], addresses: tuple[bytes, ...]) -> tuple[ConfigurationAttribute, ...]:
        """As `AddressPools.attributes`."""
        return self._pools.attributes(pools, addresses)

    def _ask(self, pool: str, wanted: bytes, identity: Identity) -> None:
        """Ask for it, or wait; return if it is not to be had."""
        key = (wanted, identity)
        if key in self._denied or (key not in self._asked and len(self._asked) >= MAX_ASKED):
            return
        if key not in self._asked:
            self._asked[key] = 0
            self._send(AddressWanted(pool, wanted, (identity.id_type, identity.data)))
        raise AddressElsewhere

    # What the supervisor says.

    def on_message(self, message: AddressWanted | AddressHanded | AddressReturned) -> None:
        """It has asked for an address, answered, or given one back."""
        if isinstance(message, AddressWanted):
            self._wanted(message)
        elif isinstance(message, AddressHanded):
            self._handed(message)
        elif message.address in self._adopted:
            self._adopted[message.address].has_gone_on = False
        # Else if an IKE_SA here has it too, that goes on as if it had never been away.
        elif self._away.pop(message.address, None) is False:
            self._pools.release(message.address)

    def _wanted(self, message: AddressWanted) -> None:
        """Another worker has a peer for the address: hand it over, if it is that peer's."""
        peer, address = Identity(*message.peer), message.address
        adopted = self._adopted.get(address)
        is_held = self._holds(peer, address)
        # Its IKE_SA here may have ended a moment ago, while the peer has older ones with other workers.
        is_given = is_held or (adopted is not None and adopted.peer == peer)
        if adopted is not None:
            adopted.has_gone_on = adopted.has_gone_on or is_given
        elif is_held:
            self._away[address] = True
        self._send(AddressHanded(message.pool, address, message.peer, message.worker, is_given))

    def _handed(self, message: AddressHanded) -> None:
        """The answer to what we have asked for."""
        peer = Identity(*message.peer)
        key = (message.address, peer)
        self._asked.pop(key, None)
        if message.is_given:
            self._adopted[message.address] = _Adopted(peer)
            self._idle[message.address] = None
        else:
            self._denied[key] = 0

    def tick(self) -> None:
        """To be called about once a second."""
        for waiting in (self._asked, self._denied):
            for key in list(waiting):
                waiting[key] += 1
                if waiting[key] > PATIENCE_TICKS:
                    del waiting[key]
                    if waiting is self._asked:
                        self._denied[key] = 0
        for address in list(self._idle):
            adopted = self._adopted[address]
            adopted.idle_ticks += 1
            if adopted.idle_ticks > PATIENCE_TICKS:
                del self._adopted[address], self._idle[address]
                self._send(AddressReturned(address))
