"""Traffic selectors: how they are written, and how a responder narrows them (RFC 7296 section 2.9)."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from cygnet.iana import IpProtocol, TsType
from cygnet.ike.subnets import parse_subnet
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

MAX_SELECTORS = 64
"""Selectors taken from one payload, and put into one; narrowing compares each with each."""

_OFFERS_REMEMBERED = 64
_REMEMBERED_SELECTORS = 4
"""Of the longest offer that is remembered."""

_SELECTOR = re.compile(r"^(?P<net>[^\[\]]*)(?:\[(?P<proto>[^/\]]*)(?:/(?P<port>[^\]]*))?\])?$")
_LAST_PORT = 65535
_LAST_TYPE = 255

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_ANY_PROTOCOL = IpProtocol.ANY
_IPV4 = TsType.IPV4_ADDR_RANGE
_IPV6 = TsType.IPV6_ADDR_RANGE

_TYPED = (int(IpProtocol.ICMP), int(IpProtocol.ICMPV6), int(IpProtocol.MOBILITY_HEADER))
"""Protocols that have a message type in the high octet of what others have as their port."""


class SelectorSettings(msgspec.Struct, frozen=True):
    """One selector of `local_ts` or `remote_ts`. `first` and `last` are packed addresses, empty where it is dynamic."""

    first: bytes = b""
    last: bytes = b""
    ip_protocol: int = 0
    start_port: int = 0
    end_port: int = _LAST_PORT

    @property
    def is_dynamic(self) -> bool:
        """Whether it stands for the virtual address, or else for the address of the IKE peer."""
        return not self.first


DYNAMIC = SelectorSettings()
"""The default, `dynamic`."""


def parse_selector(text: str) -> SelectorSettings:
    """Read `dynamic`, `10.1.0.0/16`, `10.0.0.1-10.0.0.9`, each with an optional `[protocol/port]`.

    Protocols are numbers or names, ports are numbers, ranges `a-b`, names, `any`, or `opaque`: packets that show no
    port. For ICMP, numbers below 256 are types with any code, greater ones are type and code.
    Raises ValueError, with a text for the user.
    """
    match = _SELECTOR.match(text.strip())
    if match is None:
        raise ValueError(f'"{text}" is no traffic selector; write it as subnet[protocol/port]')
    first, last = _parse_network(match["net"].strip(), text)
    protocol = _parse_protocol((match["proto"] or "").strip(), text)
    start, end = _parse_ports((match["port"] or "").strip(), protocol, text)
    return SelectorSettings(first=first, last=last, ip_protocol=protocol, start_port=start, end_port=end)


def _parse_network(net: str, text: str) -> tuple[bytes, bytes]:
    if net in ("", "dynamic", "%dynamic"):
        return b"", b""
    try:
        if "-" in net:
            low, _, high = net.partition("-")
            first, last = ipaddress.ip_address(low.strip()), ipaddress.ip_address(high.strip())
            if first.version != last.version or int(first) > int(last):
                raise ValueError
            return first.packed, last.packed
        return parse_subnet(net)
    except ValueError:
        raise ValueError(f'"{net}" in traffic selector "{text}" is no address, subnet or range') from None


def _parse_protocol(name: str, text: str) -> int:
    if name in ("", "any", "%any"):
        return 0
    if name.isdigit() and int(name) <= 255:
        return int(name)
    known = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132}
    if name.lower() in known:
        # Sparing a look into a file, in each of a thousand connections.
        return known[name.lower()]
    try:
        return socket.getprotobyname(name.lower())
    except OSError:
        raise ValueError(f'unknown protocol "{name}" in traffic selector "{text}"') from None


def _parse_ports(ports: str, protocol: int, text: str) -> tuple[int, int]:
    if ports in ("", "any", "%any"):
        return 0, _LAST_PORT
    if not protocol:
        raise ValueError(f'traffic selector "{text}" has a port, and needs a protocol for it')
    if ports in ("opaque", "%opaque"):
        return _LAST_PORT, 0
    low, _, high = ports.partition("-")
    try:
        first = int(low) if low.isdigit() else socket.getservbyname(low)
        last = int(high) if high else first
    except (OSError, ValueError):
        raise ValueError(f'"{ports}" in traffic selector "{text}" is no port') from None
    if not 0 <= first <= last <= _LAST_PORT:
        raise ValueError(f'port "{ports}" in traffic selector "{text}" is not within 0 to 65535')
    if protocol in _TYPED:
        first = first << 8 if first <= _LAST_TYPE else first
        last = last << 8 | _LAST_TYPE if last <= _LAST_TYPE else last
    return first, last


def host_selector(address: bytes) -> TrafficSelector:
    """The selector of all traffic of one host; `address` is packed."""
    return TrafficSelector(
        ts_type=_IPV4 if len(address) == 4 else _IPV6,
        ip_protocol=_ANY_PROTOCOL,
        start_port=0,
        end_port=_LAST_PORT,
        start=address,
        end=address,
    )


FlowSelectors: TypeAlias = tuple[TrafficSelector, TrafficSelector]
"""Of one packet that is to be sent: what it shows of our end, and of the peer's."""


