"""The last responses of SAs that sleep."""

from cygnet.ike.kept_responses import KEPT_S, KeptResponses


def test_a_response_can_be_had_for_minutes() -> None:
    kept = KeptResponses()
    kept.put(b"spi", b"response", 1000.0, 1003.0)
    kept.put(b"other", b"another", 1001.0, 1003.0)
    assert kept.look(b"spi", 1000.0) == b"response" and kept.look(b"other", 1001.0) == b"another"
    kept.forget(1000.0 + KEPT_S)
    assert kept.take(b"spi", 1000.0) == b"response"
    assert kept.take(b"spi", 1000.0) == b"" and len(kept) == 1
    due = kept.next_due()
    assert due is not None and 1000.0 + KEPT_S < due < 1000.0 + KEPT_S + 60.0
    kept.forget(due)
    assert kept.look(b"other", 1001.0) == b"" and len(kept) == 0 and kept.next_due() is None


def test_a_response_that_sleeps_again_gets_no_younger() -> None:
    kept = KeptResponses()
    kept.put(b"spi", b"response", 1000.0, 1003.0)
    due = kept.next_due()
    assert due is not None
    kept.put(b"spi", kept.take(b"spi", 1000.0), 1000.0, due - 1.0)
    assert kept.next_due() == due
    kept.put(b"late", b"response", 1000.0, due + 1.0)
    assert kept.look(b"late", 1000.0) == b""


def test_no_response_takes_no_place() -> None:
    kept = KeptResponses()
    kept.put(b"spi", b"", 1000.0, 1003.0)
    assert kept.next_due() is None and kept.look(b"spi", 1000.0) == b""
