"""`log-levels`: what is logged, shown and changed. It is Cygnet's own command; strongSwan reads a file again."""

from collections.abc import Mapping
from functools import partial
from typing import Protocol

from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError


class Logs(Protocol):
    """The log of the daemon."""

    def levels(self, target: str = "") -> dict[str, str]:
        """The level of each group that has its own, and `default`; of all targets, or of one that has its own."""

    @property
    def with_own_levels(self) -> list[str]:
        """The targets that have."""

    def change(self, levels: Mapping[str, str]) -> None:
        """Other levels from now on; an empty one has its group follow the default. Raises ValueError."""


def table(logs: Logs) -> dict[str, Command]:
    """The command by name."""
    return {"log-levels": Command(partial(_log_levels, logs))}


async def _log_levels(logs: Logs, call: Call) -> Encodable:
    """Change the levels that the section `levels` has, if there is one; the answer has those in force."""
    asked = call.message.get("levels", {})
    if not isinstance(asked, dict):
        raise CommandError("levels is to be a section")
    levels: dict[str, str] = {}
    for name, value in asked.items():
        if not isinstance(value, bytes):
            raise CommandError(f"{name} is to be a value")
        levels[name] = value.decode(errors="replace")
    try:
        logs.change(levels)
    except ValueError as exc:
        raise CommandError(str(exc)) from None
    own = {target: logs.levels(target) for target in logs.with_own_levels}
    return {"success": True, "levels": logs.levels(), "targets": own or None}
