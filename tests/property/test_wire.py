"""Octets and structs: everything decodes or raises `WireError`, and what was encoded decodes to what it was."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.strategies_wire import (
    STRATEGIES,
    chains,
    containers,
    inner_chains,
    mutated,
    proposals,
    spis,
    u8,
    u32,
)

from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.header import HEADER_OCTETS, decode_header
from cygnet.wire.message import decode_message, decode_payloads, encode_message, encode_payloads
from cygnet.wire.payloads import (
    Encrypted,
    EncryptedFragment,
    Payload,
    SecurityAssociation,
    Transform,
    Unknown,
)
from cygnet.wire.payloads.security_association import (
    decode_security_association,
    encode_security_association,
)
from cygnet.wire.reader import Reader
from cygnet.wire.registry import CODECS, CONTAINER_CODECS, Codec, ContainerCodec

each_codec = pytest.mark.parametrize(
    "codec", CODECS.values(), ids=[codec.payload_type.name for codec in CODECS.values()]
)
each_container = pytest.mark.parametrize(
    "codec", CONTAINER_CODECS.values(), ids=[codec.payload_type.name for codec in CONTAINER_CODECS.values()]
)


def as_built(payload: Payload) -> Payload:
    """The payload without what only receiving adds."""
    if isinstance(payload, SecurityAssociation):
        return msgspec.structs.replace(payload, fingerprint=b"")
    return payload


def all_as_built(payloads: tuple[Payload, ...]) -> tuple[Payload, ...]:
    return tuple(as_built(payload) for payload in payloads)


def with_length(datagram: bytes) -> bytes:
    """The datagram with the header's Length field put right."""
    return datagram[: HEADER_OCTETS - 4] + len(datagram).to_bytes(4) + datagram[HEADER_OCTETS:]


def decodes_or_refuses(decode: Any, *arguments: Any) -> Any:
    """What `decode` makes of the octets, or None; any exception but a `WireError` with a known fault fails."""
    try:
        return decode(*arguments)
    except WireError as error:
        assert error.reason in set(WireFault)
        return None


ADDED_TRANSFORMS = [Transform(1, 20, 128), Transform(2, 5), Transform(14, 9, 0, ((1, b"abc"), (2, 3)))]

datagrams = st.builds(
    encode_message,
    spi_i=spis,
    spi_r=spis,
    exchange_type=u8,
    flags=u8,
    message_id=u32,
    payloads=chains,
)


def test_every_registered_payload_has_a_strategy() -> None:
    structs = {codec.struct for codec in CODECS.values()}
    structs |= {container.struct for container in CONTAINER_CODECS.values()}
    assert structs == set(STRATEGIES)
    assert structs | {Unknown} == set(Payload.__args__)


def test_the_registry_keys_are_the_payload_types() -> None:
    for number, codec in CODECS.items():
        assert number == codec.payload_type == vars(codec.struct)["payload_type"]
    for number, container in CONTAINER_CODECS.items():
        assert number == container.payload_type == vars(container.struct)["payload_type"]


@each_codec
@given(st.data())
def test_a_body_round_trips(codec: Codec, data: st.DataObject) -> None:
    payload = data.draw(STRATEGIES[codec.struct])
    assert as_built(codec.decode(codec.encode(payload))) == payload


@each_container
@given(st.data())
def test_a_container_body_round_trips(codec: ContainerCodec, data: st.DataObject) -> None:
    payload: Any = data.draw(STRATEGIES[codec.struct])
    assert codec.decode(payload.inner_type, codec.encode(payload)) == payload


@each_codec
@given(body=st.binary(max_size=300))
def test_any_body_decodes_or_is_refused(codec: Codec, body: bytes) -> None:
    decodes_or_refuses(codec.decode, body)


@each_container
@given(inner_type=u8, body=st.binary(max_size=300))
def test_any_container_body_decodes_or_is_refused(codec: ContainerCodec, inner_type: int, body: bytes) -> None:
    decodes_or_refuses(codec.decode, inner_type, body)


@each_codec
@given(st.data())
def test_what_a_mutated_body_decodes_to_round_trips(codec: Codec, data: st.DataObject) -> None:
    body = data.draw(mutated(codec.encode(data.draw(STRATEGIES[codec.struct]))))
    payload = decodes_or_refuses(codec.decode, body)
    if payload is not None:
        assert as_built(codec.decode(codec.encode(payload))) == as_built(payload)


@given(spi_i=spis, spi_r=spis, exchange_type=u8, flags=u8, message_id=u32, payloads=chains)
def test_a_message_round_trips(
    spi_i: bytes,
    spi_r: bytes,
    exchange_type: int,
    flags: int,
    message_id: int,
    payloads: tuple[Payload, ...],
) -> None:
    datagram = encode_message(
        spi_i=spi_i,
        spi_r=spi_r,
        exchange_type=exchange_type,
        flags=flags,
        message_id=message_id,
        payloads=payloads,
    )
    message = decode_message(datagram)
    header = message.header
    assert (header.spi_i, header.spi_r) == (spi_i, spi_r)
    assert (header.exchange_type, header.flags, header.message_id) == (exchange_type, flags, message_id)
    assert (header.major_version, header.length) == (2, len(datagram))
    assert all_as_built(message.payloads) == payloads
    assert decode_message(datagram, decode_header(datagram)) == message


