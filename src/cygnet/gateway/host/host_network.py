"""What the host's network is to have for a worker's tunnels: routes to what is behind peers, and virtual addresses;
and for transport mode, the diversion of what the host itself sends to peers.

The worker has no privileges for either: it asks the supervisor.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Final, Generic, TypeVar

from cygnet.dataplane.inner import Flow
from cygnet.gateway.claims import RESERVED, USED, WAITING, Claim
from cygnet.gateway.control import (
    AddAddress,
    AddDiversion,
    AddRoute,
    AnyMessage,
    DelAddress,
    DelDiversion,
    DelRoute,
    Diversion,
)
from cygnet.gateway.host.diversions import diversions_of
from cygnet.ike.effects import InstallChild, SaEstablished
from cygnet.ike.spi import unique_id
from cygnet.observe.log_groups import group_logger
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

_log = group_logger("knl")

MAX_PREFIXES: Final = 160
"""Of one CHILD_SA: its selectors are from our configuration, narrowed by the peer, and a range can be many prefixes.
All of IPv6 but the peer's address is 128."""

IsPooled = Callable[[int, int, int], bool]
"""Whether a range of addresses, as octets and numbers, lies within one pool, whose blocks are routed already."""


Key = TypeVar("Key", bound=Hashable)


class _Wanted(Generic[Key]):
    """Prefixes, or diversions, that holders here want. The supervisor is told of the first and the last with a claim.

    Holders are CHILD_SAs, by our SPI, and traps.
    """

    __slots__ = ("_add", "_discard", "_held", "_holders")

    def __init__(self, add: Callable[[Key, Claim, bytes], object], discard: Callable[[Key, Claim], object]) -> None:
        self._add = add
        self._discard = discard
        self._held: dict[bytes, tuple[Claim, tuple[Key, ...]]] = {}
        self._holders: Counter[tuple[Key, Claim]] = Counter()

    def hold(self, holder: bytes, keys: tuple[Key, ...], claim: Claim, sa: bytes = b"") -> bool:
        """It wants these too; `sa` is the IKE_SA that it belongs to. True if one of them is new to all here."""
        had = self._held[holder][1] if holder in self._held else ()
        new = tuple(key for key in keys if key not in had)
        is_first = any(not any((key, each) in self._holders for each in Claim) for key in new)
        if new:
            self._held[holder] = claim, (*had, *new)
            self._count(new, claim, sa)
        return is_first

    def use(self, holder: bytes, sa: bytes) -> None:
        """What waited does so no longer."""
        claim, keys = self._held.get(holder, (USED, ()))
        if claim is WAITING:
            self._held[holder] = USED, keys
            self._count(keys, USED, sa)
            self._discount(keys, WAITING)

    def release(self, holder: bytes) -> None:
        """It wants nothing any more."""
        claim, keys = self._held.pop(holder, (USED, ()))
        self._discount(keys, claim)

    def _count(self, keys: tuple[Key, ...], claim: Claim, sa: bytes) -> None:
        for key in keys:
            self._holders[key, claim] += 1
            if self._holders[key, claim] == 1:
                self._add(key, claim, sa)

    def _discount(self, keys: tuple[Key, ...], claim: Claim) -> None:
        for key in keys:
            self._holders[key, claim] -= 1
            if not self._holders[key, claim]:
                del self._holders[key, claim]
                self._discard(key, claim)


