"""The anti-replay window (RFC 4303 section 3.4.3, appendix A)."""

import pytest

from cygnet.esp.errors import REPLAYED, TOO_OLD, ReplayError
from cygnet.esp.replay import ReplayWindow


def refusal(window: ReplayWindow, low: int) -> str | None:
    """Why a packet with this number on the wire is refused; None if it was let in."""
    try:
        window.accept(window.check(low))
    except ReplayError as exc:
        return exc.reason
    return None


def test_in_order_packets_pass_once() -> None:
    window = ReplayWindow(32, is_esn=False)
    assert [refusal(window, n) for n in range(1, 100)] == [None] * 99
    assert window.highest == 99
    assert refusal(window, 99) == REPLAYED


def test_sequence_number_zero_is_never_sent() -> None:
    assert refusal(ReplayWindow(32, is_esn=False), 0) == REPLAYED


def test_late_packets_pass_within_the_window_only() -> None:
    window = ReplayWindow(32, is_esn=False)
    window.accept(100)
    assert refusal(window, 69) is None
    assert refusal(window, 69) == REPLAYED
    assert refusal(window, 68) == TOO_OLD


def test_check_alone_changes_nothing() -> None:
    window = ReplayWindow(32, is_esn=False)
    assert window.check(4_000_000_000) == 4_000_000_000
    assert window.highest == 0
    assert refusal(window, 1) is None


def test_leap_of_billions_forgets_the_window_at_no_cost() -> None:
    window = ReplayWindow(4096, is_esn=True)
    window.accept(1)
    window.accept(1 << 60)
    assert refusal(window, ((1 << 60) - 1) & 0xFFFFFFFF) is None
    assert refusal(window, (1 << 60) & 0xFFFFFFFF) == REPLAYED


@pytest.mark.parametrize("size", [1, 32, 64, 1000])
def test_leap_just_over_and_just_under_the_window(size: int) -> None:
    window = ReplayWindow(size, is_esn=False)
    window.accept(5)
    window.accept(5 + size)
    assert refusal(window, 5) == TOO_OLD
    window = ReplayWindow(size, is_esn=False)
    window.accept(5)
    if size > 1:
        window.accept(5 + size - 1)
    assert refusal(window, 5) == REPLAYED


def test_no_window_accepts_replays() -> None:
    window = ReplayWindow(0, is_esn=False)
    assert [refusal(window, n) for n in (7, 7, 1, 7)] == [None] * 4


def test_no_window_still_counts_the_high_half() -> None:
    window = ReplayWindow(0, is_esn=True)
    window.accept(0xFFFFFFFF)
    assert window.check(0) == 1 << 32
    assert window.check(0xFFFFFFF0) == 0xFFFFFFF0
    window.accept(1 << 32)
    assert window.check(0xFFFFFFFF) == 0xFFFFFFFF


# The cases of RFC 4303 appendix A2.2 around the turn of the low half; window of 32.
@pytest.mark.parametrize(
    ("highest", "low", "sequence"),
    [
        (0x1_0000_0100, 0x0000_0101, 0x1_0000_0101),  # A: right of the window, same subspace
        (0x1_0000_0100, 0x0000_00E1, 0x1_0000_00E1),  # A: its left edge
        (0x1_0000_0100, 0x0000_00E0, 0x2_0000_00E0),  # A: left of it means the next subspace
        (0x1_FFFF_FFFF, 0x0000_0000, 0x2_0000_0000),  # A: the low half turns over
        (0x1_0000_0010, 0x0000_0000, 0x1_0000_0000),  # B: window across the border, this side
        (0x1_0000_0010, 0xFFFF_FFF1, 0x0_FFFF_FFF1),  # B: its left edge on the other side
        (0x1_0000_0010, 0xFFFF_FFF0, 0x1_FFFF_FFF0),  # B: left of that means this subspace
    ],
)
def test_high_half_is_inferred(highest: int, low: int, sequence: int) -> None:
    window = ReplayWindow(32, is_esn=True)
    window.accept(highest)
    assert window.check(low) == sequence


def test_window_does_not_reach_below_the_first_number() -> None:
    assert refusal(ReplayWindow(32, is_esn=True), 0xFFFFFFF0) == TOO_OLD
