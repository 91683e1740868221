"""What this host itself sends to a peer, brought to the worker that has a CHILD_SA in transport mode for it.

The peer's address can't simply be routed into the worker's TUN device: ESP goes to the same address, and so does all
that the selectors leave out. So routing rules pick out what the selectors cover, by addresses, protocol and ports:

    219: ESP, and UDP from and to IKE's ports: goto 221
    220: from the host itself, from OURS to PEER, PROTOCOL, PORTS: lookup the worker's table
    221: nothing

    the worker's table: PEER by its TUN device, from OURS

What has no source address yet is diverted too, and gets ours. Routing in the opposite direction, by which the kernel
checks where packets may come from (rp_filter), finds the same: what leaves a TUN device is let in, and ESP is.

IPv4 tells by rules where a packet is from, IPv6 by source-specific routes: a rule of its knows no packet without one.

Rules, unlike routes, outlive the device. Each, whatever it does, has the number of a table that is a device's: at the
start those whose device is gone are removed, which are of a gateway that was killed. Until then they lead nowhere.
"""

import errno
import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from cygnet.gateway.claims import NOBODY, USED, Claim, Claims
from cygnet.gateway.control import Diversion
from cygnet.gateway.host.rtnetlink import NLM_F_CREATE, NLM_F_REPLACE, RtNetlink, encode_attribute
from cygnet.iana import IpProtocol
from cygnet.ike.errors import LocalError
from cygnet.observe.log_groups import about, group_logger
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

_log = group_logger("knl")

FIRST_TABLE: Final = 0x43590000
"""Of the device with the index 0. Nobody else has numbers there, and no file names them."""
_LAST_TABLE: Final = FIRST_TABLE + 0xFFFFFF
RULE_PROTOCOL: Final = 0xC9
"""Who has set a rule, as `ip rule` shows it."""
_EXEMPT, DIVERT, _GO_ON = 219, 220, 221
"""Priorities: strongSwan's place for what it does with the same."""

MAX_DIVERSIONS: Final = 1024
"""Of one worker: the kernel tries rules one by one."""
MAX_OF_ONE: Final = 64
"""Of one CHILD_SA, whose selectors the peer has narrowed."""

ROUTE_MTU: Final = 65280
"""Packets come whole, and what is too long for the path is fragmented as ESP (RFC 4303 section 3.3.4)."""
_ESP_OCTETS: Final = 100
"""What a segment of TCP leaves free for all that comes around it."""
_ETHERNET_MTU: Final = 1500
_TCP_HEADER_OCTETS: Final = 20

_LAST_PORT: Final = 65535
_ALL_PORTS: Final = (0, _LAST_PORT)
_IKE_PORTS: Final = (500, 4500)
_ESP: Final = int(IpProtocol.ESP)
_UDP: Final = int(IpProtocol.UDP)
_PORTED: Final = frozenset(int(p) for p in (IpProtocol.TCP, IpProtocol.UDP, IpProtocol.DCCP, IpProtocol.SCTP))
"""Whose ports rules know. Others are diverted whole, and what of it the selectors leave out is not sent."""

# linux/rtnetlink.h, linux/fib_rules.h
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_NEWRULE, _RTM_DELRULE = 24, 25, 32, 33
_RTMSG: Final = struct.Struct("=8BI")
_RTPROT_STATIC: Final = 4
_RT_SCOPE_LINK: Final = 253
_RTN_UNICAST: Final = 1
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_PREFSRC, _RTA_METRICS, _RTA_TABLE = 1, 2, 4, 7, 8, 15
_RTAX_LOCK, _RTAX_MTU, _RTAX_ADVMSS = 1, 2, 8
_FR_ACT_TO_TBL, _FR_ACT_GOTO, _FR_ACT_NOP = 1, 2, 3
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_GOTO, _FRA_PRIORITY = 1, 2, 3, 4, 6
_FRA_TABLE, _FRA_PROTOCOL, _FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_DPORT_RANGE = 15, 21, 22, 23, 24
_HERE: Final = b"lo\0"
"""Where packets are from that this host sends, to rules."""
_ANYWHERE: Final = {4: bytes(4), 16: bytes(16)}