class HostNetwork:
    """Routes and addresses, with who wants them: the kernel has them as long as anybody does."""

    __slots__ = (
        "_addresses",
        "_diverted",
        "_held",
        "_is_pooled",
        "_name_of",
        "_newest",
        "_routed",
        "_send",
        "_settle",
    )

    def __init__(
        self,
        send: Callable[[AnyMessage], object],
        is_pooled: IsPooled,
        name_of: Callable[[bytes], str] = lambda spi: "",
        settle: Callable[[bytes], object] = lambda spi_in: None,
    ) -> None:
        """`send` takes messages to the supervisor; `name_of` tells the connection of an IKE_SA, by its SPI. `settle` is
        called when something was asked for that a CHILD_SA needs, with our SPI.
        """
        self._settle = settle
        self._name_of = name_of
        self._send = send
        self._is_pooled = is_pooled
        self._routed: _Wanted[str] = _Wanted(
            lambda prefix, claim, sa: send(AddRoute(prefix, claim, self._about(sa))),
            lambda prefix, claim: send(DelRoute(prefix, claim)),
        )
        self._diverted: _Wanted[Diversion] = _Wanted(
            lambda diversion, claim, sa: send(AddDiversion(diversion, claim, self._about(sa))),
            lambda diversion, claim: send(DelDiversion(diversion, claim)),
        )
        # The virtual addresses that are ours, by the SAs that hold them, IKE_SAs and CHILD_SAs; and how many hold each.
        # CHILD_SAs outlive the IKE_SA that is replaced by its successor.
        self._held: dict[bytes, tuple[str, ...]] = {}
        self._addresses: Counter[str] = Counter()
        self._newest: InstallChild | None = None

    def child_installed(self, child: InstallChild) -> None:
        """A tunnel is there, or transport mode."""
        if child.carriage.is_transport:
            diversions = diversions_of(child.ts_local, child.ts_remote)
            if self._diverted.hold(child.spi_in, diversions, _claim_of(child), child.sa):
                self._settle(child.spi_in)
            return
        self._newest = child
        addresses = self._own_addresses(child) if self._addresses else ()
        self._hold(child.spi_in, addresses, child.sa)
        if self._route(child, is_client=bool(addresses)):
            self._settle(child.spi_in)

    def child_used(self, spi_in: bytes, sa: bytes) -> None:
        """One that was installed to yield does so no longer; `sa` is its IKE_SA."""
        self._routed.use(spi_in, sa)
        self._diverted.use(spi_in, sa)

    def child_removed(self, spi_in: bytes) -> None:
        """It is gone."""
        self._let_go(spi_in)
        self._routed.release(spi_in)
        self._diverted.release(spi_in)

    def trap_installed(self, key: bytes, peer: str, remote: tuple[TrafficSelector, ...], *, is_client: bool) -> None:
        """Packets for what is behind a peer are wanted, with a tunnel or without."""
        self._routed.hold(key, prefixes_behind(peer, remote, self._is_pooled, is_client=is_client), RESERVED)

    def transport_trap_installed(
        self, key: bytes, local: tuple[TrafficSelector, ...], remote: tuple[TrafficSelector, ...]
    ) -> None:
        """The host's own packets to a peer are wanted, with a CHILD_SA or without."""
        self._diverted.hold(key, diversions_of(local, remote), RESERVED)

    def trap_removed(self, key: bytes) -> None:
        """They are wanted no longer."""
        self._routed.release(key)
        self._diverted.release(key)

    def key_of(self, child: InstallChild, flow: Flow) -> str | Diversion:
        """What has the kernel bring packets like this one, which a CHILD_SA was for that is gone."""
        if child.carriage.is_transport:
            # Which of them does not matter: all go where the next CHILD_SA with them is.
            return next(iter(diversions_of(child.ts_local, child.ts_remote)), "")
        destination = ipaddress.ip_address(flow.destination)
        prefixes = prefixes_to_route(child, self._is_pooled)
        whole = f"{destination}/{destination.max_prefixlen}"
        return next((prefix for prefix in prefixes if destination in ipaddress.ip_network(prefix)), whole)

    def sa_established(self, effect: SaEstablished) -> None:
        """An IKE_SA stands. Where we are the client, the addresses that its peer gave are this host's."""
        child, self._newest = self._newest, None
        if not effect.is_initiator or not effect.virtual_ips:
            return
        addresses = tuple(str(ipaddress.ip_address(address)) for address in effect.virtual_ips)
        self._hold(effect.sa, addresses, effect.sa)
        if child is not None and child.sa == effect.sa:
            # The first CHILD_SA comes before the IKE_SA that it belongs to is known to be a client's.
            self._hold(child.spi_in, self._own_addresses(child), child.sa)
            self._route(child, is_client=True)
            self._settle(child.spi_in)

    def sa_rekeyed(self, old: bytes, sa: bytes) -> None:
        """An IKE_SA has a successor, and what it was given is the successor's."""
        addresses = self._held.pop(old, None)
        if addresses is not None:
            self._held[sa] = addresses

    def sa_closed(self, sa: bytes) -> None:
        """An IKE_SA has ended."""
        self._let_go(sa)

    def _about(self, sa: bytes) -> tuple[str, int]:
        """What the supervisor is to say of an IKE_SA when something fails."""
        name = self._name_of(sa) if sa else ""
        return (name, unique_id(sa)) if name else ("", 0)

    def _own_addresses(self, child: InstallChild) -> tuple[str, ...]:
        """Those of our virtual addresses that a CHILD_SA is for."""
        single = (str(ipaddress.ip_address(ts.start)) for ts in child.ts_local if ts.start == ts.end)
        return tuple(dict.fromkeys(address for address in single if address in self._addresses))

    def _hold(self, holder: bytes, addresses: tuple[str, ...], sa: bytes) -> None:
        if not addresses:
            return
        self._let_go(holder)
        self._held[holder] = addresses
        for address in addresses:
            self._addresses[address] += 1
            if self._addresses[address] == 1:
                self._send(AddAddress(address, self._about(sa)))

    def _let_go(self, holder: bytes) -> None:
        for address in self._held.pop(holder, ()):
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
                self._send(DelAddress(address))

    def _route(self, child: InstallChild, *, is_client: bool) -> bool:
        prefixes = prefixes_to_route(child, self._is_pooled, is_client=is_client)
        return self._routed.hold(child.spi_in, prefixes, _claim_of(child), child.sa)


