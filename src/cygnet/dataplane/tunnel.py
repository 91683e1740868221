"""One CHILD_SA in the userspace data plane."""

from collections.abc import Callable

from cygnet.crypto.protection import PacketProtection, make_protection
from cygnet.dataplane.base import Usage
from cygnet.esp.sa import InboundSa, InboundState, OutboundSa, OutboundState
from cygnet.ike.effects import InstallChild

_IPV4_HEADER_OCTETS = 20
_IPV6_HEADER_OCTETS = 40
_UDP_HEADER_OCTETS = 8


class Tunnel:
    """Both halves of a CHILD_SA. Each is made when it meets its first packet.

    Most tunnels are idle: then they are the octets that `record.py` makes of them.
    """

    __slots__ = ("_inbound", "_outbound", "_seen", "child", "is_udp_encapsulated", "last_received", "last_sent", "path")

    def __init__(self, child: InstallChild) -> None:
        self.child = child
        self.path = child.path
        self.is_udp_encapsulated = child.is_udp_encapsulated
        self.last_received = 0.0
        self.last_sent = 0.0
        self._seen = 0
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
