"""`cygnet check PATH`: validates a configuration."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from cygnet.cli.arguments import file
from cygnet.config.errors import ConfigError, Problem
from cygnet.config.load import Configuration, load_settings

if TYPE_CHECKING:
    from cygnet.gateway.process.limits import Finding


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "check",
        help="validate a configuration",
        description="Read a configuration and name everything that is wrong with it, and what in it is not built yet.",
    )
    parser.add_argument("path", metavar="PATH", type=file, help="the configuration, in swanctl.conf syntax")
    parser.add_argument(
        "--system",
        action="store_true",
        help="also say which limits of this machine a gateway would meet if you started it now; ports are not tried",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check the file; 0 if it can be used, 1 if not."""
    try:
        configuration = load_settings(args.path)
    except ConfigError as exc:
        if args.json:
            _print_json(args.path, None, exc.problems)
        else:
            _print_problems(exc.problems)
        return 1
    limits = _limits(configuration) if args.system else None
    if args.json:
        _print_json(args.path, configuration, configuration.warnings, limits)
    else:
        _print_problems(configuration.warnings)
        for finding in limits or ():
            print(f"limit of {finding}", file=sys.stderr)
        print(f"{args.path}: {_summarise(configuration)}: ok")
    return 0


def _limits(configuration: Configuration) -> "Sequence[Finding]":
    # What it imports is not needed to read a file.
    from cygnet.gateway.process.limits import find, survey_machine

    return find(survey_machine(configuration.settings, configuration.gateway))


def _print_problems(problems: Iterable[Problem]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)


def _summarise(configuration: Configuration) -> str:
    settings = configuration.settings
    counts = (
        (len(settings.connections), "connection"),
        (sum(len(connection.children) for connection in settings.connections), "child"),
        (len(settings.pools), "pool"),
        (len(settings.secrets), "secret"),
    )
    return ", ".join(f"{count} {_plural(noun, count)}" for count, noun in counts)


def _plural(noun: str, count: int) -> str:
    if count == 1:
        return noun
    return "children" if noun == "child" else f"{noun}s"


def _print_json(
    path: str,
    configuration: Configuration | None,
    problems: Iterable[Problem],
    limits: "Sequence[Finding] | None" = None,
) -> None:
    problems = tuple(problems)
    result: dict[str, Any] = {
        "path": path,
        "is_valid": configuration is not None,
        "errors": [_as_object(problem) for problem in problems if not problem.is_warning],
        "warnings": [_as_object(problem) for problem in problems if problem.is_warning],
    }
    if configuration is not None:
        settings = configuration.settings
        result["connections"] = {
            connection.name: [child.name for child in connection.children] for connection in settings.connections
        }
        result["pools"] = [pool.name for pool in settings.pools]
        result["secrets"] = len(settings.secrets)
    if limits is not None:
        result["limits"] = [msgspec.structs.asdict(finding) for finding in limits]
    print(json.dumps(result))


def _as_object(problem: Problem) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "column": problem.column, "message": problem.message}
