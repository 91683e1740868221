"""IANA "IKEv2 Security Protocol Identifiers"."""

from enum import IntEnum


class ProtocolId(IntEnum):
    """Whose SA a proposal, notification or deletion is about (RFC 7296 section 3.3.1)."""

    NONE = 0  # RFC 7296 section 3.10: a notification that concerns no SA
    IKE = 1  # RFC 7296
    AH = 2  # RFC 7296
    ESP = 3  # RFC 7296
    FC_ESP_HEADER = 4  # RFC 4595
    FC_CT_AUTHENTICATION = 5  # RFC 4595
    GIKE_UPDATE = 6  # RFC 9838
