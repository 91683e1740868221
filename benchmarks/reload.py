"""What a configuration with many connections costs a gateway that runs.

    python -m benchmarks.reload [--rounds 3] [--load 1000] [--choose 10000] [--count 3000] [--json FILE]

`load` connections, each with a pool and a secret, are put into force in three ways, timed until every worker has them:
by `reload` of the file, by the first `swanctl --load-all`, and by another one that changes nothing; beside it stands
what swanctl takes with strongSwan's charon.

Then tunnels are set up in a closed loop, each by another peer, with one connection for all of them and with
`--choose` connections among which each peer has its own, told apart by its identity: the CPU of the worker for each
set-up, whose difference is what the choice costs. At last set-ups are paced while that configuration is reloaded over
and over, and it is seen that no tunnel is lost by it. (`benchmarks.config` has the same without a gateway: the reading
of the file, and the choice alone.)
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.background import Background
from benchmarks.config import configuration as of_many_sites
from tests.interop.controlled import Controlled
from tests.interop.cygnet_gateway import ESTABLISHED, Cygnet
from tests.interop.strongswan import StrongSwan
from tests.interop.topologies import Topology, direct_topology

from cygnet.observe.system import cpu_seconds, process_tree
from cygnet.vici.client import ViciClient

GOAL_S = 2.0
GOAL_US = 20.0
CONCURRENCY = 32
WARM_UP = 500
EMPTY = "connections {\n}\n"
PATIENCE_S = 120.0

_PEERS = """\
peers {{
    version = 2
    unique = never
    mobike = no
    rekey_time = 0
    proposals = {ike}
    pools = v4
    local {{
        auth = psk
        id = gw.example.org
    }}
    remote {{
        auth = psk
    }}
    children {{
        net {{
            local_ts = 0.0.0.0/0
            remote_ts = 10.64.0.0/10
            esp_proposals = {esp}
            rekey_time = 0
        }}
    }}
}}
"""


FIRST, OTHERS = "w{n}@example.org", "c{n}@example.org"
"""The identities of those that come first, and of all others: each peer has a connection of its own."""


def of_many_peers(suite: str, count: int) -> str:
    """So many connections, each for one identity."""
    ike, esp = common.SUITES[suite]
    identities = [FIRST.format(n=n) for n in range(WARM_UP + 1)]
    identities += [OTHERS.format(n=n) for n in range(count - len(identities))]
    connections = "".join(f"    c-{n} : peers {{ remote {{ id = {each} }} }}\n" for n, each in enumerate(identities))
    return (
        f"{_PEERS.format(ike=ike, esp=esp)}connections {{\n{connections}}}\npools {{ v4 {{ addrs = 10.64.0.0/10 }} }}\n"
        f'secrets {{ ike-all {{ secret = "{common.SECRET}" }} }}\n'
    )


@contextmanager
def gateway(topology: Topology, config: str) -> Iterator[Cygnet]:
    """Ours, with one worker."""
    options = ("--workers", "1", "--log-level", "error")
    with Cygnet(topology.server, config + common.ONE_SOURCE, *options, core=common.RESPONDER_CORE) as daemon:
        yield daemon


def reload(daemon: Cygnet) -> None:
    """Have it read its file again; returns when all workers have what is new."""
    with ViciClient(daemon.vici_socket) as client:
        answer = client.request("reload")
    if answer["success"] != b"yes":
        raise SystemExit(f"benchmark: the configuration is refused: {answer['errmsg']!r}")


def measure_loading(count: int) -> dict[str, float]:
    """Seconds for each way."""
    config = of_many_sites(count)
    took: dict[str, float] = {}
    with direct_topology() as topology:
        with gateway(topology, EMPTY) as daemon:
            daemon.config_path.write_text(config + common.ONE_SOURCE)
            took["reload"] = _seconds(lambda: reload(daemon))
            daemon.config_path.write_text(EMPTY + common.ONE_SOURCE)
            reload(daemon)
            took["swanctl, first"], took["swanctl, again"] = _load_twice(daemon, config)
        with StrongSwan("strongswan", topology.server, EMPTY, benchmark=True, core=common.RESPONDER_CORE) as charon:
            took["strongSwan, first"], took["strongSwan, again"] = _load_twice(charon, config)
    return took


def _load_twice(daemon: Controlled, config: str) -> tuple[float, float]:
    (daemon.directory / "swanctl.conf").write_text(config)

    def load() -> None:
        daemon.swanctl("--load-all", "--noprompt", timeout_s=PATIENCE_S)
        # Nobody may come before it is in force: which traps there are is known then. There are none. (To list the pools
        # would tell too; but to print a thousand of them swanctl itself takes longer than to load them.)
        daemon.swanctl("--list-pols", "--trap", timeout_s=PATIENCE_S)

    return _seconds(load), _seconds(load)


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def measure_choice(suite: str, choose: int, count: int) -> tuple[float, float]:
    """Microseconds of the worker's CPU for each set-up: with one connection for all, and with one for each."""
    costs = []
    for config in (common.configuration(suite), of_many_peers(suite, choose)):
        with direct_topology() as topology, gateway(topology, config) as daemon:
            _set_up(topology, suite, FIRST, WARM_UP)
            worker = process_tree(daemon.pid)[-1]
            before = cpu_seconds(worker)
            _set_up(topology, suite, OTHERS, count)
            costs.append(1e6 * (cpu_seconds(worker) - before) / count)
    return costs[0], costs[1]


