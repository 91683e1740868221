"""Every payload against its packet diagram: octets written out by hand, and the faults that each codec names."""

import pytest

from cygnet.iana import (
    AuthMethod,
    CertEncoding,
    CfgAttribute,
    CfgType,
    EncrId,
    IdType,
    IntegId,
    IpProtocol,
    KeId,
    NotifyType,
    PayloadType,
    PrfId,
    ProtocolId,
    SequenceNumbers,
    TransformType,
    TsType,
)
from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    ConfigurationAttribute,
    Delete,
    Eap,
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
    VendorId,
)
from cygnet.wire.payloads.encrypted_fragment import decode_encrypted_fragment, encode_encrypted_fragment
from cygnet.wire.payloads.security_association import decode_security_association
from cygnet.wire.registry import CODECS

IKE_OFFER = SecurityAssociation(
    (
        Proposal(
            number=1,
            protocol_id=ProtocolId.IKE,
            spi=b"",
            transforms=(
                Transform(TransformType.ENCR, EncrId.AES_CBC, key_bits=256),
                Transform(TransformType.INTEG, IntegId.HMAC_SHA2_256_128),
                Transform(TransformType.PRF, PrfId.HMAC_SHA2_256),
                Transform(TransformType.KE, KeId.CURVE25519),
            ),
        ),
        Proposal(
            number=2,
            protocol_id=ProtocolId.IKE,
            spi=b"",
            transforms=(
                Transform(TransformType.ENCR, EncrId.AES_GCM_16, key_bits=128),
                Transform(TransformType.PRF, PrfId.HMAC_SHA2_256),
                Transform(TransformType.KE, KeId.MODP_2048),
            ),
        ),
    ),
)
IKE_OFFER_OCTETS = """
    02 00 002c 01 01 00 04
      03 00 000c 01 00 000c 800e 0100
      03 00 0008 03 00 000c
      03 00 0008 02 00 0005
      00 00 0008 04 00 001f
    00 00 0024 02 01 00 03
      03 00 000c 01 00 0014 800e 0080
      03 00 0008 02 00 0005
      00 00 0008 04 00 000e
"""
ESP_OFFER = SecurityAssociation(
    (
        Proposal(
            number=1,
            protocol_id=ProtocolId.ESP,
            spi=b"\xca\xfe\xba\xbe",
            transforms=(
                Transform(TransformType.ENCR, EncrId.CHACHA20_POLY1305),
                Transform(TransformType.SN, SequenceNumbers.NO_ESN),
            ),
        ),
    ),
)
ESP_OFFER_OCTETS = """
    00 00 001c 01 03 04 02 cafebabe
      03 00 0008 01 00 001c
      00 00 0008 05 00 0000
"""
IPV4_ANY = TrafficSelector(TsType.IPV4_ADDR_RANGE, IpProtocol.ANY, 0, 65535, bytes(4), b"\xff" * 4)
IPV6_HTTPS = TrafficSelector(
    TsType.IPV6_ADDR_RANGE,
    IpProtocol.TCP,
    443,
    443,
    bytes.fromhex("fd000000000000000000000000000000"),
    bytes.fromhex("fd00000000000000000000000000ffff"),
)
LABEL = TrafficSelector(TsType.SECLABEL, 0, 0, 0, b"label", b"")

