import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cygnet.iana import ExchangeType, PayloadType
from cygnet.ike.spi import SpiSeal, new_ike_spi
from cygnet.net import shedding
from cygnet.net.bpf import attach
from cygnet.net.queues import receive_queues
from cygnet.net.shedding import Shedder
from cygnet.net.shedding_filter import MAX_BARRED, MAX_SUSPECTS, MAX_TRUSTED, Sources, SpiRules, shedding_filter
from cygnet.net.sockets import BufferSizes, UdpSocket, open_udp_socket
from cygnet.net.source_key import SourceKeys
from cygnet.observe.counters import Counters, CounterWriter
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, NO_SPI, encode_header

ROOM = BufferSizes(receive=1 << 20)
needs_room_for_filters = pytest.mark.skipif(
    int(Path("/proc/sys/net/core/optmem_max").read_text()) < 1 << 16, reason="Linux before 6.7 takes smaller filters"
)


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


def strays_shed(counters: CounterWriter, target: UdpSocket) -> int:
    return counters.value(f'strays_shed_total{{socket="{target.kind}"}}')


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


def test_what_a_filter_drops_while_the_queue_is_full_is_no_loss(counters: CounterWriter) -> None:
    bound = open_udp_socket("127.0.0.1", 0, buffers=BufferSizes(receive=8192))
    shedder = Shedder([bound], counters)
    shedder.set_share(0.0)
    send(bound, PASSES["of an SA"] + bytes(1000), 100)
    send(bound, NEW, 1000)
    shedder.account()
    # Sockets of other processes may lose something at the same time: never more than that is taken from it.
    assert 1000 - 500 < shed(counters, bound) <= 1000
    lost = shedder.lost(receive_queues([bound]))[bound.kind].drops
    assert lost >= 100 - received(bound) > 0
    bound.close()


