from collections.abc import Callable, Sequence

import pytest

from cygnet.gateway.overload.intake import COOKIE_WAIT_S, WAITING, Intake, Standing, standing_of
from cygnet.gateway.overload.newcomers import Entry
from cygnet.iana import ExchangeType, PayloadType
from cygnet.ike.path import Path
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, NO_SPI, encode_header

PATH = Path("192.0.2.1", 500, "192.0.2.2", 500)
OURS = {b"establis": Standing.ESTABLISHED, b"underway": Standing.UNDER_WAY, b"rubbish!": Standing.PAST_TRYING}
PEERS = b"peersspi"
GOOD, BAD = b"our cookie", b"any cookie"


def datagram(
    spi_i: bytes,
    spi_r: bytes,
    flags: int = FLAG_INITIATOR,
    exchange_type: int = ExchangeType.INFORMATIONAL,
    message_id: int = 0,
) -> bytes:
    return encode_header(
        spi_i=spi_i,
        spi_r=spi_r,
        next_payload=0,
        exchange_type=exchange_type,
        flags=flags,
        message_id=message_id,
        length=28,
    )


def of_sa(spi: bytes) -> Standing:
    return OURS.get(spi, Standing.STRAY)


def established(number: int = 0, flags: int = FLAG_INITIATOR) -> bytes:
    return datagram(PEERS, b"establis", flags, message_id=number)


def under_way(number: int = 0) -> bytes:
    return datagram(PEERS, b"underway", exchange_type=ExchangeType.IKE_AUTH, message_id=number)


def new(number: int = 0) -> bytes:
    return datagram(number.to_bytes(8, "big"), NO_SPI, exchange_type=ExchangeType.IKE_SA_INIT)


def returning(number: int, cookie: bytes) -> bytes:
    octets = bytearray(new(number) + cookie)
    octets[16] = PayloadType.NOTIFY
    return bytes(octets)


def stray(number: int = 0) -> bytes:
    return datagram(PEERS, b"whatever", message_id=number)


def test_the_gauges_are_named_by_standing() -> None:
    queued = [standing for standing in Standing if standing is not Standing.PAST_TRYING]
    assert [f'datagrams_waiting{{standing="{standing.name.lower()}"}}' for standing in queued] == list(WAITING)


class TestStandingOf:
    @pytest.mark.parametrize(
        ("octets", "standing"),
        [
            (new(), Standing.NEW),
            (datagram(b"establis", NO_SPI, exchange_type=ExchangeType.IKE_SA_INIT), Standing.NEW),
            (under_way(), Standing.UNDER_WAY),
            (established(), Standing.ESTABLISHED),
            (established(flags=FLAG_INITIATOR | FLAG_RESPONSE), Standing.ESTABLISHED),
            (datagram(b"establis", PEERS, flags=FLAG_RESPONSE), Standing.ESTABLISHED),
            (datagram(b"underway", NO_SPI, FLAG_RESPONSE, ExchangeType.IKE_SA_INIT), Standing.UNDER_WAY),
            (datagram(PEERS, b"establis", flags=0), Standing.STRAY),
            (datagram(PEERS, b"whatever"), Standing.STRAY),
            (datagram(PEERS, NO_SPI), Standing.STRAY),
            (established()[:27], Standing.STRAY),
            (b"", Standing.STRAY),
        ],
    )
    def test_is_told_by_the_header(self, octets: bytes, standing: Standing) -> None:
        assert standing_of(octets, of_sa) is standing


