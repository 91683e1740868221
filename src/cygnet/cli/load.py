"""`cygnet load TARGET[:PORT]`: opens tunnels against an IKEv2 responder, and measures."""

import argparse
import contextlib
import ipaddress
import json
import socket
import sys
from pathlib import Path
from typing import Final

from cygnet.auth.identity import ANY_IDENTITY, parse_identity
from cygnet.cli.arguments import by, filled, integer, number, seconds
from cygnet.config.values import (
    parse_esp_proposals,
    parse_ike_proposals,
    parse_packed_address,
    parse_secret,
    parse_selectors,
)
from cygnet.ike.errors import LocalError
from cygnet.ike.settings import RetransmitPolicy
from cygnet.load.options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_COUNT,
    DEFAULT_ID_PATTERN,
    DEFAULT_MAX_PENDING,
    DEFAULT_TIMEOUT_S,
    MAX_PROCESSES,
    Arrivals,
    LoadOptions,
    PingOptions,
    Rekeyed,
)
from cygnet.load.plan import IdentityPattern, parse_addresses, parse_port_pairs
from cygnet.load.processes import run_load
from cygnet.load.report import ProgressBar, print_results, remarks

EXIT_FAILURE: Final = 1
EXIT_INTERRUPTED: Final = 130

_LAST_PORT: Final = 65535
_SLOWEST: Final = 0.001
_FASTEST: Final = 1_000_000.0
"""Bounds of what happens so many times a second."""
_MAX_RETRANSMIT_BASE: Final = 100.0
_DEFAULT_POLICY: Final = RetransmitPolicy()

_DESCRIPTION: Final = """\
Open IKEv2 tunnels against any responder that you may test, and report how many came up, how fast, and what it cost.
Delays count from the intended start of an attempt. With --rate attempts arrive whatever becomes of those before (open
loop); else --concurrency of them are kept under way (closed loop)."""

_EPILOG: Final = """\
example:
  cygnet load 192.0.2.1 --psk-file secret --remote-id gw.example.org --vip --count 5000 --rate 500

exit status: 0 all attempts succeeded, 1 some failed, 2 wrong usage, 130 interrupted"""


