"""Answers that many commands have in common."""

from typing import Final

from cygnet.config.errors import ConfigError, Problem
from cygnet.vici.message import Encodable
from cygnet.vici.server import CommandError

SUCCESS: Final[Encodable] = {"success": True}


def failure(error: ConfigError) -> CommandError:
    """What is wrong with a piece of configuration, in one line: the client knows which file it comes from."""
    return CommandError("; ".join(problem.message for problem in error.problems if not problem.is_warning))


def with_warnings(warnings: tuple[Problem, ...]) -> Encodable:
    """Success, with what the user should know. strongSwan's clients pass over the warnings; ours shows them."""
    return {"success": True, "warnings": [warning.message for warning in warnings] if warnings else None}
