"""Which tunnel an inner packet belongs to: the part of RFC 4301's security policy that CHILD_SAs make up.

A table finds the tunnel of a packet in a time that depends on how many prefix lengths are in use, not on how many
tunnels.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from cygnet.dataplane.inner import NO_PORT, SENDERS_PORT, Flow
from cygnet.dataplane.tunnel import Tunnel
from cygnet.ike.effects import InstallChild
from cygnet.ike.selectors import FlowSelectors, host_selector
from cygnet.ike.sharded_map import ShardedMap
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

_LAST_PORT = 65535
_FEW = 8
"""Tunnels that share an address, among which one that came later may come last: of more the order is costly."""
_FIRST = {4: bytes(4), 16: bytes(16)}
_LAST = {4: b"\xff" * 4, 16: b"\xff" * 16}


def permits_inbound(child: InstallChild, flow: Flow) -> bool:
    """Whether a packet from the peer lies within what was negotiated (RFC 4301 section 5.2)."""
    return covers(child.ts_remote, flow.source, flow.protocol, flow.source_port) and covers(
        child.ts_local, flow.destination, flow.protocol, flow.destination_port
    )


def permits_outbound(child: InstallChild, flow: Flow) -> bool:
    """Whether a packet to the peer lies within what was negotiated (RFC 4301 section 5.1)."""
    return covers(child.ts_remote, flow.destination, flow.protocol, flow.destination_port) and covers(
        child.ts_local, flow.source, flow.protocol, flow.source_port
    )


def flow_selectors(flow: Flow) -> FlowSelectors:
    """The narrowest selectors for a packet that is to be sent, at our end and at the peer's (RFC 7296 section 2.9).

    The types of ICMP are left out: the answer has another one.
    """
    return (
        _end_selector(flow.source, flow.protocol, flow.source_port, flow.destination_port),
        _end_selector(flow.destination, flow.protocol, flow.destination_port, flow.destination_port),
    )


def _end_selector(address: bytes, protocol: int, port: int, destination_port: int) -> TrafficSelector:
    first, last = (port, port) if port >= 0 and destination_port >= 0 else (0, _LAST_PORT)
    return msgspec.structs.replace(host_selector(address), ip_protocol=protocol, start_port=first, end_port=last)


def covers(selectors: tuple[TrafficSelector, ...], address: bytes, protocol: int, port: int) -> bool:
    """Whether one of an end's selectors is for a packet that shows that of it."""
    size = len(address)
    for selector in selectors:
        if (
            selector.start <= address <= selector.end
            and len(selector.start) == size
            and (not selector.ip_protocol or (selector.ip_protocol == protocol and _covers_port(selector, port)))
        ):
            return True
    return False


def _covers_port(selector: TrafficSelector, port: int) -> bool:
    first, last = selector.start_port, selector.end_port
    if first <= port <= last or (not first and last == _LAST_PORT):
        return True
    if port == SENDERS_PORT:
        return True
    # OPAQUE stands for packets that show no port, and for no others (RFC 7296 section 3.13.1).
    return port == NO_PORT and first == _LAST_PORT and not last


_Key = TypeVar("_Key", bytes, int)
_Entry = bytes | dict[bytes, None]
"""Tunnels, by our SPI, that share an address: mostly one; else all, in the order of their coming."""


class AddressTable:
    """Tunnels, by our SPI, by address ranges, of both IP versions; the longest matching prefix comes first.

    Ranges that are no prefix are split into those that they are made of.
    """

    __slots__ = ("_hosts", "_prefixes")

    def __init__(self) -> None:
        self._hosts = ShardedMap[bytes, _Entry]()
        self._prefixes: dict[int, dict[int, ShardedMap[int, _Entry]]] = {4: {}, 16: {}}
        """By octets of an address, then by bits to the right of the prefix, in ascending order, then by prefix."""

    def add(self, start: bytes, end: bytes, tunnel: bytes, *, is_last: bool = False) -> None:
        """Enter a tunnel for the addresses from `start` to `end`; it goes before those that are there already.

        With `is_last` it goes after them, if they are but a few.
        """
        if start == end:
            _add(self._hosts, start, tunnel, is_last)
            return
        prefixes = self._prefixes[len(start)]
        for shift, prefix in _split_range(start, end):
            entries = prefixes.get(shift)
            if entries is None:
                entries = prefixes[shift] = ShardedMap()
                self._prefixes[len(start)] = prefixes = dict(sorted(prefixes.items()))
            _add(entries, prefix, tunnel, is_last)

    def discard(self, start: bytes, end: bytes, tunnel: bytes) -> None:
        """Undo `add`."""
        if start == end:
            _discard(self._hosts, start, tunnel)
            return
        prefixes = self._prefixes[len(start)]
        for shift, prefix in _split_range(start, end):
            entries = prefixes.get(shift)
            if entries is not None:
                _discard(entries, prefix, tunnel)
                if not entries:
                    del prefixes[shift]

    def candidates(self, address: bytes) -> Iterator[bytes]:
        """Tunnels whose range `address` is in: the most specific first, of equals the newest first."""
        entry = self._hosts.get(address)
        if entry is not None:
            yield from _newest_first(entry)
        prefixes = self._prefixes[len(address)]
        if prefixes:
            number = int.from_bytes(address, "big")
            for shift, entries in prefixes.items():
                entry = entries.get(number >> shift)
                if entry is not None:
                    yield from _newest_first(entry)


