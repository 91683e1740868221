import ipaddress
import socket
from collections.abc import Iterator

import pytest

from cygnet.iana import ExchangeType, PayloadType
from cygnet.net.queues import receive_queues
from cygnet.net.shedding import MAX_SUSPECTS, Shedder, Suspects
from cygnet.net.sockets import BufferSizes, UdpSocket, open_udp_socket
from cygnet.net.source_key import SourceKeys
from cygnet.observe.counters import Counters, CounterWriter
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, NO_SPI, encode_header

ROOM = BufferSizes(receive=1 << 20)


def datagram(
    *,
    spi_r: bytes = NO_SPI,
    exchange_type: int = ExchangeType.IKE_SA_INIT,
    flags: int = FLAG_INITIATOR,
    next_payload: int = PayloadType.SA,
) -> bytes:
    return encode_header(
        spi_i=b"peersspi",
        spi_r=spi_r,
        next_payload=next_payload,
        exchange_type=exchange_type,
        flags=flags,
        message_id=0,
        length=28,
    )


NEW = datagram()
PASSES = {
    "of an SA": datagram(spi_r=b"ours-spi"),
    "of an SA, by the first half": datagram(spi_r=b"ours" + bytes(4)),
    "of an SA, by the second half": datagram(spi_r=bytes(4) + b"ours"),
    "IKE_AUTH": datagram(exchange_type=ExchangeType.IKE_AUTH),
    "a response": datagram(flags=FLAG_RESPONSE),
    "a response of a strange kind": datagram(flags=FLAG_RESPONSE | FLAG_INITIATOR),
    "with a cookie": datagram(next_payload=PayloadType.NOTIFY),
    "too short": NEW[:27],
    "empty": b"",
}


@pytest.fixture(params=[("127.0.0.1", False), ("127.0.0.1", True), ("::1", False), ("::1", True)])
def bound(request: pytest.FixtureRequest) -> Iterator[UdpSocket]:
    address, is_natt = request.param
    opened = open_udp_socket(address, 0, is_natt=is_natt, buffers=ROOM)
    yield opened
    opened.close()


@pytest.fixture
def counters() -> CounterWriter:
    return Counters.create(writers=1).writer(0)


def send(target: UdpSocket, octets: bytes, times: int = 1, *, is_marked: bool = True) -> None:
    with socket.socket(target.socket.family, socket.SOCK_DGRAM) as sender:
        for _ in range(times):
            sender.sendto((bytes(4) if target.is_natt and is_marked else b"") + octets, (target.address, target.port))


def received(target: UdpSocket) -> int:
    n = 0
    while True:
        try:
            target.socket.recv(2048)
        except BlockingIOError:
            return n
        n += 1


def shed(counters: CounterWriter, target: UdpSocket) -> int:
    return counters.value(f'new_peers_shed_total{{socket="{target.kind}"}}')


def test_a_share_of_new_peers_gets_in(bound: UdpSocket, counters: CounterWriter) -> None:
    shedder = Shedder([bound], counters)
    shedder.set_share(0.25)
    send(bound, NEW, 800)
    # 200 are expected; six standard deviations of a binomial distribution are 74.
    assert 126 <= received(bound) <= 274


@pytest.mark.parametrize("name", PASSES)
def test_everything_else_gets_in(bound: UdpSocket, counters: CounterWriter, name: str) -> None:
    Shedder([bound], counters).set_share(0.0)
    send(bound, NEW, 20)
    assert received(bound) == 0
    send(bound, PASSES[name], 20)
    assert received(bound) == 20


def test_esp_and_keepalives_get_in(counters: CounterWriter) -> None:
    bound = open_udp_socket("127.0.0.1", 0, is_natt=True)
    Shedder([bound], counters).set_share(0.0)
    for octets in (b"\xff", b"spi!" + NEW):
        send(bound, octets, is_marked=False)
        assert received(bound) == 1
    bound.close()


def test_without_need_everybody_gets_in_again(bound: UdpSocket, counters: CounterWriter) -> None:
    shedder = Shedder([bound], counters)
    shedder.set_share(0.0)
    shedder.set_share(1.0)
    shedder.set_share(1.0)
    send(bound, NEW, 20)
    assert received(bound) == 20


def test_what_a_worker_left_behind_when_it_died_is_taken_away(bound: UdpSocket, counters: CounterWriter) -> None:
    Shedder([bound], counters).set_share(0.0)
    Shedder([bound], counters)
    send(bound, NEW)
    assert received(bound) == 1


def test_who_is_turned_away_is_counted_and_is_no_loss(bound: UdpSocket, counters: CounterWriter) -> None:
    shedder = Shedder([bound], counters)
    shedder.set_share(0.0)
    send(bound, NEW, 7)
    shedder.account()
    assert shed(counters, bound) == 7
    send(bound, NEW, 4)
    shedder.set_share(1.0)
    assert shed(counters, bound) == 11
    assert receive_queues([bound])[bound.kind].drops == 11
    assert shedder.lost(receive_queues([bound]))[bound.kind].drops == 0