def diversions_of(local: tuple[TrafficSelector, ...], remote: tuple[TrafficSelector, ...]) -> tuple[Diversion, ...]:
    """What the selectors of both ends, which have one address each, cover together."""
    found: dict[Diversion, None] = {}
    for ours, theirs in product(local, remote):
        if ours.ip_protocol and theirs.ip_protocol and ours.ip_protocol != theirs.ip_protocol:
            continue
        ends = str(ipaddress.ip_address(ours.start)), str(ipaddress.ip_address(theirs.start))
        protocol = ours.ip_protocol or theirs.ip_protocol
        local_ports, remote_ports = (
            (each.start_port, each.end_port) if protocol in _PORTED else _ALL_PORTS for each in (ours, theirs)
        )
        if local_ports[0] <= local_ports[1] and remote_ports[0] <= remote_ports[1]:
            found[Diversion(*ends, protocol, local_ports, remote_ports)] = None
    return tuple(found)[:MAX_OF_ONE]


class Diversions:
    """Who wants what diverted, and what the kernel has been told. Workers are numbers.

    When several workers want the same, `Claims` decides which of them gets it.
    """

    def __init__(self, devices: Sequence[str], ports: Sequence[int]) -> None:
        """`devices[w]` is the name of worker w's TUN device, `ports` are our UDP ports. Raises LocalError."""
        try:
            self._indices = [socket.if_nametoindex(name) for name in devices]
            self._netlink = RtNetlink()
        except OSError as exc:
            raise LocalError(f"cannot set routing rules: {exc.strerror or exc}") from exc
        self._ports = tuple(dict.fromkeys(ports))
        self._exempt: set[int] = set()
        self._claims: Claims[Diversion] = Claims()
        self._told: dict[Diversion, int] = {}
        self._routes: Counter[tuple[str, str, int]] = Counter()
        self._of_worker: Counter[int] = Counter()
        try:
            self._clear_away()
        except (OSError, NetlinkError) as exc:
            self._netlink.close()
            raise LocalError(f"this kernel has no routing rules: {exc}") from exc

    def add(self, diversion: Diversion, worker: int, claim: Claim = USED, sa: tuple[str, int] = ("", 0)) -> None:
        """Bring a worker what is diverted. What the kernel refuses is logged, with the connection and the number of the
        IKE_SA that it is for. Raises ValueError for what is no diversion, or one too many."""
        _check(diversion)
        if not self._claims.wants(diversion, worker):
            if self._of_worker[worker] >= MAX_DIVERSIONS:
                raise ValueError(f"worker {worker} diverts too much")
            self._of_worker[worker] += 1
        self._claims.add(diversion, worker, claim)
        self._settle(diversion, sa)

    def discard(self, diversion: Diversion, worker: int, claim: Claim = USED) -> None:
        """A worker has that claim no longer; another one's counts now, or nobody's."""
        if not self._claims.wants(diversion, worker):
            return
        self._claims.discard(diversion, worker, claim)
        if not self._claims.wants(diversion, worker):
            self._of_worker[worker] -= 1
        self._settle(diversion)

    def discard_all(self, worker: int) -> None:
        """A worker is dead."""
        del self._of_worker[worker]
        for diversion in self._claims.discard_all(worker):
            self._settle(diversion)

    def holder(self, diversion: Diversion) -> int:
        """The worker that gets it; NOBODY if none wants it."""
        return self._claims.holder(diversion)

    def close(self) -> None:
        """Remove all rules; the kernel drops the routes with the devices."""
        for diversion, worker in self._told.items():
            self._remove(diversion, worker)
        self._told.clear()
        for family in self._exempt:
            self._end_exemptions(family)
        self._exempt.clear()
        self._netlink.close()

    def _settle(self, diversion: Diversion, sa: tuple[str, int] = ("", 0)) -> None:
        """Have the kernel know who gets it. What it knew before goes last, so that nothing leaves in the clear."""
        holder, told = self._claims.holder(diversion), self._told.pop(diversion, NOBODY)
        if holder != NOBODY:
            self._told[diversion] = holder
        if holder == told:
            return
        if holder != NOBODY:
            try:
                self._exempt_our_own(diversion)
                self._set(diversion, holder)
            except OSError as exc:
                _log.error("what goes to %s is NOT protected: %s", diversion.remote, exc.strerror, extra=about(*sa))
        if told != NOBODY:
            self._remove(diversion, told)

    def _set(self, diversion: Diversion, worker: int) -> None:
        key = (diversion.local, diversion.remote, worker)
        self._routes[key] += 1
        if self._routes[key] == 1:
            for route in _routes(diversion, self._indices[worker]):
                self._netlink.request(_RTM_NEWROUTE, route, NLM_F_CREATE | NLM_F_REPLACE)
        for rule in _rules(diversion, self._table_of(worker)):
            self._netlink.request(_RTM_NEWRULE, rule, NLM_F_CREATE)

    def _remove(self, diversion: Diversion, worker: int) -> None:
        for rule in _rules(diversion, self._table_of(worker)):
            self._try(_RTM_DELRULE, rule)
        key = (diversion.local, diversion.remote, worker)
        self._routes[key] -= 1
        if self._routes[key] <= 0:
            del self._routes[key]
            for route in _routes(diversion, self._indices[worker]):
                self._try(_RTM_DELROUTE, route)

    def _try(self, kind: int, body: bytes) -> None:
        """Undo something, which may not be there."""
        try:
            self._netlink.request(kind, body)
        except OSError as exc:
            if exc.errno not in (errno.ESRCH, errno.ENOENT):
                _log.warning("cannot remove a routing rule: %s", exc.strerror)

    def _table_of(self, worker: int) -> int:
        return FIRST_TABLE + self._indices[worker]

    def _exempt_our_own(self, diversion: Diversion) -> None:
        """Keep ESP and IKE out of all diversions, before there is the first."""
        family = _family(diversion)
        if family in self._exempt:
            return
        try:
            for priority, body in self._exemptions(family):
                self._netlink.request(_RTM_NEWRULE, _rule(family, priority, *body), NLM_F_CREATE)
        except OSError:
            self._end_exemptions(family)
            raise
        self._exempt.add(family)

    def _end_exemptions(self, family: int) -> None:
        for priority, body in self._exemptions(family):
            self._try(_RTM_DELRULE, _rule(family, priority, *body))

    def _exemptions(self, family: int) -> Iterator[tuple[int, tuple[int, int, bytes]]]:
        """The last first, to which the others go."""
        table = self._table_of(0)
        yield _GO_ON, (_FR_ACT_NOP, table, b"")
        yield _EXEMPT, (_FR_ACT_GOTO, table, _u32(_FRA_GOTO, _GO_ON) + _protocol(_ESP))
        for kind, ports in ((_FRA_SPORT_RANGE, self._ports), (_FRA_DPORT_RANGE, _IKE_PORTS)):
            for port in ports:
                match = _protocol(_UDP) + _range(kind, (port, port))
                yield _EXEMPT, (_FR_ACT_GOTO, table, _u32(_FRA_GOTO, _GO_ON) + match)

    def _clear_away(self) -> None:
        """Remove the rules of devices that are gone."""
        with IPRoute() as netlink:
            devices = {link["index"] for link in netlink.get_links()}
            found = [
                (family, rule.get_attr("FRA_PRIORITY"), rule.get_attr("FRA_TABLE"))
                for family in (socket.AF_INET, socket.AF_INET6)
                for rule in _rules_of(netlink, family)
                if rule.get_attr("FRA_PROTOCOL") == RULE_PROTOCOL
            ]
        for family, priority, table in found:
            if FIRST_TABLE <= table <= _LAST_TABLE and table - FIRST_TABLE not in devices:
                # Whichever of those it is.
                self._try(_RTM_DELRULE, _rule(family, priority, 0, table, b""))


