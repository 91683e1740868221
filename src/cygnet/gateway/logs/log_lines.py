"""One line of the log, and its forms: text, JSON, strongSwan's vici event, syslog, systemd's journal."""

import logging
import struct
import time
import traceback
from typing import Any, Final

import msgspec

from cygnet.observe.log_groups import AUDIT, group_of, level_of

MAX_TEXT: Final = 8000
"""Characters of a line; a traceback is the longest."""

_NAMES: Final = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (AUDIT, "notice"), (logging.INFO, "info"))
_PRIORITIES: Final = {"error": 3, "warning": 4, "notice": 5, "info": 6, "debug": 7}
"""Severities of RFC 5424 section 6.2.1."""

FACILITIES: Final = {"daemon": 3, "auth": 4, "authpriv": 10, **{f"local{number}": 16 + number for number in range(8)}}
"""RFC 5424 section 6.2.1."""

_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
"""Names come from peers too, and must not make up lines, or talk to a terminal."""


class LogLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A line before it has a form; so it goes from a worker to the supervisor."""

    time_s: float
    """Since the epoch."""
    worker: int
    """From 1; 0 is the supervisor."""
    group: str
    severity: int
    """Of Python's `logging`, and `AUDIT`."""
    text: str
    connection: str = ""
    """Of the SA that it is about, if it is about one."""
    unique_id: int = 0
    """Of that IKE_SA."""

    @property
    def severity_name(self) -> str:
        """`error`, `warning`, `notice`, `info` or `debug`."""
        return next((name for least, name in _NAMES if self.severity >= least), "debug")


def line_of(record: logging.LogRecord, worker: int) -> LogLine:
    """The line that a record makes."""
    text = record.getMessage().translate(_CONTROL)
    if record.exc_info and record.exc_info[1] is not None:
        text += "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()
    connection, unique_id = getattr(record, "sa", ("", 0))
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]} ..."
    return LogLine(record.created, worker, group_of(record.name), record.levelno, text, connection, unique_id)


def short_text(line: LogLine) -> str:
    """As charon prints it: `01[IKE] <rw|7> text`, and each line of a traceback for itself."""
    name = line.connection.translate(_CONTROL)
    numbers = (str(line.unique_id),) if line.unique_id else ()
    # As long as nobody knows whose IKE_SA it will be, there is no name.
    whose = "|".join((*((name,) if name else ()), *numbers))
    sa = f"<{whose}> " if whose else ""
    urgency = f"{line.severity_name.upper()} " if line.severity >= logging.WARNING else ""
    head = f"{line.worker:02d}[{line.group.upper()}] {sa}"
    first, *others = line.text.split("\n")
    return "\n".join([f"{head}{urgency}{first}", *(f"{head}{other}" for other in others)])


def as_text(line: LogLine) -> bytes:
    """For a terminal or a file: with the local time before each line."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time_s))
    head = f"{stamp}.{int(line.time_s * 1000) % 1000:03d} "
    return "".join(f"{head}{each}\n" for each in short_text(line).split("\n")).encode(errors="backslashreplace")


def as_json(line: LogLine) -> bytes:
    """One object on one line, with the names of the vici event, the time in UTC, and the severity in a word."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(line.time_s))
    shown: dict[str, Any] = {
        "time": f"{stamp}.{int(line.time_s * 1000) % 1000:03d}Z",
        "severity": line.severity_name,
        **{name: value for name, value in event_of(line).items() if value is not None},
    }
    return msgspec.json.encode(shown) + b"\n"


def event_of(line: LogLine) -> dict[str, str | int | None]:
    """The vici event `log`; `thread` is the worker."""
    return {
        "group": line.group.upper(),
        "level": level_of(line.severity),
        "thread": line.worker,
        "ikesa-name": line.connection or None,
        "ikesa-uniqueid": line.unique_id or None,
        "msg": line.text,
    }


def as_syslog(line: LogLine, facility: int, pid: int) -> bytes:
    """A datagram for `/dev/log`."""
    stamp = time.strftime("%b %e %H:%M:%S", time.localtime(line.time_s))
    priority = 8 * facility + _PRIORITIES[line.severity_name]
    text = short_text(line).replace("\n", " | ")
    return f"<{priority}>{stamp} cygnet[{pid}]: {text}".encode(errors="backslashreplace")


def as_journal(line: LogLine) -> bytes:
    """A datagram of the journal's native protocol, with strongSwan's names of the fields."""
    fields = {
        "MESSAGE": line.text,
        "PRIORITY": str(_PRIORITIES[line.severity_name]),
        "SYSLOG_IDENTIFIER": "cygnet",
        "GROUP": line.group.upper(),
        "LEVEL": str(level_of(line.severity)),
        "THREAD": str(line.worker),
    }
    if line.connection:
        fields["IKE_SA_NAME"] = line.connection
    if line.unique_id:
        fields["IKE_SA_UNIQUE_ID"] = str(line.unique_id)
    return b"".join(map(_journal_field, fields.items()))


def _journal_field(field: tuple[str, str]) -> bytes:
    """A value with its length, since it may have several lines (systemd, JOURNAL_NATIVE_PROTOCOL)."""
    octets = field[1].encode(errors="backslashreplace")
    return field[0].encode() + b"\n" + struct.pack("<Q", len(octets)) + octets + b"\n"
