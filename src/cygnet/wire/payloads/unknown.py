"""A payload of unknown type (RFC 7296 section 2.5): kept, so that the core can refuse a critical one."""

import msgspec


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """A payload that is to be skipped, or, where it is critical, to be refused with its whole message."""

    payload_type: int
    is_critical: bool
    """The Critical bit of its generic header (RFC 7296 section 3.2)."""
    body: bytes


def decode_unknown(payload_type: int, is_critical: bool, body: bytes) -> Unknown:
    """Keep the body of a payload of an unknown type."""
    return Unknown(payload_type, is_critical, body)


def encode_unknown(payload: Unknown) -> bytes:
    """The body of a payload of an unknown type."""
    return payload.body
