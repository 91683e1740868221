"""Traffic selectors in strongSwan's words."""

import pytest

from cygnet.ike.selector_text import format_selector, format_setting
from cygnet.ike.selectors import host_selector, parse_selector
from cygnet.wire.payloads.traffic_selectors import TrafficSelector


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("dynamic", "dynamic"),
        ("dynamic[tcp/443]", "dynamic[tcp/443]"),
        ("10.1.0.0/16", "10.1.0.0/16"),
        ("10.1.0.7", "10.1.0.7/32"),
        ("10.0.0.1-10.0.0.9", "10.0.0.1..10.0.0.9"),
        ("0.0.0.0/0[udp]", "0.0.0.0/0[udp]"),
        ("fd00::/8[tcp/1-1023]", "fd00::/8[tcp/1-1023]"),
        ("10.0.0.0/8[47]", "10.0.0.0/8[47]"),
    ],
)
def test_what_a_configuration_says(written: str, shown: str) -> None:
    assert format_setting(parse_selector(written)) == shown


def test_what_was_negotiated() -> None:
    assert format_selector(host_selector(bytes((10, 3, 0, 7)))) == "10.3.0.7/32"


@pytest.mark.parametrize(
    ("start", "end", "ports", "shown"),
    [
        (bytes(4), b"\xff" * 4, (65535, 0), "0.0.0.0/0[tcp/OPAQUE]"),
        (b"\x02\0\0\0", b"\x01\0\0\0", (0, 65535), "2.0.0.0..1.0.0.0[tcp]"),
    ],
)
def test_what_only_a_strange_peer_would_say(start: bytes, end: bytes, ports: tuple[int, int], shown: str) -> None:
    assert format_selector(TrafficSelector(7, 6, *ports, start, end)) == shown
