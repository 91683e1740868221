"""An idle CHILD_SA as octets, from which its tunnel is made again as it was.

MessagePack, the fields of `InstallChild` in their order, so that one that is added there is carried along; and how far
each half has come: without it sequence numbers would repeat, replays be accepted, and AES-GCM use nonces twice.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, get_type_hints

import msgspec

from cygnet.crypto.keymat import ChildSuite
from cygnet.dataplane.base import Carried, Usage
from cygnet.dataplane.tunnel import Tunnel
from cygnet.esp.sa import InboundState, OutboundState
from cygnet.ike.carriage import Carriage
from cygnet.ike.effects import InstallChild
from cygnet.ike.path import Path
from cygnet.ike.resting import exact_encoder
from cygnet.ike.shared_objects import SharedObjects

_APART: Final = frozenset({"spi_in", "suite", "carriage", "path", "is_udp_encapsulated"})
"""The record's key, what all tunnels share, and what the tunnel knows better."""
_CARRIED: Final = tuple(name for name in InstallChild.__struct_fields__ if name not in _APART)
_carried_of: Final = attrgetter(*_CARRIED)
_Child: Final[Any] = msgspec.defstruct(
    "_Child",
    [(name, get_type_hints(InstallChild)[name]) for name in _CARRIED],
    frozen=True,
    gc=False,
    array_like=True,
)


class TunnelRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is packed."""

    suite: int
    carriage: int
    child: _Child
    path: Path
    is_udp_encapsulated: bool
    last_received: float
    last_sent: float
    inbound: InboundState | None
    outbound: OutboundState | None

    def __repr__(self) -> str:
        return "TunnelRecord(<redacted>)"


class TunnelRecords:
    """Packs the tunnels of a data plane: the codec of its `RestingMap`."""

    __slots__ = ("_decode", "_encode", "_entropy", "shared")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._encode = exact_encoder()
        self._decode = msgspec.msgpack.Decoder(TunnelRecord).decode
        self.shared = SharedObjects()

    def pack(self, key: bytes, value: Tunnel, now: float) -> bytes | None:
        """The record; None if there was traffic since we looked last, or if it is about to go."""
        if value.is_retired or value.has_new_traffic():
            return None
        child = value.child
        return self._encode(
            TunnelRecord(
                self.shared.refer(child.suite),
                self.shared.refer(child.carriage),
                _Child(*_carried_of(child)),
                value.path,
                value.is_udp_encapsulated,
                value.last_received,
                value.last_sent,
                value.inbound_state,
                value.outbound_state,
            )
        )

    def unpack(self, key: bytes, record: bytes) -> Tunnel:
        """The tunnel, as it was."""
        packed = self._decode(record)
        shared = self.shared
        return self._restore(key, packed, shared.release(packed.suite), shared.release(packed.carriage))

    def view(self, key: bytes, record: bytes) -> Tunnel:
        """A copy to look at. To send with it would repeat what the tunnel itself sends."""
        packed = self._decode(record)
        shared = self.shared
        return self._restore(key, packed, shared.look(packed.suite), shared.look(packed.carriage))

    def carried(self, key: bytes, record: bytes) -> Carried:
        """What is to be known of a tunnel that is asleep, without making one."""
        packed = self._decode(record)
        inbound, outbound = packed.inbound, packed.outbound
        usage = Usage(
            packets_in=inbound.packets if inbound else 0,
            octets_in=inbound.octets if inbound else 0,
            packets_out=outbound.packets if outbound else 0,
            octets_out=outbound.octets if outbound else 0,
            last_received=packed.last_received,
            last_sent=packed.last_sent,
        )
        shared = self.shared
        return Carried(self._child(key, packed, shared.look(packed.suite), shared.look(packed.carriage)), usage)

    @staticmethod
    def _child(key: bytes, packed: TunnelRecord, suite: object, carriage: object) -> InstallChild:
        assert isinstance(suite, ChildSuite) and isinstance(carriage, Carriage)
        fields = {name: getattr(packed.child, name) for name in _CARRIED}
        return InstallChild(
            spi_in=key,
            suite=suite,
            carriage=carriage,
            path=packed.path,
            is_udp_encapsulated=packed.is_udp_encapsulated,
            **fields,
        )

    def _restore(self, key: bytes, packed: TunnelRecord, suite: object, carriage: object) -> Tunnel:
        tunnel = Tunnel(self._child(key, packed, suite, carriage))
        tunnel.last_received = packed.last_received
        tunnel.last_sent = packed.last_sent
        tunnel.resume(packed.inbound, packed.outbound, self._entropy)
        return tunnel
