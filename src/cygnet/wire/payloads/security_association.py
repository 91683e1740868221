"""Security Association payload (RFC 7296 section 3.3): proposals, their transforms, their attributes.

    Proposal substructure (section 3.3.1)
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    | Last Substruc |   RESERVED    |         Proposal Length       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    | Proposal Num  |  Protocol ID  |    SPI Size   |Num  Transforms|
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ~                        SPI (variable)                         ~
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ~                        <Transforms>                           ~
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    Transform substructure (section 3.3.2)
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    | Last Substruc |   RESERVED    |        Transform Length       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |Transform Type |   RESERVED    |          Transform ID         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ~                      Transform Attributes                     ~
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    Transform attribute (section 3.3.5)
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |A|       Attribute Type        |    AF=0  Attribute Length     |
    |F|                             |    AF=1  Attribute Value      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ~                   AF=0  Attribute Value                       ~
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The offers of a fleet repeat, so what was decoded once is found again by its octets. The caches are bounded in
entries and in the size of an entry: a peer can at worst make them useless.
"""

import struct
from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from cygnet.iana import AttributeType, PayloadType
from cygnet.wire.errors import WireError, WireFault

_PROPOSAL = struct.Struct("!BxHBBBB")
_PROPOSAL_OCTETS: Final = _PROPOSAL.size
_SPI_SIZE_OFFSET: Final = 6
_TRANSFORM = struct.Struct("!BxH")
_TRANSFORM_OCTETS: Final = _TRANSFORM.size
_TRANSFORM_BODY = struct.Struct("!BxH")
_TRANSFORM_BODY_OCTETS: Final = _TRANSFORM_BODY.size
_ATTRIBUTE = struct.Struct("!HH")
_ATTRIBUTE_OCTETS: Final = _ATTRIBUTE.size

_LAST: Final = 0
_MORE_PROPOSALS: Final = 2
_MORE_TRANSFORMS: Final = 3
_FORMAT_TV: Final = 0x8000
_KEY_LENGTH: Final = int(AttributeType.KEY_LENGTH)

_CACHED_TRANSFORM_OCTETS: Final = 16
_CACHED_OFFER_OCTETS: Final = 1024