def test_what_a_full_queue_loses_is_a_loss(counters: CounterWriter) -> None:
    bound = open_udp_socket("127.0.0.1", 0, buffers=BufferSizes(receive=8192))
    shedder = Shedder([bound], counters)
    shedder.set_share(0.5)
    send(bound, PASSES["of an SA"] + bytes(1000), 100)
    shedder.set_share(1.0)
    drops = receive_queues([bound])[bound.kind].drops
    assert drops == 100 - received(bound) > 0
    assert shed(counters, bound) == 0
    assert shedder.lost(receive_queues([bound]))[bound.kind].drops == drops
    bound.close()


def test_the_count_outlives_a_worker(bound: UdpSocket, counters: CounterWriter) -> None:
    """Sockets and counters do, and a drop must not become a loss because another worker looks at it."""
    first = Shedder([bound], counters)
    first.set_share(0.0)
    send(bound, NEW, 5)
    first.account()
    second = Shedder([bound], counters)
    assert second.lost(receive_queues([bound]))[bound.kind].drops == 0


TAGS = (b"tag1", b"tag2")
KEYS = {
    is_ipv6: SourceKeys(is_ipv6=is_ipv6, bits=128 if is_ipv6 else 32, secret=0x12345679) for is_ipv6 in (False, True)
}


def with_cookie(tag: bytes) -> bytes:
    return datagram(next_payload=PayloadType.NOTIFY) + bytes(8) + tag + bytes(19)


def suspect(shedder: Shedder, *addresses: str, others: int = 0, share: float = 0.0) -> None:
    """Let in that share of what comes from these addresses; `others` are suspects of whom nothing comes."""
    told = {}
    for is_ipv6, keys in KEYS.items():
        ours = {keys.key(ipaddress.ip_address(each).packed) for each in addresses if (":" in each) == is_ipv6}
        strangers = set(range(0xE0000000, 0xE0000000 + 3 * others, 3))
        told[is_ipv6] = Suspects(keys, tuple(sorted(ours | strangers)), share, TAGS)
    shedder.set_suspects(told[False], told[True])


class TestSuspects:
    @pytest.mark.parametrize("others", [0, 1, 2, 3, 100, MAX_SUSPECTS - 1])
    def test_their_first_requests_stay_out(self, bound: UdpSocket, counters: CounterWriter, others: int) -> None:
        shedder = Shedder([bound], counters)
        suspect(shedder, bound.address, others=others)
        send(bound, NEW, 20)
        assert received(bound) == 0
        shedder.account()
        assert shed(counters, bound) == 20

    @pytest.mark.parametrize("others", [1, 2, 3, 100, MAX_SUSPECTS])
    def test_those_of_others_get_in(self, bound: UdpSocket, counters: CounterWriter, others: int) -> None:
        suspect(Shedder([bound], counters), "127.0.0.2", "2001:db8::2", others=others - 1)
        send(bound, NEW, 20)
        assert received(bound) == 20

    def test_a_share_of_theirs_gets_in(self, bound: UdpSocket, counters: CounterWriter) -> None:
        suspect(Shedder([bound], counters), bound.address, share=0.25)
        send(bound, NEW, 800)
        # 200 are expected; six standard deviations of a binomial distribution are 74.
        assert 126 <= received(bound) <= 274

    @pytest.mark.parametrize("tag", TAGS)
    def test_what_may_be_a_cookie_of_ours_gets_in(self, bound: UdpSocket, counters: CounterWriter, tag: bytes) -> None:
        suspect(Shedder([bound], counters), bound.address)
        send(bound, with_cookie(tag))
        assert received(bound) == 1

    def test_other_notifies_in_its_place_stay_out(self, bound: UdpSocket, counters: CounterWriter) -> None:
        suspect(Shedder([bound], counters), bound.address)
        send(bound, with_cookie(b"tag3"))
        send(bound, PASSES["with a cookie"])
        assert received(bound) == 0

    @pytest.mark.parametrize("name", [name for name in PASSES if name != "with a cookie"])
    def test_all_but_first_requests_get_in(self, bound: UdpSocket, counters: CounterWriter, name: str) -> None:
        suspect(Shedder([bound], counters), bound.address)
        send(bound, PASSES[name], 20)
        assert received(bound) == 20

    def test_both_shares_hold_at_once(self, bound: UdpSocket, counters: CounterWriter) -> None:
        shedder = Shedder([bound], counters)
        shedder.set_share(0.0)
        suspect(shedder, "127.0.0.2", "2001:db8::2", share=1.0)
        send(bound, NEW, 20)
        assert received(bound) == 0
        shedder.set_share(1.0)
        send(bound, NEW, 20)
        assert received(bound) == 20

    def test_without_any_the_filter_goes(self, bound: UdpSocket, counters: CounterWriter) -> None:
        shedder = Shedder([bound], counters)
        suspect(shedder, bound.address)
        suspect(shedder)
        send(bound, NEW, 20)
        assert received(bound) == 20
