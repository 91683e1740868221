"""Traffic selectors as they are written, and narrowing by RFC 7296 section 2.9."""

import ipaddress

import pytest

from cygnet.iana import TsType
from cygnet.ike.selectors import (
    DYNAMIC,
    MAX_SELECTORS,
    SelectorSettings,
    TrafficPolicy,
    host_selector,
    intersect,
    is_within,
    narrow,
    parse_selector,
)
from cygnet.wire.payloads.traffic_selectors import TrafficSelector


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def ts(text: str) -> TrafficSelector:
    """The selector of a text without `dynamic`."""
    settings = parse_selector(text)
    return TrafficSelector(
        ts_type=TsType.IPV4_ADDR_RANGE if len(settings.first) == 4 else TsType.IPV6_ADDR_RANGE,
        ip_protocol=settings.ip_protocol,
        start_port=settings.start_port,
        end_port=settings.end_port,
        start=settings.first,
        end=settings.last,
    )


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("dynamic", DYNAMIC),
        ("%dynamic[tcp]", SelectorSettings(ip_protocol=6)),
        ("[udp/53]", SelectorSettings(ip_protocol=17, start_port=53, end_port=53)),
        (" 10.1.2.3/16 ", SelectorSettings(packed("10.1.0.0"), packed("10.1.255.255"))),
        ("10.0.0.9", SelectorSettings(packed("10.0.0.9"), packed("10.0.0.9"))),
        ("10.0.0.1 - 10.0.0.9", SelectorSettings(packed("10.0.0.1"), packed("10.0.0.9"))),
        ("fd00::/126[tcp/80-90]", SelectorSettings(packed("fd00::"), packed("fd00::3"), 6, 80, 90)),
        ("0.0.0.0/0[47]", SelectorSettings(bytes(4), b"\xff" * 4, 47)),
        ("::/0[any]", SelectorSettings(bytes(16), b"\xff" * 16)),
        ("[tcp/opaque]", SelectorSettings(ip_protocol=6, start_port=65535, end_port=0)),
        ("[tcp/%opaque]", SelectorSettings(ip_protocol=6, start_port=65535, end_port=0)),
        # A type with any code, types, and a type with its code (RFC 7296 section 3.13.1).
        ("[icmp/8]", SelectorSettings(ip_protocol=1, start_port=0x0800, end_port=0x08FF)),
        ("[ipv6-icmp/133-137]", SelectorSettings(ip_protocol=58, start_port=0x8500, end_port=0x89FF)),
        ("[icmp/772]", SelectorSettings(ip_protocol=1, start_port=0x0304, end_port=0x0304)),
        ("[icmp]", SelectorSettings(ip_protocol=1)),
        ("[icmp/opaque]", SelectorSettings(ip_protocol=1, start_port=65535, end_port=0)),
        ("[135/5]", SelectorSettings(ip_protocol=135, start_port=0x0500, end_port=0x05FF)),
    ],
)
def test_a_selector_is_read(text: str, settings: SelectorSettings) -> None:
    assert parse_selector(text) == settings


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("10.0.0.0/33", "no address, subnet or range"),
        ("10.0.0.9-10.0.0.1", "no address, subnet or range"),
        ("10.0.0.1-fd00::1", "no address, subnet or range"),
        ("10.0.0.0/8[tcp/80", "no traffic selector"),
        ("10.0.0.0/8[nosuch]", "unknown protocol"),
        ("10.0.0.0/8[256]", "unknown protocol"),
        ("10.0.0.0/8[any/80]", "needs a protocol"),
        ("10.0.0.0/8[tcp/90-80]", "not within"),
        ("10.0.0.0/8[tcp/65536]", "not within"),
        ("10.0.0.0/8[tcp/nosuch]", "is no port"),
    ],
)
def test_a_bad_selector_is_refused_with_a_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_selector(text)


@pytest.mark.parametrize(
    ("a", "b", "common"),
    [
        ("10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16"),
        ("10.0.0.1-10.0.0.9", "10.0.0.5-10.0.0.20", "10.0.0.5-10.0.0.9"),
        ("10.0.0.0/8", "11.0.0.0/8", None),
        ("0.0.0.0/0", "::/0", None),
        ("10.0.0.0/8[tcp]", "10.0.0.0/8", "10.0.0.0/8[tcp]"),
        ("10.0.0.0/8[tcp]", "10.0.0.0/8[udp]", None),
        ("10.0.0.0/8[tcp/1-80]", "10.0.0.0/8[tcp/80-90]", "10.0.0.0/8[tcp/80]"),
        ("10.0.0.0/8[tcp/1-79]", "10.0.0.0/8[tcp/80-90]", None),
        # OPAQUE stands for ports that can't be seen (RFC 7296 section 3.13.1): not for any number.
        ("10.0.0.0/8", "10.0.0.0/8[6/opaque]", "10.0.0.0/8[6/opaque]"),
        ("10.0.0.0/8[6/opaque]", "10.1.0.0/16[6/opaque]", "10.1.0.0/16[6/opaque]"),
        ("10.0.0.0/8[tcp/80]", "10.0.0.0/8[6/opaque]", None),
        ("10.0.0.0/8[tcp/0]", "10.0.0.0/8[6/opaque]", None),
    ],
)
def test_intersection(a: str, b: str, common: str | None) -> None:
    expected = None if common is None else ts(common)
    assert intersect(ts(a), ts(b)) == intersect(ts(b), ts(a)) == expected