class Rig:
    """An intake, a clock that serving advances, and what was served."""

    def __init__(self, cost_s: float = 0.0, capacity: tuple[int, int, int, int] = (100, 100, 100, 100)) -> None:
        self.now = 100.0
        self.cost_s = cost_s
        self.served: list[bytes] = []
        self.counted: list[str] = []
        self.scheduled: list[Callable[[], None]] = []
        self.asked: list[bytes] = []
        self.asks = False
        self.intake = Intake(
            standing_of_sa=of_sa,
            has_cookie=lambda octets, path, now: octets.endswith(GOOD),
            ask_cookies=self.ask_cookies,
            serve=self.serve,
            count=self.count,
            again=self.scheduled.append,
            clock=lambda: self.now,
            capacity=capacity,
            slice_s=0.005,
            patience_s=4.0,
        )

    def ask_cookies(self, requests: list[Entry], now: float) -> list[Entry]:
        if not self.asks:
            return requests
        self.asked += [octets for octets, _ in requests]
        return []

    def serve(self, batch: Sequence[Entry], now: float) -> None:
        assert now == self.now
        self.served += [octets for octets, _ in batch]
        self.now += self.cost_s * len(batch)

    def count(self, name: str, n: int = 1, /) -> None:
        self.counted += n * [name]

    def put(self, *datagrams: bytes) -> None:
        self.intake.put([(octets, PATH) for octets in datagrams], self.now)

    def turn(self) -> None:
        """What the loop does once: run what was scheduled before it began."""
        todo, self.scheduled[:] = list(self.scheduled), []
        for run in todo:
            run()

    def dropped(self, reason: str) -> int:
        return self.counted.count(f'datagrams_dropped_total{{reason="{reason}"}}')


class TestAskingForCookies:
    def test_those_who_are_asked_wait_for_nothing_and_take_nobody_s_place(self) -> None:
        rig = Rig()
        rig.asks = True
        rig.put(new(1), established(2), new(3), returning(4, GOOD), returning(5, BAD))
        assert rig.asked == [new(1), new(3), returning(5, BAD)]
        rig.turn()
        assert rig.served == [established(2), returning(4, GOOD)]

    def test_nobody_is_asked_back_while_those_who_came_back_must_wait(self) -> None:
        rig = Rig(cost_s=0.01)
        rig.asks = True
        rig.put(*(returning(number, GOOD) for number in range(60)))
        rig.now += COOKIE_WAIT_S + 0.01
        rig.put(new(100))
        assert not rig.asked
        while rig.scheduled:
            rig.turn()
        assert rig.served[-1] == new(100)
        rig.put(new(101))
        assert rig.asked == [new(101)]


