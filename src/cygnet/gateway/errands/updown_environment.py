"""The environment that strongSwan's updown scripts have (its src/_updown/_updown.in, and updown_listener.c)."""

import ipaddress
import os
from collections.abc import Iterator
from typing import Final

from cygnet.gateway.control import ChildUp
from cygnet.iana import IpProtocol
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION: Final = "1.1"
_ICMP: Final = (IpProtocol.ICMP, IpProtocol.ICMPV6)

MAX_PAIRS: Final = 64
"""Pairs of selectors of a CHILD_SA that the script is run for: a peer may narrow ours to many."""


def environments(up: ChildUp, *, verb: str, interface: str, has_access: bool) -> list[dict[str, str]]:
    """One for each pair of selectors, as the script is run once for each. `verb` is `up` or `down`.

    Raises ValueError if what a worker says makes no sense.
    """
    pairs = [(mine, theirs) for mine in up.local_ts for theirs in up.remote_ts if len(mine.start) == len(theirs.start)]
    common = dict(_common(up, interface, has_access=has_access))
    return [
        {
            "PATH": os.environ.get("PATH", _PATH),
            "PLUTO_VERSION": _VERSION,
            "PLUTO_VERB": _verb(verb, mine, up.local_host),
            **common,
            **dict(_side("MY", mine, _port(mine, theirs, is_local=True))),
            **dict(_side("PEER", theirs, _port(mine, theirs, is_local=False))),
        }
        for mine, theirs in pairs[:MAX_PAIRS]
    ]


def _verb(verb: str, mine: TrafficSelector, host: str) -> str:
    is_host = mine.start == mine.end == ipaddress.ip_address(host).packed
    return f"{verb}-{'host' if is_host else 'client'}{'-v6' if len(mine.start) == 16 else ''}"


def _common(up: ChildUp, interface: str, *, has_access: bool) -> Iterator[tuple[str, str]]:
    yield "PLUTO_CONNECTION", _clean(up.child)
    yield "PLUTO_INTERFACE", interface or "unknown"
    yield "PLUTO_REQID", str(up.reqid)
    yield "PLUTO_PROTO", "esp"
    yield "PLUTO_UNIQUEID", str(up.unique_id)
    yield "PLUTO_ME", _address(up.local_host)
    yield "PLUTO_MY_ID", _clean(up.local_id)
    yield "PLUTO_PEER", _address(up.remote_host)
    yield "PLUTO_PEER_ID", _clean(up.remote_id)
    yield from _numbered("PLUTO_MY_SOURCEIP", up.local_vips, has_plain=True)
    yield from _numbered("PLUTO_PEER_SOURCEIP", up.remote_vips, has_plain=True)
    yield from _numbered("PLUTO_DNS", up.servers, has_plain=False)
    if up.remote_port:
        yield "PLUTO_UDP_ENC", str(up.remote_port)
    if has_access:
        yield "PLUTO_HOST_ACCESS", "1"


def _numbered(name: str, texts: tuple[str, ...], *, has_plain: bool) -> Iterator[tuple[str, str]]:
    """`<name>4_1`, `<name>6_1` and so on; before them the first, by the name alone, for old scripts."""
    addresses = [_address(text) for text in texts]
    if addresses and has_plain:
        yield name, addresses[0]
    for family in (4, 6):
        of_family = [each for each in addresses if (":" in each) == (family == 6)]
        for number, address in enumerate(of_family, 1):
            yield f"{name}{family}_{number}", address


def _side(side: str, selector: TrafficSelector, port: str) -> Iterator[tuple[str, str]]:
    yield f"PLUTO_{side}_CLIENT", _subnet(selector)
    yield f"PLUTO_{side}_PORT", port
    yield f"PLUTO_{side}_PROTOCOL", str(selector.ip_protocol)


def _subnet(selector: TrafficSelector) -> str:
    """The smallest subnet that has all of it: what a script can use."""
    first, last = int.from_bytes(selector.start, "big"), int.from_bytes(selector.end, "big")
    mask = 8 * len(selector.start) - (first ^ last).bit_length()
    return str(ipaddress.ip_network((selector.start, mask), strict=False))


def _port(mine: TrafficSelector, theirs: TrafficSelector, *, is_local: bool) -> str:
    """A port, a range `1:5`, 0 for any; of ICMP the type on our side, and the code on the peer's."""
    if max(mine.ip_protocol, theirs.ip_protocol) in _ICMP:
        number = mine.start_port or theirs.start_port
        return str(number >> 8 if is_local else number & 0xFF)
    selector = mine if is_local else theirs
    first, last = selector.start_port, selector.end_port
    return str(first) if first == last or (first, last) == (0, 65535) else f"{first}:{last}"


def _address(text: str) -> str:
    """An address, which a worker has named. Raises ValueError if it is none."""
    return str(ipaddress.ip_address(text))


def _clean(text: str) -> str:
    """What a peer has chosen, without what might be read as something else."""
    return "".join(each if each.isprintable() else "?" for each in text)
