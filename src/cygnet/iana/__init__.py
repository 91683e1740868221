"""The numbers of the protocol, under IANA's names.

One module per registry group. Fields of the wire stay plain `int`, so that a number which is unknown here
passes through; an `IntEnum` member compares equal to it.
"""

from cygnet.iana.auth_methods import AuthMethod
from cygnet.iana.cert_encodings import CertEncoding
from cygnet.iana.configuration import CfgAttribute, CfgType
from cygnet.iana.exchange_types import ExchangeType
from cygnet.iana.hash_algorithms import HashAlgorithm
from cygnet.iana.id_types import IdType
from cygnet.iana.ip_protocols import IpProtocol
from cygnet.iana.names import name_of
from cygnet.iana.notify_types import FIRST_STATUS_TYPE, NotifyType
from cygnet.iana.payload_types import PayloadType
from cygnet.iana.protocol_ids import ProtocolId
from cygnet.iana.transforms import (
    AttributeType,
    EncrId,
    IntegId,
    KeId,
    PrfId,
    SequenceNumbers,
    TransformType,
)
from cygnet.iana.ts_types import TsType

__all__ = [
    "FIRST_STATUS_TYPE",
    "AttributeType",
    "AuthMethod",
    "CertEncoding",
    "CfgAttribute",
    "CfgType",
    "EncrId",
    "ExchangeType",
    "HashAlgorithm",
    "IdType",
    "IntegId",
    "IpProtocol",
    "KeId",
    "NotifyType",
    "PayloadType",
    "PrfId",
    "ProtocolId",
    "SequenceNumbers",
    "TransformType",
    "TsType",
    "name_of",
]
