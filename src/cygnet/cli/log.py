"""`cygnet log`: follows the log of a running gateway, or changes how much it logs."""

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

from cygnet.cli.daemon_options import add_daemon_options, daemon, plain
from cygnet.ike.errors import LocalError
from cygnet.observe.log_groups import DEFAULT, GROUPS, parse_threshold


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `log` to the program's parser."""
    log = subparsers.add_parser(
        "log",
        help="follow the log of a running gateway, or change its levels",
        description="Follow the log of a running gateway until Ctrl-C. With --level change how much it logs instead, "
        "until its end; with --levels only show that. A level is -1 to 4 as with strongSwan, or error, warning, info, "
        "debug.",
        epilog=f"Groups: {', '.join(GROUPS)}.",
    )
    add = log.add_argument
    add("--group", metavar="GROUP", action="append", choices=sorted(GROUPS), help="only of this group; may be repeated")
    add("--up-to", metavar="N", type=int, choices=range(-1, 5), default=4, help="only lines of this level or below")
    add(
        "--level",
        metavar="[GROUP=]LEVEL",
        action="append",
        type=_level,
        help="change the level of a group, or the default; GROUP= has it follow the default; may be repeated",
    )
    add("--levels", action="store_true", help="show the levels in force")
    add_daemon_options(log)
    log.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Follow, or change and show the levels."""
    if args.level or args.levels:
        return _change(args, dict(args.level or ()))
    try:
        with daemon(args, timeout_s=None) as client:
            client.register("log")
            for _, event in client.events():
                shown: Any = plain(event)
                if int(shown["level"]) <= args.up_to and (not args.group or shown["group"].lower() in args.group):
                    print(_json(shown) if args.json else _text(shown), flush=True)
    except KeyboardInterrupt:
        # It is how one ends it.
        pass
    return 0


def _change(args: argparse.Namespace, levels: Mapping[str, str]) -> int:
    with daemon(args) as client:
        answer: Any = plain(client.request("log-levels", {"levels": levels}))
    if args.json:
        print(json.dumps(answer))
    elif answer["success"] == "yes":
        print(_levels(answer["levels"]))
        for target, levels in answer.get("targets", {}).items():
            print(f"{target}: {_levels(levels)}")
    else:
        raise LocalError(answer["errmsg"])
    return 0 if answer["success"] == "yes" else 1


def _levels(levels: Mapping[str, str]) -> str:
    return " ".join(f"{name}={level}" for name, level in levels.items())


def _text(event: Mapping[str, str]) -> str:
    """As charon prints its log."""
    now = time.strftime("%b %d %H:%M:%S")
    whose = "|".join(event[key] for key in ("ikesa-name", "ikesa-uniqueid") if key in event)
    sa = f"<{whose}> " if whose else ""
    head = f"{now} {int(event['thread']):02d}[{event['group']}] {sa}"
    return "\n".join(head + _printable(line) for line in event["msg"].split("\n"))


def _json(event: Mapping[str, str]) -> str:
    numbers = {name: int(event[name]) for name in ("level", "thread", "ikesa-uniqueid") if name in event}
    return json.dumps({"time": round(time.time(), 3), **event, **numbers})


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _level(text: str) -> tuple[str, str]:
    name, has_group, level = text.rpartition("=")
    try:
        if name and name != DEFAULT and name not in GROUPS:
            raise ValueError(f'there is no group "{name}"')
        if level or not has_group:
            parse_threshold(level)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    return name or DEFAULT, level