class TestIntake:
    def test_what_comes_for_an_sa_that_is_past_trying_takes_no_place(self) -> None:
        rig = Rig()
        rig.put(*(datagram(PEERS, b"rubbish!", exchange_type=ExchangeType.IKE_AUTH, message_id=n) for n in range(200)))
        assert len(rig.intake) == 0
        assert rig.dropped("too_many_failures") == 200

    def test_finishes_before_it_starts(self) -> None:
        rig = Rig()
        rig.put(new(1), under_way(2), established(3), new(4), established(5), under_way(6), new(7), stray(8))
        assert rig.intake.lengths() == (2, 2, 3, 1)
        rig.turn()
        assert rig.intake.lengths() == (0, 0, 0, 0)
        assert rig.served == [
            established(3),
            established(5),
            under_way(2),
            under_way(6),
            new(1),
            new(4),
            new(7),
            stray(8),
        ]

    def test_takes_a_peer_that_returns_our_cookie_for_one_under_way(self) -> None:
        rig = Rig()
        rig.put(new(1), returning(2, BAD), returning(3, GOOD), new(4))
        assert rig.intake.waiting_new() == 3
        rig.turn()
        assert rig.served == [returning(3, GOOD), new(1), returning(2, BAD), new(4)]

    def test_serves_strays_last_and_keeps_few(self) -> None:
        rig = Rig(capacity=(9, 9, 9, 2))
        rig.put(*(stray(n) for n in range(5)), new(1), under_way())
        assert rig.dropped("unknown_spi") == 3
        rig.turn()
        assert rig.served == [under_way(), new(1), stray(0), stray(1)]

    def test_serves_nothing_before_its_turn_and_asks_for_one_once(self) -> None:
        rig = Rig()
        rig.put(new(1))
        rig.put(new(2))
        assert (rig.served, len(rig.scheduled), len(rig.intake)) == ([], 1, 2)
        rig.turn()
        assert (len(rig.served), rig.scheduled, len(rig.intake)) == (2, [], 0)

    def test_lets_the_sockets_have_their_turn_when_its_slice_is_over(self) -> None:
        rig = Rig(cost_s=0.001)
        rig.put(*(new(n) for n in range(40)))
        rig.turn()
        assert len(rig.served) == 16
        assert len(rig.scheduled) == 1
        rig.put(established())
        rig.turn()
        assert rig.served[16] == established()
        while rig.scheduled:
            rig.turn()
        assert [d for d in rig.served if d != established()] == [new(n) for n in range(40)]

    def test_lets_them_have_it_sooner_where_each_takes_long(self) -> None:
        rig = Rig(cost_s=0.002)
        rig.put(*(new(n) for n in range(40)))
        served = []
        while rig.scheduled:
            rig.turn()
            served.append(len(rig.served))
        assert served == [16, 23, 30, 37, 40]
        rig.cost_s = 0.02
        rig.put(*(new(n) for n in range(100, 110)))
        served = []
        while rig.scheduled:
            rig.turn()
            served.append(len(rig.served) - 40)
        assert served == [7, 8, 9, 10]

    def test_and_forgets_how_long_they_took_when_they_take_less(self) -> None:
        rig = Rig(cost_s=0.02)
        rig.put(*(new(n) for n in range(17)))
        rig.turn()
        rig.cost_s = 0.0001
        rig.put(*(new(n) for n in range(100, 160)))
        rig.turn()
        rig.turn()
        assert len(rig.served) == 16 + 1 + 3 * 16 + 12

    def test_a_queue_that_is_full_drops_of_its_standing_alone(self) -> None:
        rig = Rig(capacity=(1, 1, 2, 0))
        rig.put(new(1), new(2), new(3), under_way(1), under_way(2), established(1), established(2))
        assert rig.dropped("queue_full") == 3
        rig.turn()
        assert rig.served == [established(1), under_way(1), new(3), new(2)]

    def test_a_queue_that_is_full_of_requests_has_room_for_some_responses(self) -> None:
        rig = Rig(capacity=(8, 8, 8, 8))
        requests = [established(number) for number in range(10)]
        answers = [established(number, FLAG_INITIATOR | FLAG_RESPONSE) for number in range(10, 13)]
        rig.put(*requests, *answers)
        rig.turn()
        assert rig.served == [*requests[:8], *answers[:2]]
        assert rig.dropped("queue_full") == 3

    def test_tells_for_how_long_the_first_datagram_of_sas_that_stand_has_waited(self) -> None:
        rig = Rig()
        rig.put(new(1), under_way(2))
        rig.now += 1.0
        assert rig.intake.lag(rig.now) == 0.0
        rig.put(established(3))
        rig.now += 0.5
        rig.put(established(4))
        rig.now += 0.25
        assert rig.intake.lag(rig.now) == 0.75
        rig.turn()
        assert rig.intake.lag(rig.now) == 0.0

    def test_drops_requests_that_have_waited_for_longer_than_their_sender(self) -> None:
        rig = Rig()
        rig.put(new(1), under_way(1), established(1))
        rig.now += 4.5
        rig.put(new(2))
        rig.turn()
        assert rig.served == [new(2)]
        assert rig.dropped("too_late") == 3

    def test_takes_a_response_at_any_time(self) -> None:
        rig = Rig()
        response = established(flags=FLAG_INITIATOR | FLAG_RESPONSE)
        rig.put(response)
        rig.now += 60
        rig.turn()
        assert rig.served == [response]

    def test_waits_no_longer_than_patience_allows(self) -> None:
        rig = Rig()
        rig.put(new(1))
        rig.now += 4.0
        rig.turn()
        assert rig.served == [new(1)]

    def test_turns_new_peers_away_when_told_to_and_serves_the_others(self) -> None:
        rig = Rig()
        rig.intake.is_closed_to_new = True
        rig.put(new(1), under_way(1), established(1))
        rig.turn()
        assert rig.served == [established(1), under_way(1)]
        assert rig.dropped("stopping") == 1

    def test_sorts_by_the_state_at_arrival_and_serves_octets_as_they_came(self) -> None:
        rig = Rig()
        rig.put(b"short")
        rig.turn()
        assert rig.served == [b"short"]