LAYOUTS: list[tuple[Payload, str]] = [
    (IKE_OFFER, IKE_OFFER_OCTETS),
    (ESP_OFFER, ESP_OFFER_OCTETS),
    (KeyExchange(KeId.CURVE25519, b"\x09\x08"), "001f 0000 0908"),
    (IdentificationInitiator(IdType.FQDN, b"gw"), "02 000000 6777"),
    (IdentificationResponder(IdType.IPV4_ADDR, bytes(4)), "01 000000 00000000"),
    (IdentificationResponder(IdType.NULL, b""), "0d 000000"),
    (Certificate(CertEncoding.X509_SIGNATURE, b"\x30\x00"), "04 3000"),
    (CertificateRequest(CertEncoding.X509_SIGNATURE, b"\x11" * 20), "04" + "11" * 20),
    (Authentication(AuthMethod.SHARED_KEY_MESSAGE_INTEGRITY_CODE, b"\xaa\xbb"), "02 000000 aabb"),
    (Nonce(bytes(range(16))), "000102030405060708090a0b0c0d0e0f"),
    (Nonce(bytes(256)), "00" * 256),
    (Notify(ProtocolId.NONE, b"", NotifyType.INITIAL_CONTACT, b""), "00 00 4000"),
    (Notify(ProtocolId.NONE, b"", NotifyType.INVALID_KE_PAYLOAD, b"\x00\x13"), "00 00 0011 0013"),
    (Notify(ProtocolId.ESP, b"\x01\x02\x03\x04", NotifyType.REKEY_SA, b""), "03 04 4009 01020304"),
    (
        Notify(ProtocolId.NONE, b"", NotifyType.NAT_DETECTION_SOURCE_IP, b"\x55" * 20),
        "00 00 4004" + "55" * 20,
    ),
    (Delete(ProtocolId.IKE, ()), "01 00 0000"),
    (Delete(ProtocolId.ESP, (b"aaaa", b"bbbb")), "03 04 0002 61616161 62626262"),
    (VendorId(b"vendor"), "76656e646f72"),
    (TrafficSelectorsInitiator((IPV4_ANY,)), "01 000000 07 00 0010 0000 ffff 00000000 ffffffff"),
    (
        TrafficSelectorsResponder((IPV6_HTTPS, LABEL)),
        """02 000000
           08 06 0028 01bb 01bb fd000000000000000000000000000000 fd00000000000000000000000000ffff
           0a 00 0009 6c6162656c""",
    ),
    (
        Configuration(
            CfgType.CFG_REPLY,
            (
                ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_ADDRESS, b"\x0a\x00\x00\x01"),
                ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_DNS, b""),
            ),
        ),
        "02 000000 0001 0004 0a000001 0003 0000",
    ),
    (Eap(code=1, identifier=7, data=b"\x01me"), "01 07 0007 01 6d65"),
    (Eap(code=3, identifier=7, data=b""), "03 07 0004"),
    (PuzzleSolution(b"k1k2k3k4"), "6b31 6b32 6b33 6b34"),
]


@pytest.mark.parametrize(("payload", "octets"), LAYOUTS, ids=lambda value: type(value).__name__)
def test_layout(payload: Payload, octets: str) -> None:
    codec = CODECS[payload.payload_type]
    body = bytes.fromhex(octets)
    assert codec.encode(payload) == body
    decoded = codec.decode(body)
    if isinstance(decoded, SecurityAssociation):
        assert isinstance(payload, SecurityAssociation)
        assert decoded.proposals == payload.proposals
    else:
        assert decoded == payload


def test_every_payload_type_has_a_layout() -> None:
    assert {payload.payload_type for payload, _ in LAYOUTS} == set(CODECS)


RESERVED_OCTETS_SET: list[tuple[PayloadType, str, str]] = [
    (PayloadType.SA, "00 ff 0010 01 01 00 01 00 ff 0008 02 ff 0005", "00 00 0010 01 01 00 01 00 00 0008 02 00 0005"),
    (PayloadType.KE, "001f ffff 09", "001f 0000 09"),
    (PayloadType.AUTH, "02 ffffff aa", "02 000000 aa"),
    (
        PayloadType.TSI,
        "01 ffffff 07 00 0010 0000 ffff 00000000 ffffffff",
        "01 000000 07 00 0010 0000 ffff 00000000 ffffffff",
    ),
    (PayloadType.CP, "01 ffffff 8001 0000", "01 000000 0001 0000"),
]


@pytest.mark.parametrize(("payload_type", "octets", "plain"), RESERVED_OCTETS_SET)
def test_reserved_octets_are_ignored(payload_type: PayloadType, octets: str, plain: str) -> None:
    """RFC 7296 section 3: RESERVED is ignored on receipt, and zero when sent."""
    codec = CODECS[payload_type]
    payload = codec.decode(bytes.fromhex(octets))
    assert codec.encode(payload) == bytes.fromhex(plain)


def test_reserved_octets_of_an_identity_are_kept_for_auth() -> None:
    """RFC 7296 section 2.15: AUTH covers the ID payload as it was sent, RESERVED included."""
    body = bytes.fromhex("02 a1b2c3 6777")
    for payload_type in (PayloadType.IDI, PayloadType.IDR):
        payload = CODECS[payload_type].decode(body)
        assert isinstance(payload, IdentificationInitiator | IdentificationResponder)
        assert (payload.id_type, payload.data, payload.body) == (2, b"gw", body)


