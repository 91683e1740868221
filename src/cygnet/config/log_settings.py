"""What is logged, and where to: the section `gateway { log { } }`."""

import logging
from enum import Enum
from typing import Final

import msgspec

from cygnet.observe.log_groups import DEFAULT, GROUPS


class LogFormat(Enum):
    """The form of lines on standard error and in a file (`format =`)."""

    TEXT = "text"
    JSON = "json"


TARGETS: Final = ("stderr", "file", "syslog", "journal")
"""Where lines can go."""


class Levels(msgspec.Struct, frozen=True):
    """The least severity that is logged, by group, as Python's `logging` has them; None is that of `default`."""

    default: int | None = None
    dmn: int | None = None
    mgr: int | None = None
    ike: int | None = None
    chd: int | None = None
    job: int | None = None
    cfg: int | None = None
    knl: int | None = None
    net: int | None = None
    asn: int | None = None
    enc: int | None = None
    tnc: int | None = None
    imc: int | None = None
    imv: int | None = None
    pts: int | None = None
    tls: int | None = None
    app: int | None = None
    esp: int | None = None
    lib: int | None = None

    @property
    def thresholds(self) -> dict[str, int]:
        """Those that there are, by group, and DEFAULT."""
        own = {name: getattr(self, name) for name in (DEFAULT, *GROUPS)}
        return {name: level for name, level in own.items() if level is not None}


class LogSettings(Levels, frozen=True):
    """What is logged, and where to. The levels are those of all targets that have none of their own."""

    default: int = logging.INFO
    stderr: bool = True
    file: str = ""
    """Path; empty for none."""
    syslog: str = ""
    """Facility, such as `daemon`; empty for no syslog."""
    journal: bool = False
    format: LogFormat = LogFormat.TEXT

    stderr_levels: Levels = Levels()
    file_levels: Levels = Levels()
    syslog_levels: Levels = Levels()
    journal_levels: Levels = Levels()

    def thresholds_of(self, target: str) -> dict[str, int]:
        """The levels of a target by group, and DEFAULT. With a default of its own it has nothing of the others'."""
        own: dict[str, int] = getattr(self, f"{target}_levels").thresholds
        return own if DEFAULT in own else {**self.thresholds, **own}