def _claim_of(child: InstallChild) -> Claim:
    return WAITING if child.yields else USED


def prefixes_to_route(child: InstallChild, is_pooled: IsPooled, *, is_client: bool = False) -> tuple[str, ...]:
    """Those that a CHILD_SA leads to; see `prefixes_behind`."""
    return prefixes_behind(child.path.remote, child.ts_remote, is_pooled, is_client=is_client)


def prefixes_behind(
    remote: str, selectors: tuple[TrafficSelector, ...], is_pooled: IsPooled, *, is_client: bool = False
) -> tuple[str, ...]:
    """The prefixes behind the peer that need a route of their own: those that no pool's blocks cover.

    The peer's own address gets no route: ESP to the peer would be sent into the tunnel that it makes up. A client, with
    a virtual address, wants all else that the tunnel leads to: what a prefix is without the peer. Others leave such a
    prefix out, since it would take away what the host reaches under its own addresses.
    """
    prefixes: dict[str, None] = {}
    for selector in selectors:
        first, last = int.from_bytes(selector.start, "big"), int.from_bytes(selector.end, "big")
        if first > last or is_pooled(len(selector.start), first, last):
            continue
        wanted, left_out = _split(selector.start, selector.end, remote, is_client)
        for prefix in left_out:
            _log.debug("no route to %s, which the peer itself is in", prefix)
        for prefix in wanted[: MAX_PREFIXES - len(prefixes)]:
            prefixes[prefix] = None
    return tuple(prefixes)


@lru_cache(maxsize=256)
def _split(start: bytes, end: bytes, remote: str, is_client: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The prefixes that a range of addresses is made of: those that get a route, and those that the peer is in.

    A CHILD_SA and its successors ask for the same, and to work it out takes longer than to make their keys.
    """
    peer = ipaddress.ip_network(remote)
    wanted: list[str] = []
    left_out: list[str] = []
    for network in ipaddress.summarize_address_range(ipaddress.ip_address(start), ipaddress.ip_address(end)):
        if network.version != peer.version or not peer.subnet_of(network):  # type: ignore[arg-type]
            wanted.append(str(network))
        elif is_client:
            wanted += map(str, network.address_exclude(peer))  # type: ignore[arg-type]
        else:
            left_out.append(str(network))
    return tuple(wanted), tuple(left_out)
