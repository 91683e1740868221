"""Payloads of a message by kind: which may repeat, which must be there, which are not understood."""

import pytest

from cygnet.iana import NotifyType
from cygnet.ike.errors import InvalidSyntax, UnsupportedCriticalPayload
from cygnet.ike.exchanges.parts import Parts
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.certificate import Certificate
from cygnet.wire.payloads.certificate_request import CertificateRequest
from cygnet.wire.payloads.delete import Delete
from cygnet.wire.payloads.nonce import Nonce
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.unknown import Unknown
from cygnet.wire.payloads.vendor_id import VendorId

NONCE = Nonce(bytes(16))
KNOWN, CRITICAL = Unknown(200, False, b""), Unknown(201, True, b"")


def notify(number: int, data: bytes = b"") -> Notify:
    return Notify(0, b"", number, data)


@pytest.mark.parametrize(
    "payload",
    [notify(1), Delete(3, (b"spi!",)), VendorId(b"v"), Certificate(4, b"c"), CertificateRequest(4, b""), KNOWN],
    ids=lambda payload: type(payload).__name__,
)
def test_payloads_that_may_repeat(payload: Payload) -> None:
    Parts((payload, NONCE, payload))


def test_any_other_payload_stands_once() -> None:
    with pytest.raises(InvalidSyntax, match="2 Nonce payloads"):
        Parts((NONCE, NONCE))


@pytest.mark.parametrize("payloads", [(CRITICAL,), (KNOWN, CRITICAL), (NONCE, KNOWN, KNOWN, CRITICAL)])
def test_a_critical_payload_that_is_unknown_is_named(payloads: tuple[Payload, ...]) -> None:
    with pytest.raises(UnsupportedCriticalPayload) as caught:
        Parts(payloads)
    assert caught.value.data == bytes((201,))


def test_payloads_are_found_by_class() -> None:
    parts = Parts((VendorId(b"1"), NONCE, VendorId(b"2")))
    assert parts.find(Nonce) is parts.need(Nonce) is NONCE
    assert parts.find(Certificate) is None
    with pytest.raises(InvalidSyntax, match="no Certificate payload"):
        parts.need(Certificate)


def test_deletes_and_notifies_are_kept_in_order() -> None:
    deletes = (Delete(3, (b"1111",)), Delete(1, ()))
    parts = Parts((deletes[0], notify(NotifyType.COOKIE, b"1"), deletes[1], notify(NotifyType.COOKIE, b"2")))
    assert tuple(parts.deletes) == deletes
    assert parts.notify_data(NotifyType.COOKIE) == [b"1", b"2"]
    assert parts.has_notify(NotifyType.COOKIE) and not parts.has_notify(NotifyType.INITIAL_CONTACT)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ((), None),
        ((16384, 40000), None),
        ((16384, 14, 24), "no_proposal_chosen"),
        # An error type that we don't know is an error all the same (RFC 7296 section 3.10.1).
        ((8191,), "unknown_error_notify"),
        ((16383,), "unknown_error_notify"),
    ],
)
def test_the_first_error_counts(numbers: tuple[int, ...], reason: str | None) -> None:
    error = Parts(tuple(map(notify, numbers))).error()
    assert (error and error.reason) == reason