class TrafficPolicy:
    """One end's configured selectors, ready for use."""

    __slots__ = ("_narrowed", "_settings", "_static", "_wide")

    def __init__(self, settings: Sequence[SelectorSettings]) -> None:
        self._narrowed: dict[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]] = {}
        self._settings = tuple(settings)
        self._static = None if any(s.is_dynamic for s in settings) else resolve(settings, ())
        self._wide: dict[tuple[int, ...], tuple[TrafficSelector, ...]] = {}

    def resolve(self, dynamic: Sequence[bytes]) -> tuple[TrafficSelector, ...]:
        """The selectors, with `dynamic` ones replaced by the packed addresses that they stand for."""
        return self._static if self._static is not None else resolve(self._settings, [(a, a) for a in dynamic])

    def narrow(self, dynamic: Sequence[bytes], offered: tuple[TrafficSelector, ...]) -> tuple[TrafficSelector, ...]:
        """What it leaves of the selectors that a peer offers, as `narrow` has it; a fleet offers the same."""
        if self._static is None:
            return narrow(self.resolve(dynamic), offered)
        found = self._narrowed.get(offered)
        if found is None:
            found = narrow(self._static, offered)
            if len(self._narrowed) >= _OFFERS_REMEMBERED:
                self._narrowed.clear()
            if len(offered) <= _REMEMBERED_SELECTORS:
                self._narrowed[offered] = found
        return found

    def before_assignment(self, vips: Sequence[bytes]) -> tuple[TrafficSelector, ...]:
        """The selectors while the virtual addresses are yet to be assigned.

        `dynamic` ones are all addresses then, of the families of `vips`: the responder narrows them (RFC 7296
        section 2.19).
        """
        if self._static is not None:
            return self._static
        families = tuple(dict.fromkeys(map(len, vips)))
        if families not in self._wide:
            self._wide[families] = resolve(self._settings, [(bytes(n), b"\xff" * n) for n in families])
        return self._wide[families]


def resolve(
    settings: Iterable[SelectorSettings], dynamic: Sequence[tuple[bytes, bytes]]
) -> tuple[TrafficSelector, ...]:
    """The selectors of a policy, with `dynamic` ones replaced by these ranges of packed addresses."""
    resolved = []
    for selector in settings:
        bounds = dynamic if selector.is_dynamic else [(selector.first, selector.last)]
        for first, last in bounds:
            resolved.append(
                TrafficSelector(
                    ts_type=_IPV4 if len(first) == 4 else _IPV6,
                    ip_protocol=selector.ip_protocol,
                    start_port=selector.start_port,
                    end_port=selector.end_port,
                    start=first,
                    end=last,
                )
            )
    return tuple(resolved)


def intersect(a: TrafficSelector, b: TrafficSelector) -> TrafficSelector | None:
    """What both selectors cover; None if nothing."""
    if a.ts_type != b.ts_type:
        return None
    if a.ip_protocol and b.ip_protocol and a.ip_protocol != b.ip_protocol:
        return None
    start = a.start if a.start >= b.start else b.start
    end = a.end if a.end <= b.end else b.end
    if start > end:
        return None
    start_port, end_port = max(a.start_port, b.start_port), min(a.end_port, b.end_port)
    if start_port > end_port:
        # OPAQUE (65535 to 0, RFC 7296 section 3.13.1) is covered by "all ports" alone and by itself.
        if not (_covers_opaque(a) and _covers_opaque(b)):
            return None
        start_port, end_port = _LAST_PORT, 0
    return TrafficSelector(
        ts_type=a.ts_type,
        ip_protocol=a.ip_protocol or b.ip_protocol,
        start_port=start_port,
        end_port=end_port,
        start=start,
        end=end,
    )


def _covers_opaque(selector: TrafficSelector) -> bool:
    ports = (selector.start_port, selector.end_port)
    return ports in ((0, _LAST_PORT), (_LAST_PORT, 0))


def _contains(outer: TrafficSelector, inner: TrafficSelector) -> bool:
    return intersect(outer, inner) == inner


def narrow(policy: Sequence[TrafficSelector], offered: Sequence[TrafficSelector]) -> tuple[TrafficSelector, ...]:
    """What our policy leaves of the selectors a peer offers, each once; empty if nothing.

    The order is the policy's. What another selector of the result covers already is left out.
    """
    if len(policy) == len(offered) == 1:
        common = intersect(policy[0], offered[0])
        return () if common is None else (common,)
    found: list[TrafficSelector] = []
    for ours in policy:
        for theirs in offered[:MAX_SELECTORS]:
            common = intersect(ours, theirs)
            if common is None or any(_contains(f, common) for f in found):
                continue
            found = [f for f in found if not _contains(common, f)]
            found.append(common)
            if len(found) == MAX_SELECTORS:
                # An authenticated peer is told a subset rather than served for long, or not at all.
                return tuple(found)
    return tuple(found)


def preceded(policy: tuple[TrafficSelector, ...], packet: TrafficSelector) -> tuple[TrafficSelector, ...]:
    """The selectors of a policy, before them that of the packet for which they are offered, if they cover it.

    So a responder that can't take all of them learns which part is wanted (RFC 7296 section 2.9).
    """
    return (packet, *policy) if packet not in policy and is_within((packet,), policy) else policy


def is_within(inner: Sequence[TrafficSelector], outer: Sequence[TrafficSelector]) -> bool:
    """Whether each of `inner` is covered by one of `outer`, which is ours: a responder may narrow, never widen."""
    return inner == outer or all(any(_contains(o, i) for o in outer) for i in inner)
