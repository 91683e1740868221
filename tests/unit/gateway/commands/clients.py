"""Initiators for tests against a running gateway: the core itself, on a socket of its own."""

import asyncio
import ipaddress
import os
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from cygnet.auth.identity import parse_identity
from cygnet.config.gateway_settings import GatewaySettings
from cygnet.dataplane.echo import build_echo_request, parse_echo_reply
from cygnet.dataplane.userspace import UserspaceDataplane
from cygnet.iana import ProtocolId
from cygnet.ike.connections import Connection
from cygnet.ike.effects import Effect, SaClosed, SaEstablished
from cygnet.ike.environment import Environment
from cygnet.ike.path import Path
from cygnet.ike.proposals import ProposalSettings, parse_proposal
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import (
    AuthSettings,
    ChildSettings,
    ConnectionSettings,
    PoolSettings,
    RetransmitPolicy,
    Settings,
    SharedSecret,
)
from cygnet.ike.table import IkeTable
from cygnet.net.driver import Driver
from cygnet.net.endpoint import Endpoint
from cygnet.net.sockets import open_udp_socket

LOOPBACK = "127.0.0.1"
GATEWAY_ID = parse_identity("gw.example.org")
ECHO = ipaddress.ip_address("10.1.0.1").packed
SECRETS = (SharedSecret(b"a secret of the tests"),)
IKE = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519"),)
COSTLY_IKE = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-modp2048"),)
"""A costly key exchange: one process can ask for far more of them than another can make."""
ESP = (parse_proposal(ProtocolId.ESP, "aes128gcm16"),)


def responder_settings(pool_last: str = "10.3.255.254") -> Settings:
    """A gateway that gives virtual addresses to whoever knows the secret."""
    child = ChildSettings(name="net", esp_proposals=ESP, local_ts=(parse_selector("0.0.0.0/0"),))
    connection = ConnectionSettings(
        name="rw",
        proposals=IKE,
        local=AuthSettings(id=GATEWAY_ID),
        remote=AuthSettings(id=parse_identity("*@example.org")),
        pools=("clients",),
        encap=True,
        children=(child,),
    )
    pool = PoolSettings(
        name="clients",
        first=ipaddress.ip_address("10.3.0.1").packed,
        last=ipaddress.ip_address(pool_last).packed,
    )
    return Settings(connections=(connection,), pools=(pool,), secrets=SECRETS)


def loopback_gateway(workers: int = 2) -> GatewaySettings:
    """Ports are the kernel's choice."""
    return GatewaySettings(workers=workers, port=0, natt_port=0, listen=(LOOPBACK,), echo=(ECHO,))


class Clients:
    """A fleet on one loop. Every method that waits fails after ten seconds."""

    def __init__(self, port: int, natt_port: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.counts: Counter[str] = Counter()
        self.established: dict[bytes, SaEstablished] = {}
        self.closed: dict[bytes, str] = {}
        self.echoes: list[bytes] = []
        self._port = port
        self._natt_port = natt_port
        ours = [open_udp_socket(LOOPBACK, 0), open_udp_socket(LOOPBACK, 0, is_natt=True)]
        self._local_port = ours[0].port
        settings = Settings(secrets=SECRETS, retransmit=RetransmitPolicy(timeout_s=0.3, base=1.5, tries=8))
        env = Environment(
            settings,
            entropy=os.urandom,
            count=self._count,
            natt_ports={ours[0].port: ours[1].port},
        )
        self.table = IkeTable(env)
        self._endpoint = Endpoint(
            ours,
            on_ike=lambda batch, now: self.driver.receive_ike(batch, now),
            on_esp=lambda batch, now: self.driver.receive_esp(batch, now),
            count=self._count,
        )
        self.dataplane = UserspaceDataplane(self, self._send_esp, self._count)
        self.driver = Driver(
            self.table,
            self.dataplane,
            self._endpoint.send_ike,
            send_keepalive=self._endpoint.send_keepalive,
            on_event=self._on_event,
            loop=self.loop,
        )
        self._endpoint.attach(self.loop)

    def __enter__(self) -> "Clients":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.close()
        self._endpoint.close()
        self.loop.close()

    def start(self, name: str, vip: str = "0.0.0.0", proposals: tuple[ProposalSettings, ...] = IKE) -> bytes:
        """Begin as `name@example.org`; returns our SPI."""
        connection = ConnectionSettings(
            name=name,
            remote_natt_port=self._natt_port,
            proposals=proposals,
            local=AuthSettings(id=parse_identity(f"{name}@example.org")),
            remote=AuthSettings(id=GATEWAY_ID),
            vips=(ipaddress.ip_address(vip).packed,),
            children=(ChildSettings(name="net", esp_proposals=ESP, remote_ts=(parse_selector("0.0.0.0/0"),)),),
        )
        path = Path(LOOPBACK, self._local_port, LOOPBACK, self._port)
        return self.driver.initiate(Connection(connection), path)

    def establish(self, count: int, prefix: str = "c") -> list[bytes]:
        """Set up so many, and wait until they are."""
        spis = [self.start(f"{prefix}{number}") for number in range(count)]
        self.wait(lambda: all(spi in self.established or spi in self.closed for spi in spis))
        assert all(spi in self.established for spi in spis), self.closed
        return spis

    def address(self, spi: bytes) -> str:
        """The virtual address that the gateway gave."""
        return str(ipaddress.ip_address(self.established[spi].virtual_ips[0]))

    def ping(self, spi: bytes) -> None:
        """Ask the gateway's inner address for an echo, through that tunnel."""
        source = self.established[spi].virtual_ips[0]
        packet = build_echo_request(source, ECHO, identifier=1, sequence=1, payload=b"ping")
        assert self.dataplane.send_through(self.table.sas[spi].children[0].spi_in, packet)

    def wait(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Run the loop until something is true."""

        async def poll() -> None:
            while not condition():
                await asyncio.sleep(0.01)

        self.loop.run_until_complete(asyncio.wait_for(poll(), timeout_s))

    def run(self, seconds: float) -> None:
        """Run the loop for a while."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        reply = parse_echo_reply(packet)
        if reply is not None:
            self.echoes.append(reply.destination)

    def _send_esp(self, packet: bytes, path: Path, is_udp_encapsulated: bool, traffic_class: int) -> None:
        self._endpoint.send_esp(packet, path, is_udp_encapsulated, traffic_class)

    def _count(self, name: str, n: int = 1, /) -> None:
        self.counts[name] += n

    def _on_event(self, effect: Effect) -> None:
        if isinstance(effect, SaEstablished):
            self.established[effect.sa] = effect
        elif isinstance(effect, SaClosed):
            self.closed[effect.sa] = effect.reason
