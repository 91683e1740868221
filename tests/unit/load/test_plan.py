from itertools import chain

import pytest

from cygnet.auth.identity import Identity, parse_identity
from cygnet.iana import IdType
from cygnet.load.plan import (
    EPHEMERAL,
    MAX_ADDRESSES,
    IdentityPattern,
    Source,
    attempt_number,
    parse_addresses,
    parse_port_pairs,
    share_of,
    sources_of,
)


@pytest.mark.parametrize(
    ("pattern", "number", "expected"),
    [
        ("c{n}@example.org", 7, Identity(IdType.RFC822_ADDR, b"c7@example.org")),
        ("c{n:06d}@example.org", 7, Identity(IdType.RFC822_ADDR, b"c000007@example.org")),
        ("c{n:04d}.example.org", 12345, Identity(IdType.FQDN, b"c12345.example.org")),
        ("same@example.org", 3, Identity(IdType.RFC822_ADDR, b"same@example.org")),
        ("@host{n}", 3, Identity(IdType.FQDN, b"host3")),
        ("10.0.0.{n}", 9, Identity(IdType.IPV4_ADDR, bytes((10, 0, 0, 9)))),
        ("keyid:device-{n}", 9, Identity(IdType.KEY_ID, b"device-9")),
    ],
)
def test_identity_of_an_attempt(pattern: str, number: int, expected: Identity) -> None:
    assert IdentityPattern(pattern).identity(number) == expected


@pytest.mark.parametrize("pattern", ["c{n}@example.org", "c{n:03d}.example.org", "10.0.0.{n}", "C=CH, CN=c{n}"])
def test_an_identity_is_what_parsing_its_text_gives(pattern: str) -> None:
    for number in (0, 1, 99):
        assert IdentityPattern(pattern).identity(number) == parse_identity(pattern.format(n=number))


@pytest.mark.parametrize(
    "pattern",
    [
        "c{}@x",
        "c{m}@x",
        "c{n.real}@x",
        "c{n!r}@x",
        "c{n:s}@x",
        "c{n:4}@x",
        "c{n:0999d}@x",
        "c{n",
        "c}n",
        "*@example.org",
        "%any",
        "c{n}@" + "x" * 65_536,
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        IdentityPattern(pattern)


def test_attempts_are_dealt_to_the_processes_in_turn() -> None:
    assert [share_of(10, process, 3) for process in range(3)] == [4, 3, 3]
    assert [attempt_number(index, 1, 3) for index in range(3)] == [1, 4, 7]


def test_a_source_with_fixed_ports_belongs_to_one_process() -> None:
    pairs = ((20000, 20001), (20002, 20003))
    shares = [sources_of(("127.0.0.2", "127.0.0.3"), pairs, process=p, processes=3) for p in range(3)]
    assert sorted(map(str, chain(*shares))) == sorted(
        str(Source(address, *pair)) for address in ("127.0.0.2", "127.0.0.3") for pair in pairs
    )


def test_processes_share_an_address_with_ephemeral_ports() -> None:
    for process in range(3):
        assert sources_of(("127.0.0.1",), (EPHEMERAL,), process=process, processes=3) == [Source("127.0.0.1", 0, 0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.2", ("127.0.0.2",)),
        ("127.0.0.2, 127.0.0.9", ("127.0.0.2", "127.0.0.9")),
        ("127.0.0.0/30", ("127.0.0.1", "127.0.0.2")),
        ("127.0.0.254-127.0.1.1", ("127.0.0.254", "127.0.0.255", "127.0.1.0", "127.0.1.1")),
        ("::1-::3", ("::1", "::2", "::3")),
        ("127.0.0.2,127.0.0.1-127.0.0.2", ("127.0.0.2", "127.0.0.1")),
    ],
)
def test_source_addresses(text: str, expected: tuple[str, ...]) -> None:
    assert parse_addresses(text) == expected


@pytest.mark.parametrize("text", ["", "host", "1.2.3.4-", "1.2.3.4-1.2.3.3", "1.2.3.4-::1", "10.0.0.0/8", "::/64"])
def test_what_are_no_source_addresses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no IP address, subnet or range"):
        parse_addresses(text)


def test_source_addresses_are_limited_in_all() -> None:
    assert len(parse_addresses("10.0.0.0-10.0.255.255")) == MAX_ADDRESSES
    with pytest.raises(ValueError, match="more than"):
        parse_addresses("10.0.0.0-10.0.255.255,11.0.0.1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ephemeral", (EPHEMERAL,)),
        ("same", ((500, 4500),)),
        ("20000-20003", ((20000, 20001), (20002, 20003))),
        ("20000-20002", ((20000, 20001),)),
    ],
)
def test_source_ports(text: str, expected: tuple[tuple[int, int], ...]) -> None:
    assert parse_port_pairs(text, port=500, natt_port=4500) == expected


@pytest.mark.parametrize("text", ["", "20000", "20000-", "20001-20000", "20000-20000", "0-9", "65535-65536", "a-b"])
def test_what_are_no_source_ports_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="range"):
        parse_port_pairs(text, port=500, natt_port=4500)
