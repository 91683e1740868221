"""Traffic selectors as people, and strongSwan's tools, read them: `10.1.0.0/16`, `10.0.0.1..10.0.0.9[tcp/443]`."""

import ipaddress
from functools import lru_cache

from cygnet.ike.selectors import SelectorSettings
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

_LAST_PORT = 65535


@lru_cache(maxsize=1024)
def format_selector(selector: TrafficSelector) -> str:
    """A selector that was negotiated."""
    ports = _format_ports(selector.ip_protocol, selector.start_port, selector.end_port)
    return _format_range(selector.start, selector.end) + ports


def format_setting(selector: SelectorSettings) -> str:
    """A selector of a configuration."""
    ports = _format_ports(selector.ip_protocol, selector.start_port, selector.end_port)
    return ("dynamic" if selector.is_dynamic else _format_range(selector.first, selector.last)) + ports


def _format_range(start: bytes, end: bytes) -> str:
    low, high = ipaddress.ip_address(start), ipaddress.ip_address(end)
    if low == high:
        return f"{low}/{low.max_prefixlen}"
    if int(low) > int(high):
        return f"{low}..{high}"
    networks = list(_first_two(low, high))
    return str(networks[0]) if len(networks) == 1 else f"{low}..{high}"


def _first_two(
    low: ipaddress.IPv4Address | ipaddress.IPv6Address, high: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for network in ipaddress.summarize_address_range(low, high):
        networks.append(network)
        if len(networks) == 2:
            break
    return networks


def _format_ports(protocol: int, start: int, end: int) -> str:
    if not protocol and (start, end) == (0, _LAST_PORT):
        return ""
    name = _protocol_name(protocol)
    if (start, end) == (0, _LAST_PORT):
        return f"[{name}]"
    if start > end:
        return f"[{name}/OPAQUE]"
    return f"[{name}/{start}]" if start == end else f"[{name}/{start}-{end}]"


@lru_cache(maxsize=256)
def _protocol_name(protocol: int) -> str:
    names = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}
    return names.get(protocol) or (str(protocol) if protocol else "0")