@given(inner_chains)
def test_inner_payloads_round_trip(payloads: tuple[Payload, ...]) -> None:
    assert all_as_built(decode_payloads(*encode_payloads(payloads))) == payloads


@given(inner_chains, containers)
def test_a_container_is_refused_inside_and_ends_a_message(payloads: tuple[Payload, ...], container: Payload) -> None:
    assert isinstance(container, Encrypted | EncryptedFragment)
    datagram = encode_message(
        spi_i=bytes(8),
        spi_r=bytes(8),
        exchange_type=35,
        flags=8,
        message_id=1,
        payloads=(*payloads, container),
    )
    assert datagram.endswith(container.body)
    first, octets = encode_payloads((*payloads, container))
    with pytest.raises(WireError) as caught:
        decode_payloads(first, octets)
    assert caught.value.reason == WireFault.NESTED_ENCRYPTED


@given(st.binary(max_size=400))
def test_any_datagram_decodes_or_is_refused(datagram: bytes) -> None:
    decodes_or_refuses(decode_header, datagram)
    decodes_or_refuses(decode_message, datagram)
    if len(datagram) >= HEADER_OCTETS:
        decodes_or_refuses(decode_message, with_length(datagram))


@given(u8, st.binary(max_size=400))
def test_any_chain_decodes_or_is_refused(first: int, octets: bytes) -> None:
    decodes_or_refuses(decode_payloads, first, octets)


@given(st.data(), datagrams)
def test_a_mutated_datagram_decodes_or_is_refused(data: st.DataObject, datagram: bytes) -> None:
    mutant = datagram[:HEADER_OCTETS] + data.draw(mutated(datagram[HEADER_OCTETS:]))
    message = decodes_or_refuses(decode_message, with_length(mutant))
    if message is not None:
        first, octets = encode_payloads(message.payloads)
        assert first == message.header.next_payload
        assert len(octets) == len(mutant) - HEADER_OCTETS


@given(st.data(), datagrams)
def test_a_shortened_datagram_is_refused(data: st.DataObject, datagram: bytes) -> None:
    kept = data.draw(st.integers(0, len(datagram) - 1))
    with pytest.raises(WireError):
        decode_message(datagram[:kept])
    if kept >= HEADER_OCTETS:
        with pytest.raises(WireError):
            decode_message(with_length(datagram[:kept]))


@given(datagrams, st.binary(min_size=1, max_size=40))
def test_a_lengthened_datagram_is_refused(datagram: bytes, tail: bytes) -> None:
    with pytest.raises(WireError):
        decode_message(datagram + tail)
    with pytest.raises(WireError):
        decode_message(with_length(datagram + tail))


@given(st.lists(proposals, min_size=1, max_size=4), st.data())
def test_the_fingerprint_leaves_out_the_spis_and_nothing_else(offer: list[Any], data: st.DataObject) -> None:
    def fingerprint(changed: list[Any]) -> bytes:
        body = encode_security_association(SecurityAssociation(tuple(changed)))
        return decode_security_association(body).fingerprint

    other_spis = [
        msgspec.structs.replace(
            proposal, spi=data.draw(st.binary(min_size=len(proposal.spi), max_size=len(proposal.spi)))
        )
        for proposal in offer
    ]
    assert fingerprint(other_spis) == fingerprint(offer)
    index = data.draw(st.integers(0, len(offer) - 1))
    changes = [
        {"number": offer[index].number ^ 1},
        {"protocol_id": offer[index].protocol_id ^ 1},
        {"spi": offer[index].spi + b"\0"},
        {"transforms": (*offer[index].transforms, data.draw(st.sampled_from(ADDED_TRANSFORMS)))},
    ]
    for change in changes:
        changed = [*offer]
        changed[index] = msgspec.structs.replace(offer[index], **change)
        assert fingerprint(changed) != fingerprint(offer)


@given(st.binary(max_size=40), st.lists(st.sampled_from(["u8", "u16", "u32", "octets", "sub", "rest"])))
def test_a_reader_gives_every_octet_once_and_in_order(octets: bytes, calls: list[str]) -> None:
    reader = Reader(octets)
    sizes = {"u8": 1, "u16": 2, "u32": 4, "octets": 3, "sub": 5}
    expected = octets
    for call in calls:
        size = sizes.get(call, len(expected))
        if size > len(expected):
            with pytest.raises(WireError):
                _read(reader, call, size)
            assert reader.remaining == len(expected)
        else:
            assert _read(reader, call, size) == expected[:size]
            expected = expected[size:]
    assert reader.remaining == len(expected)


def _read(reader: Reader, call: str, size: int) -> bytes:
    match call:
        case "octets":
            return reader.octets(size)
        case "sub":
            return reader.sub(size).rest()
        case "rest":
            return reader.rest()
        case _:
            number: int = getattr(reader, call)()
            return number.to_bytes(size)
