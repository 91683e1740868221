"""Our own gateway as a daemon under test."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.interop.daemons import Daemon
from tests.interop.namespaces import Namespace


class Cygnet(Daemon):
    """`cygnet gateway` in a namespace, with the given configuration and a state directory of its own.

    The configuration and the state survive `stop`, `kill` and another `start`, until the context ends.
    """

    def __init__(
        self,
        namespace: Namespace,
        config: str,
        *options: str,
        label: str = "cygnet",
        core: int | None = None,
    ) -> None:
        """`config` is the text of the configuration; `options` are further arguments of `cygnet gateway`."""
        super().__init__(label, namespace, core=core)
        self.config = config
        self.options: Sequence[str] = options
        self._earlier_log = ""

    @property
    def config_path(self) -> Path:
        return self.directory / "gateway.conf"

    @property
    def state_directory(self) -> Path:
        return self.directory / "state"

    @property
    def vici_socket(self) -> Path:
        return self.directory / "vici"

    def prepare(self) -> None:
        self.config_path.write_text(self.config)
        self.state_directory.mkdir(mode=0o700)

    def command(self) -> list[str]:
        files = ["--config", str(self.config_path), "--state-dir", str(self.state_directory)]
        return [
            sys.executable,
            "-m",
            "cygnet",
            "gateway",
            *files,
            "--vici",
            str(self.vici_socket),
            *self.options,
        ]

    def environment(self) -> dict[str, str]:
        return {"PYTHONUNBUFFERED": "1"}

    def start(self) -> None:
        self._earlier_log = self.log()
        super().start()

    def is_ready(self) -> bool:
        """Its counters exist, and it has said so itself since this start."""
        said = self.log().removeprefix(self._earlier_log)
        return (self.state_directory / "counters").exists() and "cygnet: serving" in said

    def cygnet(self, *arguments: str) -> str:
        """What `cygnet ARGUMENTS` prints, run in the daemon's namespace."""
        return self.namespace.run(sys.executable, "-m", "cygnet", *arguments).stdout

    def counters(self) -> dict[str, int]:
        """Every counter and gauge by name, summed over the workers."""
        values: dict[str, int] = json.loads(self.cygnet("status", "--state-dir", str(self.state_directory), "--json"))
        return values
