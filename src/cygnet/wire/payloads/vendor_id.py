"""Vendor ID payload (RFC 7296 section 3.12).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                        Vendor ID (VID)                        ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from typing import ClassVar

import msgspec

from cygnet.iana import PayloadType


class VendorId(msgspec.Struct, frozen=True, gc=False):
    """A mark by which implementations of one vendor know each other."""

    payload_type: ClassVar[PayloadType] = PayloadType.VENDOR_ID

    data: bytes


def decode_vendor_id(body: bytes) -> VendorId:
    """Take apart the body of a Vendor ID payload; any octets are one."""
    return VendorId(body)


def encode_vendor_id(payload: VendorId) -> bytes:
    """The body of a Vendor ID payload."""
    return payload.data