REFUSED: list[tuple[PayloadType, str, WireFault]] = [
    (PayloadType.SA, "", WireFault.TRUNCATED),
    (PayloadType.SA, "00 00 0008 01 01 00", WireFault.TRUNCATED),
    (PayloadType.SA, "00 00 0000 01 01 00 00", WireFault.BAD_LENGTH),
    (PayloadType.SA, "00 00 0007 01 01 00 00", WireFault.BAD_LENGTH),
    (PayloadType.SA, "00 00 0009 01 01 00 00", WireFault.BAD_LENGTH),
    (PayloadType.SA, "00 00 0008 01 01 04 00", WireFault.BAD_LENGTH),
    (PayloadType.SA, "02 00 0008 01 01 00 00", WireFault.BAD_SUBSTRUCTURE),
    (PayloadType.SA, "03 00 0008 01 01 00 00", WireFault.BAD_SUBSTRUCTURE),
    (PayloadType.SA, "00 00 0008 01 01 00 00 00 00 0008 02 01 00 00", WireFault.BAD_SUBSTRUCTURE),
    (PayloadType.SA, "00 00 0008 01 01 00 01", WireFault.BAD_SUBSTRUCTURE),
    (PayloadType.SA, "00 00 0010 01 01 00 02 00 00 0008 01 00 000c", WireFault.BAD_SUBSTRUCTURE),
    (PayloadType.SA, "00 00 0010 01 01 00 01 03 00 0008 01 00 000c", WireFault.BAD_SUBSTRUCTURE),
    (PayloadType.SA, "00 00 0010 01 01 00 01 00 00 0000 01 00 000c", WireFault.BAD_LENGTH),
    (PayloadType.SA, "00 00 0010 01 01 00 01 00 00 0007 01 00 000c", WireFault.BAD_LENGTH),
    (PayloadType.SA, "00 00 0010 01 01 00 01 00 00 0009 01 00 000c", WireFault.BAD_LENGTH),
    (PayloadType.SA, "00 00 000a 01 01 00 01 00 00", WireFault.TRUNCATED),
    (PayloadType.SA, "00 00 0012 01 01 00 01 00 00 000a 01 00 000c 800e", WireFault.TRUNCATED),
    (PayloadType.SA, "00 00 0014 01 01 00 01 00 00 000c 01 00 000c 0001 0001", WireFault.TRUNCATED),
    (
        PayloadType.SA,
        "00 00 0018 01 01 00 01 00 00 0010 01 00 000c 800e 0080 800e 0100",
        WireFault.DUPLICATE_ATTRIBUTE,
    ),
    (
        PayloadType.SA,
        "00 00 0018 01 01 00 01 00 00 0010 01 00 000c 8001 0080 0001 0000",
        WireFault.DUPLICATE_ATTRIBUTE,
    ),
    (PayloadType.KE, "001f 00", WireFault.TRUNCATED),
    (PayloadType.IDI, "02 0000", WireFault.TRUNCATED),
    (PayloadType.IDR, "02 0000", WireFault.TRUNCATED),
    (PayloadType.CERT, "", WireFault.TRUNCATED),
    (PayloadType.CERTREQ, "", WireFault.TRUNCATED),
    (PayloadType.AUTH, "02 0000", WireFault.TRUNCATED),
    (PayloadType.NONCE, "00" * 15, WireFault.BAD_NONCE_LENGTH),
    (PayloadType.NONCE, "00" * 257, WireFault.BAD_NONCE_LENGTH),
    (PayloadType.NOTIFY, "00 00 40", WireFault.TRUNCATED),
    (PayloadType.NOTIFY, "03 04 4009 010203", WireFault.TRUNCATED),
    (PayloadType.NOTIFY, "03 ff 4009" + "00" * 254, WireFault.TRUNCATED),
    (PayloadType.DELETE, "03 04 00", WireFault.TRUNCATED),
    (PayloadType.DELETE, "03 04 0002 61616161 626262", WireFault.BAD_LENGTH),
    (PayloadType.DELETE, "03 04 0001 61616161 62", WireFault.BAD_LENGTH),
    (PayloadType.DELETE, "03 00 ffff", WireFault.BAD_SPI_SIZE),
    (PayloadType.TSI, "01 0000", WireFault.TRUNCATED),
    (PayloadType.TSI, "01 000000 07 00 00", WireFault.TRUNCATED),
    (PayloadType.TSI, "01 000000 07 00 0000", WireFault.BAD_LENGTH),
    (PayloadType.TSI, "01 000000 07 00 0003", WireFault.BAD_LENGTH),
    (PayloadType.TSI, "01 000000 07 00 0004", WireFault.BAD_LENGTH),
    (PayloadType.TSI, "01 000000 07 00 000f 0000 ffff 00000000 ffffff", WireFault.BAD_LENGTH),
    (PayloadType.TSR, "01 000000 08 00 0010 0000 ffff 00000000 ffffffff", WireFault.BAD_LENGTH),
    (PayloadType.TSR, "01 000000 07 00 0011 0000 ffff 00000000 ffffffff", WireFault.BAD_LENGTH),
    (PayloadType.TSR, "02 000000 07 00 0010 0000 ffff 00000000 ffffffff", WireFault.BAD_SUBSTRUCTURE),
    (PayloadType.TSR, "00 000000 07 00 0010 0000 ffff 00000000 ffffffff", WireFault.BAD_SUBSTRUCTURE),
    (PayloadType.CP, "01 0000", WireFault.TRUNCATED),
    (PayloadType.CP, "01 000000 0001 00", WireFault.TRUNCATED),
    (PayloadType.CP, "01 000000 0001 0001", WireFault.TRUNCATED),
    (PayloadType.PS, "", WireFault.BAD_LENGTH),
    (PayloadType.PS, "01 02 03", WireFault.BAD_LENGTH),
    (PayloadType.PS, "01 02 03 04 05", WireFault.BAD_LENGTH),
    (PayloadType.EAP, "03 07 00", WireFault.TRUNCATED),
    (PayloadType.EAP, "03 07 0005", WireFault.BAD_LENGTH),
    (PayloadType.EAP, "03 07 0004 00", WireFault.BAD_LENGTH),
]


