"""Pings for as long as a test goes on, and which of them were answered."""

import json
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

from tests.interop.namespaces import Namespace
from tests.interop.ownership import marked_environment

INTERVAL_S: Final = 0.02
PATIENCE_S: Final = 3.0
"""How long the last answers may take, on a busy machine."""

_SCRIPT: Final = """
import json, os, select, socket, struct, sys, time
source, destination, interval, patience = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
is_v6 = ":" in destination
request, reply = (128, 129) if is_v6 else (8, 0)
protocol = socket.getprotobyname("ipv6-icmp") if is_v6 else socket.IPPROTO_ICMP
sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_RAW, protocol)
sock.bind((source, 0))
sock.setblocking(False)
identifier = os.getpid() & 0xFFFF

def checksum(octets):
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF

def packet(number):
    head = struct.pack("!BBHHH", request, 0, 0, identifier, number & 0xFFFF)
    body = struct.pack("!Q", number) * 4
    # The kernel sees to the checksum of ICMPv6.
    return head[:2] + struct.pack("!H", 0 if is_v6 else checksum(head + body)) + head[4:] + body

sent, missing, lasts = 0, set(), True
due = time.monotonic()
while lasts or missing:
    now = time.monotonic()
    if lasts and now >= due:
        try:
            sock.sendto(packet(sent), (destination, 0))
        except OSError:
            pass  # no way there: it is missing all the same
        if not sent:
            print("pinging", flush=True)
        missing.add(sent)
        sent += 1
        due = max(due + interval, now)
    if not lasts and now > ended + patience:
        break
    ready, _, _ = select.select([sock] + ([sys.stdin] if lasts else []), [], [], max(0.0, due - now) if lasts else 0.05)
    if sys.stdin in ready:
        lasts, ended = False, now
    if sock in ready:
        octets = sock.recv(2048)
        octets = octets if is_v6 else octets[(octets[0] & 15) * 4:]
        if len(octets) >= 16 and octets[0] == reply and octets[4:6] == identifier.to_bytes(2, "big"):
            missing.discard(int.from_bytes(octets[8:16], "big"))
print(json.dumps({"sent": sent, "lost": sorted(missing)}))
"""


class Pings:
    """A context in which one address pings another all the while, fifty times a second if not at another interval.

    Afterwards `sent` is how many went out, and `lost` the numbers of those that were never answered, from 0.
    """

    def __init__(self, namespace: Namespace, destination: str, *, source: str, interval_s: float = INTERVAL_S) -> None:
        self.interval_s = interval_s
        self.namespace = namespace
        self.destination = destination
        self.source = source
        self.sent = 0
        self.lost: list[int] = []

    def __str__(self) -> str:
        return f"pings {self.source} -> {self.destination}"

    def __enter__(self) -> Self:
        arguments = (self.source, self.destination, str(self.interval_s), str(PATIENCE_S))
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self.namespace.command(sys.executable, "-c", _SCRIPT, *arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=marked_environment(),
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "pinging\n":
            self._process.kill()
            raise AssertionError(f"{self} do not run: {self._process.communicate()[1]}")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            out, err = self._process.communicate("", timeout=2 * PATIENCE_S + 10.0)
        finally:
            self._process.kill()
            self._process.wait()
        if exc is not None:
            return
        if self._process.returncode != 0:
            raise AssertionError(f"{self} did not go on: {err}")
        result = json.loads(out)
        self.sent, self.lost = result["sent"], result["lost"]
