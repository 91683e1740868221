"""`charondebug` of `config setup`, such as `ike 2, knl 3`, to the section `gateway { log { } }`."""

import re
from typing import Final

from cygnet.config.errors import Problem, quote
from cygnet.config.syntax import Section, Setting
from cygnet.observe.log_groups import DEFAULT, GROUPS

_PAIR: Final = re.compile(r"(?P<group>\w+)\s+(?P<level>-1|[0-4])\Z")
_ALL: Final = ("any", "all")
"""Stand for all groups."""


def convert_log_levels(setting: Setting, problems: list[Problem]) -> Section:
    """The section `gateway` with the levels; `problems` gets what is no group or no level."""
    log = Section("log", setting.name_position)
    for item in (setting.value or "").split(","):
        match = _PAIR.match(item.strip().lower())
        group = match["group"] if match else ""
        if match is not None and (group in GROUPS or group in _ALL):
            key = DEFAULT if group in _ALL else group
            log.settings[key] = Setting(match["level"], setting.value_position, setting.value_position)
        elif item.strip():
            message = f"{quote(item.strip())} of charondebug is no group and level such as ike 2; there is: "
            problems.append(setting.value_position.problem(f"{message}{', '.join((*_ALL[:1], *GROUPS))}, and -1 to 4"))
    gateway = Section("gateway", setting.name_position)
    if log.settings:
        gateway.sections["log"] = log
    return gateway