@pytest.mark.parametrize(("payload_type", "octets", "fault"), REFUSED)
def test_refused(payload_type: PayloadType, octets: str, fault: WireFault) -> None:
    with pytest.raises(WireError) as caught:
        CODECS[payload_type].decode(bytes.fromhex(octets))
    assert caught.value.reason == fault


NOT_ENCODED: list[tuple[Payload, WireFault]] = [
    (SecurityAssociation((Proposal(1, 3, bytes(256), ()),)), WireFault.TOO_LONG),
    (SecurityAssociation((Proposal(1, 1, b"", (Transform(1, 12),) * 256),)), WireFault.TOO_LONG),
    (
        SecurityAssociation((Proposal(1, 1, b"", (Transform(1, 12, 0, ((1, bytes(0xFFFF)),)),)),)),
        WireFault.TOO_LONG,
    ),
    (Nonce(bytes(15)), WireFault.BAD_NONCE_LENGTH),
    (Nonce(bytes(257)), WireFault.BAD_NONCE_LENGTH),
    (Notify(3, bytes(256), 11, b""), WireFault.TOO_LONG),
    (Delete(3, (b"aaaa", b"bbb")), WireFault.BAD_SPI_SIZE),
    (Delete(3, (b"",)), WireFault.BAD_SPI_SIZE),
    (Delete(3, (bytes(256),)), WireFault.TOO_LONG),
    (TrafficSelectorsInitiator((IPV4_ANY,) * 256), WireFault.TOO_LONG),
    (TrafficSelectorsInitiator((TrafficSelector(7, 0, 0, 0, bytes(4), bytes(3)),)), WireFault.BAD_LENGTH),
    (TrafficSelectorsResponder((TrafficSelector(7, 0, 0, 0, bytes(16), bytes(16)),)), WireFault.BAD_LENGTH),
    (TrafficSelectorsResponder((TrafficSelector(10, 0, 0, 0, bytes(0xFFFF), b""),)), WireFault.TOO_LONG),
    (Configuration(1, (ConfigurationAttribute(1, bytes(0x10000)),)), WireFault.TOO_LONG),
    (Configuration(1, (ConfigurationAttribute(0x8000, b""),)), WireFault.TOO_LONG),
    (Eap(1, 1, bytes(0xFFFC)), WireFault.TOO_LONG),
    (PuzzleSolution(b""), WireFault.BAD_LENGTH),
    (PuzzleSolution(bytes(6)), WireFault.BAD_LENGTH),
]


