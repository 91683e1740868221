"""Encapsulation and decapsulation, against published packets and against scapy."""

import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation

from cygnet.crypto.encr import ENCR
from cygnet.crypto.errors import CryptoError, IntegrityError
from cygnet.crypto.integ import INTEG
from cygnet.crypto.protection import PacketProtection, make_protection
from cygnet.esp.errors import ReplayError, SequenceExhausted
from cygnet.esp.sa import InboundSa, OutboundSa
from cygnet.iana import EncrId, IntegId
from cygnet.wire.errors import WireError

SPI = 0x01020304
IPV4, IPV6, DUMMY = 4, 41, 59
AES_GCM_KEY = bytes(range(20))


def protect(
    encr: EncrId, key_bits: int, encr_key: bytes, integ: IntegId = IntegId.NONE, integ_key: bytes = b""
) -> PacketProtection:
    row = INTEG[integ] if integ else None
    return make_protection(ENCR[encr], key_bits, row, encr_key=encr_key, integ_key=integ_key, entropy=os.urandom)


def gcm() -> PacketProtection:
    return protect(EncrId.AES_GCM_16, 128, AES_GCM_KEY)


def ipv4_packet(size: int) -> bytes:
    return bytes([0x45, 0]) + size.to_bytes(2, "big") + bytes(range(16)) + os.urandom(size - 20)


def ipv6_packet(size: int) -> bytes:
    return bytes([0x60, 0, 0, 0]) + (size - 40).to_bytes(2, "big") + bytes(34) + os.urandom(size - 40)


class Vector(msgspec.Struct):
    """A published ESP packet: what makes it, and what is in it."""

    encr: EncrId
    key_bits: int
    key: str
    spi: int
    sequence: int
    is_esn: bool
    iv: int
    next_header: int
    packet: str
    esp: str


VECTORS = {
    "RFC 7634 appendix A": Vector(
        encr=EncrId.CHACHA20_POLY1305,
        key_bits=0,
        key="808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f a0a1a2a3",
        spi=0x01020304,
        sequence=5,
        is_esn=False,
        iv=0x1011121314151617,
        next_header=IPV4,
        packet="45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10"
        "0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
        "2425262728292a2b2c2d2e2f3031323334353637",
        esp="01020304 00000005 1011121314151617"
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6"
        "14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3"
        "cbec163fac469b502773f6fb94e664da9165b82829f641e0"
        "76aaa8266b7fb0f7b11b369907e1ad43",
    ),
    "draft-mcgrew-gcm-test-01 with ESN": Vector(
        encr=EncrId.AES_GCM_16,
        key_bits=128,
        key="4c80cdefbb5d10da906ac73c3613a634 2e443b68",
        spi=0x00004321,
        sequence=0x8765432100000000,
        is_esn=True,
        iv=0x4956ED7E3B244CFE,
        next_header=1,
        packet="45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000"
        "00000000045f736970045f756470037369700963796265726369747902646b00"
        "00210001",
        esp="00004321 00000000 4956ed7e3b244cfe"
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34"
        "cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce"
        "61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
    ),
    "draft-mcgrew-gcm-test-01 with a 256-bit key": Vector(
        encr=EncrId.AES_GCM_16,
        key_bits=256,
        key="abbccddef00112233445566778899aababbccddef00112233445566778899aab 11223344",
        spi=0x4A2CBFE3,
        sequence=2,
        is_esn=False,
        iv=0x0102030405060708,
        next_header=1,
        packet="4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b401010402",
        esp="4a2cbfe3 00000002 0102030405060708"
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763"
        "748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c49"
        "15956c96",
    ),
}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_published_packet(vector: Vector) -> None:
    key, packet, esp = (bytes.fromhex(text) for text in (vector.key, vector.packet, vector.esp))

    protection = protect(vector.encr, vector.key_bits, key)
    protection.counter = vector.iv
    outbound = OutboundSa(vector.spi, protection, is_esn=vector.is_esn)
    outbound.sequence = vector.sequence - 1
    assert outbound.encapsulate(packet, vector.next_header) == esp

    inbound = InboundSa(vector.spi, protect(vector.encr, vector.key_bits, key), is_esn=vector.is_esn)
    inbound.window.accept(vector.sequence - 1)
    assert inbound.decapsulate(esp) == (vector.next_header, packet)
    assert inbound.window.highest == vector.sequence


