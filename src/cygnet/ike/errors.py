"""What can go wrong in an exchange, and how far the damage reaches.

    IkeError
      WireError           octets that are no IKE message            drop it
      ProtocolViolation   what RFC 7296 has an error notify for     answer with it, then by `scope`
      LocalError          our configuration, kernel or policy       say so to the operator

`error_notify` is the one place where an error becomes a NOTIFY payload (RFC 7296 section 2.21).
"""

from enum import Enum
from typing import ClassVar

from cygnet.iana import NotifyType, ProtocolId
from cygnet.wire.errors import IkeError
from cygnet.wire.payloads.notify import Notify


class Scope(Enum):
    """What an error ends."""

    MESSAGE = "message"
    """Nothing: the request is answered with the error, and the IKE_SA goes on."""
    CHILD = "child"
    """The CHILD_SA that was being set up; the IKE_SA stands."""
    SA = "sa"
    """The IKE_SA, with all it carries."""


class LocalError(IkeError):
    """Something on our side is missing or wrong; the text is for the operator."""

    reason: ClassVar[str] = "local_error"
    """A counter's label, where an IKE_SA ends by it."""


class AddressAwaited(LocalError):
    """No virtual address is here now, and one may be in a moment: the request is to be taken again then."""


class AddressElsewhere(AddressAwaited):
    """The same of the one address that the peer asks for, and for which no other is to be given meanwhile."""


class ChildlessUnsupported(LocalError):
    """The IKE_SA is to begin without a CHILD_SA, and the peer does not support that (RFC 6023 section 3)."""

    reason = "childless_unsupported"


class TransportUnavailable(LocalError):
    """The CHILD_SA is to be in transport mode, and that can't be done here, or not for its traffic."""

    reason = "transport_mode_unavailable"


class ProtocolViolation(IkeError):
    """The peer asked for something that RFC 7296 answers with an error notify."""

    notify: ClassVar[NotifyType]
    scope: ClassVar[Scope] = Scope.SA

    @property
    def data(self) -> bytes:
        """The notification data that goes with the error."""
        return b""

    @property
    def spi(self) -> bytes:
        """The ESP SPI that the error is about; empty if it is about none."""
        return b""


class InvalidSyntax(ProtocolViolation):
    """A message that decrypts, yet is not what its exchange asks for (RFC 7296 section 3.10.1)."""

    notify = NotifyType.INVALID_SYNTAX


class UnsupportedCriticalPayload(ProtocolViolation):
    """A payload that we don't know and that its sender says we must (RFC 7296 section 2.5)."""

    notify = NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD
    scope = Scope.MESSAGE

    def __init__(self, payload_type: int) -> None:
        super().__init__(f"payload type {payload_type} is critical and unknown")
        self.payload_type = payload_type

    @property
    def data(self) -> bytes:
        """The one octet payload type that was not understood."""
        return bytes((self.payload_type,))


class NoProposalChosen(ProtocolViolation):
    """None of the peer's proposals is acceptable, for the IKE_SA."""

    notify = NotifyType.NO_PROPOSAL_CHOSEN


class NoChildProposalChosen(ProtocolViolation):
    """None of the peer's proposals is acceptable, for a CHILD_SA."""

    notify = NotifyType.NO_PROPOSAL_CHOSEN
    scope = Scope.CHILD


class InvalidKePayload(ProtocolViolation):
    """The peer guessed another key exchange method than the one chosen (RFC 7296 section 1.3)."""

    notify = NotifyType.INVALID_KE_PAYLOAD

    def __init__(self, method: int) -> None:
        super().__init__(f"key exchange method {method} is wanted")
        self.method = method

    @property
    def data(self) -> bytes:
        """The method that we want, two octets."""
        return self.method.to_bytes(2, "big")


class OtherKeWanted(InvalidKePayload):
    """The same in CREATE_CHILD_SA, where nothing is lost but a round trip."""

    scope = Scope.MESSAGE


class TemporaryFailure(ProtocolViolation):
    """It can't be done just now, because of something that is under way (RFC 7296 section 2.25)."""

    notify = NotifyType.TEMPORARY_FAILURE
    scope = Scope.MESSAGE


class ChildSaNotFound(ProtocolViolation):
    """The CHILD_SA that is to be rekeyed is not there (RFC 7296 section 2.25)."""

    notify = NotifyType.CHILD_SA_NOT_FOUND
    scope = Scope.MESSAGE

    def __init__(self, spi: bytes) -> None:
        super().__init__(f"no CHILD_SA with SPI {spi.hex()}")
        self._spi = spi

    @property
    def spi(self) -> bytes:
        """The SPI as it stood in the REKEY_SA notify."""
        return self._spi


class AuthenticationFailed(ProtocolViolation):
    """The peer did not prove to be one that we let in (RFC 7296 section 2.21.2)."""

    notify = NotifyType.AUTHENTICATION_FAILED


class TsUnacceptable(ProtocolViolation):
    """None of the traffic the peer wants to send falls under our policy (RFC 7296 section 2.9)."""

    notify = NotifyType.TS_UNACCEPTABLE
    scope = Scope.CHILD


class InternalAddressFailure(ProtocolViolation):
    """No virtual address is to be had (RFC 7296 section 3.15.4)."""

    notify = NotifyType.INTERNAL_ADDRESS_FAILURE
    scope = Scope.CHILD


class FailedCpRequired(ProtocolViolation):
    """A peer has to ask for a virtual address, and has not (RFC 7296 section 2.19)."""

    notify = NotifyType.FAILED_CP_REQUIRED
    scope = Scope.CHILD


class NoAdditionalSas(ProtocolViolation):
    """We don't set up further SAs within this IKE_SA (RFC 7296 section 1.3)."""

    notify = NotifyType.NO_ADDITIONAL_SAS
    scope = Scope.MESSAGE


class UnexpectedNatDetected(ProtocolViolation):
    """The peer forbids NATs, and its message has passed one (RFC 4555 section 3.9)."""

    notify = NotifyType.UNEXPECTED_NAT_DETECTED


class UnacceptableAddresses(ProtocolViolation):
    """The peer wants to use addresses that the connection does not allow (RFC 4555 section 3.5)."""

    notify = NotifyType.UNACCEPTABLE_ADDRESSES
    scope = Scope.MESSAGE


class PeerRefused(IkeError):
    """The peer answered our request with an error notify; `reason` is its name as a counter's label."""

    def __init__(self, notify_type: int) -> None:
        self.notify_type = notify_type
        try:
            self.reason = NotifyType(notify_type).name.lower()
        except ValueError:
            self.reason = "unknown_error_notify"
        super().__init__(f"the peer answered with {self.reason} ({notify_type})")


def error_notify(error: ProtocolViolation) -> Notify:
    """The NOTIFY payload that tells the peer of `error`."""
    protocol_id = ProtocolId.ESP if error.spi else ProtocolId.NONE
    return Notify(protocol_id=protocol_id, spi=error.spi, notify_type=error.notify, data=error.data)
