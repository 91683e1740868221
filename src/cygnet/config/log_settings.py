"""What is logged, and where to: the section `gateway { log { } }`."""

import logging
from enum import Enum

import msgspec

from cygnet.observe.log_groups import DEFAULT, GROUPS


class LogFormat(Enum):
    """The form of lines on standard error and in a file (`format =`)."""

    TEXT = "text"
    JSON = "json"


class LogSettings(msgspec.Struct, frozen=True):
    """Levels are the least severity that is logged, as Python's `logging` has them; None is that of `default`."""

    default: int = logging.INFO
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
    stderr: bool = True
    file: str = ""
    """Path; empty for none."""
    syslog: str = ""
    """Facility, such as `daemon`; empty for no syslog."""
    journal: bool = False
    format: LogFormat = LogFormat.TEXT

    @property
    def thresholds(self) -> dict[str, int]:
        """The levels by group, and DEFAULT."""
        own = {group: getattr(self, group) for group in GROUPS}
        return {DEFAULT: self.default, **{group: level for group, level in own.items() if level is not None}}
