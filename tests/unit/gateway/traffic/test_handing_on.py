"""Packets in the device of a worker whose CHILD_SA has gone on to another one: both workers, and the supervisor."""

from collections.abc import Iterator

import msgspec
import pytest
from tests.unit.dataplane.children import GATEWAY_PATH, SENT_AT, Plane, child, other_end, packed, selector

from cygnet.dataplane.echo import build_echo_request
from cygnet.dataplane.inner import parse_flow
from cygnet.dataplane.userspace import LINGER_S
from cygnet.gateway.control import AddDiversion, AddRoute, AnyMessage, DelRoute, Diversion, Stranded
from cygnet.gateway.host.host_changes import HostChange
from cygnet.gateway.host.host_network import HostNetwork
from cygnet.gateway.host.routes import Routes
from cygnet.gateway.host.rtnetlink import RtNetlink
from cygnet.gateway.traffic.handing_on import MAX_PER_TURN, HandingOn
from cygnet.ike.carriage import Carriage

OURS, THEIRS = packed("10.1.0.1"), packed("10.2.0.7")


def echo(source: bytes, destination: bytes) -> bytes:
    return build_echo_request(source, destination, identifier=1, sequence=1, payload=b"")


PACKET = echo(OURS, THEIRS)
OLD = child(1, remote=(selector("10.2.0.0/24"),))
NEW = msgspec.structs.replace(child(2, remote=OLD.ts_remote), yields=True)


class Worker:
    """What a worker has of all this."""

    def __init__(self, gateway: "Gateway", number: int) -> None:
        self.number = number
        self.plane = Plane()
        self.network = HostNetwork(lambda each: gateway.take(number, each), lambda octets, first, last: False)
        self.handing_on = HandingOn(
            self.plane.plane,
            self.network,
            send=lambda each: gateway.take(number, each),
            send_inner=self.plane.plane.send_inner,
            count_event=self.plane.counts.append,
        )
        self.plane.plane._unsent = self.handing_on.give
        self.plane.plane._used = lambda spi_in: self.network.child_used(spi_in, b"")

    @property
    def sent(self) -> list[bytes]:
        """The SPIs of the ESP packets that it has sent."""
        return [esp[:4] for esp, _, _ in self.plane.sent]


