"""What the benchmarks share: the daemons and what they run, the tester, the machine, and where results go."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.interop.cygnet_gateway import Cygnet
from tests.interop.daemons import Daemon
from tests.interop.strongswan import BenchmarkResponder, server_config
from tests.interop.topologies import Topology

from cygnet.observe.system import describe_machine

ROOT = Path(__file__).resolve().parent.parent
SUITES = {
    "x25519": ("aes128gcm16-prfsha256-x25519", "aes128gcm16"),
    "modp2048": ("aes128gcm16-prfsha256-modp2048", "aes128gcm16"),
    "modp4096": ("aes128gcm16-prfsha256-modp4096", "aes128gcm16"),
    "ecp256": ("aes128gcm16-prfsha256-ecp256", "aes128gcm16"),
}
SECRET = "a-shared-secret"
RESPONDER_CORE, TESTER_CORE = 0, 1
NAMES = {"cygnet": "Cygnet", "strongswan": "strongSwan"}


def configuration(suite: str) -> str:
    """The configuration that both daemons run: one pool, all tunnels with the same selectors."""
    ike, esp = SUITES[suite]
    return server_config(
        pools={"v4": "10.64.0.0/10"},
        local_ts="0.0.0.0/0",
        proposals=ike,
        esp_proposals=esp,
        secret=SECRET,
        connection="unique = never\n        mobike = no\n        rekey_time = 0",
        child="remote_ts = 10.64.0.0/10\n                rekey_time = 0",
    )


# All peers of a benchmark have one address, so the limits for each are off, as strongSwan's are.
ONE_SOURCE = """
gateway {
    cookie_threshold_ip = 1000000
    block_threshold = 0
}
"""


def cygnet(topology: Topology, suite: str, *, workers: int = 1, core: int | None = RESPONDER_CORE) -> Cygnet:
    """Our gateway, with its counters on."""
    return Cygnet(
        topology.server,
        configuration(suite) + ONE_SOURCE,
        "--workers",
        str(workers),
        "--log-level",
        "warning",
        core=core,
    )


def strongswan(topology: Topology, suite: str) -> BenchmarkResponder:
    """The peer, on one core."""
    return BenchmarkResponder(topology.server, core=RESPONDER_CORE, config=configuration(suite))


KINDS: dict[str, Callable[[Topology, str], Daemon]] = {"cygnet": cygnet, "strongswan": strongswan}


def start_load(topology: Topology, suite: str, *options: str, core: int | None = TESTER_CORE) -> subprocess.Popen[str]:
    """Begin a run of `cygnet load` from the client's namespace, on one core."""
    ike, esp = SUITES[suite]
    pinned = () if core is None else ("taskset", "-c", str(core))
    command = topology.client.command(
        *(*pinned, sys.executable, "-m", "cygnet", "load", topology.server_address),
        *("--psk", SECRET, "--remote-id", "gw.example.org", "--proposal", ike, "--esp", esp, "--vip"),
        *("--quiet", "--json", *options),
    )
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end_load(tester: "subprocess.Popen[str]", timeout_s: float) -> dict[str, Any]:
    """Wait for a run to end; its result. Failed attempts are no failure of the run: `failures` has them."""
    try:
        out, err = tester.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        tester.kill()
        tester.communicate()
        raise SystemExit("benchmark: cygnet load does not end") from None
    if not out.startswith("{"):
        raise SystemExit(f"benchmark: cygnet load failed:\n{out}{err}")
    result: dict[str, Any] = json.loads(out)
    return result


def load(topology: Topology, suite: str, *options: str, timeout_s: float = 300.0) -> dict[str, Any]:
    """Carry a run out; every attempt must bring a tunnel."""
    result = end_load(start_load(topology, suite, *options), timeout_s)
    if result["failed"]:
        raise SystemExit(f"benchmark: {result['failed']} attempts failed: {result['failures']}")
    return result


def strongswan_version() -> str:
    """As Debian's package says it."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "charon-systemd"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def machine_line(machine: dict[str, Any], *, has_strongswan: bool = True) -> str:
    """The machine and the versions, for below a table."""
    peer = f", strongSwan {strongswan_version()} with kernel-libipsec" if has_strongswan else ""
    sodium = f", PyNaCl {machine['pynacl']}" if machine["pynacl"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, "
        f"cryptography {machine['cryptography']} ({machine['openssl']}){sodium}{peer}."
    )


def describe() -> dict[str, Any]:
    """This machine."""
    found: dict[str, Any] = msgspec.to_builtins(describe_machine())
    return found


def add_suite(parser: argparse.ArgumentParser, *, default: str = "x25519") -> None:
    """The option that names what is negotiated."""
    parser.add_argument("--suite", choices=sorted(SUITES), default=default, help=f"what is negotiated ({default})")


def add_output(parser: argparse.ArgumentParser, name: str, *, has_readme: bool = True) -> None:
    """The options for where the result goes."""
    parser.add_argument("--json", type=Path, default=ROOT / "results" / f"{name}.json", help="where the result goes")
    if has_readme:
        parser.add_argument("--readme", action="store_true", help="put the table into README.md")


def command_line(script: str, arguments: Sequence[str]) -> str:
    """How to measure the same again; where the result was put is nobody's business."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--json")
    _, rest = parser.parse_known_args(arguments)
    return f'make bench BENCHMARK={script} BENCH="{" ".join(rest)}"'


def check_machine() -> None:
    """End with a clear word where this can't be measured."""
    if os.geteuid():
        raise SystemExit("benchmark: network namespaces need root; run it as root on Debian")
    check_cores()


def check_cores() -> None:
    """The same where no namespaces are needed."""
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("benchmark: two cores are needed, one for the responder and one for the tester")


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Put a result in its place, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(report, file, indent=2, default=str)
    Path(file.name).replace(path)


def put_into_readme(marker: str, text: str) -> None:
    """Replace what stands between two markers in README.md."""
    between = re.compile(rf"(<!-- {marker}:begin -->\n).*?(<!-- {marker}:end -->)", re.DOTALL)
    readme = ROOT / "README.md"
    replaced, n = between.subn(lambda m: f"{m[1]}{text}\n{m[2]}", readme.read_text())
    if n != 1:
        raise SystemExit(f"benchmark: README.md has no place for {marker}")
    readme.write_text(replaced)


def pin(core: int, *pids: int) -> None:
    """Have these processes run on one core only; without any, this one."""
    for pid in pids or (0,):
        os.sched_setaffinity(pid, {core})


def own_pss_octets() -> int:
    """The proportional set size of this process, without those it has started."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
