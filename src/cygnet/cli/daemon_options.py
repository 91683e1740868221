"""The options of commands that talk to a running gateway, and the connection to it."""

import argparse
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cygnet.cli.arguments import whole_number
from cygnet.config import defaults
from cygnet.gateway.process.state_dir import VICI_SOCKET
from cygnet.ike.errors import LocalError
from cygnet.vici.client import ViciClient
from cygnet.vici.message import Section, ViciError


def add_daemon_options(parser: argparse.ArgumentParser) -> None:
    """`--vici` and `--state-dir`, by which a gateway is found, and `--json`."""
    parser.add_argument(
        *("--vici", "--uri"),
        metavar="SOCKET",
        type=control_socket,
        help=f"control socket, as a path or as unix://PATH (default: {VICI_SOCKET} in the folder)",
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        default=defaults.STATE_DIR,
        help="folder of the running gateway (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def control_socket(text: str) -> str:
    """A path, or a URI as swanctl takes it."""
    scheme, separator, path = text.partition("://")
    if not separator:
        scheme, path = "unix", text
    if scheme != "unix" or not path:
        raise argparse.ArgumentTypeError(f'"{text}" is no UNIX socket: write its path, or unix://PATH')
    return path


def add_filter_options(parser: argparse.ArgumentParser) -> None:
    """Which SAs are meant."""
    parser.add_argument("--ike", metavar="NAME", help="of this connection")
    parser.add_argument("--child", metavar="NAME", help="CHILD_SAs of this name")
    parser.add_argument("--ike-id", metavar="N", type=_number, help="the IKE_SA of this number")
    parser.add_argument("--child-id", metavar="N", type=_number, help="the CHILD_SA of this number")
    parser.add_argument("--peer", metavar="ADDR", type=address, help="with the peer at this address")
    parser.add_argument("--vip", metavar="ADDR", type=address, help="with this virtual address")
    parser.add_argument("--identity", metavar="ID", help="with the peer of this identity")


def _number(text: str) -> int:
    found = whole_number(text)
    if not found:
        raise argparse.ArgumentTypeError(f'"{text}" is no number of an SA, as `cygnet sas` shows them')
    return found


def filter_message(args: argparse.Namespace) -> dict[str, str | int]:
    """The filter as a message has it."""
    given = {
        "ike": args.ike,
        "child": args.child,
        "ike-id": args.ike_id,
        "child-id": args.child_id,
        "peer": args.peer,
        "vip": args.vip,
        "identity": args.identity,
    }
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def daemon(args: argparse.Namespace, *, timeout_s: float | None = 60.0) -> Iterator[ViciClient]:
    """The running gateway, or another daemon that speaks vici. Raises LocalError."""
    path = Path(args.vici) if args.vici else Path(args.state_dir) / VICI_SOCKET
    try:
        client = ViciClient(path, timeout_s=timeout_s)
    except OSError as exc:
        hint = "choose another with --vici or --state-dir"
        raise LocalError(f"no gateway answers on {path}: {exc.strerror or exc}; {hint}") from exc
    with client:
        try:
            yield client
        except TimeoutError:
            raise LocalError(f"the gateway on {path} did not answer in {timeout_s:.0f} s") from None
        except ViciError as exc:
            raise LocalError(f"the gateway on {path} broke off: {exc}") from exc


class _Plain(dict[str, object]):
    """A section of which commands take what a gateway of ours tells."""

    def __missing__(self, name: str) -> object:
        raise LocalError(f'the answer has no "{name}": is it another daemon that answers?')


def plain(value: bytes | list[bytes] | Section) -> object:
    """A part of a message as JSON has it: `yes` and `no`, and numbers, stay texts, as in every client of vici."""
    if isinstance(value, dict):
        return _Plain({name: plain(inner) for name, inner in value.items()})
    if isinstance(value, list):
        return [item.decode(errors="replace") for item in value]
    return value.decode(errors="replace")


def address(text: str) -> str:
    """An IP address, as it is written canonically."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is no IP address') from None
