"""The payloads of one message, by kind."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import compress
from operator import attrgetter
from typing import TypeVar

from cygnet.iana import FIRST_STATUS_TYPE
from cygnet.ike.errors import InvalidSyntax, PeerRefused, UnsupportedCriticalPayload
from cygnet.wire.errors import WireError
from cygnet.wire.message import decode_payloads
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.certificate import Certificate
from cygnet.wire.payloads.certificate_request import CertificateRequest
from cygnet.wire.payloads.delete import Delete
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.unknown import Unknown
from cygnet.wire.payloads.vendor_id import VendorId

_MAY_REPEAT = frozenset((Certificate, CertificateRequest, Delete, Notify, Unknown, VendorId))

_P = TypeVar("_P")

_notify_type = attrgetter("notify_type")


@lru_cache(maxsize=256)
def _look_over(kinds: tuple[type[Payload], ...]) -> tuple[bool, tuple[bool, ...]]:
    """Of payloads of these classes: whether `_check` has to look at them, and which are notifies.

    The messages of a fleet have the same few payloads in the same order.
    """
    others = [kind for kind in kinds if kind is not Notify and kind is not Delete]
    needs_check = len(set(others)) < len(others) or Unknown in others
    return needs_check, tuple([kind is Notify for kind in kinds])


class Parts:
    """Payloads that a message may hold once, and its notifies and deletes."""

    __slots__ = ("_by_type", "_notify_types", "_payloads", "notifies")

    def __init__(self, payloads: Sequence[Payload]) -> None:
        """Sort payloads.

        Raises InvalidSyntax for one that stands twice, UnsupportedCriticalPayload for a critical unknown one.
        """
        kinds: tuple[type[Payload], ...] = tuple(map(type, payloads))
        needs_check, are_notifies = _look_over(kinds)
        if needs_check:
            _check(payloads)
        self._payloads = payloads
        self._by_type: dict[type, Payload] = dict(zip(kinds, payloads, strict=True))
        self.notifies: list[Notify] = list(compress(payloads, are_notifies))  # type: ignore[arg-type]
        self._notify_types: list[int] = list(map(_notify_type, self.notifies))

    @property
    def deletes(self) -> list[Delete]:
        """The deletes, which but one exchange has."""
        return [payload for payload in self._payloads if isinstance(payload, Delete)]

    @property
    def is_empty(self) -> bool:
        """Whether the message holds nothing."""
        return not self._by_type

    def find(self, kind: type[_P]) -> _P | None:
        """The payload of that class, or None."""
        return self._by_type.get(kind)  # type: ignore[return-value]

    def need(self, kind: type[_P]) -> _P:
        """The payload of that class; raises InvalidSyntax if it is missing."""
        try:
            return self._by_type[kind]  # type: ignore[return-value]
        except KeyError:
            raise InvalidSyntax(f"no {kind.__name__} payload") from None

    def has_notify(self, notify_type: int) -> bool:
        """Whether a notify of that type is in the message."""
        return notify_type in self._notify_types

    def notify_data(self, notify_type: int) -> list[bytes]:
        """The data of each notify of that type."""
        if notify_type not in self._notify_types:
            return []
        return [n.data for n in self.notifies if n.notify_type == notify_type]

    def error(self) -> PeerRefused | None:
        """The first error notify, as an exception to raise or to look at."""
        for notify in self.notifies:
            if notify.notify_type < FIRST_STATUS_TYPE:
                return PeerRefused(notify.notify_type)
        return None


def _check(payloads: Sequence[Payload]) -> None:
    for payload in payloads:
        if isinstance(payload, Unknown) and payload.is_critical:
            raise UnsupportedCriticalPayload(payload.payload_type)
    for kind, number in Counter(map(type, payloads)).items():
        if number > 1 and kind not in _MAY_REPEAT:
            raise InvalidSyntax(f"{number} {kind.__name__} payloads in one message")


_NOTHING = Parts(())


def parts_of(inner_type: int, chain: bytes) -> Parts:
    """The payloads of a message that was encrypted, whose first is of type `inner_type`.

    Raises InvalidSyntax, UnsupportedCriticalPayload.
    """
    if not inner_type and not chain:
        return _NOTHING
    try:
        payloads = decode_payloads(inner_type, chain)
    except WireError as error:
        raise InvalidSyntax(f"the payloads don't decode: {error}") from error
    return Parts(payloads)
