"""One CHILD_SA in the userspace data plane."""

from collections.abc import Callable
from math import inf
from typing import Final

import msgspec

from cygnet.crypto.protection import PacketProtection, make_protection
from cygnet.dataplane.base import Usage
from cygnet.esp.sa import InboundSa, InboundState, OutboundSa, OutboundState
from cygnet.ike.effects import InstallChild, UsageLimits

_IPV4_HEADER_OCTETS = 20
_IPV6_HEADER_OCTETS = 40
_UDP_HEADER_OCTETS = 8

_SEQUENCE_LIMIT: Final = (1 << 32) - (1 << 28)
"""Packets after which an SA without extended sequence numbers is to be rekeyed: a sixteenth of them are left then."""


class Tunnel:
    """Both halves of a CHILD_SA. Each is made when it meets its first packet.

    Most tunnels are idle: then they are the octets that `record.py` makes of them.
    """

    __slots__ = (
        "_inbound",
        "_outbound",
        "_seen",
        "child",
        "is_retired",
        "is_udp_encapsulated",
        "is_waiting",
        "last_received",
        "last_sent",
        "octet_limit",
        "packet_limit",
        "path",
    )

    def __init__(self, child: InstallChild) -> None:
        self.child = child
        self.path = child.path
        self.is_udp_encapsulated = child.is_udp_encapsulated
        self.last_received = 0.0
        self.last_sent = 0.0
        self._seen = 0
        self.is_waiting = child.yields or not child.is_outbound
        """Whether it is not sent on yet, or only where no older one is for the same traffic."""
        self.is_retired = False
        """Whether it only receives for a little while yet."""
        limits = child.limits
        last = inf if child.suite.is_esn else _SEQUENCE_LIMIT
        self.octet_limit = inf if limits is None else min(limits.soft_octets, limits.hard_octets)
        """What it may carry in one direction before that is reported."""
        self.packet_limit = last if limits is None else min(last, limits.soft_packets, limits.hard_packets)
        self._inbound: InboundSa | None = None
        self._outbound: OutboundSa | None = None

    def inbound(self, entropy: Callable[[int], bytes]) -> InboundSa:
        """The receiving half."""
        sa = self._inbound
        if sa is None:
            child = self.child
            sa = self._inbound = InboundSa(
                int.from_bytes(child.spi_in, "big"),
                self._protection(child.keys_in, entropy),
                is_esn=child.suite.is_esn,
                replay_window=child.replay_window,
            )
        return sa

    def outbound(self, entropy: Callable[[int], bytes]) -> OutboundSa:
        """The sending half."""
        sa = self._outbound
        if sa is None:
            child = self.child
            sa = self._outbound = OutboundSa(
                int.from_bytes(child.spi_out, "big"),
                self._protection(child.keys_out, entropy),
                is_esn=child.suite.is_esn,
            )
        return sa

    def room(self, mtu: int, sa: OutboundSa) -> int:
        """Octets of the largest inner packet that makes an outer one of up to `mtu` octets; `sa` is `outbound`'s."""
        outer = _IPV6_HEADER_OCTETS if self.path.is_ipv6 else _IPV4_HEADER_OCTETS
        if self.is_udp_encapsulated:
            outer += _UDP_HEADER_OCTETS
        return sa.room(mtu - outer)

    @property
    def inbound_state(self) -> InboundState | None:
        """How far the receiving half has come; None if it has not begun."""
        return self._inbound.state if self._inbound is not None else None

    @property
    def outbound_state(self) -> OutboundState | None:
        """The same of the sending half."""
        return self._outbound.state if self._outbound is not None else None

    def resume(
        self, inbound: InboundState | None, outbound: OutboundState | None, entropy: Callable[[int], bytes]
    ) -> None:
        """Go on from there, in a tunnel that has carried nothing yet."""
        if inbound is not None:
            self.inbound(entropy).resume(inbound)
        if outbound is not None:
            self.outbound(entropy).resume(outbound)
        self._seen = self._packets

    def has_new_traffic(self) -> bool:
        """Whether there were packets since this was asked last."""
        before, self._seen = self._seen, self._packets
        return self._seen != before

    @property
    def _packets(self) -> int:
        return (self._inbound.packets if self._inbound else 0) + (self._outbound.packets if self._outbound else 0)

    def pass_limit(self, packets: int, octets: int) -> bool:
        """A limit is reached, by so much in one direction: watch for the next; whether it was a hard one."""
        limits = self.child.limits or UsageLimits(inf, inf, inf, inf)
        is_hard = packets >= limits.hard_packets or octets >= limits.hard_octets
        # After that, what is left is the last sequence number, which stops the SA by itself.
        left = UsageLimits(inf, inf if is_hard else limits.hard_octets, inf, inf if is_hard else limits.hard_packets)
        self.octet_limit, self.packet_limit = left.hard_octets, left.hard_packets
        self.child = msgspec.structs.replace(self.child, limits=left)
        return is_hard

    def send_from_now_on(self) -> None:
        """It is waited for no longer."""
        self.is_waiting = False
        self.child = msgspec.structs.replace(self.child, is_outbound=True, yields=False)

    def usage(self) -> Usage:
        """What both halves have carried."""
        inbound, outbound = self._inbound, self._outbound
        return Usage(
            packets_in=inbound.packets if inbound else 0,
            octets_in=inbound.octets if inbound else 0,
            packets_out=outbound.packets if outbound else 0,
            octets_out=outbound.octets if outbound else 0,
            last_received=self.last_received,
            last_sent=self.last_sent,
        )

    def _protection(self, keys: tuple[bytes, bytes], entropy: Callable[[int], bytes]) -> PacketProtection:
        suite = self.child.suite
        return make_protection(
            suite.encr, suite.key_bits, suite.integ, encr_key=keys[0], integ_key=keys[1], entropy=entropy
        )
