"""Our own gateway as a daemon under test."""

import json
import sys
from pathlib import Path

from tests.interop.controlled import Controlled
from tests.interop.daemons import session_members
from tests.interop.namespaces import Namespace
from tests.interop.polling import eventually

from cygnet.gateway.process.state_dir import COUNTERS, VICI_SOCKET
from cygnet.observe.counters import Counters

ESTABLISHED = 'ike_sas{state="established"}'
HALF_OPEN = 'ike_sas{state="half_open"}'

TEST_SETTINGS = """
gateway {
    # Nothing is far away here: it gives up after 0.5 + 0.75 + 1.1 s.
    retransmit_timeout = 0.5
    retransmit_base = 1.5
    retransmit_tries = 2
}
"""


class Cygnet(Controlled):
    """`cygnet gateway` in a namespace, with the given configuration and a state directory of its own.

    The configuration survives `stop`, `kill` and another `start`, until the context ends.
    """

    def __init__(
        self,
        namespace: Namespace,
        config: str,
        *options: str,
        label: str = "cygnet",
        has_tun: bool = True,
        core: int | None = None,
    ) -> None:
        """`config` is the text of the configuration; `options` are further arguments of `cygnet gateway`.

        The section `gateway { }` may stand in `config` too: it adds to what the tests want anyway. Without `has_tun` it
        lacks the privilege to make network devices (but not those for its ports and raw ESP).
        """
        super().__init__(label, namespace, core=core)
        self.config = config
        self.options = options
        self.has_tun = has_tun
        self._earlier_log = ""

    @property
    def config_path(self) -> Path:
        return self.directory / "gateway.conf"

    @property
    def state_directory(self) -> Path:
        return self.directory / "state"

    @property
    def vici_socket(self) -> Path:
        return self.state_directory / VICI_SOCKET

    def prepare(self) -> None:
        self.config_path.touch(mode=0o600)
        self.config_path.write_text(TEST_SETTINGS + self.config)

    def command(self) -> list[str]:
        unprivileged = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
        return [
            *([] if self.has_tun else unprivileged),
            *self.program("gateway", "--config", str(self.config_path), "--state-dir", str(self.state_directory)),
            *self.options,
        ]

    @staticmethod
    def program(*arguments: str) -> list[str]:
        """`cygnet ARGUMENTS`, as it must be called."""
        return [sys.executable, "-m", "cygnet", *arguments]

    def environment(self) -> dict[str, str]:
        return {"PYTHONUNBUFFERED": "1"}

    def start(self) -> None:
        self._earlier_log = self.log()
        super().start()

    def stop(self) -> None:
        """The same as for every daemon; and it fails if there was an exception that nobody expected."""
        super().stop()
        if "Traceback" in self.log():
            raise AssertionError(f"{self.label} has met an internal error\n{self.log_tail()}")

    def is_ready(self) -> bool:
        """It has said so itself since this start."""
        return "cygnet: serving" in self.log().removeprefix(self._earlier_log)

    def cygnet(self, *arguments: str) -> str:
        """What `cygnet ARGUMENTS` prints, run in the daemon's namespace."""
        return self.namespace.run(*self.program(*arguments)).stdout

    def status(self) -> dict[str, int]:
        """Every counter and gauge by name, as `cygnet status --json` prints them."""
        values: dict[str, int] = json.loads(self.cygnet("status", "--state-dir", str(self.state_directory), "--json"))
        return values

    def count(self, series: str) -> int:
        """A counter or gauge, summed over the workers, read without a process for it."""
        counters = Counters.open(self.state_directory / COUNTERS)
        try:
            return counters.value(series)
        finally:
            counters.close()

    def dropped(self) -> dict[str, int]:
        """Packets that the data plane did not carry, by reason; those that it held or handed on are none."""
        events = {name: n for name, n in self.status().items() if name.startswith("dataplane_events_total") and n}
        return {name: n for name, n in events.items() if "esp_early" not in name and "inner_handed_on" not in name}

    def await_count(self, series: str, value: int, *, timeout_s: float = 5.0) -> None:
        """Fail unless a counter or gauge soon has this value: workers count after they answer."""
        eventually(
            lambda: self._has(series, value), timeout_s=timeout_s, what=f"{self.label} has counted {value} {series}"
        )

    def _has(self, series: str, value: int) -> bool:
        assert self.count(series) == value
        return True

    @property
    def established(self) -> int:
        """IKE_SAs that it has now, half-open ones left out."""
        return self.count(ESTABLISHED)

    def workers(self) -> list[int]:
        """The process IDs of its workers."""
        return [pid for pid in session_members(self.pid) if pid != self.pid]

    def devices(self) -> list[str]:
        """Names of the TUN devices that it has."""
        listing = self.namespace.ip("-brief", "link", "show", "type", "tun").splitlines()
        return [line.split()[0] for line in listing if line.startswith("cygnet")]