class Transform(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One algorithm on offer."""

    type: int
    """A `TransformType`."""
    id: int
    """A number in the registry of that type: `EncrId`, `PrfId`, `IntegId`, `KeId`, `SequenceNumbers`."""
    key_bits: int = 0
    """The Key Length attribute; 0 where there is none."""
    attributes: tuple[tuple[int, bytes | int], ...] = ()
    """All other attributes: type, and a number (AF=1) or octets (AF=0). A transform with one that is not
    understood is not to be chosen (section 3.3.6)."""


class Proposal(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One way to protect an SA: of each transform type in it, one transform is to be chosen."""

    number: int
    """1 for the first of an offer, then one more each; in a response, that of the proposal chosen."""
    protocol_id: int
    """A `ProtocolId`."""
    spi: bytes
    """The sender's SPI: empty in IKE_SA_INIT, 8 octets for a rekeyed IKE_SA, 4 for ESP and AH."""
    transforms: tuple[Transform, ...]


class SecurityAssociation(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """What is on offer, in the order of preference, or the single proposal that was chosen."""

    payload_type: ClassVar[PayloadType] = PayloadType.SA

    proposals: tuple[Proposal, ...]
    fingerprint: bytes = b""
    """The received body with the SPIs cut out: equal for equal offers, whatever their SPIs. Empty in one that
    was not received."""


def decode_security_association(body: bytes) -> SecurityAssociation:
    """Take apart the body of an SA payload; raises `WireError`."""
    octets = len(body)
    if not _PROPOSAL_OCTETS <= octets <= _CACHED_OFFER_OCTETS:
        return _decode_offer(body)
    # The SPI Size of the first proposal. An offer without SPIs, IKE_SA_INIT's, repeats as a whole.
    spi_octets = body[_SPI_SIZE_OFFSET]
    if not spi_octets:
        return _decode_offer_cached(body)
    # One proposal with an SPI repeats but for that, and is all that most ESP offers are.
    stop = _PROPOSAL_OCTETS + spi_octets
    fingerprint = body[:_PROPOSAL_OCTETS] + body[stop:]
    only = _only_proposal(fingerprint, octets)
    if only is None:
        return _decode_offer(body)
    number, protocol_id, transforms = only
    spi = body[_PROPOSAL_OCTETS:stop]
    return SecurityAssociation((Proposal(number, protocol_id, spi, transforms),), fingerprint)


def encode_security_association(payload: SecurityAssociation) -> bytes:
    """The body of an SA payload."""
    proposals = payload.proposals
    if not proposals:
        return b""
    # An offer without SPIs is the same for a whole fleet, and one proposal with an SPI but for that.
    first = proposals[0]
    if not first.spi:
        return _encode_offer_cached(payload)
    if len(proposals) > 1:
        return _encode_offer(payload)
    before, after = _around_spi(first.number, first.protocol_id, len(first.spi), first.transforms)
    return before + first.spi + after


def _encode_offer(payload: SecurityAssociation) -> bytes:
    parts: list[bytes] = []
    more = len(payload.proposals)
    for proposal in payload.proposals:
        more -= 1
        last = _MORE_PROPOSALS if more else _LAST
        before, after = _encode_proposal(
            proposal.number, proposal.protocol_id, len(proposal.spi), proposal.transforms, last
        )
        parts += (before, proposal.spi, after)
    return b"".join(parts)


def _encode_proposal(
    number: int, protocol_id: int, spi_octets: int, transforms: tuple[Transform, ...], last: int = _LAST
) -> tuple[bytes, bytes]:
    """What stands before the SPI of a proposal, and what after it."""
    after = _encode_transforms(transforms)
    length = _PROPOSAL_OCTETS + spi_octets + len(after)
    if spi_octets > 0xFF or len(transforms) > 0xFF or length > 0xFFFF:
        raise WireError(WireFault.TOO_LONG)
    return _PROPOSAL.pack(last, length, number, protocol_id, spi_octets, len(transforms)), after


def _decode_offer(body: bytes) -> SecurityAssociation:
    proposals = []
    without_spis = []
    offset, end = 0, len(body)
    if end == 0:
        raise WireError(WireFault.TRUNCATED)
    while offset < end:
        if end - offset < _PROPOSAL_OCTETS:
            raise WireError(WireFault.TRUNCATED)
        last, length, number, protocol_id, spi_octets, count = _PROPOSAL.unpack_from(body, offset)
        spi_start = offset + _PROPOSAL_OCTETS
        spi_stop = spi_start + spi_octets
        stop = offset + length
        if not spi_stop <= stop <= end:
            raise WireError(WireFault.BAD_LENGTH)
        if last != (_MORE_PROPOSALS if stop < end else _LAST):
            raise WireError(WireFault.BAD_SUBSTRUCTURE)
        octets = body[spi_stop:stop]
        transforms = (_decode_transforms_cached if len(octets) <= _CACHED_OFFER_OCTETS else _decode_transforms)(octets)
        if len(transforms) != count:
            raise WireError(WireFault.BAD_SUBSTRUCTURE)
        proposals.append(Proposal(number, protocol_id, body[spi_start:spi_stop], transforms))
        without_spis.append(body[offset:spi_start])
        without_spis.append(octets)
        offset = stop
    return SecurityAssociation(tuple(proposals), b"".join(without_spis))


@lru_cache(maxsize=256)
def _only_proposal(fingerprint: bytes, octets: int) -> tuple[int, int, tuple[Transform, ...]] | None:
    """Number, protocol and transforms of a body of so many octets, with the SPI of its first proposal cut out.

    None if it is not one proposal alone, or not well-formed: which fault it has is for `_decode_offer` to say.
    """
    last, length, number, protocol_id, spi_octets, count = _PROPOSAL.unpack_from(fingerprint)
    if last != _LAST or length != octets or len(fingerprint) + spi_octets != octets:
        return None
    try:
        transforms = _decode_transforms(fingerprint[_PROPOSAL_OCTETS:])
    except WireError:
        return None
    return (number, protocol_id, transforms) if len(transforms) == count else None


def _decode_transforms(octets: bytes) -> tuple[Transform, ...]:
    transforms = []
    offset, end = 0, len(octets)
    while offset < end:
        if end - offset < _TRANSFORM_OCTETS:
            raise WireError(WireFault.TRUNCATED)
        last, length = _TRANSFORM.unpack_from(octets, offset)
        start = offset + _TRANSFORM_OCTETS
        stop = offset + length
        if not start + _TRANSFORM_BODY_OCTETS <= stop <= end:
            raise WireError(WireFault.BAD_LENGTH)
        if last != (_MORE_TRANSFORMS if stop < end else _LAST):
            raise WireError(WireFault.BAD_SUBSTRUCTURE)
        decode = _decode_transform_cached if stop - start <= _CACHED_TRANSFORM_OCTETS else _decode_transform
        transforms.append(decode(octets[start:stop]))
        offset = stop
    return tuple(transforms)


def _decode_transform(octets: bytes) -> Transform:
    """One transform, from its Transform Type on."""
    transform_type, transform_id = _TRANSFORM_BODY.unpack_from(octets)
    key_bits = 0
    attributes: dict[int, bytes | int] = {}
    offset, end = _TRANSFORM_BODY_OCTETS, len(octets)
    while offset < end:
        if end - offset < _ATTRIBUTE_OCTETS:
            raise WireError(WireFault.TRUNCATED)
        kind, value = _ATTRIBUTE.unpack_from(octets, offset)
        offset += _ATTRIBUTE_OCTETS
        number = kind & ~_FORMAT_TV
        # RFC 7296 section 3.3: a transform has no two attributes of the same type.
        if number in attributes or (key_bits and number == _KEY_LENGTH):
            raise WireError(WireFault.DUPLICATE_ATTRIBUTE)
        if not kind & _FORMAT_TV:
            stop = offset + value
            if stop > end:
                raise WireError(WireFault.TRUNCATED)
            attributes[number] = octets[offset:stop]
            offset = stop
        elif number == _KEY_LENGTH and value:
            key_bits = value
        else:
            attributes[number] = value
    return Transform(transform_type, transform_id, key_bits, tuple(attributes.items()))


def _encode_transform(transform: Transform, last: int) -> bytes:
    attributes = b""
    if transform.key_bits:
        attributes = _ATTRIBUTE.pack(_KEY_LENGTH | _FORMAT_TV, transform.key_bits)
    for number, value in transform.attributes:
        if isinstance(value, int):
            attributes += _ATTRIBUTE.pack(number | _FORMAT_TV, value)
        else:
            attributes += _ATTRIBUTE.pack(number, len(value)) + value
    length = _TRANSFORM_OCTETS + _TRANSFORM_BODY_OCTETS + len(attributes)
    if length > 0xFFFF:
        raise WireError(WireFault.TOO_LONG)
    return _TRANSFORM.pack(last, length) + _TRANSFORM_BODY.pack(transform.type, transform.id) + attributes


@lru_cache(maxsize=512)
def _encode_transforms(transforms: tuple[Transform, ...]) -> bytes:
    if not transforms:
        return b""
    more = [_encode_transform(transform, _MORE_TRANSFORMS) for transform in transforms[:-1]]
    return b"".join([*more, _encode_transform(transforms[-1], _LAST)])


_around_spi = lru_cache(maxsize=256)(_encode_proposal)
_encode_offer_cached = lru_cache(maxsize=256)(_encode_offer)
_decode_offer_cached = lru_cache(maxsize=256)(_decode_offer)
_decode_transforms_cached = lru_cache(maxsize=256)(_decode_transforms)
_decode_transform_cached = lru_cache(maxsize=1024)(_decode_transform)
