"""Network namespaces, the veth pairs between them, and a NAT router: a network of one's own for each test.

All are context managers; leaving one removes it, with the processes that still run in it.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Final, Self

from tests.interop.ownership import marked_environment, marked_name
from tests.interop.polling import eventually

PING_PATIENCE_S: Final = 2.0
DEVICE_NAME_OCTETS: Final = 15

_PINGS_RECEIVED = re.compile(r"(\d+) received")


class Namespace:
    """A network namespace with a loopback device and nothing else."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.name = marked_name(label)

    def __enter__(self) -> Self:
        _run("ip", "netns", "add", self.name)
        try:
            self.ip("link", "set", "lo", "up")
            # Decrypted packets arrive on a TUN device whose route back is elsewhere.
            self.set_sysctl("net.ipv4.conf.all.rp_filter", "0")
            self.set_sysctl("net.ipv4.conf.default.rp_filter", "0")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill what still runs inside, then delete the namespace. A second call does nothing."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        eventually(lambda: not self.processes(), what=f"the processes in {self.name} end")
        _run("ip", "netns", "delete", self.name, check=False)

    def processes(self) -> list[int]:
        """IDs of the processes whose network this is."""
        listing = _run("ip", "netns", "pids", self.name, check=False)
        return [int(pid) for pid in listing.stdout.split()]

    def command(self, *argv: str) -> list[str]:
        """`argv` as it must be called to run in here. The process keeps its ID: every step is an exec."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str, timeout_s: float = 10.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. With `check`, any status but 0 is an AssertionError with its output."""
        return _run(*self.command(*argv), timeout_s=timeout_s, check=check)

    def ip(self, *arguments: str) -> str:
        """What `ip ARGUMENTS` prints in this namespace."""
        return _run("ip", "-n", self.name, *arguments).stdout

    def set_sysctl(self, key: str, value: str) -> None:
        self.run("sysctl", "--quiet", "--write", f"{key}={value}")

    def add_address(self, address: str, device: str = "lo") -> None:
        """Add `address` ("10.1.0.1/32"), usable at once (IPv6: without duplicate address detection)."""
        self.ip("address", "add", address, "dev", device, *(("nodad",) if ":" in address else ()))

    def has_carrier(self, device: str) -> bool:
        """Whether the kernel knows that what is at the other end of `device` is up."""
        return " state UP " in self.ip("link", "show", "dev", device)

    def add_route(self, destination: str, gateway: str) -> None:
        self.ip("route", "add", destination, "via", gateway)

    def load_rules(self, rules: str) -> None:
        """Have nftables carry out a script in here."""
        _run(*self.command("nft", "--file", "-"), stdin=rules)

    def ping(
        self,
        destination: str,
        *,
        source: str = "",
        count: int = 3,
        payload_octets: int = 56,
        options: Sequence[str] = (),
    ) -> int:
        """Send `count` ICMP(v6) echo requests from the address `source`; return how many were answered.

        Without `source` the kernel chooses one; `options` are further ones of ping(8).
        """
        # All at once (`-l`), since the interval (`-i`) is also how long ping waits for the last answers once it has had
        # some; `-W` is for when it had none. Not `-w`: with it, `-c` counts answers and ping sends until it has them.
        patience = str(PING_PATIENCE_S)
        answer = self.run(
            *("ping", "-n", "-q", "-c", str(count), "-l", str(count), "-s", str(payload_octets)),
            *("-i", patience, "-W", patience, *options, *(("-I", source) if source else ()), destination),
            timeout_s=PING_PATIENCE_S + 10.0,
            check=False,
        )
        received = _PINGS_RECEIVED.search(answer.stdout)
        if received is None:
            raise AssertionError(f"ping {source} -> {destination} did not run: {answer.stdout}{answer.stderr}")
        return int(received[1])


class Link:
    """A veth pair that joins two namespaces; the addresses of its ends are like "192.0.2.1/24"."""

    def __init__(
        self,
        left: Namespace,
        left_addresses: Sequence[str],
        right: Namespace,
        right_addresses: Sequence[str],
        *,
        mtu_octets: int = 1500,
    ) -> None:
        self.left = left
        self.right = right
        self.left_addresses = tuple(left_addresses)
        self.right_addresses = tuple(right_addresses)
        self.mtu_octets = mtu_octets
        self.left_device = f"to-{right.label}"[:DEVICE_NAME_OCTETS]
        self.right_device = f"to-{left.label}"[:DEVICE_NAME_OCTETS]

    def __enter__(self) -> Self:
        self.left.ip(
            *("link", "add", self.left_device, "mtu", str(self.mtu_octets), "type", "veth"),
            *("peer", "name", self.right_device, "netns", self.right.name, "mtu", str(self.mtu_octets)),
        )
        for namespace, device, addresses in self._ends():
            for address in addresses:
                namespace.add_address(address, device)
            namespace.ip("link", "set", device, "up")
        # The kernel notices the carrier in its own time, and has no IPv6 routes before.
        for namespace, device, _ in self._ends():
            eventually(partial(namespace.has_carrier, device), what=f"{device} has a carrier")
        return self

    def _ends(self) -> list[tuple[Namespace, str, tuple[str, ...]]]:
        return [
            (self.left, self.left_device, self.left_addresses),
            (self.right, self.right_device, self.right_addresses),
        ]

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _run("ip", "-n", self.left.name, "link", "delete", self.left_device, check=False)


class NatNamespace(Namespace):
    """A router that hides what is behind it: IPv4 masquerading with nftables, UDP ports rewritten too."""

    PORTS_PER_BINDING: Final = 1000
    FIRST_PORT: Final = 20000

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self._outside_device = ""
        self._binding = 0

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.set_sysctl("net.ipv4.ip_forward", "1")
        except BaseException:
            self.close()
            raise
        return self

    @property
    def ports(self) -> range:
        """The UDP source ports that peers on the outside see now."""
        first = self.FIRST_PORT + self._binding * self.PORTS_PER_BINDING
        return range(first, first + self.PORTS_PER_BINDING)

    def masquerade(self, device: str) -> None:
        """Rewrite the source of all that leaves by `device`."""
        self._outside_device = device
        self._load_rules()

    def rebind(self) -> None:
        """Forget all mappings, like a NAT that restarts: the next packet of a flow has a new port."""
        self._binding += 1
        self._load_rules()
        self.run(
            sys.executable,
            "-c",
            "from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket\nwith NFCTSocket() as s: s.flush()",
        )

    def _load_rules(self) -> None:
        # A port range needs a protocol that has ports; the second rule serves ICMP.
        leaving = f'oifname "{self._outside_device}"'
        rules = f"""
            table ip nat {{}}
            delete table ip nat
            table ip nat {{
                chain postrouting {{
                    type nat hook postrouting priority 100
                    {leaving} meta l4proto udp masquerade to :{self.ports[0]}-{self.ports[-1]}
                    {leaving} masquerade
                }}
            }}
        """
        self.load_rules(rules)


def _run(
    *argv: str, stdin: str | None = None, timeout_s: float = 10.0, check: bool = True
) -> subprocess.CompletedProcess[str]:
    completed = subprocess.run(
        argv,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=marked_environment(),
    )
    if check and completed.returncode != 0:
        raise AssertionError(
            f"`{' '.join(argv)}` ended with {completed.returncode}: {completed.stderr or completed.stdout}"
        )
    return completed
