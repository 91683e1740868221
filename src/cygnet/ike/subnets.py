"""Subnets as text, read without an object for each: a configuration has them by the thousand."""

import ipaddress
import re
import socket

_PREFIX_LENGTH = re.compile(r"[0-9]{1,3}\Z")


def parse_subnet(text: str) -> tuple[bytes, bytes]:
    """The first address and the last of `10.1.0.0/16`, of which any address may stand there, or of one address alone;
    packed. Raises ValueError."""
    address, slash, bits = text.partition("/")
    packed = pack_text(address)
    if packed is None or (slash and not _PREFIX_LENGTH.match(bits)) or (slash and int(bits) > 8 * len(packed)):
        # Netmasks, scopes, and what is wrong.
        network = ipaddress.ip_network(text, strict=False)
        return network.network_address.packed, network.broadcast_address.packed
    if not slash:
        return packed, packed
    host_bits = 8 * len(packed) - int(bits)
    first = int.from_bytes(packed, "big") >> host_bits << host_bits
    return first.to_bytes(len(packed), "big"), (first | (1 << host_bits) - 1).to_bytes(len(packed), "big")


def pack_text(address: str) -> bytes | None:
    """An address, packed; None if it is none, or has a scope."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):
        return None