def _rules_of(netlink: IPRoute, family: int) -> list:  # type: ignore[type-arg]
    try:
        return list(netlink.get_rules(family=family))
    except NetlinkError as exc:
        if family == socket.AF_INET6 and exc.code in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
            return []
        raise


def _check(diversion: Diversion) -> None:
    local, remote = ipaddress.ip_address(diversion.local), ipaddress.ip_address(diversion.remote)
    ports = (diversion.local_ports, diversion.remote_ports)
    if local.version != remote.version or not 0 <= diversion.protocol <= 255:
        raise ValueError("no diversion")
    if not all(0 <= first <= last <= _LAST_PORT for first, last in ports):
        raise ValueError("no range of ports")
    for address in (local, remote):
        if address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local:
            raise ValueError(f"{address} is not to be diverted")


def _family(diversion: Diversion) -> int:
    return socket.AF_INET6 if ":" in diversion.remote else socket.AF_INET


def _rules(diversion: Diversion, table: int) -> Iterator[bytes]:
    """The bodies of the requests about its rules."""
    family = _family(diversion)
    local, remote = (ipaddress.ip_address(each).packed for each in (diversion.local, diversion.remote))
    match = encode_attribute(_FRA_IIFNAME, _HERE) + encode_attribute(_FRA_DST, remote)
    if diversion.protocol:
        match += _protocol(diversion.protocol)
    for kind, ports in ((_FRA_SPORT_RANGE, diversion.local_ports), (_FRA_DPORT_RANGE, diversion.remote_ports)):
        if ports != _ALL_PORTS:
            # To rules 0 is no port, and no packet has it.
            match += _range(kind, (max(1, ports[0]), max(1, ports[1])))
    sources = (b"",) if family == socket.AF_INET6 else (local, _ANYWHERE[len(local)])
    for source in sources:
        attributes = match + (encode_attribute(_FRA_SRC, source) if source else b"")
        yield _rule(family, DIVERT, _FR_ACT_TO_TBL, table, attributes, len(remote) * 8, len(source) * 8)


