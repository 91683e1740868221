"""NAT detection digests (RFC 7296 section 2.23)."""

import hashlib

import pytest

from cygnet.ike.nat import DIGEST_OCTETS, detection_digest, pack_address

SPI_I, SPI_R = bytes(range(8)), bytes(range(8, 16))


@pytest.mark.parametrize(
    ("address", "packed"),
    [("192.0.2.1", bytes((192, 0, 2, 1))), ("2001:db8::1", bytes.fromhex("20010db8" + "00" * 11 + "01"))],
)
def test_the_digest_is_over_spis_address_and_port(address: str, packed: bytes) -> None:
    assert pack_address(address) == packed
    digest = detection_digest(SPI_I, SPI_R, address, 4500)
    assert digest == hashlib.sha1(SPI_I + SPI_R + packed + b"\x11\x94").digest()
    assert len(digest) == DIGEST_OCTETS
    others = {
        detection_digest(SPI_R, SPI_I, address, 4500),
        detection_digest(SPI_I, SPI_R, address, 500),
        detection_digest(SPI_I, SPI_R, "192.0.2.2", 4500),
    }
    assert digest not in others and len(others) == 3