def test_where_full_queues_are_not_counted_what_may_be_a_loss_is_one(
    counters: CounterWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_file() -> int:
        raise FileNotFoundError

    monkeypatch.setattr(shedding, "udp_queue_overflows", no_file)
    bound = open_udp_socket("127.0.0.1", 0, buffers=BufferSizes(receive=8192))
    shedder = Shedder([bound], counters)
    shedder.set_share(0.0)
    send(bound, NEW, 7)
    shedder.account()
    assert shed(counters, bound) == 7, "while the queue is empty it was the filter"
    send(bound, PASSES["of an SA"] + bytes(1000), 100)
    send(bound, NEW, 10)
    shedder.account()
    assert shed(counters, bound) == 7
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
        told[is_ipv6] = Sources(keys, tuple(sorted(ours | strangers)), share, cookie_tags=TAGS)
    shedder.set_sources(told[False], told[True])


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

    def test_a_filter_that_need_not_change_stays(
        self, bound: UdpSocket, counters: CounterWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It takes five milliseconds to make one, and what changes is often about the other family."""
        made: list[bytes] = []

        def attach_and_note(target: socket.socket, option: int, program: bytes) -> None:
            made.append(program)
            attach(target, option, program)

        monkeypatch.setattr(shedding, "attach", attach_and_note)
        shedder = Shedder([bound], counters)
        other = "::2" if bound.address == "127.0.0.1" else "127.0.0.2"
        suspect(shedder, bound.address)
        suspect(shedder, bound.address, other)
        assert len(made) == 1
        send(bound, NEW)
        assert received(bound) == 0
        suspect(shedder, other)
        assert len(made) == 2
        send(bound, NEW)
        assert received(bound) == 1
        suspect(shedder)
        suspect(shedder, bound.address)
        assert len(made) == 3, "it was taken off"
        send(bound, NEW)
        assert received(bound) == 0

    def test_without_any_the_filter_goes(self, bound: UdpSocket, counters: CounterWriter) -> None:
        shedder = Shedder([bound], counters)
        suspect(shedder, bound.address)
        suspect(shedder)
        send(bound, NEW, 20)
        assert received(bound) == 20


class TestStrangers:
    def limit(
        self, shedder: Shedder, *trusted: str, share: float = 0.0, suspects: tuple[str, ...] = (), others: int = 0
    ) -> None:
        """Let in that share of strangers; `others` are trusted of whom nothing comes."""
        told = {}
        for is_ipv6, keys in KEYS.items():
            known, bad = (
                {keys.key(ipaddress.ip_address(each).packed) for each in addresses if (":" in each) == is_ipv6}
                for addresses in (trusted, suspects)
            )
            known |= set(range(0xE0000000, 0xE0000000 + 3 * others, 3))
            told[is_ipv6] = Sources(
                keys,
                tuple(sorted(bad)),
                0.0,
                trusted=tuple(sorted(known)),
                strangers_share=share,
                cookie_tags=TAGS,
            )
        shedder.set_sources(told[False], told[True])

    def test_stay_out_and_are_counted(self, bound: UdpSocket, counters: CounterWriter) -> None:
        shedder = Shedder([bound], counters)
        self.limit(shedder, "127.0.0.2", "2001:db8::2")
        send(bound, NEW, 20)
        assert received(bound) == 0
        shedder.account()
        assert shed(counters, bound) == 20

    def test_a_share_of_them_gets_in(self, bound: UdpSocket, counters: CounterWriter) -> None:
        self.limit(Shedder([bound], counters), share=0.25)
        send(bound, NEW, 800)
        assert 126 <= received(bound) <= 274

    @pytest.mark.parametrize("others", [0, 1, 98, 99, 100, 101, MAX_TRUSTED - 1])
    def test_who_is_trusted_gets_in(self, bound: UdpSocket, counters: CounterWriter, others: int) -> None:
        self.limit(Shedder([bound], counters), "127.0.0.1", "::1", others=others)
        send(bound, NEW, 20)
        send(bound, PASSES["with a cookie"], 20)
        assert received(bound) == 40

    def test_not_if_it_is_suspect(self, bound: UdpSocket, counters: CounterWriter) -> None:
        self.limit(Shedder([bound], counters), "127.0.0.1", "::1", suspects=("127.0.0.1", "::1"))
        send(bound, NEW, 20)
        assert received(bound) == 0

    def test_trusted_ones_share_what_all_have(self, bound: UdpSocket, counters: CounterWriter) -> None:
        shedder = Shedder([bound], counters)
        self.limit(shedder, "127.0.0.1", "::1")
        shedder.set_share(0.0)
        send(bound, NEW, 20)
        assert received(bound) == 0

    def test_strangers_never_get_more_than_all_have(self, bound: UdpSocket, counters: CounterWriter) -> None:
        shedder = Shedder([bound], counters)
        self.limit(shedder, share=0.99)
        shedder.set_share(0.0)
        send(bound, NEW, 20)
        assert received(bound) == 0

    @pytest.mark.parametrize("tag", TAGS)
    def test_what_may_be_a_cookie_of_ours_gets_in(self, bound: UdpSocket, counters: CounterWriter, tag: bytes) -> None:
        self.limit(Shedder([bound], counters))
        send(bound, with_cookie(tag))
        assert received(bound) == 1
        send(bound, with_cookie(b"tag3"))
        assert received(bound) == 0

    @pytest.mark.parametrize("name", [name for name in PASSES if name != "with a cookie"])
    def test_all_but_first_requests_get_in(self, bound: UdpSocket, counters: CounterWriter, name: str) -> None:
        self.limit(Shedder([bound], counters))
        send(bound, PASSES[name], 20)
        assert received(bound) == 20


SEAL = SpiSeal.from_octets(b"0123456789abcdef")
NODE = 3


def spi_of_ours(drawn: int = 0x12345678, worker: int = 5) -> bytes:
    return new_ike_spi(NODE, worker, lambda octets: drawn.to_bytes(octets, "big"), SEAL)


def for_spi(spi: bytes, exchange_type: int = ExchangeType.IKE_AUTH, flags: int = FLAG_INITIATOR) -> bytes:
    """A datagram for an SPI of ours: the responder's if it comes from the initiator, and the other way round."""
    from_initiator = bool(flags & FLAG_INITIATOR)
    return encode_header(
        spi_i=b"peersspi" if from_initiator else spi,
        spi_r=spi if from_initiator else b"peersspi",
        next_payload=PayloadType.SK,
        exchange_type=exchange_type,
        flags=flags,
        message_id=1,
        length=28,
    )


FLAGS = (FLAG_INITIATOR, FLAG_INITIATOR | FLAG_RESPONSE, 0, FLAG_RESPONSE)


class TestSpis:
    @pytest.mark.parametrize("flags", FLAGS)
    def test_what_bears_our_seal_gets_in(self, bound: UdpSocket, counters: CounterWriter, flags: int) -> None:
        Shedder([bound], counters).set_spis(SpiRules(NODE, SEAL))
        for n in range(300):
            spi = new_ike_spi(NODE, n % 255, os.urandom, SEAL)
            assert SEAL.is_on(spi)
            send(bound, for_spi(spi, flags=flags))
        assert received(bound) == 300

    @pytest.mark.parametrize("flags", FLAGS)
    def test_what_does_not_stays_out_and_is_counted(
        self, bound: UdpSocket, counters: CounterWriter, flags: int
    ) -> None:
        shedder = Shedder([bound], counters)
        shedder.set_spis(SpiRules(NODE, SEAL))
        spi = spi_of_ours()
        for place in (0, 2, 3, 4, 7):
            wrong = bytearray(spi)
            wrong[place] ^= 0x10
            send(bound, for_spi(bytes(wrong), flags=flags))
        assert received(bound) == 0
        shedder.account()
        assert (strays_shed(counters, bound), shed(counters, bound)) == (5, 0)
        assert shedder.lost(receive_queues([bound]))[bound.kind].drops == 0

    def test_a_request_for_nobody_that_is_no_first_one_stays_out(
        self, bound: UdpSocket, counters: CounterWriter
    ) -> None:
        Shedder([bound], counters).set_spis(SpiRules(NODE, SEAL))
        for flags in (FLAG_INITIATOR, FLAG_INITIATOR | FLAG_RESPONSE):
            send(bound, datagram(exchange_type=ExchangeType.IKE_AUTH, flags=flags))
        send(bound, datagram(flags=FLAG_INITIATOR | FLAG_RESPONSE))
        assert received(bound) == 0

    @pytest.mark.parametrize("octets", [NEW, with_cookie(b"tag1"), NEW[:27], b""])
    def test_new_peers_and_what_is_too_short_get_in(
        self, bound: UdpSocket, counters: CounterWriter, octets: bytes
    ) -> None:
        Shedder([bound], counters).set_spis(SpiRules(NODE, SEAL))
        send(bound, octets)
        assert received(bound) == 1

    @needs_room_for_filters
    @pytest.mark.parametrize("others", [0, 1, 2, 99, 100, 101, MAX_BARRED - 1])
    def test_barred_ones_stay_out_and_no_others(self, bound: UdpSocket, counters: CounterWriter, others: int) -> None:
        barred = (0x12345678, *range(0xE0000000, 0xE0000000 + 3 * others, 3))
        Shedder([bound], counters).set_spis(SpiRules(NODE, SEAL, barred))
        for word in (barred[0], barred[len(barred) // 2], barred[-1]):
            send(bound, for_spi(spi_of_ours(word)))
        assert received(bound) == 0
        for word in (0, 0x12345677, 0x12345679, 0xE0000001, 0xFFFFFFFF):
            send(bound, for_spi(spi_of_ours(word)))
        assert received(bound) == 5

    def test_a_sample_of_what_stays_out_gets_in(self, bound: UdpSocket, counters: CounterWriter) -> None:
        Shedder([bound], counters).set_spis(SpiRules(NODE, SEAL, (0x12345678,), sample=0.25))
        for octets in (for_spi(b"whatever"), for_spi(spi_of_ours()), datagram(exchange_type=ExchangeType.IKE_AUTH)):
            send(bound, octets, 800)
            # 200 are expected; six standard deviations of a binomial distribution are 74.
            assert 126 <= received(bound) <= 274

    def test_without_rules_everything_gets_in_again(self, bound: UdpSocket, counters: CounterWriter) -> None:
        shedder = Shedder([bound], counters)
        shedder.set_spis(SpiRules(NODE, SEAL))
        shedder.set_spis(None)
        send(bound, for_spi(b"whatever"))
        assert received(bound) == 1

    def test_the_same_filter_limits_new_peers(self, bound: UdpSocket, counters: CounterWriter) -> None:
        shedder = Shedder([bound], counters)
        shedder.set_spis(SpiRules(NODE, SEAL))
        shedder.set_share(0.0)
        send(bound, NEW)
        send(bound, for_spi(b"whatever"))
        assert received(bound) == 0
        send(bound, for_spi(spi_of_ours()))
        assert received(bound) == 1
        shedder.account()
        assert shed(counters, bound) == 2, "which of the two it was the kernel does not say"


def test_esp_passes_rules_for_spis(counters: CounterWriter) -> None:
    bound = open_udp_socket("127.0.0.1", 0, is_natt=True)
    Shedder([bound], counters).set_spis(SpiRules(NODE, SEAL))
    for octets in (b"\xff", b"spi!" + for_spi(b"whatever")):
        send(bound, octets, is_marked=False)
        assert received(bound) == 1
    bound.close()


@pytest.mark.parametrize("is_ipv6", [False, True])
def test_the_largest_filter_is_within_what_the_kernel_takes(is_ipv6: bool) -> None:
    def some(n: int, first: int) -> tuple[int, ...]:
        return tuple(range(first, first + 2 * n, 2))

    sources = Sources(KEYS[is_ipv6], some(MAX_SUSPECTS, 0), 0.5, some(MAX_TRUSTED, 1), 0.5, TAGS)
    rules = SpiRules(NODE, SEAL, some(MAX_BARRED, 0))
    assert len(shedding_filter(0.5, is_natt=True, sources=sources, spis=rules)) // 8 <= 3300


@needs_room_for_filters
def test_where_sockets_have_little_memory_the_filter_is_smaller(
    bound: UdpSocket, counters: CounterWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.7 a filter of half the size was refused (net.core.optmem_max)."""
    largest: list[int] = []

    def attach_small(target: socket.socket, option: int, program: bytes) -> None:
        largest.append(len(program) // 8)
        if len(program) > 8 * 1000:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        attach(target, option, program)

    monkeypatch.setattr(shedding, "attach", attach_small)
    shedder = Shedder([bound], counters)
    suspect(shedder, "0.0.0.1", "::1", bound.address, others=MAX_SUSPECTS - 3)
    assert largest[0] > 1000 >= largest[-1]
    send(bound, NEW)
    assert received(bound) == 0, "the first in order are left"
    suspect(shedder, "0.0.0.1", "::1", bound.address, others=MAX_SUSPECTS - 3, share=0.1)
    assert len(largest) == 3, "the next one is made as small at once"


def test_where_the_kernel_takes_no_filter_everything_gets_in(
    bound: UdpSocket, counters: CounterWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(target: socket.socket, option: int, program: bytes) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(shedding, "attach", refuse)
    shedder = Shedder([bound], counters)
    shedder.set_share(0.0)
    send(bound, NEW)
    assert received(bound) == 1
