"""`local_addrs` and `remote_addrs`: which addresses a connection is for, and which of many sets an address is in."""

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from typing import Final

from cygnet.ike.subnets import pack_text

_AnyAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_AnyNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_BITS: Final = {4: 32, 6: 128}


class AddressSet:
    """Single addresses, subnets and ranges, as text; empty covers all."""

    __slots__ = ("_ranges", "single")

    def __init__(self, texts: Iterable[str]) -> None:
        single: set[str] = set()
        ranges: list[tuple[_AnyAddress, _AnyAddress]] = []
        for text in texts:
            if ":" not in text and pack_text(text) is not None:
                # There is one way only to write an IPv4 address.
                single.add(text)
            elif "/" in text:
                network = ipaddress.ip_network(text, strict=False)
                ranges.append((network.network_address, network.broadcast_address))
            elif "-" in text:
                low, _, high = text.partition("-")
                ranges.append((ipaddress.ip_address(low.strip()), ipaddress.ip_address(high.strip())))
            else:
                single.add(str(ipaddress.ip_address(text)))
        self.single = frozenset(single)
        self._ranges = tuple(ranges)

    @property
    def is_any(self) -> bool:
        """Whether it covers all."""
        return not self.single and not self._ranges

    @property
    def has_ranges(self) -> bool:
        """Whether it holds subnets or ranges."""
        return bool(self._ranges)

    @property
    def may_cover_twice(self) -> bool:
        """Whether an address may be in more than one of its entries."""
        return bool(self._ranges) and len(self.single) + len(self._ranges) > 1

    def networks(self) -> list[_AnyNetwork]:
        """Its subnets, and its ranges cut into subnets."""
        return [network for low, high in self._ranges for network in ipaddress.summarize_address_range(low, high)]

    def covers(self, address: str) -> bool:
        """Whether an address is in it."""
        if self.is_any or address in self.single:
            return True
        if not self._ranges:
            return False
        packed = ipaddress.ip_address(address)
        return any(low.version == packed.version and int(low) <= int(packed) <= int(high) for low, high in self._ranges)


class NetworkTable:
    """Finds the numbers of all networks that an address is in, with one look-up for each length of prefix that there
    is, however many networks there are."""

    __slots__ = ("_by_prefix",)

    def __init__(self) -> None:
        self._by_prefix: dict[int, dict[int, dict[int, list[int]]]] = {4: {}, 6: {}}
        """Numbers by network, by how many bits of an address are not of it (the fewest first), by IP version."""

    def add(self, network: _AnyNetwork, number: int) -> None:
        """Remember a number for a network."""
        host_bits = _BITS[network.version] - network.prefixlen
        by_prefix = self._by_prefix[network.version]
        if host_bits not in by_prefix:
            self._by_prefix[network.version] = by_prefix = dict(sorted({**by_prefix, host_bits: {}}.items()))
        by_network = by_prefix[host_bits]
        by_network.setdefault(int(network.network_address) >> host_bits, []).append(number)

    def dissolve(self) -> Iterator[None]:
        """Take it apart, step by step, when it is not used any more."""
        for by_prefix in self._by_prefix.values():
            for by_network in by_prefix.values():
                while by_network:
                    by_network.popitem()
                    yield

    def find(self, address: str) -> list[int]:
        """The numbers of the networks that an address is in, the smallest network first."""
        if not self._by_prefix[4] and not self._by_prefix[6]:
            return []
        # A tenth of what an ipaddress object takes.
        is_ipv6 = ":" in address
        value = int.from_bytes(socket.inet_pton(socket.AF_INET6 if is_ipv6 else socket.AF_INET, address), "big")
        found: list[int] = []
        for host_bits, by_network in self._by_prefix[6 if is_ipv6 else 4].items():
            found += by_network.get(value >> host_bits, ())
        return found
