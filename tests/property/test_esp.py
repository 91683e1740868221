"""ESP for any packets in any order: the replay window against a set, every pair of algorithms, any flipped bit."""

import itertools
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cygnet.crypto.encr import ENCR, EncrAlgorithm
from cygnet.crypto.errors import IntegrityError
from cygnet.crypto.integ import INTEG, IntegAlgorithm
from cygnet.crypto.protection import PacketProtection, make_protection
from cygnet.esp.errors import ReplayError
from cygnet.esp.replay import ReplayWindow
from cygnet.esp.sa import InboundSa, OutboundSa
from cygnet.iana import EncrId
from cygnet.wire.errors import WireError

LOW = 0xFFFFFFFF
WINDOW_SIZES = st.sampled_from((1, 2, 31, 32, 33, 64, 1024))


class NaiveWindow:
    """The replay window as RFC 4303 tells it, with a set of all that was ever seen."""

    def __init__(self, size: int, *, is_esn: bool) -> None:
        self.size = size
        self.is_esn = is_esn
        self.highest = 0
        self.seen = {0}

    def accept(self, low: int) -> int | None:
        """The number of a packet that is let in, else None."""
        left = self.highest - self.size + 1
        sequence = low
        if self.is_esn:
            # The one number with this low half among the 2**32 from the left edge of the window on.
            sequence = next(n for high in range(-1, 1 << 32) if (n := (high << 32) + low) >= left)
        if sequence < max(left, 0) or sequence in self.seen:
            return None
        self.seen.add(sequence)
        self.highest = max(self.highest, sequence)
        return sequence


def accept(window: ReplayWindow, low: int) -> int | None:
    """What `NaiveWindow.accept` gives."""
    try:
        sequence = window.check(low)
    except ReplayError:
        return None
    window.accept(sequence)
    return sequence


# Steps from the right edge: mostly near, some around the border of the low half, some anywhere.
STEPS = st.lists(
    st.one_of(
        st.integers(-70, 70),
        st.integers(-1100, 1100),
        st.integers(-40, 40).map(lambda n: n + (1 << 32)),
        st.integers(-(1 << 33), 1 << 33),
    ),
    max_size=60,
)


@given(size=WINDOW_SIZES, is_esn=st.booleans(), start=st.sampled_from((1, 20, LOW - 20, LOW)), steps=STEPS)
def test_replay_window_is_the_set_it_stands_for(size: int, is_esn: bool, start: int, steps: list[int]) -> None:
    window, naive = ReplayWindow(size, is_esn=is_esn), NaiveWindow(size, is_esn=is_esn)
    position = 0
    for step in (start, *steps):
        low = (position + step) & LOW
        assert accept(window, low) == naive.accept(low)
        assert window.highest == naive.highest
        position = naive.highest


@given(size=WINDOW_SIZES, sent=st.integers(1, 1 << 40), order=st.permutations(range(40)))
def test_esn_receiver_follows_any_sender_within_its_window(size: int, sent: int, order: list[int]) -> None:
    window = ReplayWindow(size, is_esn=True)
    window.accept(sent)
    for offset in order:
        number = sent + 1 + offset
        if number > window.highest - size:
            assert accept(window, number & LOW) == number


PAIRS: list[tuple[EncrAlgorithm, IntegAlgorithm | None]] = [
    (encr, integ) for encr in ENCR.values() for integ in ((None,) if encr.is_aead else tuple(INTEG.values()))
]


def protections(encr: EncrAlgorithm, integ: IntegAlgorithm | None, key_bits: int) -> tuple[PacketProtection, ...]:
    """Both ends of one direction."""
    encr_key = os.urandom(encr.key_octets(key_bits))
    integ_key = os.urandom(integ.key_octets) if integ else b""
    first, second = (
        make_protection(encr, key_bits, integ, encr_key=encr_key, integ_key=integ_key, entropy=os.urandom)
        for _ in range(2)
    )
    return first, second


