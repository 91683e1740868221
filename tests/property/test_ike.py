"""What always holds of choices, timers and message IDs."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cygnet.crypto.keywords import KEYWORDS
from cygnet.iana import ProtocolId, SequenceNumbers, TransformType, TsType
from cygnet.ike.message_id import Arrival, MessageIds
from cygnet.ike.proposals import ProposalSettings, parse_proposal, select_proposal, to_offer
from cygnet.ike.selectors import MAX_SELECTORS, intersect, is_within, narrow
from cygnet.ike.settings import RetransmitPolicy
from cygnet.ike.timer_wheel import FAR_S, TimerWheel
from cygnet.wire.payloads.security_association import Proposal, Transform
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

# A world of sixteen addresses, two protocols and eight ports, so that it can be counted out.

ADDRESSES = [bytes((10, 0, 0, n)) for n in range(16)]
PROTOCOLS = (6, 17)
PORTS = range(8)
Packet = tuple[bytes, int, int]


@st.composite
def selectors(draw: st.DrawFn) -> TrafficSelector:
    start, end = sorted((draw(st.sampled_from(ADDRESSES)), draw(st.sampled_from(ADDRESSES))))
    start_port, end_port = sorted((draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))))
    if draw(st.booleans()):
        start_port, end_port = 0, 65535
    return TrafficSelector(
        ts_type=TsType.IPV4_ADDR_RANGE,
        ip_protocol=draw(st.sampled_from((0, *PROTOCOLS))),
        start_port=start_port,
        end_port=end_port,
        start=start,
        end=end,
    )


def covered(selector: TrafficSelector) -> set[Packet]:
    """The packets of this small world that a selector covers."""
    return {
        (address, protocol, port)
        for address in ADDRESSES
        if selector.start <= address <= selector.end
        for protocol in PROTOCOLS
        if selector.ip_protocol in (0, protocol)
        for port in PORTS
        if selector.start_port <= port <= selector.end_port
    }


def covered_by_any(many: Sequence[TrafficSelector]) -> set[Packet]:
    return set().union(*map(covered, many))


@given(selectors(), selectors())
def test_an_intersection_is_what_both_cover_whichever_comes_first(a: TrafficSelector, b: TrafficSelector) -> None:
    common = intersect(a, b)
    assert common == intersect(b, a)
    assert (set() if common is None else covered(common)) == covered(a) & covered(b)


@given(st.lists(selectors(), max_size=5), st.lists(selectors(), max_size=5))
def test_narrowing_leaves_exactly_what_both_sides_cover(
    policy: list[TrafficSelector], offered: list[TrafficSelector]
) -> None:
    narrowed = narrow(policy, offered)
    assert covered_by_any(narrowed) == covered_by_any(policy) & covered_by_any(offered)
    assert is_within(narrowed, policy) and is_within(narrowed, offered)
    # The other end, narrowing the other way round, covers the same.
    assert covered_by_any(narrow(offered, policy)) == covered_by_any(narrowed)
    for selector in narrowed:
        others = [other for other in narrowed if other is not selector]
        assert not is_within((selector,), others), "one that another covers is not told"
    assert covered_by_any(narrow(policy, narrowed)) == covered_by_any(narrowed)


@given(st.lists(selectors(), min_size=1, max_size=8), st.integers(1, 400))
def test_the_answer_always_fits_and_stays_within(policy: list[TrafficSelector], count: int) -> None:
    offered = [
        TrafficSelector(
            ts_type=TsType.IPV4_ADDR_RANGE,
            ip_protocol=6,
            start_port=port,
            end_port=port,
            start=ADDRESSES[0],
            end=ADDRESSES[-1],
        )
        for port in range(count)
    ]
    narrowed = narrow(policy, offered)
    assert len(narrowed) <= MAX_SELECTORS
    assert is_within(narrowed, policy) and is_within(narrowed, offered)


def keywords_of(transform_type: TransformType) -> list[str]:
    return sorted(word for word, keyword in KEYWORDS.items() if keyword.transform_type == transform_type)


def is_aead(word: str) -> bool:
    return any(mark in word for mark in ("gcm", "ccm", "chacha"))


CIPHERS = [word for word in keywords_of(TransformType.ENCR) if not is_aead(word)]
AEADS = [word for word in keywords_of(TransformType.ENCR) if is_aead(word)]


def some(words: Sequence[str], least: int = 1) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(words), min_size=least, max_size=3)


@st.composite
def proposal_settings(draw: st.DrawFn, protocol: ProtocolId) -> ProposalSettings:
    if draw(st.booleans()):
        words = draw(some(AEADS))
    else:
        words = draw(some(CIPHERS)) + draw(some(keywords_of(TransformType.INTEG)))
    is_ike = protocol == ProtocolId.IKE
    if is_ike:
        words += draw(some(keywords_of(TransformType.PRF)))
    else:
        words += draw(some(("esn", "noesn"), 0))
    words += draw(some(keywords_of(TransformType.KE), int(is_ike)))
    return parse_proposal(protocol, "-".join(draw(st.permutations(words))))


protocols = st.sampled_from((ProtocolId.IKE, ProtocolId.ESP))


@given(protocols.flatmap(proposal_settings))
def test_a_proposal_reads_as_it_is_written(settings: ProposalSettings) -> None:
    protocol = ProtocolId(settings.protocol_id)
    assert parse_proposal(protocol, str(settings)) == settings
    types = [t.type for t in settings.transforms]
    assert len(set(settings.transforms)) == len(types)


both_sides = protocols.flatmap(
    lambda protocol: st.tuples(*[st.lists(proposal_settings(protocol), min_size=1, max_size=3)] * 2)
)


@given(both_sides)
def test_what_is_chosen_stands_on_both_sides(sides: tuple[list[ProposalSettings], list[ProposalSettings]]) -> None:
    ours, theirs = sides
    offered = to_offer(theirs).proposals
    choice = select_proposal(offered, ours)
    if choice is None:
        # Nobody else finds one either.
        assert not any(agreeable(ours_one, proposal) for ours_one in ours for proposal in offered)
        return
    proposal = offered[choice.number - 1]
    assert set(choice.transforms) <= set(proposal.transforms)
    types = [t.type for t in choice.transforms]
    assert len(types) == len(set(types)), "one transform of each type"
    assert any(
        set(choice.transforms) <= set(settings.transforms) and set(types) == {t.type for t in settings.transforms}
        for settings in ours
    )
    assert set(types) == {t.type for t in proposal.transforms}, "none of the offered types is left out"


def agreeable(settings: ProposalSettings, proposal: Proposal) -> bool:
    """By brute force: the same types, and something common in each."""
    ours, theirs = (
        {kind: of_type(t, kind) for kind in TransformType} for t in (settings.transforms, proposal.transforms)
    )
    return all(bool(ours[k]) == bool(theirs[k]) and (not ours[k] or ours[k] & theirs[k]) for k in TransformType)


def of_type(transforms: Sequence[Transform], kind: int) -> set[Transform]:
    return {t for t in transforms if t.type == kind}


@given(st.lists(proposal_settings(ProtocolId.ESP), min_size=1, max_size=3))
def test_our_own_offer_is_always_acceptable_to_us(settings: list[ProposalSettings]) -> None:
    choice = select_proposal(to_offer(settings).proposals, settings)
    assert choice is not None
    best = settings[0]
    assert choice.transforms == tuple(best.of_type(k)[0] for k in TransformType if best.of_type(k))
    assert any(t.id in tuple(SequenceNumbers) for t in choice.transforms if t.type == TransformType.SN)


moments = st.floats(0, 1e7, allow_nan=False)


@given(st.lists(moments, max_size=30), st.lists(st.floats(0, 100), max_size=10))
def test_the_wheel_is_never_early_and_loses_none(dues: list[float], waits: list[float]) -> None:
    wheel = TimerWheel()
    due_of = {number.to_bytes(8, "big"): due for number, due in enumerate(dues)}
    for spi, due in due_of.items():
        wheel.add(spi, due)
    now = 0.0
    taken: set[bytes] = set()
    for wait in [*waits, *[None] * 2 * len(dues)]:
        # By chance, or exactly when the wheel asks for it.
        next_due = wheel.next_due()
        now = max(now, next_due or 0.0) if wait is None else now + wait
        came = wheel.take_due(now)
        assert wait is not None or next_due is None or came, "what it asks for it gets"
        # Of those that were far ahead, to be put back.
        early = [spi for spi in came if due_of[spi] > now]
        assert all(due_of[spi] <= now + 0.2 and due_of[spi] > FAR_S for spi in early)
        for spi in early:
            assert wheel.add(spi, due_of[spi]) > now
        assert not taken & set(came)
        taken |= set(came).difference(early)
        # Late by one slot of 50 ms at most.
        assert all(due_of[spi] > now - 0.051 for spi in due_of.keys() - taken)
    assert taken == due_of.keys()


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1000), st.floats(0, 30)), max_size=60))
def test_the_wheel_keeps_nothing_far_ahead_that_nobody_waits_for(steps: list[tuple[int, float, float]]) -> None:
    """Each moves again and again, as SAs do; the wheel has no more than these, and what comes up within a minute."""
    wheel = TimerWheel()
    slots: dict[bytes, int] = {}
    now = 0.0
    left_behind: list[float] = []
    for number, wait_s, pause_s in steps:
        now += pause_s
        came = wheel.take_due(now)
        spi = bytes([number])
        for each in came:
            if not wheel.is_ahead(slots.get(each, 0), now):
                slots.pop(each, None)
        size = len(wheel)
        if spi in slots:
            wheel.discard(spi, slots[spi])
            if len(wheel) == size:
                left_behind.append(slots[spi] / 20)
                assert left_behind[-1] <= now + FAR_S + 0.05
        slots[spi] = wheel.add(spi, now + wait_s)
        assert len(wheel) == len(slots) + sum(due > int(now * 20) / 20 for due in left_behind)


POLICY = RetransmitPolicy()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=40))
def test_the_window_against_a_model(arrivals: list[tuple[int, int]]) -> None:
    """However requests arrive, each ID is answered once, in order, and only its own octets are a repetition."""
    ids = MessageIds()
    answered: list[bytes] = []
    for message_id, variant in arrivals:
        datagram = bytes((message_id, variant))
        arrival = ids.classify(message_id, datagram)
        if message_id == len(answered):
            assert arrival is Arrival.NEW
            ids.answered(datagram, b"answer to " + datagram)
            answered.append(datagram)
        elif message_id > len(answered):
            assert arrival is Arrival.BEYOND
        elif answered[-1] == datagram:
            assert arrival is Arrival.REPEATED
            assert ids.cached_response == b"answer to " + datagram
        else:
            assert arrival is Arrival.STALE


@given(st.lists(st.sampled_from(("send", "answer", "retransmit")), max_size=40))
def test_requests_are_numbered_without_gaps_and_one_waits_at_a_time(steps: list[str]) -> None:
    ids = MessageIds()
    sent = 0
    for step in steps:
        if step == "send" and ids.outstanding is None:
            ids.sent(37, bytes((sent,)), POLICY, 0.0)
            sent += 1
        elif step == "answer":
            ids.response_received()
        elif step == "retransmit" and ids.outstanding is not None:
            assert ids.retransmit(POLICY, 0.0) in (bytes((sent - 1,)), None)
        awaited = [number for number in range(sent + 2) if ids.is_awaited(number, 37)]
        assert awaited == ([sent - 1] if ids.outstanding is not None else [])
        assert ids.next_id == sent
