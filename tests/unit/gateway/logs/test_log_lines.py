import json
import logging
import struct
import sys

import pytest

from cygnet.gateway.logs.log_lines import (
    MAX_TEXT,
    LogLine,
    as_journal,
    as_json,
    as_syslog,
    as_text,
    event_of,
    line_of,
    short_text,
)
from cygnet.observe.log_groups import AUDIT, about

NOON = 1_800_000_000.25


def record(
    message: str, *values: object, severity: int = logging.INFO, sa: dict[str, tuple[str, int]] | None = None
) -> logging.LogRecord:
    made = logging.LogRecord("cygnet.ike", severity, "file", 1, message, values, None)
    made.__dict__.update(sa or {})
    return made


def line(text: str = "up", severity: int = AUDIT, connection: str = "rw", unique_id: int = 7) -> LogLine:
    return LogLine(NOON, 1, "ike", severity, text, connection, unique_id)


def test_a_line_has_group_worker_and_sa_as_charon_prints_them() -> None:
    made = line_of(record("IKE_SA with %s", "c1", sa=about("rw", 7)), 3)
    assert short_text(made) == "03[IKE] <rw|7> IKE_SA with c1"
    assert short_text(line_of(record("no SA"), 0)) == "00[IKE] no SA"
    assert short_text(line_of(record("attempt", sa=about("rw")), 0)) == "00[IKE] <rw> attempt"
    assert short_text(line_of(record("half open", sa=about("", 7)), 1)) == "01[IKE] <7> half open"
    assert short_text(line_of(record("worse", severity=logging.ERROR), 0)) == "00[IKE] ERROR worse"


def test_text_has_the_time() -> None:
    assert as_text(line()).endswith(b".250 01[IKE] <rw|7> up\n")


def test_json_is_one_object_on_one_line() -> None:
    octets = as_json(line("two\nlines"))
    assert octets.count(b"\n") == 1
    assert json.loads(octets) == {
        "time": "2027-01-15T08:00:00.250Z",
        "severity": "notice",
        "group": "IKE",
        "level": 0,
        "thread": 1,
        "ikesa-name": "rw",
        "ikesa-uniqueid": 7,
        "msg": "two\nlines",
    }
    assert "ikesa-name" not in json.loads(as_json(line(connection="", unique_id=0)))


def test_the_event_is_that_of_strongswan() -> None:
    """The fields of the event `log` in src/libcharon/plugins/vici/README.md of strongSwan."""
    assert {"group", "level", "ikesa-name", "ikesa-uniqueid", "msg"} <= set(event_of(line()))


def test_what_peers_send_makes_no_lines_and_no_escape_sequences() -> None:
    made = line_of(record("IKE_SA with %s", "eve\n00[DMN] all is well\x1b[2J\u2028"), 0)
    assert as_text(made).count(b"\n") == 1
    assert b"\x1b" not in as_text(made)
    assert "eve\\x0a00[DMN] all is well\\x1b[2J\\x2028" in made.text
    assert b"\n" not in as_syslog(made, 3, 1)


def test_each_line_of_a_traceback_is_marked() -> None:
    try:
        raise RuntimeError("deep\nin it")
    except RuntimeError:
        fault = record("internal error", severity=logging.ERROR, sa=about("rw", 7))
        fault.exc_info = sys.exc_info()
    printed = as_text(line_of(fault, 2)).decode().splitlines()
    assert len(printed) > 3
    assert all("02[IKE] <rw|7> " in each for each in printed)


def test_lines_are_bounded() -> None:
    assert len(line_of(record("%s", "x" * 1_000_000), 0).text) < MAX_TEXT + 10


@pytest.mark.parametrize(
    ("severity", "priority"),
    [(logging.ERROR, 27), (logging.WARNING, 28), (AUDIT, 29), (logging.INFO, 30), (logging.DEBUG, 31)],
)
def test_syslog_has_facility_and_severity(severity: int, priority: int) -> None:
    octets = as_syslog(line(severity=severity), 3, 42)
    assert octets.startswith(f"<{priority}>".encode())
    assert b" cygnet[42]: 01[IKE] <rw|7> " in octets


def test_the_journal_has_fields() -> None:
    octets = as_journal(line("two\nlines"))
    fields: dict[bytes, bytes] = {}
    while octets:
        name, _, rest = octets.partition(b"\n")
        (size,) = struct.unpack_from("<Q", rest)
        fields[name], octets = rest[8 : 8 + size], rest[9 + size :]
    assert fields[b"MESSAGE"] == b"two\nlines"
    assert (fields[b"PRIORITY"], fields[b"GROUP"], fields[b"LEVEL"]) == (b"5", b"IKE", b"0")
    assert (fields[b"IKE_SA_NAME"], fields[b"IKE_SA_UNIQUE_ID"]) == (b"rw", b"7")