@pytest.mark.parametrize(("payload", "fault"), NOT_ENCODED, ids=lambda value: type(value).__name__)
def test_what_would_lie_on_the_wire_is_not_encoded(payload: Payload, fault: WireFault) -> None:
    with pytest.raises(WireError) as caught:
        CODECS[payload.payload_type].encode(payload)
    assert caught.value.reason == fault


def test_a_key_length_in_another_form_is_no_key_length() -> None:
    """Only a Key Length in fixed format (AF=1) counts; a transform with another is one not understood."""
    octets = "00 00 0016 01 01 00 01 00 00 000e 01 00 000c 000e 0002 0100"
    (proposal,) = decode_security_association(bytes.fromhex(octets)).proposals
    assert proposal.transforms == (Transform(1, 12, 0, ((14, b"\x01\x00"),)),)
    octets = "00 00 0014 01 01 00 01 00 00 000c 01 00 000c 800e 0000"
    (proposal,) = decode_security_association(bytes.fromhex(octets)).proposals
    assert proposal.transforms == (Transform(1, 12, 0, ((14, 0),)),)


def test_equal_offers_share_their_transforms() -> None:
    """What a fleet repeats is held once, whatever the SPIs."""
    body = bytes.fromhex(ESP_OFFER_OCTETS)
    first = decode_security_association(body)
    second = decode_security_association(body.replace(b"\xca\xfe\xba\xbe", b"\xde\xad\xbe\xef"))
    assert second.proposals[0].spi == b"\xde\xad\xbe\xef"
    assert first.proposals[0].transforms is second.proposals[0].transforms
    assert first.fingerprint == second.fingerprint == body.replace(b"\xca\xfe\xba\xbe", b"")


def test_an_offer_without_spis_is_decoded_once() -> None:
    body = bytes.fromhex(IKE_OFFER_OCTETS)
    offer = decode_security_association(body)
    assert offer.fingerprint == body
    assert decode_security_association(bytes(bytearray(body))) is offer


def test_the_caches_do_not_keep_long_octets() -> None:
    """A peer that sends long offers, each a new one, must not fill the memory."""
    attribute = "0001 0800" + "00" * 0x800
    body = bytes.fromhex("00 00 0814 01 01 00 01 00 00 080c 01 00 000c" + attribute)
    offer = decode_security_association(body)
    assert decode_security_association(bytes(bytearray(body))) == offer
    assert decode_security_association(bytes(bytearray(body))) is not offer
    notify = bytes.fromhex("00 00 4006" + "00" * 64)
    decode = CODECS[PayloadType.NOTIFY].decode
    assert decode(notify) == decode(notify)
    assert decode(notify) is not decode(notify)


@pytest.mark.parametrize(("number", "total"), [(0, 1), (2, 1), (0, 0), (1, 0), (0xFFFF, 0xFFFE)])
def test_a_fragment_beyond_the_total_is_refused(number: int, total: int) -> None:
    """RFC 7383 section 2.6."""
    body = number.to_bytes(2) + total.to_bytes(2) + b"sealed"
    with pytest.raises(WireError) as caught:
        decode_encrypted_fragment(0, body)
    assert caught.value.reason == WireFault.BAD_FRAGMENT_NUMBER
    with pytest.raises(WireError) as caught:
        encode_encrypted_fragment(EncryptedFragment(0, number, total, b"sealed"))
    assert caught.value.reason == WireFault.BAD_FRAGMENT_NUMBER


def test_a_fragment() -> None:
    fragment = EncryptedFragment(PayloadType.IDI, 1, 3, b"sealed")
    assert encode_encrypted_fragment(fragment) == b"\x00\x01\x00\x03sealed"
    assert decode_encrypted_fragment(PayloadType.IDI, b"\x00\x01\x00\x03sealed") == fragment
    with pytest.raises(WireError) as caught:
        decode_encrypted_fragment(0, b"\x00\x01\x00")
    assert caught.value.reason == WireFault.TRUNCATED