class Gateway:
    """Two workers and their supervisor, which has real routes, but no kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[int] = []
        monkeypatch.setattr(RtNetlink, "request", lambda *request: self.told.append(request[1]))
        self.routes = Routes(["lo", "lo"])
        self.refuses = False
        self.keys: list[object] = []
        self.workers = [Worker(self, number) for number in range(2)]

    def take(self, number: int, message: AnyMessage) -> bool:
        if isinstance(message, Stranded):
            self.keys.append(message.key)
            if self.refuses:
                return False
            holder = self.routes.holder(message.key) if isinstance(message.key, str) else -1
            self.workers[holder if holder >= 0 else number].handing_on.take(message.packet)
        elif isinstance(message, AddRoute):
            self.routes.add(message.prefix, number, message.claim)
        elif isinstance(message, DelRoute):
            self.routes.discard(message.prefix, number, message.claim)
        else:
            assert isinstance(message, HostChange)
        return True

    def send(self, number: int) -> bool:
        return self.workers[number].plane.plane.send_inner(PACKET)

    def install(self, number: int, end: object) -> None:
        self.workers[number].plane.plane.install(end)  # type: ignore[arg-type]
        self.workers[number].network.child_installed(end)  # type: ignore[arg-type]

    def remove(self, number: int, end: object) -> None:
        self.workers[number].network.child_removed(end.spi_in)  # type: ignore[attr-defined]
        self.workers[number].plane.plane.remove(end.spi_in, is_succeeded=True)  # type: ignore[attr-defined]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    gateway = Gateway(monkeypatch)
    gateway.install(0, OLD)
    yield gateway
    gateway.routes.close()


def test_the_route_stays_until_the_peer_uses_the_new_one(gateway: Gateway) -> None:
    gateway.install(1, NEW)
    assert gateway.routes.holder("10.2.0.0/24") == 0
    peer = Plane()
    peer.plane.install(other_end(NEW))
    assert peer.plane.send_inner(echo(THEIRS, OURS))
    gateway.workers[1].plane.plane.receive_esp(peer.sent[0][0], GATEWAY_PATH, SENT_AT)
    assert gateway.routes.holder("10.2.0.0/24") == 1
    gateway.remove(0, OLD)
    assert gateway.routes.holder("10.2.0.0/24") == 1
    assert len(gateway.told) == 2, "the kernel hears of changes, and of nothing else"


def test_what_comes_to_the_old_worker_is_sent_by_the_new_one(gateway: Gateway) -> None:
    gateway.install(1, NEW)
    gateway.remove(0, OLD)
    assert gateway.routes.holder("10.2.0.0/24") == 1
    assert not gateway.send(0)
    assert gateway.workers[1].sent == [NEW.spi_out] and gateway.workers[0].sent == []
    assert gateway.workers[0].plane.counts == ["inner_handed_on"]
    gateway.workers[0].plane.plane.rest(SENT_AT + LINGER_S)
    assert not gateway.send(0)
    assert gateway.workers[0].plane.counts[1:] == ["inner_no_tunnel"], "a moment later it is nobody's business"


def test_what_is_for_none_that_has_left_stays_here(gateway: Gateway) -> None:
    gateway.install(1, NEW)
    gateway.remove(0, OLD)
    other = echo(OURS, packed("10.9.0.7"))
    assert not gateway.workers[0].plane.plane.send_inner(other)
    assert gateway.workers[0].plane.counts == ["inner_no_tunnel"] and gateway.keys == []


def test_what_nobody_has_goes_round_once(gateway: Gateway) -> None:
    gateway.remove(0, OLD)
    assert not gateway.send(0)
    assert sorted(gateway.workers[0].plane.counts) == ["inner_handed_on", "inner_no_tunnel"] and len(gateway.keys) == 1
    gateway.install(1, NEW)
    gateway.remove(1, NEW)
    gateway.routes.add("10.2.0.0/24", 1)
    assert not gateway.send(0)
    assert gateway.workers[1].plane.counts == ["inner_no_tunnel"] and len(gateway.keys) == 2


def test_so_many_and_no_more_are_handed_on(gateway: Gateway) -> None:
    gateway.install(1, NEW)
    gateway.remove(0, OLD)
    for _ in range(MAX_PER_TURN + 3):
        gateway.send(0)
    counts = gateway.workers[0].plane.counts
    assert counts.count("inner_handed_on") == len(gateway.workers[1].sent) == MAX_PER_TURN
    assert counts.count("inner_not_handed_on") == 3
    gateway.workers[0].handing_on.refill()
    gateway.refuses = True
    gateway.send(0)
    gateway.refuses = False
    gateway.send(0)
    assert counts[-2:] == ["inner_not_handed_on", "inner_handed_on"], "nor if the supervisor takes no more"


def test_where_the_new_one_is_sent_on_a_packet_of_the_old_one_is_not_handed_on(gateway: Gateway) -> None:
    """Within a worker nothing leaves it."""
    gateway.install(0, NEW)
    gateway.remove(0, OLD)
    assert gateway.send(0) and gateway.workers[0].sent == [NEW.spi_out] and gateway.keys == []


def test_the_key_is_what_brought_the_packet() -> None:
    network = HostNetwork(lambda each: None, lambda octets, first, last: first >> 8 == 0x0A0300)
    flow = parse_flow(PACKET)
    wide = msgspec.structs.replace(OLD, ts_remote=(selector("10.9.0.0/16"), selector("10.2.0.0-10.2.0.9")))
    assert network.key_of(OLD, flow) == "10.2.0.0/24"
    assert network.key_of(wide, flow) == "10.2.0.0/29", "of several prefixes the one that it is in"
    pooled = msgspec.structs.replace(OLD, ts_remote=(selector("10.3.0.7/32"),))
    assert network.key_of(pooled, parse_flow(echo(OURS, packed("10.3.0.7")))) == "10.3.0.7/32"
    hosts = child(
        3,
        local=(selector("192.0.2.1/32"),),
        remote=(selector("192.0.2.2/32"),),
        carriage=Carriage().in_transport_mode(),
    )
    between = parse_flow(echo(packed("192.0.2.1"), packed("192.0.2.2")))
    assert network.key_of(hosts, between) == Diversion("192.0.2.1", "192.0.2.2")


def test_in_transport_mode_too_the_packets_wait_for_the_peer() -> None:
    sent: list[AnyMessage] = []
    network = HostNetwork(sent.append, lambda octets, first, last: False)
    hosts = child(
        3,
        local=(selector("192.0.2.1/32"),),
        remote=(selector("192.0.2.2/32"),),
        carriage=Carriage().in_transport_mode(),
    )
    network.child_installed(msgspec.structs.replace(hosts, yields=True))
    network.child_used(hosts.spi_in, b"")
    claims = [each.claim.name for each in sent if isinstance(each, AddDiversion)]
    assert claims == ["WAITING", "USED"] and len(sent) == 3
