import asyncio
import os
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
import uvloop

from cygnet.ike.carriage import UNKNOWN_CLASS
from cygnet.ike.path import Path
from cygnet.net.endpoint import Batch, Endpoint, EspBatch
from cygnet.net.sockets import (
    IP_RECVTOS,
    BufferSizes,
    EspSocket,
    UdpSocket,
    open_esp_socket,
    open_udp_group,
    open_udp_socket,
)
from cygnet.net.steering import SteeringKey

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
MARKER = bytes(4)


class Fixture:
    """An endpoint, what it handed over, and what it counted."""

    def __init__(
        self, udp: list[UdpSocket], esp: list[EspSocket] | None = None, *, datagrams_per_turn: int = 128
    ) -> None:
        self.ike: Batch = []
        self.esp: EspBatch = []
        self.batches: list[tuple[str, int, float]] = []
        self.counted: Counter[str] = Counter()
        self.now = 100.0
        self.endpoint = Endpoint(
            udp,
            esp or [],
            on_ike=self._on_ike,
            on_esp=self._on_esp,
            count=self._count,
            clock=lambda: self.now,
            datagrams_per_turn=datagrams_per_turn,
        )

    def _on_ike(self, batch: Batch, now: float) -> None:
        self.ike += batch
        self.batches.append(("ike", len(batch), now))

    def _on_esp(self, batch: EspBatch, now: float) -> None:
        self.esp += batch
        self.batches.append(("esp", len(batch), now))

    def _count(self, name: str, n: int = 1, /) -> None:
        self.counted[name] += n