SCAPY_SA: Any = SecurityAssociation
SCAPY_SUITES = {
    "aes128gcm16": (EncrId.AES_GCM_16, 128, IntegId.NONE, "AES-GCM", None),
    "aes256gcm16": (EncrId.AES_GCM_16, 256, IntegId.NONE, "AES-GCM", None),
    "aes128-sha1": (EncrId.AES_CBC, 128, IntegId.HMAC_SHA1_96, "AES-CBC", "HMAC-SHA1-96"),
    "aes256-sha256": (EncrId.AES_CBC, 256, IntegId.HMAC_SHA2_256_128, "AES-CBC", "SHA2-256-128"),
    "aes128ctr-sha512": (EncrId.AES_CTR, 128, IntegId.HMAC_SHA2_512_256, "AES-CTR", "SHA2-512-256"),
}


@pytest.mark.parametrize("is_esn", [False, True], ids=["32-bit", "esn"])
@pytest.mark.parametrize("suite", SCAPY_SUITES.values(), ids=SCAPY_SUITES)
def test_scapy_understands_us_and_we_it(suite: tuple[EncrId, int, IntegId, str, str | None], is_esn: bool) -> None:
    encr, key_bits, integ, crypt_name, auth_name = suite
    encr_key = os.urandom(ENCR[encr].key_octets(key_bits))
    integ_key = os.urandom(INTEG[integ].key_octets) if integ else b""
    peer = SCAPY_SA(
        ESP,
        spi=SPI,
        crypt_algo=crypt_name,
        crypt_key=encr_key,
        auth_algo=auth_name,
        auth_key=integ_key,
        tunnel_header=IP(src="192.0.2.1", dst="192.0.2.2"),
        esn_en=is_esn,
        esn=0,
    )
    inner = IP(src="10.0.0.1", dst="10.0.0.2", id=7) / UDP(sport=1, dport=2) / b"over the tunnel"

    inbound = InboundSa(SPI, protect(encr, key_bits, encr_key, integ, integ_key), is_esn=is_esn)
    from_peer = bytes(peer.encrypt(inner, seq_num=1)[ESP])
    assert inbound.decapsulate(from_peer) == (IPV4, bytes(inner))

    outbound = OutboundSa(SPI, protect(encr, key_bits, encr_key, integ, integ_key), is_esn=is_esn)
    to_peer = IP(src="192.0.2.1", dst="192.0.2.2", proto=50) / ESP(outbound.encapsulate(bytes(inner), IPV4))
    assert bytes(peer.decrypt(IP(bytes(to_peer)))) == bytes(inner)


@pytest.mark.parametrize("make", [ipv4_packet, ipv6_packet])
@pytest.mark.parametrize("size", range(40, 60))
def test_every_size_is_padded_to_four_octets(make: Callable[[int], bytes], size: int) -> None:
    packet = make(size)
    next_header = IPV4 if make is ipv4_packet else IPV6
    esp = OutboundSa(SPI, gcm(), is_esn=False).encapsulate(packet, next_header)
    assert len(esp) % 4 == 0
    assert len(esp) - 8 - 8 - 16 - 2 - size in range(4)
    assert InboundSa(SPI, gcm(), is_esn=False).decapsulate(esp) == (next_header, packet)


def test_sequence_numbers_count_from_one() -> None:
    outbound = OutboundSa(SPI, gcm(), is_esn=False)
    packets = [outbound.encapsulate(ipv4_packet(20), IPV4) for _ in range(3)]
    assert [packet[:8].hex() for packet in packets] == ["0102030400000001", "0102030400000002", "0102030400000003"]
    assert (outbound.packets, outbound.octets) == (3, 60)


@pytest.mark.parametrize(("is_esn", "last"), [(False, 2**32 - 1), (True, 2**64 - 1)])
def test_sequence_numbers_do_not_cycle(is_esn: bool, last: int) -> None:
    outbound = OutboundSa(SPI, gcm(), is_esn=is_esn, sequence=last - 1)
    outbound.encapsulate(ipv4_packet(20), IPV4)
    for _ in range(2):
        with pytest.raises(SequenceExhausted):
            outbound.encapsulate(ipv4_packet(20), IPV4)
    assert outbound.packets == 1


def test_resumed_sa_repeats_neither_numbers_nor_nonces() -> None:
    first = OutboundSa(SPI, gcm(), is_esn=False)
    before = [first.encapsulate(ipv4_packet(20), IPV4)[:16] for _ in range(10)]
    second = OutboundSa(SPI, gcm(), is_esn=False, sequence=10)
    after = [second.encapsulate(ipv4_packet(20), IPV4)[:16] for _ in range(10)]
    assert not {p[4:8] for p in before} & {p[4:8] for p in after}
    assert not {p[8:] for p in before} & {p[8:] for p in after}


def test_esn_crosses_the_border() -> None:
    outbound = OutboundSa(SPI, gcm(), is_esn=True, sequence=2**32 - 3)
    inbound = InboundSa(SPI, gcm(), is_esn=True)
    inbound.window.accept(2**32 - 3)
    packet = ipv4_packet(64)
    esp = [outbound.encapsulate(packet, IPV4) for _ in range(6)]
    assert esp[2][4:8] == bytes(4)
    for late in (4, 1, 3, 0, 2, 5):
        assert inbound.decapsulate(esp[late]) == (IPV4, packet)
    assert inbound.window.highest == 2**32 + 3