def _set_up(topology: Topology, suite: str, identities: str, count: int) -> None:
    common.load(topology, suite, "--id", identities, "--count", str(count), "--concurrency", str(CONCURRENCY))


class Reloading(Background):
    """Somebody who has the file read again, over and over; a context manager."""

    def __init__(self, daemon: Cygnet) -> None:
        super().__init__()
        self.times = 0
        self._daemon = daemon

    def once(self) -> None:
        reload(self._daemon)
        self.times += 1


def measure_reloads(suite: str, options: argparse.Namespace) -> dict[str, Any]:
    """Delays of set-ups without and with reloads, and the tunnels that these cost."""
    with direct_topology() as topology, gateway(topology, of_many_peers(suite, options.choose)) as daemon:
        base = common.start_load(
            topology,
            suite,
            *("--id", FIRST, "--count", str(WARM_UP), "--concurrency", str(CONCURRENCY), "--hold", "86400"),
        )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while daemon.count(ESTABLISHED) < WARM_UP and base.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            quiet = _paced(topology, suite, options)
            with Reloading(daemon) as reloading:
                busy = _paced(topology, suite, options)
            lost = WARM_UP - daemon.count(ESTABLISHED)
        finally:
            base.kill()
            base.communicate()
    return {"reloads": reloading.times, "lost": lost, "quiet": quiet, "reloading": busy}


def _paced(topology: Topology, suite: str, options: argparse.Namespace) -> dict[str, Any]:
    count = max(1, round(options.rate * options.seconds))
    arguments = ("--id", OTHERS, "--rate", str(options.rate), "--count", str(count), "--delete")
    result = common.load(topology, suite, *arguments, timeout_s=options.seconds + PATIENCE_S)
    return {"rate": result["setup_rate"], "delay_ms": result["setup_delay_ms"], "retransmits": result["retransmits"]}


def markdown(report: dict[str, Any], machine: dict[str, Any], command: str) -> str:
    """The table."""
    took, reloads = report["load_s"], report["reloads"]
    rows = {
        f"{report['connections']:,} connections in force by `reload`": f"{took['reload']:.2f} s",
        "by `swanctl --load-all`, first / again": f"{took['swanctl, first']:.2f} / {took['swanctl, again']:.2f} s",
        "the same with strongSwan": f"{took['strongSwan, first']:.2f} / {took['strongSwan, again']:.2f} s",
        "CPU of the worker for each set-up with one connection": f"{report['one_us']:.0f} us",
        f"the same with {report['of']:,} connections": f"{report['many_us']:.0f} us ({report['choice_us']:+.0f} us)",
        "set-up delay, p50 / p99 / max": _delays(reloads["quiet"]["delay_ms"]),
        f"the same while these are reloaded, {reloads['reloads']} times": _delays(reloads["reloading"]["delay_ms"]),
        "tunnels lost by that": f"{reloads['lost']} of {WARM_UP}",
    }
    lines = ["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows.items())]
    return "\n".join([*lines, "", f"{common.machine_line(machine)} Command: `{command}`."])


def _delays(delay: dict[str, float]) -> str:
    return f"{delay['p50']:.0f} / {delay['p99']:.0f} / {delay['max']:.0f} ms"


def main() -> int:
    """Measure, print, and keep the result; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of the loading, and of the choice (3)")
    parser.add_argument("--load", type=int, default=1000, help="connections that are loaded (1000)")
    parser.add_argument("--choose", type=int, default=10_000, help="connections to choose among (10000)")
    parser.add_argument("--count", type=int, default=3000, help="tunnels of each round (3000)")
    parser.add_argument("--rate", type=float, default=100.0, help="set-ups a second during reloads (100)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long, without and with reloads (20)")
    common.add_suite(parser)
    common.add_output(parser, "reload", has_readme=False)
    options = parser.parse_args()
    least = WARM_UP + 2 + max(options.count, round(options.rate * options.seconds))
    if options.choose < least:
        parser.error(f"--choose must be {least} at least: each peer has a connection of its own")
    common.check_machine()
    command = common.command_line("reload", sys.argv[1:])
    machine = common.describe()
    loadings = [measure_loading(options.load) for _ in range(options.rounds)]
    choices = [measure_choice(options.suite, options.choose, options.count) for _ in range(options.rounds)]
    report = {
        "connections": options.load,
        "load_s": {way: round(statistics.median(each[way] for each in loadings), 3) for way in loadings[0]},
        "of": options.choose,
        "one_us": statistics.median(one for one, _ in choices),
        "many_us": statistics.median(many for _, many in choices),
        "choice_us": statistics.median(many - one for one, many in choices),
        "reloads": measure_reloads(options.suite, options),
    }
    common.write_json(Path(options.json), {"machine": machine, "command": command, **report})
    print(markdown(report, machine, command))
    slowest = max(report["load_s"][way] for way in ("reload", "swanctl, first", "swanctl, again"))
    goals = {
        f"{GOAL_S:g} s to load": slowest < GOAL_S,
        f"{GOAL_US:g} us for a choice": report["choice_us"] <= GOAL_US,
        "no tunnel lost": not report["reloads"]["lost"],
    }
    missed = [goal for goal, is_met in goals.items() if not is_met]
    print(f"missed: {', '.join(missed)}" if missed else "goals met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
