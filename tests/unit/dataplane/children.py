"""CHILD_SAs as IKE would hand them to a data plane, for both ends."""

import ipaddress
import os
from collections.abc import Callable

from cygnet.crypto.encr import ENCR
from cygnet.crypto.keymat import ChildSuite
from cygnet.dataplane.base import Awaited
from cygnet.dataplane.userspace import ETHERNET_MTU, UserspaceDataplane
from cygnet.iana import EncrId, TsType
from cygnet.ike.carriage import DEFAULT_CARRIAGE, Carriage
from cygnet.ike.effects import InstallChild
from cygnet.ike.path import Path
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

GATEWAY_PATH = Path(local="192.0.2.1", local_port=4500, remote="198.51.100.7", remote_port=31000)
CLIENT_PATH = Path(local="10.99.0.7", local_port=4500, remote="192.0.2.1", remote_port=4500)
ANY_PORT = (0, 65535)
AES_GCM = ChildSuite(encr=ENCR[EncrId.AES_GCM_16], key_bits=128)


def packed(address: str) -> bytes:
    """A packed address from its text."""
    return ipaddress.ip_address(address).packed


def selector(text: str, protocol: int = 0, ports: tuple[int, int] = ANY_PORT) -> TrafficSelector:
    """A selector from a subnet, or from a range `a-b`."""
    if "-" in text:
        start, end = (packed(part) for part in text.split("-"))
    else:
        network = ipaddress.ip_network(text)
        start, end = network.network_address.packed, network.broadcast_address.packed
    ts_type = TsType.IPV4_ADDR_RANGE if len(start) == 4 else TsType.IPV6_ADDR_RANGE
    return TrafficSelector(
        ts_type=ts_type, ip_protocol=protocol, start_port=ports[0], end_port=ports[1], start=start, end=end
    )


def child(
    number: int,
    *,
    local: tuple[TrafficSelector, ...] = (selector("0.0.0.0/0"),),
    remote: tuple[TrafficSelector, ...],
    is_udp_encapsulated: bool = True,
    suite: ChildSuite = AES_GCM,
    carriage: Carriage = DEFAULT_CARRIAGE,
) -> InstallChild:
    """The gateway's end of CHILD_SA `number`."""
    keys_in, keys_out = (
        (os.urandom(suite.encr.key_octets(suite.key_bits)), os.urandom(suite.integ.key_octets) if suite.integ else b"")
        for _ in range(2)
    )
    return InstallChild(
        sa=bytes(8),
        name="net",
        spi_in=b"\x01" + number.to_bytes(3, "big"),
        spi_out=b"\xc0" + number.to_bytes(3, "big"),
        suite=suite,
        keys_in=keys_in,
        keys_out=keys_out,
        ts_local=local,
        ts_remote=remote,
        path=GATEWAY_PATH,
        is_udp_encapsulated=is_udp_encapsulated,
        replay_window=32,
        carriage=carriage,
    )


def other_end(end: InstallChild) -> InstallChild:
    """The peer's view of the same CHILD_SA."""
    return InstallChild(
        sa=end.sa,
        name=end.name,
        spi_in=end.spi_out,
        spi_out=end.spi_in,
        suite=end.suite,
        keys_in=end.keys_out,
        keys_out=end.keys_in,
        ts_local=end.ts_remote,
        ts_remote=end.ts_local,
        path=CLIENT_PATH,
        is_udp_encapsulated=end.is_udp_encapsulated,
        replay_window=end.replay_window,
        carriage=end.carriage,
    )


class Sink:
    """Keeps what is delivered."""

    def __init__(self) -> None:
        self.packets: list[tuple[bytes, bytes]] = []

    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        """Keep it."""
        self.packets.append((packet, spi_in))


SENT_AT = 7.0
"""What a `Plane`'s clock says."""


class Plane:
    """A userspace data plane, with everything that it emits."""

    def __init__(
        self,
        path_mtu: Callable[[Path], int] | None = None,
        is_awaited: Awaited = lambda spi_in: False,
        soon: Callable[[Callable[[], None]], object] = lambda call: call(),
    ) -> None:
        """With `path_mtu` it refuses what is too big for the path."""
        self.sink = Sink()
        self.sent: list[tuple[bytes, Path, bool]] = []
        self.classes: list[int] = []
        """The outer traffic class of each."""
        self.counts: list[str] = []
        self.moves: list[tuple[bytes, Path]] = []
        self.too_big: list[tuple[bytes, int]] = []
        self.plane = UserspaceDataplane(
            self.sink,
            self._send,
            self.counts.append,
            moved=lambda spi_in, path: self.moves.append((spi_in, path)),
            clock=lambda: SENT_AT,
            path_mtu=path_mtu or (lambda path: ETHERNET_MTU),
            is_awaited=is_awaited,
            soon=soon,
            too_big=(lambda packet, room: self.too_big.append((packet, room))) if path_mtu is not None else None,
        )

    def _send(self, esp: bytes, path: Path, is_udp_encapsulated: bool, traffic_class: int) -> None:
        self.sent.append((esp, path, is_udp_encapsulated))
        self.classes.append(traffic_class)
