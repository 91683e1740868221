"""Inner packets that come before the host's network has a way back."""

from cygnet.gateway.control import AnyMessage, Settled
from cygnet.gateway.traffic.settling import MAX_HELD, MAX_HELD_PER_SPI, Settling

FIRST, SECOND = b"\1\0\0\1", b"\1\0\0\2"


class Rig:
    def __init__(self, *, is_reached: bool = True) -> None:
        self.asked: list[AnyMessage] = []
        self.delivered: list[tuple[bytes, bytes]] = []
        self.counts: list[str] = []
        self.is_reached = is_reached
        self.settling = Settling(self.ask, lambda packet, spi_in: self.delivered.append((packet, spi_in)), self.count)

    def ask(self, message: AnyMessage) -> bool:
        self.asked.append(message)
        return self.is_reached

    def count(self, name: str) -> None:
        self.counts.append(name)


def test_packets_are_held_in_order_until_the_supervisor_has_done_it() -> None:
    rig = Rig()
    rig.settling.begin(FIRST)
    assert rig.asked == [Settled(1)]
    assert rig.settling.hold(b"a", FIRST) and rig.settling.hold(b"b", FIRST)
    assert not rig.settling.hold(b"c", SECOND), "nothing was asked for"
    rig.settling.settled(1)
    assert rig.delivered == [(b"a", FIRST), (b"b", FIRST)]
    assert not rig.settling.hold(b"d", FIRST) and not rig.settling.held


def test_each_waits_for_what_was_asked_for_it() -> None:
    rig = Rig()
    rig.settling.begin(FIRST)
    rig.settling.begin(SECOND)
    assert rig.settling.hold(b"a", FIRST) and rig.settling.hold(b"b", SECOND)
    rig.settling.settled(1)
    assert rig.delivered == [(b"a", FIRST)]
    rig.settling.settled(2)
    assert rig.delivered == [(b"a", FIRST), (b"b", SECOND)]


def test_what_is_asked_for_in_two_steps_is_waited_for_as_a_whole() -> None:
    """A client's first CHILD_SA comes before the virtual address that it is for."""
    rig = Rig()
    rig.settling.begin(FIRST)
    assert rig.settling.hold(b"a", FIRST)
    rig.settling.begin(FIRST)
    rig.settling.settled(1)
    assert rig.delivered == [] and rig.settling.hold(b"b", FIRST)
    rig.settling.settled(2)
    assert rig.delivered == [(b"a", FIRST), (b"b", FIRST)]


def test_nothing_is_held_when_nobody_will_answer() -> None:
    rig = Rig(is_reached=False)
    rig.settling.begin(FIRST)
    assert not rig.settling.hold(b"a", FIRST)


def test_few_are_held() -> None:
    rig = Rig()
    spis = [number.to_bytes(4, "big") for number in range(2 * MAX_HELD // MAX_HELD_PER_SPI)]
    for spi in spis:
        rig.settling.begin(spi)
    for spi in spis:
        assert all(rig.settling.hold(b"packet", spi) for _ in range(MAX_HELD_PER_SPI + 1))
    rig.settling.settled(len(spis))
    assert len(rig.delivered) == MAX_HELD
    assert rig.counts == ["inner_unsettled"] * (len(spis) * (MAX_HELD_PER_SPI + 1) - MAX_HELD)
    rig.settling.begin(FIRST)
    assert rig.settling.hold(b"packet", FIRST) and len(rig.delivered) == MAX_HELD, "there is room again"