@pytest.mark.parametrize(
    ("policy", "offered", "narrowed"),
    [
        (["0.0.0.0/0"], ["10.0.0.1", "10.0.0.0/8"], ["10.0.0.0/8"]),
        (["10.1.0.0/16", "10.2.0.0/16"], ["10.0.0.0/8"], ["10.1.0.0/16", "10.2.0.0/16"]),
        (["10.1.0.0/16"], ["10.2.0.0/16", "fd00::/8"], []),
        (["0.0.0.0/0", "::/0"], ["::/0", "10.0.0.0/8"], ["10.0.0.0/8", "::/0"]),
        (["10.0.0.0/8", "10.0.0.0/8"], ["10.0.0.0/8"], ["10.0.0.0/8"]),
    ],
)
def test_narrowing(policy: list[str], offered: list[str], narrowed: list[str]) -> None:
    assert narrow([ts(t) for t in policy], [ts(t) for t in offered]) == tuple(ts(t) for t in narrowed)


def test_selectors_of_a_type_that_we_do_not_know_match_nothing() -> None:
    unknown = TrafficSelector(ts_type=9, ip_protocol=0, start_port=0, end_port=0, start=b"?", end=b"")
    assert narrow([ts("0.0.0.0/0")], [unknown]) == ()
    assert not is_within([unknown], [ts("0.0.0.0/0")])


def test_the_result_fits_into_a_payload() -> None:
    policy = [ts(f"10.{n}.0.0/16") for n in range(8)]
    ports = [ts(f"0.0.0.0/0[tcp/{port}]") for port in range(100)]
    assert len(narrow(policy, ports)) == MAX_SELECTORS


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        (["10.0.0.1", "10.0.0.2"], ["10.0.0.0/8"], True),
        (["10.0.0.1", "11.0.0.1"], ["10.0.0.0/8"], False),
        (["10.0.0.0/8"], ["10.0.0.0/8[tcp]"], False),
        (["10.0.0.0/8[tcp]"], ["10.0.0.0/8"], True),
        (["10.0.0.0/8"], ["10.0.0.0/9", "10.128.0.0/9"], False),
        (["10.0.0.0/8"], [], False),
    ],
)
def test_an_answer_stays_within_the_offer(inner: list[str], outer: list[str], expected: bool) -> None:
    assert is_within([ts(t) for t in inner], [ts(t) for t in outer]) == expected


def test_dynamic_stands_for_the_addresses_at_hand() -> None:
    policy = TrafficPolicy((parse_selector("dynamic[tcp]"), parse_selector("10.9.0.0/16")))
    v4, v6 = packed("10.0.0.1"), packed("fd00::1")
    resolved = policy.resolve((v4, v6))
    assert resolved == (ts("10.0.0.1[tcp]"), ts("fd00::1[tcp]"), ts("10.9.0.0/16"))
    assert TrafficPolicy((DYNAMIC,)).resolve((v4,)) == (host_selector(v4),)


def test_before_an_address_is_assigned_dynamic_is_every_address_of_its_family() -> None:
    policy = TrafficPolicy((DYNAMIC, parse_selector("10.9.0.0/16")))
    assert policy.before_assignment((bytes(4), packed("10.0.0.7"))) == (ts("0.0.0.0/0"), ts("10.9.0.0/16"))
    assert policy.before_assignment((bytes(16),)) == (ts("::/0"), ts("10.9.0.0/16"))


def test_a_policy_narrows_the_same_offers_as_before() -> None:
    """What it remembers of them, without end, for peers that offer something new each time."""
    settings = (parse_selector("10.0.0.0/8"), parse_selector("192.0.2.0/24[tcp]"))
    policy = TrafficPolicy(settings)
    offers = [tuple(ts(f"10.{n}.{k}.0/24") for k in range(1 + n % 7)) for n in range(200)]
    for _ in range(2):
        for offered in offers:
            assert policy.narrow((), offered) == narrow(policy.resolve(()), offered) == offered
    assert policy.narrow((), (ts("172.16.0.0/12"),)) == ()
    assert 0 < len(policy._narrowed) <= 64
    assert all(len(offered) <= 4 for offered in policy._narrowed)


def test_a_dynamic_policy_narrows_for_each_peer_by_itself() -> None:
    policy = TrafficPolicy((DYNAMIC,))
    for address in map(packed, ("10.0.0.1", "10.0.0.2")):
        assert policy.narrow((address,), (ts("0.0.0.0/0"),)) == (host_selector(address),)
