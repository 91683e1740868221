"""`cygnet gateway`: runs the daemon in the foreground."""

import argparse
import logging
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from cygnet.cli.arguments import file, whole_number
from cygnet.cli.daemon_options import address, control_socket
from cygnet.cli.output import complain
from cygnet.config import defaults
from cygnet.config.errors import ConfigError, Problem
from cygnet.config.gateway_settings import DataplaneKind, GatewaySettings
from cygnet.config.load import Configuration, ConfigurationFile, load_settings
from cygnet.gateway.logs.log_hub import LogHub
from cygnet.gateway.process.serving import Serving
from cygnet.gateway.process.state_dir import VICI_SOCKET
from cygnet.gateway.supervisor import Supervisor
from cygnet.observe.log_groups import parse_threshold

DEFAULT_CONFIG: Final = "/etc/swanctl/swanctl.conf"
_log = logging.getLogger(__name__)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "gateway",
        help="run the gateway in the foreground",
        description="Run the gateway in the foreground until SIGTERM or SIGINT. What is given here overrides the "
        "section gateway { } of the configuration.",
    )
    add = parser.add_argument
    add("--config", metavar="PATH", type=file, default=DEFAULT_CONFIG, help="configuration (default: %(default)s)")
    add("--workers", metavar="N|auto", type=_workers, help="worker processes; auto is one for each usable core")
    add("--dataplane", choices=[kind.value for kind in DataplaneKind], help="who carries the traffic")
    add("--port", metavar="P", type=_port, help=f"UDP port of IKE (default: {defaults.PORT})")
    add("--natt-port", metavar="P", type=_port, help=f"UDP port of NAT traversal (default: {defaults.NATT_PORT})")
    add("--listen", metavar="ADDR", action="append", type=address, help="address to listen on; may be repeated")
    add(
        *("--vici", "--uri"),
        metavar="SOCKET",
        type=control_socket,
        help=f"control socket, as a path or as unix://PATH (default: {VICI_SOCKET} in the state directory)",
    )
    add("--state-dir", metavar="DIR", type=_folder, help=f"folder of the gateway (default: {defaults.STATE_DIR})")
    add(
        "--log-level",
        metavar="LEVEL",
        type=_level,
        help="how much to log: -1 to 4 as with strongSwan, or error, warning, info (1, the default), debug (2)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the gateway until it is told to stop."""
    configuration = _configured(args)
    for warning in configuration.warnings:
        complain(warning)
    if not configuration.settings.connections:
        complain(f"{args.config}: warning: no connections, so every peer will be refused")
    gateway = configuration.gateway
    if gateway.port == gateway.natt_port:
        message = f"port and natt_port are both {gateway.port}: they must be two ports"
        raise ConfigError([Problem(args.config, 0, 0, message)])
    state_dir = Path(gateway.state_dir)
    logs = LogHub(gateway.log)
    try:
        return Supervisor(
            configuration.settings,
            gateway,
            state_dir=state_dir,
            vici=Path(gateway.vici_socket) if gateway.vici_socket else state_dir / VICI_SOCKET,
            file=ConfigurationFile(partial(_configured, args), configuration.files),
            logs=logs,
            on_serving=_tell_serving,
        ).run()
    finally:
        logs.close()


def _configured(args: argparse.Namespace) -> Configuration:
    """What the file says, with the command line's word on the gateway itself. Raises ConfigError."""
    configuration = load_settings(args.config)
    return msgspec.structs.replace(configuration, gateway=override(configuration.gateway, args))


def override(gateway: GatewaySettings, args: argparse.Namespace) -> GatewaySettings:
    """The settings of the configuration, with those of the command line in their place."""
    given: dict[str, Any] = {
        "workers": args.workers,
        "dataplane": DataplaneKind(args.dataplane) if args.dataplane else None,
        "port": args.port,
        "natt_port": args.natt_port,
        "listen": tuple(dict.fromkeys(args.listen)) if args.listen else None,
        "state_dir": args.state_dir,
        "vici_socket": args.vici,
        "log": None if args.log_level is None else msgspec.structs.replace(gateway.log, default=args.log_level),
    }
    return msgspec.structs.replace(gateway, **{name: value for name, value in given.items() if value is not None})


def _tell_serving(serving: Serving) -> None:
    for finding in serving.limits:
        _log.warning("limit of %s", finding)
    try:
        print(serving, flush=True)
    except OSError as exc:
        # Nobody wants to know, or the disk is full; that is no reason not to serve.
        if not isinstance(exc, BrokenPipeError):
            _log.warning("cannot write to standard output: %s", exc.strerror)


def _level(text: str) -> int:
    try:
        return parse_threshold(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _folder(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty name is no folder; write . for this one")
    return text


def _workers(text: str) -> int:
    if text == "auto":
        return 0
    return _number(text, 1, defaults.MAX_WORKERS, "a number of workers, or auto")


def _port(text: str) -> int:
    return _number(text, 1, 65535, "a port")


def _number(text: str, low: int, high: int, what: str) -> int:
    found = whole_number(text)
    if found is None or not low <= found <= high:
        raise argparse.ArgumentTypeError(f'"{text}" is not {what} ({low} to {high})')
    return found
