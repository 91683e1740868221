"""Traffic Selector payloads, TSi and TSr (RFC 7296 section 3.13).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
| Number of TSs |                 RESERVED                      |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                       <Traffic Selectors>                     ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

Traffic selector of an address range (section 3.13.1)
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|   TS Type     |IP Protocol ID |       Selector Length         |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|           Start Port          |           End Port            |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                         Starting Address                      ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                         Ending Address                        ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

import struct
from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType, TsType
from cygnet.wire.errors import WireError, WireFault

_FIXED = struct.Struct("!Bxxx")
_FIXED_OCTETS: Final = _FIXED.size
_SELECTOR = struct.Struct("!BBH")
_SELECTOR_OCTETS: Final = _SELECTOR.size
_PORTS = struct.Struct("!HH")
_PORTS_OCTETS: Final = _PORTS.size

_ADDRESS_OCTETS: Final = {int(TsType.IPV4_ADDR_RANGE): 4, int(TsType.IPV6_ADDR_RANGE): 16}
_CACHED_OCTETS: Final = 256


class TrafficSelector(msgspec.Struct, frozen=True, gc=False, cache_hash=True, array_like=True):
    """A range of addresses, ports and protocols.

    A selector of a type other than the two address ranges has its octets after the Selector Length in
    `start`, and nothing in the ports and in `end`.
    """

    ts_type: int
    """A `TsType`."""
    ip_protocol: int
    """An `IpProtocol`; 0 for any."""
    start_port: int
    """First port; for ICMP, type and code as one number. 0 to 65535 is any, 65535 to 0 is OPAQUE."""
    end_port: int
    start: bytes
    """First address: 4 or 16 octets."""
    end: bytes
    """Last address, itself included."""


class TrafficSelectorsInitiator(msgspec.Struct, frozen=True, gc=False):
    """The traffic at the initiator's end."""

    payload_type: ClassVar[PayloadType] = PayloadType.TSI

    selectors: tuple[TrafficSelector, ...]


class TrafficSelectorsResponder(msgspec.Struct, frozen=True, gc=False):
    """The traffic at the responder's end."""

    payload_type: ClassVar[PayloadType] = PayloadType.TSR

    selectors: tuple[TrafficSelector, ...]


def decode_traffic_selectors_initiator(body: bytes) -> TrafficSelectorsInitiator:
    """Take apart the body of a TSi payload; raises `WireError`."""
    decode = _decode_selectors_cached if len(body) <= _CACHED_OCTETS else _decode_selectors
    return TrafficSelectorsInitiator(decode(body))


def decode_traffic_selectors_responder(body: bytes) -> TrafficSelectorsResponder:
    """Take apart the body of a TSr payload; raises `WireError`."""
    decode = _decode_selectors_cached if len(body) <= _CACHED_OCTETS else _decode_selectors
    return TrafficSelectorsResponder(decode(body))


def encode_traffic_selectors(payload: TrafficSelectorsInitiator | TrafficSelectorsResponder) -> bytes:
    """The body of a TSi or TSr payload."""
    selectors = payload.selectors
    if len(selectors) > 0xFF:
        raise WireError(WireFault.TOO_LONG)
    return b"".join([_FIXED.pack(len(selectors)), *map(_encode_selector, selectors)])


def _decode_selectors(body: bytes) -> tuple[TrafficSelector, ...]:
    if len(body) < _FIXED_OCTETS:
        raise WireError(WireFault.TRUNCATED)
    (count,) = _FIXED.unpack_from(body)
    selectors = []
    offset, end = _FIXED_OCTETS, len(body)
    while offset < end:
        if end - offset < _SELECTOR_OCTETS:
            raise WireError(WireFault.TRUNCATED)
        ts_type, ip_protocol, length = _SELECTOR.unpack_from(body, offset)
        start = offset + _SELECTOR_OCTETS
        stop = offset + length
        if not start <= stop <= end:
            raise WireError(WireFault.BAD_LENGTH)
        selectors.append(_decode_selector(ts_type, ip_protocol, body[start:stop]))
        offset = stop
    if len(selectors) != count:
        raise WireError(WireFault.BAD_SUBSTRUCTURE)
    return tuple(selectors)


def _decode_selector(ts_type: int, ip_protocol: int, octets: bytes) -> TrafficSelector:
    address_octets = _ADDRESS_OCTETS.get(ts_type)
    if address_octets is None:
        return TrafficSelector(ts_type, ip_protocol, 0, 0, octets, b"")
    end_start = _PORTS_OCTETS + address_octets
    if len(octets) != end_start + address_octets:
        raise WireError(WireFault.BAD_LENGTH)
    start_port, end_port = _PORTS.unpack_from(octets)
    return TrafficSelector(
        ts_type, ip_protocol, start_port, end_port, octets[_PORTS_OCTETS:end_start], octets[end_start:]
    )


@lru_cache(maxsize=1024)
def _encode_selector(selector: TrafficSelector) -> bytes:
    address_octets = _ADDRESS_OCTETS.get(selector.ts_type)
    if address_octets is None:
        octets = selector.start
    elif len(selector.start) == len(selector.end) == address_octets:
        octets = _PORTS.pack(selector.start_port, selector.end_port) + selector.start + selector.end
    else:
        raise WireError(WireFault.BAD_LENGTH)
    length = _SELECTOR_OCTETS + len(octets)
    if length > 0xFFFF:
        raise WireError(WireFault.TOO_LONG)
    return _SELECTOR.pack(selector.ts_type, selector.ip_protocol, length) + octets


_decode_selectors_cached = lru_cache(maxsize=1024)(_decode_selectors)
