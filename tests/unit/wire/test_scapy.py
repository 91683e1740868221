"""A second opinion: scapy's IKEv2, written by others, reads what we write, and we read what it writes."""

import warnings
from typing import Any

import pytest

from cygnet.iana import (
    CfgAttribute,
    EncrId,
    ExchangeType,
    IntegId,
    KeId,
    NotifyType,
    PayloadType,
    PrfId,
    ProtocolId,
    SequenceNumbers,
    TsType,
)
from cygnet.wire.message import decode_message, encode_message
from cygnet.wire.payloads import (
    Authentication,
    Configuration,
    ConfigurationAttribute,
    Delete,
    Encrypted,
    IdentificationInitiator,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    TrafficSelector,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    Transform,
    VendorId,
)

with warnings.catch_warnings():
    # scapy imports ciphers that `cryptography` is about to move.
    warnings.simplefilter("ignore")
    from scapy.contrib import ikev2

SPI_I = b"initiatr"
SPI_R = b"respondr"
OFFER = (
    Proposal(
        1,
        ProtocolId.IKE,
        b"",
        (Transform(1, 12, 256), Transform(2, 5), Transform(3, 12), Transform(4, 31)),
    ),
    Proposal(2, ProtocolId.ESP, b"spi!", (Transform(1, 20, 128), Transform(5, 0))),
)


def ours(*payloads: Payload) -> bytes:
    return encode_message(
        spi_i=SPI_I,
        spi_r=SPI_R,
        exchange_type=ExchangeType.CREATE_CHILD_SA,
        flags=0x28,
        message_id=7,
        payloads=payloads,
    )


def scapys(*layers: Any) -> bytes:
    packet: Any = ikev2.IKEv2(init_SPI=SPI_I, resp_SPI=SPI_R, exch_type=36, flags=0x28, id=7)
    for layer in layers:
        packet /= layer
    return bytes(packet)


def test_scapy_reads_our_header() -> None:
    packet = ikev2.IKEv2(ours(Encrypted(PayloadType.IDI, b"s" * 32)))
    assert (packet.init_SPI, packet.resp_SPI) == (SPI_I, SPI_R)
    assert (packet.exch_type, packet.id, packet.length) == (36, 7, 28 + 4 + 32)
    assert int(packet.flags) == 0x28
    assert packet[ikev2.IKEv2_Encrypted].load == b"s" * 32


def test_scapy_reads_our_offer() -> None:
    packet = ikev2.IKEv2(ours(SecurityAssociation(OFFER)))
    layer = packet[ikev2.IKEv2_Proposal]
    for proposal in OFFER:
        assert (layer.proposal, layer.proto, layer.SPI or b"") == (
            proposal.number,
            proposal.protocol_id,
            proposal.spi,
        )
        assert layer.trans_nb == len(proposal.transforms)
        transform = layer.trans
        for expected in proposal.transforms:
            assert (transform.transform_type, transform.transform_id) == (expected.type, expected.id)
            assert (transform.key_length or 0) == expected.key_bits
            transform = transform.payload
        layer = layer.payload


def test_scapy_reads_our_simple_payloads() -> None:
    packet = ikev2.IKEv2(
        ours(
            KeyExchange(KeId.CURVE25519, b"k" * 32),
            Nonce(b"n" * 32),
            IdentificationInitiator(2, b"gw.example.org"),
            Authentication(2, b"a" * 32),
            Notify(ProtocolId.ESP, b"spi!", NotifyType.REKEY_SA, b"data"),
            Delete(ProtocolId.ESP, (b"aaaa", b"bbbb")),
            VendorId(b"vendor"),
        )
    )
    assert (packet[ikev2.IKEv2_KE].group, packet[ikev2.IKEv2_KE].ke) == (31, b"k" * 32)
    assert packet[ikev2.IKEv2_Nonce].nonce == b"n" * 32
    assert (packet[ikev2.IKEv2_IDi].IDtype, packet[ikev2.IKEv2_IDi].ID) == (2, b"gw.example.org")
    assert (packet[ikev2.IKEv2_AUTH].auth_type, packet[ikev2.IKEv2_AUTH].load) == (2, b"a" * 32)
    notify = packet[ikev2.IKEv2_Notify]
    assert (notify.proto, notify.SPI, notify.type, notify.notify) == (3, b"spi!", 16393, b"data")
    delete = packet[ikev2.IKEv2_Delete]
    assert (delete.proto, delete.SPIsize, delete.SPInum) == (3, 4, 2)
    assert b"".join(delete.SPI) == b"aaaabbbb"
    assert packet[ikev2.IKEv2_VendorID].vendorID == b"vendor"