def test_wrong_high_half_is_not_authentic() -> None:
    esp = OutboundSa(SPI, gcm(), is_esn=True, sequence=2**32).encapsulate(ipv4_packet(64), IPV4)
    with pytest.raises(IntegrityError):
        InboundSa(SPI, gcm(), is_esn=True).decapsulate(esp)


def test_replayed_packet() -> None:
    inbound = InboundSa(SPI, gcm(), is_esn=False)
    esp = OutboundSa(SPI, gcm(), is_esn=False).encapsulate(ipv4_packet(64), IPV4)
    inbound.decapsulate(esp)
    with pytest.raises(ReplayError):
        inbound.decapsulate(esp)
    assert (inbound.packets, inbound.octets) == (1, 64)


def test_forgery_does_not_move_the_window() -> None:
    outbound, inbound = OutboundSa(SPI, gcm(), is_esn=False), InboundSa(SPI, gcm(), is_esn=False)
    esp = outbound.encapsulate(ipv4_packet(64), IPV4)
    forged = esp[:4] + (10_000).to_bytes(4, "big") + esp[8:]
    with pytest.raises(IntegrityError):
        inbound.decapsulate(forged)
    inbound.decapsulate(esp)


@pytest.mark.parametrize("size", range(8))
def test_packet_without_header(size: int) -> None:
    with pytest.raises(WireError, match="esp_short"):
        InboundSa(SPI, gcm(), is_esn=False).decapsulate(bytes(size))


def seal(plaintext: bytes) -> bytes:
    """An authentic ESP packet with this for payload and trailer."""
    header = SPI.to_bytes(4, "big") + (1).to_bytes(4, "big")
    return header + gcm().seal(header, plaintext)


@pytest.mark.parametrize(
    ("plaintext", "reason"),
    [
        (b"", "esp_padding"),
        (b"\x04", "esp_padding"),
        (ipv4_packet(20) + bytes([1, 3, 2, 4]), "esp_padding"),
        (ipv4_packet(20) + bytes([0, 0, 2, 4]), "esp_padding"),
        (bytes([1, 3, 4]), "esp_padding"),
        (ipv4_packet(24)[:20] + bytes([1, 2, 2, 4]), "esp_inner_length"),
        (ipv6_packet(44)[:40] + bytes([1, 2, 2, 41]), "esp_inner_length"),
        (bytes(19) + bytes([0, 4]), "esp_inner_length"),
        (bytes(39) + bytes([0, 41]), "esp_inner_length"),
    ],
)
def test_authentic_but_malformed(plaintext: bytes, reason: str) -> None:
    inbound = InboundSa(SPI, gcm(), is_esn=False)
    with pytest.raises(WireError) as caught:
        inbound.decapsulate(seal(plaintext))
    assert caught.value.reason == reason
    assert (inbound.packets, inbound.octets) == (0, 0)
    # It was authentic, so its number is used up.
    assert inbound.window.highest == 1


@pytest.mark.parametrize(
    "packet",
    [ipv4_packet(20), ipv4_packet(61), ipv6_packet(40), ipv6_packet(99)],
    ids=["ipv4_20", "ipv4_61", "ipv6_40", "ipv6_99"],
)
def test_tfc_padding_is_cut_off(packet: bytes) -> None:
    next_header = IPV4 if packet[0] >> 4 == 4 else IPV6
    plaintext = packet + os.urandom(300) + bytes([1, 2, 2, next_header])
    assert InboundSa(SPI, gcm(), is_esn=False).decapsulate(seal(plaintext)) == (next_header, packet)


def test_dummy_packet_is_given_out_as_what_it_is() -> None:
    next_header, _ = InboundSa(SPI, gcm(), is_esn=False).decapsulate(seal(bytes(30) + bytes([0, DUMMY])))
    assert next_header == DUMMY


def test_full_padding() -> None:
    packet = ipv4_packet(20)
    plaintext = packet + bytes(range(1, 256)) + bytes([255, 4])
    assert InboundSa(SPI, gcm(), is_esn=False).decapsulate(seal(plaintext)) == (IPV4, packet)


def test_nonces_run_out_before_they_repeat() -> None:
    protection = gcm()
    protection.counter = 2**64 - 1
    outbound = OutboundSa(SPI, protection, is_esn=False)
    outbound.encapsulate(ipv4_packet(20), IPV4)
    with pytest.raises(CryptoError):
        outbound.encapsulate(ipv4_packet(20), IPV4)
