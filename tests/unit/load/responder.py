"""A responder in a process of its own, to try the tester on: the same core, on loopback, with an inner echo."""

import asyncio
import json
import mmap
import os
import signal
import struct
from collections import Counter
from types import TracebackType
from typing import Any

import uvloop

from cygnet.auth.identity import Identity, parse_identity
from cygnet.dataplane.echo import InnerEcho
from cygnet.dataplane.userspace import UserspaceDataplane
from cygnet.iana import ProtocolId
from cygnet.ike.effects import Effect, SaEstablished, SaMoved
from cygnet.ike.environment import Environment
from cygnet.ike.path import Path
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import AuthSettings, ChildSettings, ConnectionSettings, Settings, SharedSecret
from cygnet.ike.table import IkeTable
from cygnet.net.driver import Driver
from cygnet.net.endpoint import Batch, Endpoint
from cygnet.net.sockets import open_esp_socket, open_udp_socket
from cygnet.wire.payloads.configuration import ConfigurationAttribute

SECRET = b"swordfish"
_READY = b"R"
ECHO = bytes((10, 0, 0, 1))
ECHO_TEXT = "10.0.0.1"
SEEN = (
    "ike_datagrams",
    "established",
    "moved",
    "ike_sas_rekeyed_total",
    "child_sas_rekeyed_total",
    "routability_checks_total",
)
"""What `seen` tells while it runs."""
_U64 = struct.Struct("=Q")
SUITE = "aes128gcm16-prfsha256-x25519 / aes128gcm16"


class _Pool:
    """Addresses from 10.0.0.2 and fd00::2 on."""

    def __init__(self) -> None:
        self._last = 1

    def acquire(self, pools: tuple[str, ...], octets: int, wanted: bytes, identity: Identity) -> bytes | None:
        self._last += 1
        net = 10 << 24 if octets == 4 else 0xFD << 120
        return (net + self._last).to_bytes(octets, "big")

    def release(self, address: bytes) -> bool:
        return False

    def is_handed_over(self, address: bytes) -> bool:
        return False

    def attributes(self, pools: tuple[str, ...], addresses: tuple[bytes, ...]) -> tuple[ConfigurationAttribute, ...]:
        return ()


def settings(**changes: Any) -> Settings:
    """A gateway for `*@example.org`, with this core's cheapest suite."""
    connection = ConnectionSettings(
        name="rw",
        proposals=(parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519"),),
        local=AuthSettings(id=parse_identity("gw.example.org")),
        remote=AuthSettings(id=parse_identity("*@example.org")),
        pools=("clients",),
        children=(
            ChildSettings(
                name="net",
                esp_proposals=(parse_proposal(ProtocolId.ESP, "aes128gcm16"),),
                local_ts=(parse_selector("0.0.0.0/0"), parse_selector("::/0")),
            ),
        ),
    )
    return Settings(connections=(connection,), secrets=(SharedSecret(SECRET),), **changes)


class Responder:
    """The process. After `stop`, `counts` is what it counted; the identities that it let in are in `peers`."""

    def __init__(
        self,
        configuration: Settings | None = None,
        *,
        address: str = "127.0.0.1",
        is_silent_every: int = 0,
        is_echoing: bool = True,
        has_raw_esp: bool = False,
        deletes_after_s: float = 0.0,
    ) -> None:
        """With `is_silent_every` n, it doesn't see every n-th datagram; after `deletes_after_s` it deletes a tunnel."""
        self.address = address
        self.counts: Counter[str] = Counter()
        self.peers: list[str] = []
        self._udp = [open_udp_socket(address, 0), open_udp_socket(address, 0, is_natt=True)]
        self.port, self.natt_port = (each.port for each in self._udp)
        self._silent_every = is_silent_every
        self._is_echoing = is_echoing
        self._deletes_after_s = deletes_after_s
        self._raw = [open_esp_socket(is_ipv6=":" in address)] if has_raw_esp else []
        self._seen = mmap.mmap(-1, len(SEEN) * _U64.size)
        self._read_end, write_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._read_end)
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    report = runner.run(self._serve(configuration or settings(), write_end))
                with os.fdopen(write_end, "w") as out:
                    json.dump(report, out)
            finally:
                os._exit(0)
        os.close(write_end)
        for udp in self._udp:
            udp.close()
        for esp in self._raw:
            esp.close()
        if not os.read(self._read_end, len(_READY)):
            raise RuntimeError("the responder did not start")

    async def _serve(self, configuration: Settings, ready: int) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        peers: list[str] = []

        def count(name: str, n: int = 1, /) -> None:
            counts[name] += n
            if name in SEEN:
                _U64.pack_into(self._seen, SEEN.index(name) * _U64.size, counts[name])

        def on_event(effect: Effect) -> None:
            if isinstance(effect, SaMoved):
                count("moved")
            if isinstance(effect, SaEstablished):
                peers.append(str(effect.remote_id))
                count("established")
                if self._deletes_after_s:
                    loop.call_later(self._deletes_after_s, driver.delete, effect.sa)

        def on_ike(batch: Batch, now: float) -> None:
            for datagram in batch:
                count("ike_datagrams")
                if not self._silent_every or counts["ike_datagrams"] % self._silent_every:
                    driver.receive_ike((datagram,), now)

        environment = Environment(
            configuration,
            entropy=os.urandom,
            count=count,
            addresses=_Pool(),
            natt_ports={self.port: self.natt_port},
        )
        echo = InnerEcho((ECHO, (0xFD << 120 | 1).to_bytes(16, "big")), count)

        def send_esp(packet: bytes, path: Path, is_udp_encapsulated: bool, traffic_class: int) -> None:
            endpoint.send_esp(packet, path, is_udp_encapsulated, traffic_class)

        plane = UserspaceDataplane(echo, send_esp, count)
        if self._is_echoing:
            echo.connect(plane.send_inner)
        endpoint = Endpoint(
            self._udp, self._raw, on_ike=on_ike, on_esp=lambda batch, now: driver.receive_esp(batch, now), count=count
        )
        loop = asyncio.get_running_loop()
        driver = Driver(
            IkeTable(environment),
            plane,
            endpoint.send_ike,
            send_keepalive=endpoint.send_keepalive,
            on_event=on_event,
            loop=loop,
        )
        endpoint.attach(loop)
        stopped = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        os.write(ready, _READY)
        await stopped.wait()
        endpoint.close()
        driver.close()
        return {"counts": counts, "peers": peers, "left": len(driver.table.sas)}

    def seen(self, name: str) -> int:
        """How often it has counted one of SEEN so far."""
        count: int = _U64.unpack_from(self._seen, SEEN.index(name) * _U64.size)[0]
        return count

    def stop(self) -> None:
        """End it, and fetch what it counted."""
        os.kill(self.pid, signal.SIGTERM)
        with os.fdopen(self._read_end) as report:
            found = json.load(report)
        os.waitpid(self.pid, 0)
        self.counts.update(found["counts"])
        self.peers += found["peers"]
        self.left: int = found["left"]
        self.moved = self.counts.pop("moved", 0)

    def __enter__(self) -> "Responder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