def _parse_target(text: str) -> tuple[str, int | None]:
    """Host and port, of `host`, `host:port`, `[address]:port`, or an IPv6 address as it is."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f'"{text}" is no target; an IPv6 address with a port is written [::1]:500')
        port = rest[1:]
        if rest == ":":
            raise ValueError(f'"{text}" has no port after the colon')
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        if not port:
            raise ValueError(f'"{text}" has no port after the colon')
    if not host:
        raise ValueError(f'"{text}" names no host')
    return host, integer(1, _LAST_PORT)(port) if port else None


def _parse_rekey(text: str) -> tuple[float, Rekeyed]:
    """How often, and what, of `SECONDS[:child|ike]`."""
    interval, colon, what = text.partition(":")
    try:
        return seconds()(interval), Rekeyed(what) if colon else Rekeyed.CHILD
    except ValueError:
        raise ValueError(f'"{what}" is neither child nor ike') from None


def _read_secret(path: str) -> bytes:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as exc:
        raise ValueError(f"cannot read {path}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text; write octets as 0xHEX or 0sBASE64") from None
    return parse_secret(text.rstrip("\r\n"))


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "load",
        help="open tunnels against any IKEv2 responder, and report",
        usage="cygnet load TARGET[:PORT] (--psk SECRET | --psk-file FILE) [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    port = integer(1, _LAST_PORT)
    parser.add_argument(
        "target", metavar="TARGET[:PORT]", type=by(_parse_target), help="the responder; an IPv6 one as [::1]:500"
    )
    parser.add_argument("--natt-port", metavar="P", type=port, default=4500, help="its NAT traversal port (4500)")
    _add_load_options(parser)
    _add_peer_options(parser)
    _add_traffic_options(parser)
    _add_source_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=run, fail=parser.error)


def _add_load_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    add = group.add_argument
    add("--count", metavar="N", type=integer(1), default=DEFAULT_COUNT, help=f"attempts ({DEFAULT_COUNT})")
    loop = group.add_mutually_exclusive_group()
    per_second = number(low=_SLOWEST, is_low_allowed=True, high=_FASTEST)
    loop.add_argument("--rate", metavar="R", type=per_second, help="open loop: attempts per second")
    loop.add_argument(
        "--concurrency",
        metavar="C",
        type=integer(1),
        help=f"closed loop: attempts under way at a time (the default, {DEFAULT_CONCURRENCY})",
    )
    add("--arrivals", choices=("constant", "poisson"), help="how the attempts of --rate are spaced (constant)")
    add("--seed", metavar="N", type=integer(0), default=1, help="of poisson arrivals (1)")
    add("--processes", metavar="P", type=integer(1, MAX_PROCESSES), default=1, help="of the tester (1)")
    add("--max-duration", metavar="S", type=seconds(), default=0.0, help="start no attempt after so many seconds")
    add("--hold", metavar="S", type=seconds(), default=0.0, help="keep the tunnels up for so many seconds")
    add("--dpd", metavar="S", type=seconds(), default=0.0, help="ask in each tunnel that often if the responder lives")
    add(
        "--churn",
        metavar="R",
        type=per_second,
        default=0.0,
        help="replace so many tunnels a second while they are held",
    )
    add(
        "--rekey",
        metavar="S[:WHAT]",
        type=by(_parse_rekey),
        default=(0.0, Rekeyed.CHILD),
        help="rekey each tunnel that often while it is held: its child SA, or its ike SA (child)",
    )
    add(
        "--roam",
        metavar="S",
        type=seconds(),
        default=0.0,
        help="move each tunnel to the next source that often while it is held: with --mobike by UPDATE_SA_ADDRESSES, "
        "else as a NAT does whose mapping has changed, for which --encap is the default",
    )
    add("--delete", action="store_true", help="delete the tunnels at the end")
    add(
        "--timeout",
        metavar="S",
        type=seconds(is_zero_allowed=True),
        default=DEFAULT_TIMEOUT_S,
        help=f"give an attempt up after so many seconds ({DEFAULT_TIMEOUT_S:g}); 0 leaves it to retransmission",
    )
    add(
        "--max-pending",
        metavar="N",
        type=integer(1),
        default=DEFAULT_MAX_PENDING,
        help=f"attempts under way at a time in the tester's memory; above, one fails at once ({DEFAULT_MAX_PENDING})",
    )
    add(
        "--retransmit-timeout",
        metavar="S",
        type=seconds(),
        default=_DEFAULT_POLICY.timeout_s,
        help=f"seconds until the first retransmission ({_DEFAULT_POLICY.timeout_s:g})",
    )
    add(
        "--retransmit-base",
        metavar="B",
        type=number(low=1, is_low_allowed=True, high=_MAX_RETRANSMIT_BASE),
        default=_DEFAULT_POLICY.base,
        help=f"each wait is so many times longer ({_DEFAULT_POLICY.base:g})",
    )
    add(
        "--tries",
        metavar="N",
        type=integer(0, 100),
        default=_DEFAULT_POLICY.tries,
        help=f"retransmissions of a request ({_DEFAULT_POLICY.tries})",
    )
    add(
        "--allow-failures",
        metavar="PERCENT",
        type=number(is_low_allowed=True, high=100),
        default=0.0,
        help="exit 0 though so many attempts in a hundred failed (0)",
    )


def _add_peer_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("credentials and proposals")
    secret = group.add_mutually_exclusive_group(required=True)
    secret.add_argument("--psk", metavar="SECRET", type=by(parse_secret), help="text, 0xHEX or 0sBASE64")
    secret.add_argument("--psk-file", metavar="FILE", type=filled(_read_secret), help="the same, from a file")
    add = group.add_argument
    add(
        "--id",
        metavar="PATTERN",
        type=by(IdentityPattern),
        default=IdentityPattern(DEFAULT_ID_PATTERN),
        help=f"identity of attempt n, {{n:06d}} for leading zeros ({DEFAULT_ID_PATTERN})",
    )
    add("--remote-id", metavar="ID", type=filled(parse_identity), default=ANY_IDENTITY, help="the responder's (any)")
    add("--proposal", metavar="LIST", type=filled(parse_ike_proposals), help="for IKE, as in swanctl.conf (default)")
    add(
        "--reuse-ke",
        action="store_true",
        help="offer one public value in all attempts, to save the tester a key generation each. Whoever learns that "
        "one private key reads all tunnels (RFC 7296 section 2.12, RFC 6989): only for tests",
    )
    add("--esp", metavar="LIST", type=filled(parse_esp_proposals), help="for ESP, as in swanctl.conf (default)")


def _add_traffic_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("traffic")
    add = group.add_argument
    add("--mobike", action="store_true", help="offer MOBIKE (RFC 4555)")
    add("--vip", action="store_true", help="ask for a virtual IPv4 address")
    add("--vip6", action="store_true", help="ask for a virtual IPv6 address")
    add("--local-ts", metavar="LIST", type=filled(parse_selectors), help="traffic selectors of our side (dynamic)")
    add("--remote-ts", metavar="LIST", type=filled(parse_selectors), help="of the responder's side (everything)")
    add("--ping", action="store_true", help="send an echo request through each tunnel as it comes up")
    add("--ping-target", metavar="ADDRESS", type=by(parse_packed_address), help="the inner address that answers")
    add("--ping-timeout", metavar="S", type=seconds(), default=1.0, help="seconds until it is repeated (1)")
    add("--ping-tries", metavar="N", type=integer(1, 1000), default=5, help="requests in all (5)")
    encap = group.add_mutually_exclusive_group()
    encap.add_argument(
        "--encap",
        action="store_const",
        const=True,
        help="force UDP encapsulation (the default with --ping without root)",
    )
    encap.add_argument(
        "--no-encap", dest="encap", action="store_const", const=False, help="encapsulate only behind a NAT"
    )


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("sources").add_argument
    add(
        "--source",
        metavar="ADDRESSES",
        type=by(parse_addresses),
        default=(),
        help="addresses, subnets and ranges, used in turn (the one that the route has)",
    )
    add(
        "--source-ports",
        metavar="PORTS",
        default="ephemeral",
        help="ephemeral, same (as the target's), or a range used in pairs (ephemeral)",
    )


def run(args: argparse.Namespace) -> int:
    """Carry the run out and report; 0 if all attempts succeeded, 1 if not, 130 if it was interrupted."""
    try:
        options = _options(args)
    except ValueError as exc:
        args.fail(str(exc))
    problem = options.problem()
    if problem is not None:
        args.fail(problem)
    try:
        with ProgressBar(options, sys.stderr, is_quiet=args.quiet) as bar:
            results = run_load(options, on_progress=bar.show)
    except LocalError as exc:
        print(f"cygnet load: {exc}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if args.json:
        print(json.dumps(results.to_json()))
        for remark in remarks(results):
            print(f"cygnet load: {remark}", file=sys.stderr)
    else:
        print_results(results, sys.stdout)
    if results.is_interrupted:
        return EXIT_INTERRUPTED
    return 0 if results.is_success(args.allow_failures) else EXIT_FAILURE


def _options(args: argparse.Namespace) -> LoadOptions:
    """The options of a run. Raises ValueError, with a text for the user, for those that don't go together."""
    host, port = args.target
    port = port or 500
    defaults = LoadOptions(target="", secret=b"")
    return LoadOptions(
        target=_resolve(host, port, args.source),
        secret=args.psk or args.psk_file,
        port=port,
        natt_port=args.natt_port,
        count=args.count,
        arrivals=_arrivals(args),
        rate=args.rate or 0.0,
        concurrency=args.concurrency or max(DEFAULT_CONCURRENCY, args.processes),
        seed=args.seed,
        processes=args.processes,
        identities=args.id,
        remote_id=args.remote_id,
        proposals=args.proposal or defaults.proposals,
        esp_proposals=args.esp or defaults.esp_proposals,
        vips=(bytes(4),) * args.vip + (bytes(16),) * args.vip6,
        local_ts=args.local_ts or defaults.local_ts,
        remote_ts=args.remote_ts or (),
        ping=_ping(args),
        encap=args.encap,
        addresses=args.source,
        port_pairs=parse_port_pairs(args.source_ports, port=port, natt_port=args.natt_port),
        is_ke_reused=args.reuse_ke,
        max_pending=args.max_pending,
        retransmit=RetransmitPolicy(timeout_s=args.retransmit_timeout, base=args.retransmit_base, tries=args.tries),
        timeout_s=args.timeout,
        max_duration_s=args.max_duration,
        hold_s=args.hold,
        dpd_s=args.dpd,
        churn_rate=args.churn,
        rekey_s=args.rekey[0],
        rekeyed=args.rekey[1],
        roam_s=args.roam,
        mobike=args.mobike,
        delete=args.delete,
    )


def _arrivals(args: argparse.Namespace) -> Arrivals:
    if args.rate is not None:
        return Arrivals(args.arrivals or "constant")
    if args.arrivals is not None:
        raise ValueError("--arrivals is about an open loop: give it a --rate")
    return Arrivals.CLOSED


def _ping(args: argparse.Namespace) -> PingOptions | None:
    if args.ping_target is not None:
        return PingOptions(target=args.ping_target, timeout_s=args.ping_timeout, tries=args.ping_tries)
    if args.ping:
        raise ValueError("--ping needs --ping-target, the inner address that answers")
    return None


def _resolve(host: str, port: int, sources: tuple[str, ...]) -> str:
    """The IP address of the target, of the version of our source addresses if those are given."""
    with contextlib.suppress(ValueError):
        # As it is: where the sources are of the other version, that is what to complain of.
        return str(ipaddress.ip_address(host))
    family = socket.AF_UNSPEC
    if sources:
        family = socket.AF_INET if ipaddress.ip_address(sources[0]).version == 4 else socket.AF_INET6
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no host name"
        raise ValueError(f'cannot resolve "{host}": {reason}') from None
    return str(found[0][4][0])