def _rule(
    family: int, priority: int, action: int, table: int, attributes: bytes, dst_bits: int = 0, src_bits: int = 0
) -> bytes:
    head = _RTMSG.pack(family, dst_bits, src_bits, 0, 0, 0, 0, action, 0)
    owner = encode_attribute(_FRA_PROTOCOL, bytes((RULE_PROTOCOL,)))
    return head + _u32(_FRA_PRIORITY, priority) + _u32(_FRA_TABLE, table) + owner + attributes


def _routes(diversion: Diversion, interface: int) -> Iterator[bytes]:
    """The bodies of the requests about its routes."""
    family = _family(diversion)
    local, remote = (ipaddress.ip_address(each).packed for each in (diversion.local, diversion.remote))
    headers = (40 if family == socket.AF_INET6 else 20) + _TCP_HEADER_OCTETS
    metrics = (
        _u32(_RTAX_LOCK, 1 << _RTAX_MTU)
        + _u32(_RTAX_MTU, ROUTE_MTU)
        + _u32(_RTAX_ADVMSS, _ETHERNET_MTU - _ESP_OCTETS - headers)
    )
    attributes = (
        encode_attribute(_RTA_DST, remote)
        + _u32(_RTA_OIF, interface)
        + encode_attribute(_RTA_PREFSRC, local)
        + encode_attribute(_RTA_METRICS, metrics)
        + _u32(_RTA_TABLE, FIRST_TABLE + interface)
    )
    for source in (local, _ANYWHERE[16]) if family == socket.AF_INET6 else (b"",):
        bits = (len(remote) * 8, len(source) * 8)
        head = _RTMSG.pack(family, *bits, 0, 0, _RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST, 0)
        yield head + attributes + (encode_attribute(_RTA_SRC, source) if source else b"")


def _u32(kind: int, value: int) -> bytes:
    return encode_attribute(kind, struct.pack("=I", value))


def _protocol(number: int) -> bytes:
    return encode_attribute(_FRA_IP_PROTO, bytes((number,)))


def _range(kind: int, ports: tuple[int, int]) -> bytes:
    return encode_attribute(kind, struct.pack("=HH", *ports))
