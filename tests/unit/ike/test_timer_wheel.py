"""The timer wheel's corners; tests/property/test_ike.py has what always holds."""

from cygnet.ike.timer_wheel import TimerWheel


def test_an_empty_wheel_is_never_due() -> None:
    wheel = TimerWheel()
    assert wheel.next_due() is None
    assert wheel.take_due(1e9) == []
    assert len(wheel) == 0


def test_timers_of_one_slot_come_together_and_slots_in_order() -> None:
    wheel = TimerWheel()
    for spi, due in ((b"c", 2.0), (b"a", 1.00), (b"b", 1.01)):
        wheel.add(spi, due)
    assert wheel.add(b"d", 1.02) == TimerWheel.slot_of(1.0)
    assert len(wheel) == 4
    assert wheel.take_due(1.1) == [b"a", b"b", b"d"]
    assert len(wheel) == 1
    assert wheel.take_due(10.0) == [b"c"]


def test_a_slot_number_says_whether_it_has_come_up() -> None:
    wheel = TimerWheel()
    number = wheel.add(b"a", 1.0)
    due = wheel.next_due()
    assert number > 0 and due is not None and due > 1.0
    assert TimerWheel.is_ahead(number, 1.0)
    assert not TimerWheel.is_ahead(number, due)
    assert not TimerWheel.is_ahead(0, 0.0)


def test_what_is_far_ahead_is_in_wider_slots_and_can_be_taken_out() -> None:
    wheel = TimerWheel()
    wheel.take_due(1000.0)
    numbers = {wheel.add(bytes([n]), 5000.01 + n / 100) for n in range(13)}
    assert numbers == {TimerWheel.slot_of(5000.0) - 1}
    for n in range(13):
        wheel.discard(bytes([n]), *numbers)
    assert len(wheel) == 0 and wheel.take_due(5001.0) == []
    soon = wheel.add(b"a", 5002.0)
    wheel.discard(b"a", soon)
    assert wheel.take_due(5003.0) == [b"a"]
