"""The keys of `gateway { log { } }`."""

from typing import Final

from cygnet.config import values
from cygnet.config.log_settings import TARGETS, LogFormat
from cygnet.config.schema import Inner, Key, Table
from cygnet.config.values import Kind
from cygnet.observe.log_groups import GROUPS, parse_threshold

_FACILITIES: Final = ("daemon", "auth", "authpriv", *(f"local{number}" for number in range(8)))

_LEVEL: Final = Kind("level", parse_threshold)


def _parse_facility(text: str) -> str:
    """A facility, or `no`."""
    if text in ("no", "false", "disabled", "0"):
        return ""
    if text not in _FACILITIES:
        raise ValueError(f'"{text}" is not one of: no, {", ".join(_FACILITIES)}')
    return text


LOG: Final = Table(
    title="gateway.log",
    help="What is logged, and where to. The groups and levels are strongSwan's. All targets get the same, but those "
    "with a section of levels of their own (`stderr_levels`, `file_levels`, `syslog_levels`, `journal_levels`). A "
    "level is -1, nothing; 0, IKE_SAs that come and go, warnings and errors; 1, what else happens, with its reasons; "
    "2, in detail; 3, with octets as they were sent; 4, with what is secret. Or `error`, `warning`, `info` (1), "
    "`debug` (2). Levels can be changed while the gateway runs: `cygnet log --level ike=2`.",
    keys=(
        Key("default", _LEVEL, "1", "Level of all groups that have none of their own.", is_own=True),
        *(Key(name, _LEVEL, "", f"Level of the group `{name}`: {text}.", is_own=True) for name, text in GROUPS.items()),
        Key("stderr", values.BOOLEAN, "yes", "Log to standard error.", is_own=True),
        Key(
            "file",
            values.TEXT,
            "",
            "Log to this file too. It is opened anew when it was moved away, within a second, and on SIGHUP.",
            is_own=True,
        ),
        Key(
            "syslog",
            Kind("facility or no", _parse_facility),
            "no",
            "Log to syslog too, with this facility: `daemon`, `auth`, `authpriv`, `local0` to `local7`.",
            is_own=True,
        ),
        Key(
            "journal",
            values.BOOLEAN,
            "no",
            "Log to systemd's journal too, with the fields `GROUP`, `LEVEL`, `IKE_SA_NAME` and `IKE_SA_UNIQUE_ID`.",
            is_own=True,
        ),
        Key(
            "format",
            Kind("form", values.one_of(LogFormat, {})),
            "text",
            "`text`, or `json` for an object on each line, on standard error and in the file.",
            is_own=True,
        ),
    ),
    sections=tuple(Inner(f"{target}_levels") for target in TARGETS),
)

LOG_LEVELS: Final = Table(
    title="gateway.log.<target>_levels",
    help="What one target gets: `stderr_levels`, `file_levels`, `syslog_levels` or `journal_levels`. In strongSwan "
    "these are the levels of `charon.filelog.<name>` and `charon.syslog.<facility>`.",
    keys=(
        Key(
            "default",
            _LEVEL,
            "",
            "Level of all groups that have none here. Without it, groups that have none here get what `log` says.",
            is_own=True,
        ),
        *(Key(name, _LEVEL, "", f"Level of the group `{name}`.", is_own=True) for name in GROUPS),
    ),
)
