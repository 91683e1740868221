"""NAT detection (RFC 7296 section 2.23)."""

import hashlib
import socket
from functools import lru_cache

DIGEST_OCTETS = 20
"""Length of a detection digest. Random octets of that length match no address: so encapsulation is forced."""


@lru_cache(maxsize=4096)
def pack_address(address: str) -> bytes:
    """The octets of an IP address in text form."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def detection_digest(spi_i: bytes, spi_r: bytes, address: str, port: int) -> bytes:
    """The data of a NAT_DETECTION_*_IP notify: SHA-1 over both SPIs, the address and the port.

    SHA-1 is what the RFC fixes; nothing secret depends on it.
    """
    octets = spi_i + spi_r + pack_address(address) + port.to_bytes(2, "big")
    return hashlib.sha1(octets, usedforsecurity=False).digest()