def _split_range(start: bytes, end: bytes) -> Iterator[tuple[int, int]]:
    """The prefixes that make up a range: how many bits are to the right of each, and the bits before them."""
    first, last = int.from_bytes(start, "big"), int.from_bytes(end, "big")
    bits = len(start) * 8
    while first <= last:
        aligned = (first & -first).bit_length() - 1 if first else bits
        shift = min(aligned, (last - first + 1).bit_length() - 1)
        yield shift, first >> shift
        first += 1 << shift


def _newest_first(entry: _Entry) -> Iterator[bytes]:
    return reversed(entry) if isinstance(entry, dict) else iter((entry,))


def _add(entries: ShardedMap[_Key, _Entry], key: _Key, tunnel: bytes, is_last: bool) -> None:
    present = entries.get(key)
    if present is None:
        entries[key] = tunnel
    elif isinstance(present, dict):
        if is_last and len(present) < _FEW:
            entries[key] = {tunnel: None, **present}
        else:
            present[tunnel] = None
    elif present != tunnel:
        entries[key] = {tunnel: None, present: None} if is_last else {present: None, tunnel: None}


def _discard(entries: ShardedMap[_Key, _Entry], key: _Key, tunnel: bytes) -> None:
    present = entries.get(key)
    if present == tunnel:
        del entries[key]
    elif isinstance(present, dict):
        present.pop(tunnel, None)
        if len(present) == 1:
            entries[key] = next(iter(present))


class TunnelTable:
    """Which tunnel an outbound packet takes: the most specific by its destination, of equals the newest.

    A tunnel to everywhere says nothing about destinations; it is known by the addresses on our side instead. So the
    many clients of a load generator are told apart as well as the many clients of a gateway.
    """

    __slots__ = ("_by_local", "_by_remote", "_tunnel_of")

    def __init__(self, tunnel_of: Callable[[bytes], Tunnel]) -> None:
        """`tunnel_of` finds a tunnel by our SPI. Only those are asked for that may be the one for a packet."""
        self._tunnel_of = tunnel_of
        self._by_remote = AddressTable()
        self._by_local = AddressTable()

    def add(self, child: InstallChild, *, is_last: bool = False) -> None:
        """Let packets take the tunnel of this CHILD_SA from now on; with `is_last` only those that no other one has."""
        for table, start, end in self._places(child):
            table.add(start, end, child.spi_in, is_last=is_last)

    def discard(self, child: InstallChild) -> None:
        """Let no packet take it any longer."""
        for table, start, end in self._places(child):
            table.discard(start, end, child.spi_in)

    def find(self, flow: Flow) -> Tunnel | None:
        """The tunnel of an outbound packet; None if no selectors cover it."""
        for spi_in in self._by_remote.candidates(flow.destination):
            tunnel = self._tunnel_of(spi_in)
            if permits_outbound(tunnel.child, flow):
                return tunnel
        for spi_in in self._by_local.candidates(flow.source):
            tunnel = self._tunnel_of(spi_in)
            if permits_outbound(tunnel.child, flow):
                return tunnel
        return None

    def _places(self, child: InstallChild) -> Iterator[tuple[AddressTable, bytes, bytes]]:
        for remote in child.ts_remote:
            size = len(remote.start)
            if remote.start == _FIRST[size] and remote.end == _LAST[size]:
                for local in child.ts_local:
                    if len(local.start) == size:
                        yield self._by_local, local.start, local.end
            else:
                yield self._by_remote, remote.start, remote.end
