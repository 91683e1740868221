"""`cygnet initiate`, `terminate`, `rekey`, `reload`: orders to the running gateway."""

import argparse
import json
import sys
from collections.abc import Mapping

from cygnet.cli.daemon_options import add_daemon_options, add_filter_options, daemon, filter_message, plain
from cygnet.ike.errors import LocalError
from cygnet.vici.commands.daemon import RELOAD_S
from cygnet.vici.message import Section

_PATIENCE_S = 5.0
"""That we wait beyond the time limit of a command for its answer."""


def add_initiate(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `initiate` to the program's parser."""
    initiate = subparsers.add_parser(
        "initiate",
        help="set up a connection of a running gateway",
        description="Set up a CHILD_SA of a running gateway, or with --ike-only its IKE_SA, and wait until it stands.",
    )
    initiate.add_argument("name", metavar="NAME", help="name of the child")
    initiate.add_argument("--ike", metavar="NAME", help="name of its connection, where several have such a child")
    initiate.add_argument("--ike-only", action="store_true", help="NAME is a connection: set up its IKE_SA")
    initiate.add_argument("--timeout", metavar="S", type=_seconds, default=60.0, help="(default: %(default)s)")
    add_daemon_options(initiate)
    initiate.set_defaults(run=run_initiate)


def add_terminate(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `terminate` to the program's parser."""
    terminate = subparsers.add_parser(
        "terminate",
        help="end SAs of a running gateway",
        description="End the SAs that fit all that is given, tell their peers, and wait until they have ended.",
    )
    terminate.add_argument("name", metavar="NAME", nargs="?", help="name of the connection, as --ike")
    terminate.add_argument("--force", action="store_true", help="do not wait for what the peers say")
    terminate.add_argument("--timeout", metavar="S", type=_seconds, default=60.0, help="(default: %(default)s)")
    add_filter_options(terminate)
    add_daemon_options(terminate)
    terminate.set_defaults(run=run_terminate)


def add_rekey(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `rekey` to the program's parser."""
    rekey = subparsers.add_parser(
        "rekey",
        help="give SAs of a running gateway new keys",
        description="Begin to give the SAs that fit all that is given new keys.",
    )
    rekey.add_argument("name", metavar="NAME", nargs="?", help="name of the connection, as --ike")
    rekey.add_argument("--reauth", action="store_true", help="authenticate again too")
    add_filter_options(rekey)
    add_daemon_options(rekey)
    rekey.set_defaults(run=run_rekey)


def add_reload(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `reload` to the program's parser."""
    reload = subparsers.add_parser(
        "reload",
        help="have a running gateway read its configuration again",
        description="Have a running gateway read its configuration again. It is put into force as a whole, or not at "
        "all; SAs that stand stay.",
    )
    add_daemon_options(reload)
    reload.set_defaults(run=run_reload)


def run_initiate(args: argparse.Namespace) -> int:
    """Set it up."""
    which = {"ike": args.name} if args.ike_only else {"child": args.name, **({"ike": args.ike} if args.ike else {})}
    answer = _order(args, "initiate", {**which, "timeout": round(1000 * args.timeout)}, within_s=args.timeout)
    return _report(args, answer, f"{args.name} is up")


def run_terminate(args: argparse.Namespace) -> int:
    """End what is meant."""
    message = {**_chosen(args), "timeout": round(1000 * args.timeout), "force": "yes" if args.force else "no"}
    answer = _order(args, "terminate", message, within_s=args.timeout)
    return _report(args, answer, f"{answer.get('terminated', b'0').decode()} ended")  # type: ignore[union-attr]


def run_rekey(args: argparse.Namespace) -> int:
    """Begin to rekey what is meant."""
    answer = _order(args, "rekey", {**_chosen(args), "reauth": "yes" if args.reauth else "no"})
    matches, ordered = (int(answer.get(key, b"0")) for key in ("matches", "ordered"))  # type: ignore[arg-type]
    others = f"; not {matches - ordered}, which only their peers can authenticate anew" if args.reauth else ""
    return _report(args, answer, f"{ordered} to be rekeyed{others if ordered < matches else ''}")


def run_reload(args: argparse.Namespace) -> int:
    """Have the file read again."""
    answer = _order(args, "reload", {}, within_s=RELOAD_S)
    changed = answer.get("changed", [])
    what = "; ".join(each.decode(errors="replace") for each in changed) if isinstance(changed, list) else ""
    return _report(args, answer, f"the configuration is in force: {what or 'nothing has changed'}")


def _chosen(args: argparse.Namespace) -> dict[str, str | int]:
    message = filter_message(args)
    if args.name:
        if args.ike:
            args.fail("NAME is the same as --ike: give one of them")
        message["ike"] = args.name
    if not message:
        args.fail("which SAs? Give the NAME of a connection, or one of --child, --ike-id, --peer, --vip, --identity")
    return message


def _order(args: argparse.Namespace, command: str, message: Mapping[str, str | int], within_s: float = 60.0) -> Section:
    with daemon(args, timeout_s=within_s + _PATIENCE_S) as client:
        return client.request(command, message)


def _report(args: argparse.Namespace, answer: Section, done: str) -> int:
    is_done = answer.get("success") == b"yes"
    if args.json:
        print(json.dumps(plain(answer)))
        return 0 if is_done else 1
    warnings = answer.get("warnings", [])
    for warning in warnings if isinstance(warnings, list) else []:
        print(warning.decode(errors="replace"), file=sys.stderr)
    if not is_done:
        why = answer.get("errmsg", b"the gateway does not say why")
        raise LocalError(why.decode(errors="replace") if isinstance(why, bytes) else "failed")
    print(done)
    return 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f'"{text}" is no time in seconds, above 0 and up to 86400')
    return seconds
