"""Configurations with many connections: how long one takes to load, and what choosing among them costs a handshake.

    python -m benchmarks.config [--load 1000] [--choose 10000] [--rounds 5] [--json FILE]

`load` reads a file of so many connections, each with two children and a pool, with a secret for each. `choose` is what
a responder does for a new peer beside its cryptography: the connections for its addresses when IKE_SA_INIT comes, the
first that accepts its proposals, and the one for its identity when IKE_AUTH comes. It is measured for peers that the
configuration tells apart in different ways, each peer another one, after every peer has come once; `first` is what the
first of all costs, which makes the index. Reported is the median of the rounds.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cygnet.auth.identity import Identity, parse_identity
from cygnet.config.load import load_settings
from cygnet.iana import ProtocolId
from cygnet.ike.connection_index import ConnectionIndex
from cygnet.ike.connections import choose_connection
from cygnet.ike.path import Path as NetworkPath
from cygnet.ike.proposals import parse_proposal, to_offer
from cygnet.ike.settings import AuthSettings, ConnectionSettings
from cygnet.wire.payloads.security_association import decode_security_association, encode_security_association

LOAD_GOAL_S: Final = 2.0
CHOOSE_GOAL_US: Final = 20.0
_OURS: Final = "198.51.100.1"
_OFFER: Final = decode_security_association(
    encode_security_association(to_offer((parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519"),)))
)

_CONNECTION: Final = """\
    site-{n} : defaults {{
        remote_addrs = 10.{high}.{low}.1
        pools = pool-{n}
        remote {{
            id = site-{n}.example.org
        }}
        children {{
            nets {{
                local_ts = 10.1.0.0/16
                remote_ts = 172.{octet}.{low}.0/24
                start_action = none
            }}
            mail {{
                local_ts = 10.1.0.25/32[tcp/25]
            }}
        }}
    }}
"""
_DEFAULTS: Final = """\
defaults {
    local_addrs = 198.51.100.1
    proposals = aes128gcm16-prfsha256-x25519, aes256-sha256-modp2048
    dpd_delay = 30s
    local {
        auth = psk
        id = gw.example.org
    }
    remote {
        auth = psk
    }
}
"""


def configuration(count: int) -> str:
    """The text of a file."""
    numbers = [(n, n >> 8, n & 255, 16 + (n >> 8) % 16) for n in range(count)]
    connections = "".join(_CONNECTION.format(n=n, high=h, low=low, octet=o) for n, h, low, o in numbers)
    pools = "".join(f"    pool-{n} {{\n        addrs = 100.{h}.{low}.0/24\n    }}\n" for n, h, low, _ in numbers)
    secrets = "".join(
        f"    ike-{n} {{\n        id = site-{n}.example.org\n        secret = s{n}\n    }}\n" for n in range(count)
    )
    return f"{_DEFAULTS}connections {{\n{connections}}}\npools {{\n{pools}}}\nsecrets {{\n{secrets}}}\n"


def load_s(count: int) -> float:
    """Seconds to load a file of so many connections."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gw.conf"
        path.write_text(configuration(count))
        path.chmod(0o600)
        start = time.process_time()
        loaded = load_settings(str(path))
        took = time.process_time() - start
    if len(loaded.settings.connections) != count:
        raise AssertionError("not all connections were loaded")
    return took


def _connection(n: int, remote: str, local: str, identity: str) -> ConnectionSettings:
    return ConnectionSettings(
        name=str(n),
        remote_addrs=(remote,) if remote else (),
        local_addrs=(local,) if local else (),
        remote=AuthSettings(id=parse_identity(identity)),
    )


def _address(n: int) -> str:
    return f"10.{n >> 13}.{n >> 5 & 255}.{(n & 31) * 8}"


WAYS: Final[dict[str, Callable[[int], ConnectionSettings]]] = {
    "identity": lambda n: _connection(n, "", "", f"c{n}@example.org"),
    "identity, at one address of ours": lambda n: _connection(n, "", _OURS, f"c{n}@example.org"),
    "address": lambda n: _connection(n, _address(n), "", "%any"),
    "subnet": lambda n: _connection(n, f"{_address(n)}/29", _OURS, "%any"),
    "all of these": lambda n: _connection(
        n, ("", _address(n), f"{_address(n)}/29")[n % 3], _OURS, "%any" if n % 3 else f"c{n}@example.org"
    ),
}
"""What tells one peer from the other."""


def choose_us(way: str, count: int) -> tuple[float, float]:
    """Microseconds that the first choice costs, and each later one, when every peer has come once."""
    settings = [WAYS[way](n) for n in range(count)]
    index = ConnectionIndex(settings)
    peers = [(NetworkPath(_OURS, 500, _address(n), 500), parse_identity(f"c{n}@example.org")) for n in range(count)]
    start = time.process_time()
    _choose(index, *peers[0])
    first = time.process_time() - start
    for path, identity in peers:
        _choose(index, path, identity)
    start = time.process_time()
    for path, identity in peers:
        _choose(index, path, identity)
    took = time.process_time() - start
    for n in range(0, count, max(count // 100, 1)):
        if _choose(index, *peers[n]) != str(n):
            raise AssertionError(f"peer {n} got the connection of another one")
    return first * 1e6, took / count * 1e6


def _choose(index: ConnectionIndex, path: NetworkPath, identity: Identity) -> str | None:
    candidates = index.on_path(path)
    for candidate in candidates.distinct():
        choice = candidate.negotiator.choose(_OFFER)
        if choice is not None:
            chosen = choose_connection(candidates.led_by(candidate), identity, None, choice)
            return chosen.settings.name if chosen is not None else None
    return None


def main() -> int:
    """Measure and print; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=int, default=1000, metavar="N", help="connections of the file")
    parser.add_argument("--choose", type=int, default=10000, metavar="N", help="connections to choose among")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--json", metavar="FILE", help="write the result to a file too")
    args = parser.parse_args()
    loading = statistics.median(load_s(args.load) for _ in range(args.rounds))
    print(f"{args.load} connections load in {loading:.2f} s ({1e6 * loading / args.load:.0f} us each)")
    costs = {}
    for way in WAYS:
        rounds = [choose_us(way, args.choose) for _ in range(args.rounds)]
        first, each = (statistics.median(column) for column in zip(*rounds, strict=True))
        costs[way] = {"first_us": first, "each_us": each}
        print(f"a choice among {args.choose} by {way}: {each:.1f} us, the first {first / 1000:.1f} ms")
    if args.json:
        result = {"load": {"connections": args.load, "seconds": loading}, "choose": {"of": args.choose, **costs}}
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")
    is_met = loading < LOAD_GOAL_S and all(cost["each_us"] <= CHOOSE_GOAL_US for cost in costs.values())
    print("goals met" if is_met else f"missed: {LOAD_GOAL_S:g} s for the load, {CHOOSE_GOAL_US:g} us for a choice")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
