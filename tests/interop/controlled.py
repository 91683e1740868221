"""A daemon that swanctl drives: strongSwan's, or ours."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Union

from tests.interop.daemons import Daemon
from tests.interop.ownership import marked_environment

RawSection = dict[str, Union[str, list[str], "RawSection"]]
"""A section of what `swanctl --raw` prints."""

# A list's items may have brackets of their own ("10.1.0.1/32[tcp/http]"). Values are not quoted and may have spaces
# ("C=CH, O=Acme, CN=gw"): one ends where the next key, which is in lower case, the next section or the end of its own
# section follows.
_RAW_TOKEN = re.compile(
    r"""\s*(?:
        (?P<close>\})
      | (?P<section>[^\s={}\[\]]+)\s*\{
      | (?P<list>[a-z][a-z0-9_-]*)=\[(?P<items>(?:[^\[\]]|\[[^\]]*\])*)\]
      | (?P<key>[a-z][a-z0-9_-]*)=(?P<value>.*?)(?=\s[a-z][a-z0-9_-]*=|\s[^\s={}\[\]]+\s*\{|\s*\}|\s*$)
    )""",
    re.VERBOSE | re.DOTALL,
)
_RAW_EVENT = re.compile(r"^(?P<name>\S+) (?:event|reply) \{(?P<body>.*)\}\s*$")


class Controlled(Daemon):
    """Has a control socket, and the folder with a swanctl.conf that swanctl looks into."""

    @property
    def vici_socket(self) -> Path:
        """Where the daemon serves."""
        raise NotImplementedError

    def _call(self, *arguments: str, timeout_s: float = 15.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["swanctl", *arguments, "--uri", f"unix://{self.vici_socket}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=marked_environment(**{**self.environment(), "SWANCTL_DIR": f"{self.directory}"}),
        )

    def swanctl(self, *arguments: str, timeout_s: float = 15.0) -> str:
        """What `swanctl ARGUMENTS` prints; its failure is an AssertionError that has what it printed."""
        completed = self._call(*arguments, timeout_s=timeout_s)
        if completed.returncode != 0:
            raise AssertionError(
                f"swanctl {' '.join(arguments)} on {self.label} ended with {completed.returncode}:\n"
                f"{completed.stdout}{completed.stderr}"
            )
        return completed.stdout

    def load(self) -> None:
        """Load connections, pools and credentials from the configuration."""
        self.swanctl("--load-all", "--noprompt")

    def initiate(self, child: str, *, ike: str = "", timeout_s: int = 10) -> None:
        """Set up a child, and its IKE_SA if there is none; fails if it is not up in `timeout_s` seconds."""
        self.swanctl(*_target(ike, child, "--initiate"), "--timeout", str(timeout_s), timeout_s=timeout_s + 5.0)

    def terminate(self, *, ike: str = "", child: str = "", timeout_s: int = 10) -> None:
        """Delete the SAs of that name."""
        self.swanctl(*_target(ike, child, "--terminate"), "--timeout", str(timeout_s), timeout_s=timeout_s + 5.0)

    def rekey(self, *, ike: str = "", child: str = "") -> None:
        """Start to rekey the SAs of that name; it goes on after the return."""
        self.swanctl(*_target(ike, child, "--rekey"))

    def sas(self) -> list[RawSection]:
        """The IKE_SAs as `list-sas` reports them, each with its "name"; its children are in "child-sas"."""
        return self._listed("--list-sas", event="list-sa")

    def connections(self) -> list[RawSection]:
        """The connections as `list-conns` reports them, each with its "name"."""
        return self._listed("--list-conns", event="list-conn")

    def _listed(self, command: str, *, event: str) -> list[RawSection]:
        found: list[RawSection] = []
        for each in parse_raw(self.swanctl(command, "--raw"), event=event):
            for name, section in each.items():
                if isinstance(section, dict):
                    found.append({"name": name, **section})
        return found


def parse_raw(text: str, *, event: str) -> list[RawSection]:
    """The messages called `event` in what `swanctl --raw` prints, one a line."""
    found = []
    for line in text.splitlines():
        match = _RAW_EVENT.match(line)
        if match and match["name"] == event:
            found.append(_parse_raw_body(match["body"]))
    return found


def _parse_raw_body(body: str) -> RawSection:
    root: RawSection = {}
    open_sections = [root]
    position = 0
    while body[position:].strip():
        token = _RAW_TOKEN.match(body, position)
        if token is None:
            raise AssertionError(f"not understood in swanctl's raw output: {body[position : position + 60]!r}")
        position = token.end()
        if token["close"]:
            open_sections.pop()
        elif token["section"]:
            section: RawSection = {}
            open_sections[-1][token["section"]] = section
            open_sections.append(section)
        elif token["list"]:
            open_sections[-1][token["list"]] = token["items"].split()
        else:
            open_sections[-1][token["key"]] = token["value"]
    return root


def _target(ike: str, child: str, verb: str) -> Sequence[str]:
    return (verb, *(("--ike", ike) if ike else ()), *(("--child", child) if child else ()))
