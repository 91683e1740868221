"""A control socket that is wedged in every way at once costs no handshake, no other client, and no memory."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unit.cli.test_gateway import free_ports
from tests.unit.gateway.commands.clients import Clients
from tests.unit.gateway.commands.wedges import Wedges

from cygnet.observe.counters import Counters
from cygnet.vici.client import ViciClient
from cygnet.vici.message import Section

CONFIG = """\
connections {
    rw {
        proposals = aes128gcm16-prfsha256-x25519
        pools = clients
        encap = yes
        local { auth = psk
            id = gw.example.org }
        remote { auth = psk
            id = *@example.org }
        children { net { esp_proposals = aes128gcm16
            local_ts = 0.0.0.0/0 } }
    }
    nowhere {
        remote_addrs = 192.0.2.99
        local { auth = psk
            id = gw.example.org }
        remote { auth = psk
            id = nobody@example.org }
        children { void { } }
    }
}
pools { clients { addrs = 10.3.0.0/16 } }
secrets { ike-1 { secret = a secret of the tests } }
gateway { user = root
    listen = 127.0.0.1
    cookie_threshold_ip = 1000000
    block_threshold = 0 }
"""
AT_ONCE = 32
HANDSHAKES = 960
LONG_NAME = "n" * 150
MEMORY_OCTETS = 64 << 20
"""More than all that may wait for all of these clients, and less than what they would have without a bound."""
EVENTS_DROPPED = "vici_events_dropped_total"


@contextmanager
def gateway(directory: Path) -> Iterator[tuple["subprocess.Popen[str]", Clients, Path]]:
    """A gateway process without data plane, and clients for its ports."""
    config = directory / "gw.conf"
    config.write_text(CONFIG)
    config.chmod(0o600)
    port, natt_port = free_ports()
    words = [
        sys.executable,
        "-m",
        "cygnet",
        "gateway",
        "--config",
        str(config),
        "--state-dir",
        str(directory / "state"),
    ]
    words += ["--port", str(port), "--natt-port", str(natt_port), "--dataplane", "null", "--workers", "1"]
    with subprocess.Popen([*words, "--log-level", "error"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline().startswith("cygnet: serving")
            with Clients(port, natt_port) as clients:
                yield process, clients, directory / "state"
                process.send_signal(signal.SIGTERM)
                clients.wait(lambda: process.poll() is not None)
        finally:
            process.kill()


def resident_octets(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the process is gone")


def stats(vici: Path) -> Section:
    with ViciClient(vici, timeout_s=20.0) as client:
        return client.request("stats")


def test_handshakes_go_on_while_the_control_socket_is_wedged(tmp_path: Path) -> None:
    with gateway(tmp_path) as (process, clients, state):
        vici = state / "vici"
        clients.establish(AT_ONCE, "first")
        before = resident_octets(process.pid)
        with Wedges(vici, "void") as wedges:
            for batch in range(HANDSHAKES // AT_ONCE):
                spis = clients.establish(AT_ONCE, f"{LONG_NAME}{batch}-")
                for spi in spis:
                    clients.driver.delete(spi)
                clients.wait(lambda spis=spis: all(spi in clients.closed for spi in spis))  # type: ignore[misc]
                if batch % 5 == 0:
                    assert stats(vici)["ikesas"]
            counters = Counters.open(state / "counters")
            assert counters.value(EVENTS_DROPPED) > 0
            assert wedges.initiated > 0 and wedges.errors == []
            # One attempt is under way however often it is asked for.
            assert counters.value('ike_messages_total{message="ike-init-out-req"}') <= 2
            assert resident_octets(process.pid) - before < MEMORY_OCTETS
            assert counters.value("internal_errors_total") == counters.value("worker_restarts_total") == 0
        # Nobody hangs on: what is left is what it was before.
        assert stats(vici)["ikesas"]
