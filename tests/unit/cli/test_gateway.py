"""`cygnet gateway` and `cygnet status` as their users meet them: processes, lines and exit statuses."""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from cygnet.cli import gateway as command
from cygnet.cli.gateway import override
from cygnet.cli.main import build_parser
from cygnet.config.gateway_settings import DataplaneKind, GatewaySettings
from cygnet.config.log_settings import LogSettings
from cygnet.observe.counters import Counters
from cygnet.vici.client import ViciClient

CONFIG = """\
connections { rw {
  local { auth = psk
    id = gw.example.org }
  remote { auth = psk }
  pools = clients
  children { net { local_ts = 0.0.0.0/0 } }
} }
pools { clients { addrs = 10.3.0.0/24 } }
secrets { ike-1 { secret = not so secret } }
gateway { user = root
  listen = 127.0.0.1 }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gw.conf"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return path


def free_ports() -> list[int]:
    """Two ports that nobody has now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        return [a.getsockname()[1], b.getsockname()[1]]


def cygnet(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "cygnet", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)


@contextmanager
def running(
    config: Path, state: Path, *more: str, under: tuple[str, ...] = ()
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A gateway, with the line that it says when it serves. Without data plane: it makes no device then.

    `under` are words that another program begins with which runs it.
    """
    port, natt_port = map(str, free_ports())
    words = [*under, sys.executable, "-m", "cygnet", "gateway", "--config", str(config), "--state-dir", str(state)]
    words += ["--port", port, "--natt-port", natt_port, "--dataplane", "null", "--workers", "2", *more]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def test_says_that_it_serves_and_where(config: Path, tmp_path: Path) -> None:
    with running(config, tmp_path / "state") as (process, line):
        port = r"127\.0\.0\.1\[\d+\]"
        said = rf"cygnet: serving on {port}, {port} with 2 workers, data plane null, pid {process.pid}\n"
        assert re.fullmatch(said, line)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert not (tmp_path / "state").exists()


def test_a_configuration_without_connections_is_warned_of(tmp_path: Path) -> None:
    empty = tmp_path / "empty.conf"
    empty.write_text("gateway { listen = 127.0.0.1 }\n")
    with running(empty, tmp_path / "state") as (process, line):
        assert line.startswith("cygnet: serving")
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert "empty.conf: warning: no connections, so every peer will be refused" in process.stderr.read()


def test_status_reads_a_running_gateway(config: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(config, state) as (process, _):
        values = json.loads(cygnet("status", "--state-dir", state, "--json").stdout)
        assert values['ike_sas{state="established"}'] == 0
        assert values["worker_restarts_total"] == 0
        shown = cygnet("status", "--state-dir", state)
        assert shown.stdout.startswith(f"gateway running, pid {process.pid}, 2 workers\n  IKE_SAs established ")
        process.kill()
        process.wait()
        after = cygnet("status", "--state-dir", state)
        assert (after.returncode, after.stdout) == (1, "")
        assert after.stderr.startswith(f"cygnet status: no gateway runs on the state directory {state}: ")
        assert after.stderr.count("\n") == 1


def test_the_table_shows_what_has_counted() -> None:
    from cygnet.cli.status import table

    counters = Counters.create(writers=2)
    writer = counters.writer(0)
    for name in ("ike_sas_established_total", 'datagrams_dropped_total{reason="queue_full"}'):
        writer.count(name, 1234)
    writer.set('receive_queue_octets{socket="ipv4_natt_esp"}', 768)
    for ms in range(1, 101):
        writer.histogram("handshake_duration_seconds").record(ms / 1000)
    lines = list(table(42, counters))
    assert lines[0] == "gateway running, pid 42, 1 worker"
    assert any(line.split() == ["handshakes", "completed", "1,234"] for line in lines)
    assert any(line.split() == ["queue", "full", "1,234"] for line in lines)
    assert any(line.split() == ["ipv4", "natt", "esp", "768"] for line in lines)
    (latency,) = (line for line in lines if "p99" in line)
    assert "max 100.0 ms" in latency
    assert not any("wrong secret" in line for line in lines)


def test_limits_that_are_not_met_are_said_at_the_start_and_by_status(config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG.replace("user = root", "user = root\n  memory_limit = 1M"))
    state = tmp_path / "state"
    with running(config, state) as (process, line):
        assert line.startswith("cygnet: serving")
        limits = json.loads(cygnet("status", "--state-dir", state, "--json").stdout)["limits"]
        (memory,) = (each for each in limits if each["what"] == "memory")
        shown = "memory: {found} instead of {wanted}; {mend}".format(**memory)
        assert f"limit of {shown}\n" in cygnet("status", "--state-dir", state).stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert process.stderr is not None
        assert f"WARNING limit of {shown}\n" in process.stderr.read()
    assert not state.exists()


UNPRIVILEGED = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin") if os.geteuid() == 0 else ()


@pytest.mark.parametrize(
    ("under", "wanted", "what", "mend"),
    [
        pytest.param(
            UNPRIVILEGED,
            "receive_buffer = {beyond_rmem_max}",
            "receive buffer of a socket",
            "run it as root or with CAP_NET_ADMIN, or `sysctl -w net.core.rmem_max={beyond_rmem_max}`",
            id="without CAP_NET_ADMIN, and net.core.rmem_max too small",
        ),
        pytest.param(
            ("prlimit", "--nofile=75:75"),
            "workers = 2",
            "file descriptors",
            "raise the hard limit: LimitNOFILE=",
            id="too few file descriptors",
        ),
        pytest.param((), "memory_limit = 1M", "memory", "raise memory_limit in the section gateway", id="memory"),
    ],
)
def test_each_limit_is_named_at_the_start_with_its_mend(
    config: Path, tmp_path: Path, under: tuple[str, ...], wanted: str, what: str, mend: str
) -> None:
    beyond = 2 * int(Path("/proc/sys/net/core/rmem_max").read_text())
    wanted, mend = (text.format(beyond_rmem_max=beyond) for text in (wanted, mend))
    config.write_text(CONFIG.replace("user = root", f"user = root\n  {wanted}"))
    with running(config, tmp_path / "state", under=under) as (process, line):
        assert line.startswith("cygnet: serving"), "it does what it can"
        limits = json.loads(cygnet("status", "--state-dir", tmp_path / "state", "--json").stdout)["limits"]
        assert [each["mend"].startswith(mend) for each in limits if each["what"] == what] == [True]
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert process.stderr is not None
        assert f"WARNING limit of {what}: " in process.stderr.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_costs_the_status_and_no_tunnels(config: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    port, natt_port = map(str, free_ports())
    # In a mount namespace of its own, which ends with it.
    words = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=4k tmpfs "$0" && exec "$@"', str(state)]
    words += [sys.executable, "-m", "cygnet", "gateway", "--config", str(config), "--state-dir", str(state)]
    words += ["--port", port, "--natt-port", natt_port, "--dataplane", "null", "--workers", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("cygnet: serving on ")
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0
            assert process.stderr is not None
            said = [line for line in process.stderr if str(state) in line]
        finally:
            process.kill()
    assert len(said) == 1
    assert f"WARNING limit of the state directory {state}: No space left on device, so the counters" in said[0]


@pytest.mark.parametrize("full", ["stdout", "stderr"])
def test_an_output_that_takes_nothing_is_no_reason_not_to_serve(config: Path, tmp_path: Path, full: str) -> None:
    """As with a log on a full disk. The configuration has something to warn of."""
    config.write_text(CONFIG.replace("pools = clients", "pools = clients\n  dscp = 000001"))
    port, natt_port = map(str, free_ports())
    state = tmp_path / "state"
    words = [sys.executable, "-m", "cygnet", "gateway", "--config", str(config), "--state-dir", str(state)]
    words += ["--port", port, "--natt-port", natt_port, "--dataplane", "null", "--workers", "1"]
    with (
        Path("/dev/full").open("w") as nowhere,
        subprocess.Popen(
            words,
            stdout=nowhere if full == "stdout" else subprocess.PIPE,
            stderr=nowhere if full == "stderr" else subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            if full == "stderr":
                assert process.stdout is not None
                assert process.stdout.readline().startswith("cygnet: serving on ")
                process.send_signal(signal.SIGTERM)
            else:
                assert process.stderr is not None
                said = [process.stderr.readline() for _ in range(2)]
                assert "dscp in connections.rw has no effect" in said[0]
                while "cannot write to standard output" not in said[-1]:
                    assert "WARNING limit of " in said[-1]
                    said.append(process.stderr.readline())
                process.send_signal(signal.SIGTERM)
                assert "Traceback" not in process.stderr.read()
            assert process.wait(5) == 0
        finally:
            process.kill()
    assert not state.exists()


def test_a_second_gateway_on_the_state_directory_is_refused(config: Path, tmp_path: Path) -> None:
    with running(config, tmp_path / "state") as (process, _), running(config, tmp_path / "state") as (second, line):
        assert (line, second.wait(5)) == ("", 1)
        assert second.stderr is not None
        assert f"another gateway (process {process.pid}) uses the state directory" in second.stderr.read()


def test_a_port_in_use_leaves_nothing(config: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        done = cygnet("gateway", "--config", config, "--port", port, "--state-dir", tmp_path / "state")
    assert done.returncode == 1
    assert done.stderr.startswith(f"cygnet gateway: cannot open UDP port {port} on 127.0.0.1: Address already in use")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("text", [None, "connections { rw { nonsense = 1 } }\n"])
def test_a_configuration_that_cannot_be_used_is_status_2(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "gw.conf"
    if text is not None:
        path.write_text(text)
    done = cygnet("gateway", "--config", path)
    assert done.returncode == 2
    assert done.stderr.startswith(str(path))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workers", "0"],
        ["--workers", "255"],
        ["--workers", "many"],
        ["--port", "0"],
        ["--port", "65536"],
        ["--listen", "gw.example.org"],
        ["--dataplane", "magic"],
        ["--log-level", "loud"],
        ["--state-dir", ""],
    ],
)
def test_wrong_options_are_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser("gateway").parse_args(["gateway", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err


def parse(*arguments: str) -> argparse.Namespace:
    return build_parser("gateway").parse_args(["gateway", *arguments])


def test_the_command_line_overrides_the_configuration() -> None:
    configured = GatewaySettings(workers=3, port=1500, natt_port=1501, listen=("192.0.2.1",), node=9)
    options = ["--workers", "auto", "--port", "2500", "--natt-port", "2501", "--listen", "::1", "--listen", "127.0.0.1"]
    options += ["--listen", "::1"]  # said twice, and meant once
    options += ["--dataplane", "null", "--state-dir", "state", "--log-level", "debug"]
    assert override(configured, parse(*options)) == GatewaySettings(
        workers=0,
        port=2500,
        natt_port=2501,
        listen=("::1", "127.0.0.1"),
        node=9,
        dataplane=DataplaneKind.NULL,
        state_dir="state",
        log=LogSettings(default=10),
    )


def test_what_is_not_given_is_as_configured() -> None:
    configured = msgspec.structs.replace(GatewaySettings(), workers=3, port=1500, state_dir="/elsewhere")
    assert override(configured, parse()) == configured
    assert parse().config == command.DEFAULT_CONFIG


def test_one_port_for_both_is_refused(config: Path) -> None:
    done = cygnet("gateway", "--config", config, "--port", "4500")
    assert done.returncode == 2
    assert done.stderr == f"{config}: port and natt_port are both 4500: they must be two ports\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_unknown_user_is_refused_before_anything_is_opened(config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG.replace("user = root", "user = nosuchuser"))
    done = cygnet("gateway", "--config", config, "--state-dir", tmp_path / "state")
    assert done.returncode == 1
    assert done.stderr == 'cygnet gateway: there is no user "nosuchuser" for the workers to run as: set gateway.user\n'
    assert not (tmp_path / "state").exists()


def test_sighup_reads_the_configuration_again(config: Path, tmp_path: Path) -> None:
    """What is wrong with it, or what has changed, is in the log; `cygnet reload` after it finds it done."""
    state = tmp_path / "state"
    with running(config, state, "--log-level", "info") as (process, _):

        def reload_twice() -> "subprocess.CompletedProcess[str]":
            process.send_signal(signal.SIGHUP)
            return cygnet("reload", "--state-dir", state)

        config.write_text(CONFIG.replace("pools = clients", "pool = clients"))
        refused = reload_twice()
        assert (refused.returncode, refused.stdout) == (1, "")
        assert 'unknown key "pool"' in refused.stderr
        config.write_text(
            CONFIG.replace("{ rw {", "{ renamed {").replace(
                "gateway {", "gateway {\n cookie_threshold = 9\n node = 7\n"
            )
        )
        done = reload_twice()
        assert (done.returncode, done.stdout) == (0, "the configuration is in force: nothing has changed\n")
        assert done.stderr == "gateway: node will take effect at the next start\n"
        config.write_text(CONFIG)
        back = cygnet("reload", "--state-dir", state)
        changes = "connection rw added; connection renamed removed; gateway: cookie_threshold changed"
        assert back.stdout == f"the configuration is in force: {changes}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert process.stderr is not None
        log = process.stderr.read()
    stays = r'ERROR the configuration stays as it was: .*gw\.conf:\d+:\d+: unknown key "pool" in .*\n'
    assert len(re.findall(stays, log)) == 2
    changes = "connection renamed added; connection rw removed; gateway: cookie_threshold changed"
    assert log.count(f"[CFG] the configuration was read again: {changes}\n") == 1
    assert log.count("gateway: node will take effect at the next start\n") == 2
    assert "Traceback" not in log


def test_the_log_follows_the_file_at_a_reload(config: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"

    def write(log: str) -> None:
        config.write_text(CONFIG.replace("gateway {", f"gateway {{\n log {{ {log} }}\n"))

    write(f"file = {tmp_path}/one.log")
    with running(config, state) as (process, _):
        write(f"file = {tmp_path}/two.log\n ike = 3")
        done = cygnet("reload", "--state-dir", state)
        assert done.stdout == "the configuration is in force: gateway: log changed\n"
        assert cygnet("log", "--state-dir", state, "--levels").stdout == "default=1 ike=3\n"
        write(f"file = {tmp_path}/nowhere/three.log\n cfg = 2")
        refused = cygnet("reload", "--state-dir", state)
        assert refused.returncode == 1
        assert f"cannot log to {tmp_path}/nowhere/three.log: No such file or directory" in refused.stderr
        assert cygnet("log", "--state-dir", state, "--levels").stdout == "default=1 ike=3\n"
        # As swanctl --reload-settings: what else the file has stays as it is.
        write(f"file = {tmp_path}/three.log")
        config.write_text(config.read_text().replace("{ rw {", "{ renamed {"))
        with ViciClient(state / "vici") as client:
            answer = client.request("reload-settings")
            assert (answer["success"], answer["changed"]) == (b"yes", [b"gateway: log changed"])
            names: list[str] = []
            client.request("list-conns", event="list-conn", on_event=names.extend)
            assert names == ["rw"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert "gateway: log changed" in (tmp_path / "two.log").read_text()
    assert "the configuration stays as it was: cannot log to" in (tmp_path / "two.log").read_text()
    assert "gateway: log changed" in (tmp_path / "three.log").read_text()
    assert "gateway: log changed" not in (tmp_path / "one.log").read_text()


def test_sighup_to_a_gateway_that_stops_does_nothing(config: Path, tmp_path: Path) -> None:
    with running(config, tmp_path / "state") as (process, _):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGHUP)
        assert process.wait(5) == 0
