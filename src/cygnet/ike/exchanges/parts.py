"""The payloads of one message, by kind."""

from collections.abc import Iterable
from typing import TypeVar

from cygnet.ike.errors import InvalidSyntax, PeerRefused, UnsupportedCriticalPayload
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.certificate import Certificate
from cygnet.wire.payloads.certificate_request import CertificateRequest
from cygnet.wire.payloads.delete import Delete
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.unknown import Unknown
from cygnet.wire.payloads.vendor_id import VendorId

FIRST_STATUS_NOTIFY = 16384
"""Notify types below are errors (RFC 7296 section 3.10.1)."""

_MAY_REPEAT = (Certificate, CertificateRequest, Delete, VendorId)

_P = TypeVar("_P")


class Parts:
    """Payloads that a message may hold once, and its notifies."""

    __slots__ = ("_by_type", "deletes", "notifies")

    def __init__(self, payloads: Iterable[Payload]) -> None:
        """Sort payloads.

        Raises InvalidSyntax for one that stands twice, UnsupportedCriticalPayload for a critical unknown one.
        """
        by_type: dict[type, Payload] = {}
        self.notifies: list[Notify] = []
        self.deletes: list[Delete] = []
        for payload in payloads:
            kind = type(payload)
            if kind is Notify:
                self.notifies.append(payload)  # type: ignore[arg-type]
            elif kind not in by_type:
                if kind is Unknown and payload.is_critical:  # type: ignore[union-attr]
                    raise UnsupportedCriticalPayload(payload.payload_type)
                by_type[kind] = payload
            elif kind is Unknown:
                if payload.is_critical:  # type: ignore[union-attr]
                    raise UnsupportedCriticalPayload(payload.payload_type)
            elif kind not in _MAY_REPEAT:
                raise InvalidSyntax(f"two payloads of type {payload.payload_type} in one message")
            if kind is Delete:
                self.deletes.append(payload)  # type: ignore[arg-type]
        self._by_type = by_type

    def find(self, kind: type[_P]) -> _P | None:
        """The payload of that class, or None."""
        return self._by_type.get(kind)  # type: ignore[return-value]

    def need(self, kind: type[_P]) -> _P:
        """The payload of that class; raises InvalidSyntax if it is missing."""
        payload = self._by_type.get(kind)
        if payload is None:
            raise InvalidSyntax(f"no {kind.__name__} payload")
        return payload  # type: ignore[return-value]

    def has_notify(self, notify_type: int) -> bool:
        """Whether a notify of that type is in the message."""
        return any(n.notify_type == notify_type for n in self.notifies)

    def notify_data(self, notify_type: int) -> list[bytes]:
        """The data of each notify of that type."""
        return [n.data for n in self.notifies if n.notify_type == notify_type]

    def error(self) -> PeerRefused | None:
        """The first error notify, as an exception to raise or to look at."""
        for notify in self.notifies:
            if notify.notify_type < FIRST_STATUS_NOTIFY:
                return PeerRefused(notify.notify_type)
        return None
