"""The payloads of IKEv2, one module each: packet diagram, struct, `decode_x` and `encode_x`.

The codecs see the body alone; the generic header before it (RFC 7296 section 3.2) is `message`'s.
"""

from cygnet.wire.payloads.authentication import Authentication
from cygnet.wire.payloads.certificate import Certificate
from cygnet.wire.payloads.certificate_request import CertificateRequest
from cygnet.wire.payloads.configuration import Configuration, ConfigurationAttribute
from cygnet.wire.payloads.delete import Delete
from cygnet.wire.payloads.eap import Eap
from cygnet.wire.payloads.encrypted import Encrypted
from cygnet.wire.payloads.encrypted_fragment import EncryptedFragment
from cygnet.wire.payloads.identification import IdentificationInitiator, IdentificationResponder
from cygnet.wire.payloads.key_exchange import KeyExchange
from cygnet.wire.payloads.nonce import Nonce
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.puzzle_solution import PuzzleSolution
from cygnet.wire.payloads.security_association import Proposal, SecurityAssociation, Transform
from cygnet.wire.payloads.traffic_selectors import (
    TrafficSelector,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)
from cygnet.wire.payloads.unknown import Unknown
from cygnet.wire.payloads.vendor_id import VendorId

Payload = (
    SecurityAssociation
    | KeyExchange
    | IdentificationInitiator
    | IdentificationResponder
    | Certificate
    | CertificateRequest
    | Authentication
    | Nonce
    | Notify
    | Delete
    | VendorId
    | TrafficSelectorsInitiator
    | TrafficSelectorsResponder
    | Encrypted
    | EncryptedFragment
    | Configuration
    | Eap
    | PuzzleSolution
    | Unknown
)

__all__ = [
    "Authentication",
    "Certificate",
    "CertificateRequest",
    "Configuration",
    "ConfigurationAttribute",
    "Delete",
    "Eap",
    "Encrypted",
    "EncryptedFragment",
    "IdentificationInitiator",
    "IdentificationResponder",
    "KeyExchange",
    "Nonce",
    "Notify",
    "Payload",
    "Proposal",
    "PuzzleSolution",
    "SecurityAssociation",
    "TrafficSelector",
    "TrafficSelectorsInitiator",
    "TrafficSelectorsResponder",
    "Transform",
    "Unknown",
    "VendorId",
]
