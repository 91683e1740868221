"""Who logs what, and how much of it: strongSwan's groups and levels, on top of Python's `logging`.

A group is the logger `cygnet.<group>`. A level, -1 to 4, is the least severity that passes, so that whoever logs pays
one look into a dictionary for a line that nobody wants (https://docs.strongswan.org/docs/5.9/config/logging.html).
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

GROUPS: Final = MappingProxyType(
    {
        "dmn": "start, signals, workers and end of the daemon",
        "mgr": "keeping of IKE_SAs: memory, limits",
        "ike": "IKE_SAs",
        "chd": "CHILD_SAs, and scripts that are run for them",
        "job": "what is done later, or again: attempts to connect",
        "cfg": "configuration, the control socket",
        "knl": "devices, routes and addresses of the host",
        "net": "sockets and datagrams",
        "asn": "certificates, ASN.1",
        "enc": "encoding and decoding of messages",
        "tnc": "not used here",
        "imc": "not used here",
        "imv": "not used here",
        "pts": "not used here",
        "tls": "TLS within EAP",
        "app": "not used here",
        "esp": "ESP in userspace",
        "lib": "libraries",
    }
)
"""strongSwan's groups, and what Cygnet logs in them."""

DEFAULT: Final = "default"
"""Stands for all groups that have no level of their own."""

AUDIT: Final = 25
"""Severity of what must not be missed: an IKE_SA is up, or down. Between INFO and WARNING."""
RAW: Final = 7
"""Severity of octets as they are on the wire."""
PRIVATE: Final = 5
_SILENT: Final = 100

_THRESHOLDS: Final = MappingProxyType(
    {-1: _SILENT, 0: AUDIT, 1: logging.INFO, 2: logging.DEBUG, 3: RAW, 4: PRIVATE},
)
_WORDS: Final = MappingProxyType(
    {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
)

_FAMILIES: Final = MappingProxyType(
    {
        "cygnet.cli": "dmn",
        "cygnet.gateway": "dmn",
        "cygnet.vici": "cfg",
        "cygnet.config": "cfg",
        "cygnet.dataplane": "esp",
    }
)
"""Packages whose modules log under their own names. Those of others, as `cygnet.net`, are called as their group is."""


def group_logger(group: str) -> logging.Logger:
    """The logger of a group."""
    return logging.getLogger(f"cygnet.{group}")


def group_of(logger: str) -> str:
    """The group that a logger, by its name, belongs to."""
    if not logger.startswith("cygnet"):
        return "lib"
    family = ".".join(logger.split(".")[:2])
    group = _FAMILIES.get(family, family.removeprefix("cygnet."))
    return group if group in GROUPS else "dmn"


def level_of(severity: int) -> int:
    """The lowest level, 0 to 4, at which a line of that severity is logged."""
    return next((level for level, least in _THRESHOLDS.items() if level >= 0 and severity >= least), 4)


def parse_threshold(text: str) -> int:
    """The least severity that passes at a level, -1 to 4; or that of a word. Raises ValueError."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        return _THRESHOLDS[int(text)]
    except (ValueError, KeyError):
        raise ValueError(f'"{text}" is no log level: -1 to 4, or {", ".join(_WORDS)}') from None


def threshold_text(threshold: int) -> str:
    """As `parse_threshold` reads it."""
    for level, least in _THRESHOLDS.items():
        if least == threshold:
            return str(level)
    return next(word for word, least in _WORDS.items() if least == threshold)


def threshold_of(thresholds: Mapping[str, int], group: str) -> int:
    """What a line of a group must reach, with levels by group and DEFAULT. Of libraries only what matters is logged,
    unless their group has a level of its own."""
    own = thresholds.get(group)
    if own is not None:
        return own
    default = thresholds[DEFAULT]
    return max(default, logging.WARNING) if group == "lib" else default


def put_into_force(thresholds: Mapping[str, int]) -> None:
    """Log in this process what reaches these severities, by group and DEFAULT."""
    logging.getLogger().setLevel(threshold_of(thresholds, "lib"))
    logging.getLogger("cygnet").setLevel(thresholds[DEFAULT])
    for group in GROUPS:
        group_logger(group).setLevel(thresholds.get(group, thresholds[DEFAULT]))
    for family, group in _FAMILIES.items():
        logging.getLogger(family).setLevel(threshold_of(thresholds, group))


def about(connection: str, unique_id: int = 0) -> dict[str, tuple[str, int]]:
    """What makes a line one about an SA: `_log.info(..., extra=about("rw", 7))`."""
    return {"sa": (connection, unique_id)}