@st.composite
def inner_packets(draw: st.DrawFn) -> tuple[int, bytes]:
    """A next header, and octets that are as long as they say if it is IPv4 or IPv6."""
    next_header = draw(st.sampled_from((4, 41, 1, 47, 97)))
    if next_header == 4:
        rest = draw(st.binary(min_size=16, max_size=300))
        return 4, b"\x45\0" + (len(rest) + 4).to_bytes(2, "big") + rest
    if next_header == 41:
        rest = draw(st.binary(min_size=34, max_size=300))
        return 41, b"\x60\0\0\0" + (len(rest) - 34).to_bytes(2, "big") + rest
    return next_header, draw(st.binary(max_size=300))


@pytest.mark.parametrize(("encr", "integ"), PAIRS, ids=[f"{e.id.name}-{i.id.name if i else 'AEAD'}" for e, i in PAIRS])
@settings(max_examples=15)
@given(data=st.data(), is_esn=st.booleans(), packets=st.lists(inner_packets(), min_size=1, max_size=3))
def test_what_goes_in_comes_out(
    encr: EncrAlgorithm,
    integ: IntegAlgorithm | None,
    data: st.DataObject,
    is_esn: bool,
    packets: list[tuple[int, bytes]],
) -> None:
    sealing, opening = protections(encr, integ, data.draw(st.sampled_from(encr.key_bits)))
    outbound, inbound = OutboundSa(7, sealing, is_esn=is_esn), InboundSa(7, opening, is_esn=is_esn)
    for next_header, packet in packets:
        esp = outbound.encapsulate(packet, next_header)
        assert len(esp) % 4 == 0
        assert inbound.decapsulate(esp) == (next_header, packet)
    assert (inbound.packets, inbound.octets) == (outbound.packets, outbound.octets)


@given(data=st.data(), is_esn=st.booleans(), encr=st.sampled_from((EncrId.AES_GCM_16, EncrId.AES_CBC)))
def test_a_flipped_bit_is_found(data: st.DataObject, is_esn: bool, encr: EncrId) -> None:
    row = ENCR[encr]
    integ = None if row.is_aead else next(iter(INTEG.values()))
    sealing, opening = protections(row, integ, 128)
    esp = OutboundSa(7, sealing, is_esn=is_esn).encapsulate(data.draw(st.binary(max_size=50)), 97)
    # The SPI is what the SA was found by; a wrong one never gets here.
    bit = data.draw(st.integers(32, len(esp) * 8 - 1))
    flipped = (int.from_bytes(esp, "big") ^ 1 << (len(esp) * 8 - 1 - bit)).to_bytes(len(esp), "big")
    inbound = InboundSa(7, opening, is_esn=is_esn)
    with pytest.raises((IntegrityError, ReplayError)):
        inbound.decapsulate(flipped)
    assert inbound.window.highest == 0
    inbound.decapsulate(esp)


@given(datagram=st.binary(max_size=200), is_esn=st.booleans())
def test_noise_is_refused(datagram: bytes, is_esn: bool) -> None:
    inbound = InboundSa(7, protections(ENCR[EncrId.AES_GCM_16], None, 128)[0], is_esn=is_esn)
    with pytest.raises((IntegrityError, ReplayError, WireError)):
        inbound.decapsulate(datagram)
    assert inbound.window.highest == 0


@settings(max_examples=30)
@given(plaintext=st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda b: b + b"\0\x04")))
def test_authentic_noise_is_read_or_refused(plaintext: bytes) -> None:
    sealing, opening = protections(ENCR[EncrId.AES_GCM_16], None, 128)
    header = bytes((0, 0, 0, 7, 0, 0, 0, 1))
    datagram = header + sealing.seal(header, plaintext)
    try:
        next_header, packet = InboundSa(7, opening, is_esn=False).decapsulate(datagram)
    except WireError:
        return
    assert next_header == plaintext[-1]
    assert plaintext.startswith(packet)


def test_every_algorithm_is_swept() -> None:
    assert {encr.id for encr, _ in PAIRS} == set(ENCR)
    composed = set(itertools.chain.from_iterable((integ.id,) for _, integ in PAIRS if integ))
    assert composed == set(INTEG)
