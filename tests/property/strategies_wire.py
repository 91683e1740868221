"""Hypothesis strategies of every wire struct, keyed as the registry is."""

from collections.abc import Mapping

from hypothesis import strategies as st

from cygnet.iana import AttributeType, PayloadType, TsType
from cygnet.wire.header import SPI_OCTETS
from cygnet.wire.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    ConfigurationAttribute,
    Delete,
    Eap,
    Encrypted,
    EncryptedFragment,
    IdentificationInitiator,
    IdentificationResponder,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    PuzzleSolution,
    SecurityAssociation,
    TrafficSelector,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    Transform,
    Unknown,
    VendorId,
)
from cygnet.wire.registry import CODECS, CONTAINER_CODECS

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
data = st.binary(max_size=64)
spis = st.binary(min_size=SPI_OCTETS, max_size=SPI_OCTETS)
reserved = st.just(bytes(3)) | st.binary(min_size=3, max_size=3)

other_attributes = st.lists(
    st.tuples(
        st.integers(0, 0x7FFF).filter(lambda number: number != AttributeType.KEY_LENGTH),
        u16 | st.binary(max_size=8),
    ),
    max_size=2,
    unique_by=lambda attribute: attribute[0],
).map(tuple)
transforms = st.builds(
    Transform,
    type=st.integers(1, 14) | u8,
    id=st.integers(0, 40) | u16,
    key_bits=st.sampled_from([0, 128, 192, 256]) | u16,
    attributes=st.just(()) | other_attributes,
)
proposals = st.builds(
    Proposal,
    number=u8,
    protocol_id=st.integers(1, 3) | u8,
    spi=st.sampled_from([b"", bytes(4), bytes(8)]) | st.binary(max_size=9),
    transforms=st.lists(transforms, max_size=6).map(tuple),
)


def _address_range(ts_type: int, octets: int) -> st.SearchStrategy[TrafficSelector]:
    address = st.binary(min_size=octets, max_size=octets)
    return st.builds(
        TrafficSelector,
        ts_type=st.just(ts_type),
        ip_protocol=u8,
        start_port=u16,
        end_port=u16,
        start=address,
        end=address,
    )


selectors = (
    _address_range(TsType.IPV4_ADDR_RANGE, 4)
    | _address_range(TsType.IPV6_ADDR_RANGE, 16)
    | st.builds(
        TrafficSelector,
        ts_type=u8.filter(lambda number: number not in (TsType.IPV4_ADDR_RANGE, TsType.IPV6_ADDR_RANGE)),
        ip_protocol=u8,
        start_port=st.just(0),
        end_port=st.just(0),
        start=data,
        end=st.just(b""),
    )
)
selector_tuples = st.lists(selectors, max_size=20).map(tuple)
deleted_spis = st.integers(1, 8).flatmap(
    lambda octets: st.lists(st.binary(min_size=octets, max_size=octets), max_size=5).map(tuple)
)
fragments = st.integers(1, 0xFFFF).flatmap(
    lambda total: st.builds(
        EncryptedFragment, inner_type=u8, number=st.integers(1, total), total=st.just(total), body=data
    )
)
unknown_types = u8.filter(
    lambda number: number != PayloadType.NONE and number not in CODECS and number not in CONTAINER_CODECS
)
unknown = st.builds(Unknown, payload_type=unknown_types, is_critical=st.booleans(), body=data)

STRATEGIES: Mapping[type, st.SearchStrategy[Payload]] = {
    SecurityAssociation: st.builds(
        SecurityAssociation,
        proposals=st.lists(proposals, min_size=1, max_size=4).map(tuple),
        fingerprint=st.just(b""),
    ),
    KeyExchange: st.builds(KeyExchange, method=u16, data=data),
    IdentificationInitiator: st.builds(IdentificationInitiator, id_type=u8, data=data, reserved=reserved),
    IdentificationResponder: st.builds(IdentificationResponder, id_type=u8, data=data, reserved=reserved),
    Certificate: st.builds(Certificate, encoding=u8, data=data),
    CertificateRequest: st.builds(CertificateRequest, encoding=u8, data=data),
    Authentication: st.builds(Authentication, method=u8, data=data),
    Nonce: st.builds(Nonce, data=st.binary(min_size=16, max_size=256)),
    Notify: st.builds(Notify, protocol_id=u8, spi=st.binary(max_size=9), notify_type=u16, data=data),
    Delete: st.builds(Delete, protocol_id=u8, spis=deleted_spis),
    VendorId: st.builds(VendorId, data=data),
    TrafficSelectorsInitiator: st.builds(TrafficSelectorsInitiator, selectors=selector_tuples),
    TrafficSelectorsResponder: st.builds(TrafficSelectorsResponder, selectors=selector_tuples),
    Configuration: st.builds(
        Configuration,
        cfg_type=u8,
        attributes=st.lists(
            st.builds(ConfigurationAttribute, type=st.integers(0, 0x7FFF), value=st.binary(max_size=20)),
            max_size=6,
        ).map(tuple),
    ),
    Eap: st.builds(Eap, code=u8, identifier=u8, data=data),
    PuzzleSolution: st.builds(
        PuzzleSolution,
        data=st.integers(1, 16).flatmap(lambda octets: st.binary(min_size=4 * octets, max_size=4 * octets)),
    ),
    Encrypted: st.builds(Encrypted, inner_type=u8, body=data),
    EncryptedFragment: fragments,
}
"""Payloads that survive encoding and decoding unchanged, of every struct in the registry."""

inner_payloads = st.one_of(*(STRATEGIES[codec.struct] for codec in CODECS.values()), unknown)
"""Any payload that may stand anywhere in a chain."""
containers = st.one_of(*(STRATEGIES[codec.struct] for codec in CONTAINER_CODECS.values()))
"""Any payload that ends a chain."""
inner_chains = st.lists(inner_payloads, max_size=8).map(tuple)
chains = inner_chains | st.tuples(inner_chains, containers).map(lambda pair: (*pair[0], pair[1]))
"""Any chain of a datagram."""


@st.composite
def mutated(draw: st.DrawFn, octets: bytes) -> bytes:
    """`octets` with a few of them overwritten, cut out or put in: nearly right, which is where decoders break."""
    mutant = bytearray(octets)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(mutant)))
        cut = draw(st.integers(0, 2))
        mutant[position : position + cut] = draw(st.binary(max_size=2))
    return bytes(mutant)
