"""`cygnet convert`: ipsec.conf and ipsec.secrets to the swanctl.conf that means the same."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Final

from cygnet.cli.arguments import file
from cygnet.config.errors import ConfigError, Problem
from cygnet.config.ipsec.convert import Conversion, convert
from cygnet.ike.errors import LocalError

_CONF: Final = "/etc/ipsec.conf"
_SECRETS: Final = "ipsec.secrets"
_PRIVATE: Final = 0o600


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "convert",
        help="convert ipsec.conf and ipsec.secrets to swanctl.conf",
        description="Write the swanctl.conf that means what ipsec.conf and ipsec.secrets mean, and name on standard "
        "error what can't be carried over, and what of the rest is not built yet. The exit status is 0 if there is "
        "neither, else 1; the file is written all the same.",
    )
    parser.add_argument(
        "path", metavar="PATH", nargs="?", type=file, default=_CONF, help="ipsec.conf (default: %(default)s)"
    )
    parser.add_argument(
        "--secrets", metavar="PATH", type=file, help=f"ipsec.secrets (default: {_SECRETS} beside it, if there)"
    )
    parser.add_argument("--output", metavar="PATH", type=file, help="write to a new file that only you can read")
    parser.add_argument("--right-is-local", action="store_true", help="our end is the right one in each conn")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert; 0 if everything could be carried over and is built, 1 if not. Raises LocalError."""
    beside = Path(args.path).parent / _SECRETS
    secrets = args.secrets or (str(beside) if beside.exists() else None)
    try:
        conversion = convert(args.path, secrets, is_right_local=args.right_is_local)
    except ConfigError as exc:
        if args.json:
            print(json.dumps({"path": args.path, "is_complete": False, "errors": _as_objects(exc.problems)}))
        else:
            print(exc, file=sys.stderr)
        return 1
    if args.output:
        _write(args.output, conversion.text)
    if args.json:
        _print_json(args, secrets, conversion)
    else:
        if not args.output:
            print(conversion.text, end="")
        _print_problems(conversion)
    return 0 if conversion.is_complete else 1


def _write(path: str, text: str) -> None:
    """There are secrets in it. All of it is written, or nothing."""
    is_ours = False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        is_ours = True
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise LocalError(f"{path} is there already: choose another file, or remove it") from None
    except OSError as exc:
        if is_ours:
            Path(path).unlink()
        raise LocalError(f"cannot write {path}: {exc.strerror or exc}") from None


def _print_problems(conversion: Conversion) -> None:
    for problem in (*conversion.left_out, *conversion.errors, *conversion.notes, *conversion.warnings):
        print(problem, file=sys.stderr)
    if conversion.is_complete:
        return
    counts = f"{len(conversion.left_out)} not carried over, {len(conversion.errors)} that Cygnet refuses"
    print(f"cygnet convert: look at these by hand: {counts}", file=sys.stderr)


def _print_json(args: argparse.Namespace, secrets: str | None, conversion: Conversion) -> None:
    sections = conversion.root.sections
    result = {
        "path": args.path,
        "secrets_path": secrets,
        "output": args.output,
        "is_complete": conversion.is_complete,
        "connections": {
            name: list(section.sections["children"].sections)
            for name, section in (sections["connections"].sections.items() if "connections" in sections else ())
        },
        "left_out": _as_objects(conversion.left_out),
        "errors": _as_objects(conversion.errors),
        "notes": _as_objects(conversion.notes),
        "warnings": _as_objects(conversion.warnings),
    }
    if not args.output:
        result["config"] = conversion.text
    print(json.dumps(result))


def _as_objects(problems: tuple[Problem, ...]) -> list[dict[str, object]]:
    return [{"file": p.file, "line": p.line, "column": p.column, "message": p.message} for p in problems]
