"""The program `cygnet`: one module for each command, imported only when it is the one that is run."""

import argparse
import difflib
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import cygnet
from cygnet.cli.output import complain

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

COMMANDS: Final = {
    "gateway": "run the gateway in the foreground",
    "load": "open tunnels against any IKEv2 responder, and report",
    "demo": "gateway and load tester on loopback: the whole story in a few seconds",
    "status": "show what a running gateway does",
    "statusall": "show everything about a running gateway, as ipsec statusall does",
    "sas": "list the SAs of a running gateway",
    "initiate": "set up a connection of a running gateway",
    "terminate": "end SAs of a running gateway",
    "rekey": "give SAs of a running gateway new keys",
    "reload": "have a running gateway read its configuration again",
    "log": "follow the log of a running gateway, or change its levels",
    "check": "validate a configuration",
    "convert": "convert ipsec.conf and ipsec.secrets to swanctl.conf",
}
"""With the line that `cygnet --help` shows of each; `cygnet.cli.COMMAND` has the rest."""

_SHARED_MODULES: Final = {
    "statusall": "sas",
    "initiate": "control",
    "terminate": "control",
    "rekey": "control",
    "reload": "control",
}
"""Commands that stand in the module of another; `add_COMMAND` adds the parser there."""

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    _prepare_streams()
    try:
        try:
            status = _run(arguments)
        finally:
            # Also where argparse ends us, after --help.
            sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough.
        _give_up_output()
        return EXIT_FAILURE
    except UnicodeEncodeError as exc:
        if exc.encoding == "utf-8":
            # What standard output takes, a gateway or a peer does not.
            complain(f"cygnet: {exc.object!a} is no UTF-8 text")
            return EXIT_USAGE
        text = ascii(exc.object[exc.start : exc.end])
        complain(f"cygnet: cannot write {text} as {exc.encoding}: choose a locale with UTF-8, such as LC_ALL=C.UTF-8")
        _give_up_output()
        return EXIT_FAILURE
    except MemoryError:
        complain("cygnet: there is not enough memory: raise its limit, `ulimit -v`, or ask for less")
        return EXIT_FAILURE
    except OSError as exc:
        if exc.errno in _NO_DESCRIPTORS:
            complain(f"cygnet: {exc.strerror}: raise the limit of open files, `ulimit -n`")
            return EXIT_FAILURE
        if exc.errno not in _FULL:
            raise
        complain(f"cygnet: cannot write the output: {exc.strerror}")
        _give_up_output()
        return EXIT_FAILURE
    return status


def _prepare_streams() -> None:
    """Put the null device where a standard stream is closed (`>&-`), as some supervisors start programs: the first
    socket would take its number, and get what is meant for the stream."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # So that the name of a file that is no UTF-8 goes out as it came in.
        sys.stdout.reconfigure(errors="surrogateescape")


def _give_up_output() -> None:
    """What is left of the output must not fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """One that says when it could not write, and of what command an unknown option was."""

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        if file is not None and file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)


def build_parser(chosen: str = "") -> argparse.ArgumentParser:
    """The parser, with the arguments of the `chosen` command; the others are there by name."""
    parser = _Parser(
        prog="cygnet",
        description="An IKEv2 gateway for the moment when everyone connects at once, and the load tester to prove it.",
    )
    parser.add_argument("--version", action="version", version=f"cygnet {cygnet.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        if name == chosen:
            module = importlib.import_module(f"cygnet.cli.{_SHARED_MODULES.get(name, name)}")
            getattr(module, f"add_{name}" if name in _SHARED_MODULES else "add_parser")(subparsers)
            subparsers.choices[name].set_defaults(fail=subparsers.choices[name].error)
        else:
            subparsers.add_parser(name, help=text)
    return parser


def _what_else(word: str) -> str:
    """What to say to a word that is no command."""
    if word.startswith("-"):
        return f"{word} is no option of the program: a command comes first, and then its options"
    near = difflib.get_close_matches(word, COMMANDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
    return f'there is no command "{word}": {hint}'


def _run(arguments: list[str]) -> int:
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    parser = build_parser(chosen)
    if not arguments:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    if not chosen and arguments[0] not in ("-h", "--help", "--version"):
        parser.error(_what_else(arguments[0]))
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        args.fail(f"unrecognized arguments: {' '.join(unknown)}")
    # Not sooner: these take as long to import as the rest of `cygnet --help` takes in all.
    from cygnet.config.errors import ConfigError
    from cygnet.ike.errors import LocalError

    try:
        status: int = args.run(args)
    except ConfigError as exc:
        complain(exc)
        return EXIT_USAGE
    except LocalError as exc:
        complain(f"cygnet {chosen}: {exc}")
        return EXIT_FAILURE
    return status
