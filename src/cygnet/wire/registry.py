"""Which payload type is taken apart by which codec."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.payloads import Payload, delete, eap, nonce, notify, vendor_id
from cygnet.wire.payloads import authentication as auth
from cygnet.wire.payloads import certificate as cert
from cygnet.wire.payloads import certificate_request as certreq
from cygnet.wire.payloads import configuration as cp
from cygnet.wire.payloads import encrypted as sk
from cygnet.wire.payloads import encrypted_fragment as skf
from cygnet.wire.payloads import identification as ident
from cygnet.wire.payloads import key_exchange as ke
from cygnet.wire.payloads import puzzle_solution as ps
from cygnet.wire.payloads import security_association as sa
from cygnet.wire.payloads import traffic_selectors as ts


class Codec(msgspec.Struct, frozen=True):
    """How one payload type is encoded and decoded."""

    payload_type: PayloadType
    struct: type
    decode: Callable[[bytes], Payload]
    """From the body without the generic header; raises `WireError`."""
    encode: Callable[[Any], bytes]
    """The body without the generic header, of an instance of `struct`."""


class ContainerCodec(msgspec.Struct, frozen=True):
    """How a payload type is encoded and decoded that holds other payloads, and so ends the message."""

    payload_type: PayloadType
    struct: type
    decode: Callable[[int, bytes], Payload]
    """From the type of the first payload inside, and the body; raises `WireError`."""
    encode: Callable[[Any], bytes]


CODECS: Mapping[int, Codec] = MappingProxyType(
    {
        codec.payload_type: codec
        for codec in (
            Codec(
                PayloadType.SA,
                sa.SecurityAssociation,
                sa.decode_security_association,
                sa.encode_security_association,
            ),
            Codec(PayloadType.KE, ke.KeyExchange, ke.decode_key_exchange, ke.encode_key_exchange),
            Codec(
                PayloadType.IDI,
                ident.IdentificationInitiator,
                ident.decode_identification_initiator,
                ident.encode_identification,
            ),
            Codec(
                PayloadType.IDR,
                ident.IdentificationResponder,
                ident.decode_identification_responder,
                ident.encode_identification,
            ),
            Codec(PayloadType.CERT, cert.Certificate, cert.decode_certificate, cert.encode_certificate),
            Codec(
                PayloadType.CERTREQ,
                certreq.CertificateRequest,
                certreq.decode_certificate_request,
                certreq.encode_certificate_request,
            ),
            Codec(PayloadType.AUTH, auth.Authentication, auth.decode_authentication, auth.encode_authentication),
            Codec(PayloadType.NONCE, nonce.Nonce, nonce.decode_nonce, nonce.encode_nonce),
            Codec(PayloadType.NOTIFY, notify.Notify, notify.decode_notify, notify.encode_notify),
            Codec(PayloadType.DELETE, delete.Delete, delete.decode_delete, delete.encode_delete),
            Codec(
                PayloadType.VENDOR_ID,
                vendor_id.VendorId,
                vendor_id.decode_vendor_id,
                vendor_id.encode_vendor_id,
            ),
            Codec(
                PayloadType.TSI,
                ts.TrafficSelectorsInitiator,
                ts.decode_traffic_selectors_initiator,
                ts.encode_traffic_selectors,
            ),
            Codec(
                PayloadType.TSR,
                ts.TrafficSelectorsResponder,
                ts.decode_traffic_selectors_responder,
                ts.encode_traffic_selectors,
            ),
            Codec(PayloadType.CP, cp.Configuration, cp.decode_configuration, cp.encode_configuration),
            Codec(PayloadType.EAP, eap.Eap, eap.decode_eap, eap.encode_eap),
            Codec(PayloadType.PS, ps.PuzzleSolution, ps.decode_puzzle_solution, ps.encode_puzzle_solution),
        )
    }
)
"""Every payload type that is understood, except the two containers. Any other type becomes an `Unknown`."""

CONTAINER_CODECS: Mapping[int, ContainerCodec] = MappingProxyType(
    {
        codec.payload_type: codec
        for codec in (
            ContainerCodec(PayloadType.SK, sk.Encrypted, sk.decode_encrypted, sk.encode_encrypted),
            ContainerCodec(
                PayloadType.SKF,
                skf.EncryptedFragment,
                skf.decode_encrypted_fragment,
                skf.encode_encrypted_fragment,
            ),
        )
    }
)
"""The payload types that hold others."""
