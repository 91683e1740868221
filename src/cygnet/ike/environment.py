"""What the core is given by whoever drives it: settings, secrets, addresses, randomness.

It reaches for nothing itself.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from cygnet.auth.credentials import SharedSecrets
from cygnet.auth.identity import Identity
from cygnet.auth.psk import forget_secrets
from cygnet.crypto.ke import KeyExchangeMethod, KeyPair
from cygnet.ike.connection_index import ConnectionIndex
from cygnet.ike.settings import Settings
from cygnet.ike.spi import SpiSeal, owner, worker_of_ike_spi
from cygnet.wire.payloads.configuration import ConfigurationAttribute


class Count(Protocol):
    """Adds `n` to the counter of that name."""

    def __call__(self, name: str, n: int = 1, /) -> None: ...


class VirtualAddresses(Protocol):
    """Where a responder takes virtual addresses from."""

    def acquire(self, pools: tuple[str, ...], octets: int, wanted: bytes, identity: Identity) -> bytes | None:
        """A free packed address of `octets` (4 or 16) from the first of `pools` that has one; None if none has.

        `wanted` is the address that the peer asks for, all zeros for any; it is a wish. Raises AddressAwaited if one
        may be had in a moment.
        """

    def release(self, address: bytes) -> bool:
        """No IKE_SA here has the address any more. Whether the peer has it yet, in one on another worker; else it is
        free."""

    def is_handed_over(self, address: bytes) -> bool:
        """Whether the peer had it from another worker before, where it may have an IKE_SA yet."""

    def attributes(self, pools: tuple[str, ...], addresses: tuple[bytes, ...]) -> tuple[ConfigurationAttribute, ...]:
        """What a client is told of by those of `pools` that its packed `addresses` are from, each thing once."""


class LocalAddresses(Protocol):
    """Which addresses of ours a peer may reach us at, as text."""

    def all(self) -> tuple[str, ...]:
        """All of them, of both families. The same object until they change."""

    def source_to(self, remote: str) -> str:
        """The one that packets to `remote` leave from; empty if it can't be reached now."""


class UnknownAddresses:
    """For a side that does not change its addresses."""

    def all(self) -> tuple[str, ...]:
        """None that we know of."""
        return ()

    def source_to(self, remote: str) -> str:
        """Nothing is known."""
        return ""


class NoAddresses:
    """For a side that has no pools: an initiator, or a gateway without virtual addresses."""

    def acquire(self, pools: tuple[str, ...], octets: int, wanted: bytes, identity: Identity) -> bytes | None:
        """None: there are no addresses."""
        return None

    def release(self, address: bytes) -> bool:
        """Nothing was given."""
        return False

    def is_handed_over(self, address: bytes) -> bool:
        """Nothing was given."""
        return False

    def attributes(self, pools: tuple[str, ...], addresses: tuple[bytes, ...]) -> tuple[ConfigurationAttribute, ...]:
        """Nothing to tell."""
        return ()


class InForce(msgspec.Struct, frozen=True):
    """Settings, and what was made of them."""

    settings: Settings
    """Of use is what stands in no list: connections and secrets are in the other two."""
    connections: ConnectionIndex
    secrets: SharedSecrets


class Environment:
    """The core's view of the world. One per worker."""

    __slots__ = (
        "addresses",
        "connections",
        "count",
        "entropy",
        "lag",
        "last_sent",
        "last_traffic",
        "local_addresses",
        "natt_ports",
        "new_key_pair",
        "node",
        "packets_carried",
        "secrets",
        "sends_initial_contact",
        "settings",
        "spi_seal",
        "takes_transport",
        "waiting",
        "worker",
        "workers",
    )

    def __init__(
        self,
        settings: Settings,
        *,
        entropy: Callable[[int], bytes],
        count: Count,
        addresses: VirtualAddresses | None = None,
        last_traffic: Callable[[bytes], float] = lambda spi_in: 0.0,
        last_sent: Callable[[bytes], float] = lambda spi_in: 0.0,
        packets_carried: Callable[[bytes], int | None] = lambda spi_in: None,
        local_addresses: LocalAddresses | None = None,
        natt_ports: Mapping[int, int] | None = None,
        sends_initial_contact: bool = True,
        waiting: Callable[[], int] = lambda: 0,
        lag: Callable[[float], float] = lambda now: 0.0,
        new_key_pair: Callable[[KeyExchangeMethod], KeyPair] = KeyExchangeMethod.generate,
        node: int = 1,
        worker: int = 0,
        workers: int = 1,
        spi_seal: SpiSeal | None = None,
        takes_transport: bool = False,
    ) -> None:
        self.settings = settings
        self.connections = ConnectionIndex(settings.connections)
        self.secrets = SharedSecrets(settings.secrets)
        self.entropy = entropy
        """Returns that many random octets, fit for keys."""
        self.count = count
        self.addresses: VirtualAddresses = addresses if addresses is not None else NoAddresses()
        self.last_traffic = last_traffic
        """When a packet last came in on the CHILD_SA with that inbound SPI; the same clock as `now`."""
        self.last_sent = last_sent
        """When a packet last went out on it in UDP."""
        self.packets_carried = packets_carried
        """How many packets it has carried, in both directions; None if nobody counts them."""
        self.local_addresses: LocalAddresses = local_addresses if local_addresses is not None else UnknownAddresses()
        self.natt_ports: Mapping[int, int] = natt_ports if natt_ports is not None else {500: 4500}
        """Our NAT traversal port for each of our IKE ports (RFC 7296 section 2.23)."""
        self.sends_initial_contact = sends_initial_contact
        """Tell a peer, as initiator without another IKE_SA with it, that whatever it has of us from before is void."""
        self.new_key_pair = new_key_pair
        """Our half of a key exchange that we begin as initiator: a fresh one, but for a tester that says otherwise."""
        self.waiting = waiting
        """How many datagrams of new peers wait to be handed to us."""
        self.lag = lag
        """For how long the datagram that is handed to us next, of those for SAs that stand, has waited at that time."""
        self.node = node
        self.worker = worker
        self.workers = workers
        self.spi_seal = spi_seal
        """What our IKE SPIs are known by; None where nobody looks for it."""
        self.takes_transport = takes_transport
        """Whether the data plane carries transport mode, and the host brings it the packets."""

    def configure(self, new: Settings | InForce) -> None:
        """Go on with other settings. SAs that stand keep the connection that they were made with.

        With what was made of them before, it takes no time, however many connections there are.
        """
        if isinstance(new, Settings):
            connections = ConnectionIndex(new.connections, before=self.connections)
            new = InForce(new, connections, SharedSecrets(new.secrets))
        self.settings = new.settings
        self.connections = new.connections
        if new.secrets is not self.secrets:
            self.secrets = new.secrets
            forget_secrets()

    def owns(self, spi: bytes) -> bool:
        """Whether datagrams for an IKE SPI, of an SA that we have or not, are to come to this worker."""
        return owner(worker_of_ike_spi(spi), self.workers) == owner(self.worker, self.workers)