def test_scapy_reads_our_selectors_and_configuration() -> None:
    packet = ikev2.IKEv2(
        ours(
            TrafficSelectorsInitiator(
                (TrafficSelector(TsType.IPV4_ADDR_RANGE, 6, 80, 443, b"\x0a\0\0\1", b"\x0a\0\0\xff"),)
            ),
            TrafficSelectorsResponder((TrafficSelector(TsType.IPV6_ADDR_RANGE, 0, 0, 65535, bytes(16), b"\xff" * 16),)),
            Configuration(2, (ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_ADDRESS, b"\x0a\0\0\1"),)),
        )
    )
    (selector,) = packet[ikev2.IKEv2_TSi].traffic_selector
    assert (selector.start_port, selector.end_port, selector.IP_protocol_ID) == (80, 443, 6)
    assert (selector.starting_address_v4, selector.ending_address_v4) == ("10.0.0.1", "10.0.0.255")
    (selector,) = packet[ikev2.IKEv2_TSr].traffic_selector
    assert selector.starting_address_v6 == "::"
    (attribute,) = packet[ikev2.IKEv2_CP].attributes
    assert (attribute.type, bytes(attribute)[4:]) == (1, b"\x0a\0\0\1")


def test_we_read_scapys_message() -> None:
    transforms = ikev2.IKEv2_Transform(
        transform_type=1, transform_id=12, length=12, key_length=256
    ) / ikev2.IKEv2_Transform(transform_type=2, transform_id=5)
    datagram = scapys(
        ikev2.IKEv2_SA(prop=ikev2.IKEv2_Proposal(proposal=1, proto=1, trans_nb=2, trans=transforms)),
        ikev2.IKEv2_KE(group=31, ke=b"k" * 32),
        ikev2.IKEv2_Nonce(nonce=b"n" * 32),
        ikev2.IKEv2_Notify(type=16388, notify=b"h" * 20),
    )
    message = decode_message(datagram)
    assert (message.header.spi_i, message.header.message_id, message.header.is_response) == (SPI_I, 7, True)
    offer, *others = message.payloads
    assert isinstance(offer, SecurityAssociation)
    assert offer.proposals == (Proposal(1, 1, b"", (Transform(1, 12, 256), Transform(2, 5))),)
    assert others == [
        KeyExchange(31, b"k" * 32),
        Nonce(b"n" * 32),
        Notify(0, b"", NotifyType.NAT_DETECTION_SOURCE_IP, b"h" * 20),
    ]


RENAMED_SINCE = {
    42: "USE_ASSIGNED_HOA",
    47: "STATE_NOT_FOUND",
    16429: "GROUP_SENDER",
}
"""Notify types whose IANA name changed after scapy copied it, or that enum members spell in capitals."""


@pytest.mark.parametrize("number", sorted(ikev2.IKEv2NotifyMessageTypes))
def test_notify_types_agree(number: int) -> None:
    theirs = ikev2.IKEv2NotifyMessageTypes[number].removeprefix("IV2_NOTIFY_")
    assert NotifyType(number).name == RENAMED_SINCE.get(number, theirs)


@pytest.mark.parametrize("number", sorted(ikev2.IKEv2ConfigurationAttributeTypes))
def test_configuration_attributes_agree(number: int) -> None:
    assert CfgAttribute(number).name == ikev2.IKEv2ConfigurationAttributeTypes[number]


def test_transform_numbers_agree() -> None:
    registries = {1: EncrId, 2: PrfId, 3: IntegId, 4: KeId, 5: SequenceNumbers}
    assert set(ikev2.IKEv2AttributeTypes) == set(registries)
    for transform_type, registry in registries.items():
        assert set(ikev2.IKEv2AttributeTypes[transform_type][1]) <= set(registry)