@pytest.fixture(params=["127.0.0.1", "::1"])
def address(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def peer(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind((address, 0))
        opened.settimeout(2)
        yield opened


@pytest.fixture
def pair(address: str) -> Iterator[Fixture]:
    """An endpoint with an IKE socket and a NAT-T socket, both on all addresses of the family."""
    everywhere = "::" if ":" in address else "0.0.0.0"
    fixture = Fixture([open_udp_socket(everywhere, 0), open_udp_socket(everywhere, 0, is_natt=True)])
    yield fixture
    fixture.endpoint.close()


def _ports(fixture: Fixture) -> tuple[int, int]:
    plain, natt = fixture.endpoint.sockets
    return plain.socket.getsockname()[1], natt.socket.getsockname()[1]


def test_a_datagram_comes_with_both_ends_of_its_path(pair: Fixture, peer: socket.socket, address: str) -> None:
    port, _ = _ports(pair)
    peer.sendto(b"hello", (address, port))
    assert pair.endpoint.drain() == 1
    assert pair.ike == [(b"hello", Path(address, port, address, peer.getsockname()[1]))]
    assert pair.batches == [("ike", 1, 100.0)]
    assert pair.counted == {"datagrams_received_total": 1}


def test_the_local_address_is_the_one_that_was_sent_to() -> None:
    fixture = Fixture([open_udp_socket("0.0.0.0", 0)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(2)
        peer.bind(("127.0.0.1", 0))
        port = fixture.endpoint.sockets[0].socket.getsockname()[1]
        peer.sendto(b"x", ("127.3.2.1", port))
        fixture.endpoint.drain()
        (received,) = fixture.ike
        assert received[1].local == "127.3.2.1"
        assert fixture.endpoint.send_ike(b"y", received[1])
        assert peer.recvfrom(10) == (b"y", ("127.3.2.1", port))
    fixture.endpoint.close()


def test_a_natt_socket_sorts_by_the_marker(pair: Fixture, peer: socket.socket, address: str) -> None:
    _, natt = _ports(pair)
    for datagram in (MARKER + b"ike", b"\x01\x02\x03\x04esp", b"\xff", b"\xfe", b"", MARKER, b"\x01\x02\x03\x04"):
        peer.sendto(datagram, (address, natt))
    pair.endpoint.drain()
    assert [datagram for datagram, _ in pair.ike] == [b"ike", b""]
    assert [datagram for datagram, *_ in pair.esp] == [b"\x01\x02\x03\x04esp"]
    assert pair.counted == {
        "datagrams_received_total": 7,
        "keepalives_received_total": 1,
        'datagrams_dropped_total{reason="too_short"}': 3,
    }


def test_the_plain_socket_does_not_look_for_a_marker(pair: Fixture, peer: socket.socket, address: str) -> None:
    port, _ = _ports(pair)
    peer.sendto(MARKER + b"x", (address, port))
    pair.endpoint.drain()
    assert pair.ike[0][0] == MARKER + b"x"


def test_ike_leaves_with_the_marker_only_from_a_natt_socket(pair: Fixture, peer: socket.socket, address: str) -> None:
    for port, expected in zip(_ports(pair), (b"ike", MARKER + b"ike"), strict=True):
        assert pair.endpoint.send_ike(b"ike", Path(address, port, address, peer.getsockname()[1]))
        datagram, source = peer.recvfrom(100)
        assert (datagram, source[:2]) == (expected, (address, port))
    assert pair.counted == {"datagrams_sent_total": 2}


def test_encapsulated_esp_leaves_as_it_is(pair: Fixture, peer: socket.socket, address: str) -> None:
    _, natt = _ports(pair)
    assert pair.endpoint.send_esp(b"\x01\x02\x03\x04", Path(address, natt, address, peer.getsockname()[1]), True)
    assert peer.recv(100) == b"\x01\x02\x03\x04"


def test_without_a_local_address_the_route_decides(pair: Fixture, peer: socket.socket, address: str) -> None:
    port, _ = _ports(pair)
    everywhere = "::" if ":" in address else "0.0.0.0"
    assert pair.endpoint.send_ike(b"x", Path(everywhere, port, address, peer.getsockname()[1]))
    assert peer.recvfrom(10)[1][:2] == (address, port)


def test_a_turn_ends_after_its_share_and_the_next_socket_gets_one(peer: socket.socket, address: str) -> None:
    fixture = Fixture([open_udp_socket(address, 0), open_udp_socket(address, 0)], datagrams_per_turn=4)
    ports = _ports(fixture)
    for n in range(10):
        peer.sendto(b"flood%d" % n, (address, ports[0]))
    peer.sendto(b"quiet", (address, ports[1]))
    assert fixture.endpoint.drain() == 5
    assert fixture.ike[-1][0] == b"quiet"
    assert [fixture.endpoint.drain() for _ in range(3)] == [4, 2, 0]
    assert [datagram for datagram, _ in fixture.ike if datagram != b"quiet"] == [b"flood%d" % n for n in range(10)]
    fixture.endpoint.close()


def test_a_socket_that_is_never_empty_takes_nothing_from_the_others(peer: socket.socket, address: str) -> None:
    flooded, quiet = open_udp_socket(address, 0, is_natt=True), open_udp_socket(address, 0)
    fixture = Fixture([flooded, quiet], datagrams_per_turn=4)
    for n in range(12):
        peer.sendto(b"quiet%d" % n, (address, quiet.port))
    for _ in range(3):
        for _ in range(20):
            peer.sendto(b"\x01\x02\x03\x04flood", (address, flooded.port))
        assert fixture.endpoint.drain() == 8
    assert [datagram for datagram, _ in fixture.ike] == [b"quiet%d" % n for n in range(12)]
    assert len(fixture.esp) == 12
    assert fixture.endpoint.receive_queues()[quiet.kind].waiting_octets == 0
    assert fixture.endpoint.receive_queues()[flooded.kind].waiting_octets > 0
    fixture.endpoint.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_esp_that_overflows_its_queue_costs_no_ike_on_either_port(
    peer: socket.socket, address: str, workers: int
) -> None:
    key = SteeringKey(1, 2)
    small = BufferSizes(receive=32768)
    plain = open_udp_group(address, 0, workers=workers, key=key, buffers=small)
    natt = open_udp_group(address, 0, workers=workers, key=key, is_natt=True, buffers=small)
    # Worker 0 has the ESP that is too much, and the last worker's new peers come to whom the hash says.
    fixtures = [Fixture([plain[n], *natt[n::workers]]) for n in range(workers)]
    packet = b"\x01\x02\x03\x04" + bytes(1000)
    for _ in range(500):
        peer.sendto(packet, (address, natt[0].port))
    initial = [n.to_bytes(8, "big") + bytes(8) + b"\x21\x20\x22\x08" + bytes(8) for n in range(1, 11)]
    for message in initial:
        peer.sendto(message, (address, plain[0].port))
        peer.sendto(MARKER + message, (address, natt[0].port))
    while sum(fixture.endpoint.drain() for fixture in fixtures):
        pass
    assert sorted(datagram for fixture in fixtures for datagram, _ in fixture.ike) == sorted(2 * initial)
    assert [len(fixture.esp) for fixture in fixtures[1:]] == [0] * (workers - 1)
    family = "ipv6" if ":" in address else "ipv4"
    for n, fixture in enumerate(fixtures):
        drops = {kind: queue.drops for kind, queue in fixture.endpoint.receive_queues().items()}
        lost = 500 - len(fixture.esp) if n == 0 else 0
        assert drops == {f"{family}_ike": 0, f"{family}_natt": 0, f"{family}_natt_esp": lost}
        assert fixture.endpoint.kernel_drops() == lost
        fixture.endpoint.close()
    assert 0 < len(fixtures[0].esp) < 500


@pytest.fixture
def anywhere() -> Iterator[Fixture]:
    """An endpoint with one IPv4 socket on all addresses."""
    fixture = Fixture([open_udp_socket("0.0.0.0", 0)])
    yield fixture
    fixture.endpoint.close()


def test_a_path_from_a_port_that_is_not_ours_is_counted(anywhere: Fixture) -> None:
    assert not anywhere.endpoint.send_ike(b"x", Path("127.0.0.1", 1, "127.0.0.1", 9))
    assert anywhere.counted == {'send_failures_total{reason="no_socket"}': 1}


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        pytest.param("198.51.100.1", "127.0.0.1", id="source is not ours"),
        pytest.param("127.0.0.1", "255.255.255.255", id="broadcast"),
        pytest.param("nonsense", "127.0.0.1", id="source is no address"),
    ],
)
def test_what_the_kernel_will_not_send_is_counted_and_not_raised(anywhere: Fixture, local: str, remote: str) -> None:
    port = anywhere.endpoint.sockets[0].socket.getsockname()[1]
    assert not anywhere.endpoint.send_ike(b"x", Path(local, port, remote, 9))
    ((name, n),) = anywhere.counted.items()
    assert name.startswith("send_failures_total{reason=")
    assert n == 1


def test_a_datagram_too_big_for_udp_is_counted(pair: Fixture, address: str) -> None:
    port, _ = _ports(pair)
    assert not pair.endpoint.send_ike(bytes(65536), Path(address, port, address, 9))
    assert pair.counted == {'send_failures_total{reason="too_big"}': 1}


def test_esp_without_a_raw_socket_is_counted(pair: Fixture, address: str) -> None:
    assert not pair.endpoint.send_esp(b"x", Path(address, 0, address, 0), False)
    assert pair.counted == {'send_failures_total{reason="no_socket"}': 1}


def test_a_refusal_that_waits_in_the_socket_is_counted_and_the_next_datagram_is_received() -> None:
    bound = open_udp_socket("127.0.0.1", 0)
    fixture = Fixture([bound])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        # Only a connected socket hears of ICMP errors.
        bound.socket.connect(peer.getsockname())
        gone = peer.getsockname()
    bound.socket.send(b"x")
    fixture.endpoint.drain()
    assert fixture.counted['receive_failures_total{reason="refused"}'] == 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(gone)
        peer.sendto(b"back", bound.socket.getsockname())
        fixture.endpoint.drain()
    assert [datagram for datagram, _ in fixture.ike] == [b"back"]
    assert fixture.counted["datagrams_received_total"] == 1, "an error is no datagram"
    fixture.endpoint.close()


@needs_root
def test_raw_esp_goes_both_ways_without_ports(address: str) -> None:
    is_ipv6 = ":" in address
    fixture = Fixture([], [open_esp_socket(is_ipv6=is_ipv6)])
    packet = b"\x01\x02\x03\x04" + b"esp packet"
    assert fixture.endpoint.send_esp(packet, Path(address, 4500, address, 4500), False)
    assert fixture.endpoint.drain() == 1
    assert fixture.esp == [(packet, Path(address, 0, address, 0), UNKNOWN_CLASS)]
    fixture.endpoint.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_drives_it_until_it_is_detached(
    new_loop: type[asyncio.AbstractEventLoop], pair: Fixture, peer: socket.socket, address: str
) -> None:
    loop = new_loop()

    async def play() -> None:
        port, natt = _ports(pair)
        peer.sendto(b"ike", (address, port))
        peer.sendto(b"\x01\x02\x03\x04esp", (address, natt))
        async with asyncio.timeout(2):
            while not (pair.ike and pair.esp):
                await asyncio.sleep(0)
        pair.endpoint.detach()
        peer.sendto(b"later", (address, port))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(pair.ike) == 1
        pair.endpoint.attach(loop)
        async with asyncio.timeout(2):
            while len(pair.ike) < 2:
                await asyncio.sleep(0)

    try:
        pair.endpoint.attach(loop)
        loop.run_until_complete(play())
    finally:
        pair.endpoint.detach()
        loop.close()


@needs_root
def test_a_link_local_peer_is_answered_on_its_interface() -> None:
    scoped = _link_local_address()
    if scoped is None:
        pytest.skip("no interface has a link-local address")
    host, index = scoped
    fixture = Fixture([open_udp_socket("::", 0)])
    port = fixture.endpoint.sockets[0].socket.getsockname()[1]
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
        peer.settimeout(2)
        peer.bind((host, 0, 0, index))
        peer.sendto(b"x", (host, port, 0, index))
        fixture.endpoint.drain()
        ((_, path),) = fixture.ike
        assert path == Path(host, port, host, peer.getsockname()[1])
        assert fixture.endpoint.send_ike(b"y", path)
        assert peer.recv(10) == b"y"
    fixture.endpoint.close()


def _link_local_address() -> tuple[str, int] | None:
    with open("/proc/net/if_inet6") as lines:  # noqa: PTH123
        for line in lines:
            octets, index, _, scope, flags, _ = line.split()
            if scope == "20" and not int(flags, 16) & 0x40:
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(octets)), int(index, 16)
    return None


def test_a_keepalive_is_one_octet_without_a_marker(pair: Fixture, peer: socket.socket, address: str) -> None:
    _, natt = _ports(pair)
    path = Path(address, natt, address, peer.getsockname()[1])
    assert pair.endpoint.send_keepalive(path)
    assert peer.recv(10) == b"\xff"


def test_the_traffic_class_crosses_both_ways(address: str) -> None:
    """With a named local address and a wildcard, per packet, and IKE is not disturbed by it."""
    wildcard = "::" if ":" in address else "0.0.0.0"
    for local in (address, wildcard):
        near = Fixture([open_udp_socket(local, 0, is_natt=True)])
        far = Fixture([open_udp_socket(address, 0, is_natt=True)])
        far.endpoint.ask_for_traffic_class()
        ports = [fixture.endpoint.sockets[0].socket.getsockname()[1] for fixture in (near, far)]
        path = Path(address, ports[0], address, ports[1])
        for traffic_class in (0xB9, 0, 0x03):
            assert near.endpoint.send_esp(b"\1\2\3\4esp", path, True, traffic_class)
        assert near.endpoint.send_ike(b"ike", path)
        while far.endpoint.drain():
            pass
        assert [traffic_class for *_, traffic_class in far.esp] == [0xB9, 0, 0x03]
        assert [seen for _, seen, _ in far.esp] == [Path(address, ports[1], address, ports[0])] * 3
        assert far.ike == [(b"ike", Path(address, ports[1], address, ports[0]))]
        near.endpoint.close()
        far.endpoint.close()


@needs_root
def test_the_traffic_class_of_bare_esp(address: str) -> None:
    fixture = Fixture([], [open_esp_socket(is_ipv6=":" in address)])
    fixture.endpoint.ask_for_traffic_class()
    path = Path(address, 0, address, 0)
    packet = bytes(range(1, 30))
    for traffic_class in (0xB9, 0):
        assert fixture.endpoint.send_esp(packet, path, False, traffic_class)
    while fixture.endpoint.drain():
        pass
    assert [traffic_class for seen, _, traffic_class in fixture.esp if seen == packet] == [0xB9, 0]
    fixture.endpoint.close()


@pytest.mark.parametrize("has_esp_socket", [False, True])
def test_sockets_that_have_ike_alone_are_not_asked_for_the_traffic_class(has_esp_socket: bool) -> None:
    opened = [open_udp_socket("127.0.0.1", 0), open_udp_socket("127.0.0.1", 0, is_natt=True)]
    if has_esp_socket:
        opened.append(open_udp_socket("127.0.0.1", 0, is_natt=True, is_for_esp=True))
    fixture = Fixture(opened)
    fixture.endpoint.ask_for_traffic_class()
    asked = [each.socket.getsockopt(socket.IPPROTO_IP, IP_RECVTOS) for each in opened]
    assert asked == ([0, 0, 1] if has_esp_socket else [0, 1])
    fixture.endpoint.close()
