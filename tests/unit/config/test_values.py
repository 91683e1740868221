"""The kinds of value."""

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from cygnet.config import values
from cygnet.iana import ProtocolId
from cygnet.ike.proposals import DEFAULT_IKE_PROPOSALS, parse_proposal


@pytest.mark.parametrize("text", ["yes", "true", "enabled", "1", "YES", "True"])
def test_true(text: str) -> None:
    assert values.parse_boolean(text) is True


@pytest.mark.parametrize("text", ["no", "false", "disabled", "0", "No"])
def test_false(text: str) -> None:
    assert values.parse_boolean(text) is False


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("30", 30),
        ("10s", 10),
        ("30m", 1800),
        ("4h", 14400),
        ("1d", 86400),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("2 h", 7200),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert values.parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "octets"), [("0", 0), ("4096", 4096), ("64k", 65536), ("8M", 8 << 20), ("1 G", 1 << 30)]
)
def test_sizes(text: str, octets: int) -> None:
    assert values.parse_size(text) == octets


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("text", b"text"),
        ("pässword", "pässword".encode()),
        ("0x0A0b", b"\x0a\x0b"),
        ("0x0a:0b", b"\x0a\x0b"),
        ("0sAAE=", b"\x00\x01"),
        ("0", b"0"),
    ],
)
def test_secrets(text: str, secret: bytes) -> None:
    assert values.parse_secret(text) == secret


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("10.3.0.0/16", "10.3.0.1", "10.3.255.254"),
        ("10.3.0.0/30", "10.3.0.1", "10.3.0.2"),
        ("10.3.0.0/31", "10.3.0.0", "10.3.0.1"),
        ("10.3.0.1/32", "10.3.0.1", "10.3.0.1"),
        ("10.3.0.1", "10.3.0.1", "10.3.0.1"),
        ("10.3.0.5-10.3.0.9", "10.3.0.5", "10.3.0.9"),
        ("10.3.0.5 - 10.3.0.5", "10.3.0.5", "10.3.0.5"),
        ("fd03::/112", "fd03::1", "fd03::fffe"),
        ("fd03::5-fd03::9", "fd03::5", "fd03::9"),
    ],
)
def test_pools(text: str, first: str, last: str) -> None:
    found = values.parse_pool_addresses(text)
    assert (found.first, found.last) == (ip_address(first).packed, ip_address(last).packed)


def test_a_pool_is_shown_by_the_address_of_its_subnet() -> None:
    assert values.parse_pool_addresses("10.3.0.0/24").base == ip_address("10.3.0.0").packed
    assert values.parse_pool_addresses("10.3.0.1-10.3.0.254").base == b""


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("%any", ()),
        ("192.0.2.1, %any", ()),
        ("0.0.0.0", ()),
        ("%any6", ("::/0",)),
        ("192.0.2.1, 192.0.2.1", ("192.0.2.1",)),
        ("192.0.2.0/24,2001:DB8:0::1", ("192.0.2.0/24", "2001:db8::1")),
        ("192.0.2.1 - 192.0.2.9", ("192.0.2.1-192.0.2.9",)),
    ],
)
def test_peer_addresses(text: str, addresses: tuple[str, ...]) -> None:
    assert values.parse_peer_addresses(text) == addresses


def test_proposals_keep_their_order_and_expand_default() -> None:
    first = parse_proposal(ProtocolId.IKE, "aes256-sha512-modp4096")
    assert values.parse_ike_proposals("aes256-sha512-modp4096, default") == (first, *DEFAULT_IKE_PROPOSALS)
    assert values.parse_ike_proposals("default, default") == DEFAULT_IKE_PROPOSALS


@pytest.mark.parametrize(("text", "workers"), [("auto", 0), ("1", 1), ("254", 254)])
def test_workers(text: str, workers: int) -> None:
    assert values.parse_workers(text) == workers


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (values.parse_boolean, "maybe", '"maybe" is neither yes nor no'),
        (values.parse_boolean, "a\nb", r'"a\nb" is neither yes nor no'),
        (values.parse_boolean, "x" * 1000, f'"{"x" * 64}..." is neither yes nor no'),
        (values.parse_time, "1w", '"1w" is no time'),
        (values.parse_time, "-1", '"-1" is no time'),
        (values.parse_time, "s", '"s" is no time'),
        (values.parse_time, "9" * 50, "is no time"),
        (values.parse_size, "1T", '"1T" is no number of octets'),
        (values.PORT.parse, "0", '"0" is no whole number from 1 to 65535'),
        (values.PORT.parse, "٣", '"٣" is no whole number'),
        (values.PORT.parse, "9" * 5000, "is no whole number"),
        (values.positive_number(1, 10), "inf", '"inf" is no number from 1 to 10'),
        (values.time_between(1, 3600), "2h", '"2h" is not from 1 to 3600 seconds'),
        (values.parse_pool_addresses, "moon", '"moon" is neither a subnet'),
        (values.parse_pool_addresses, "10.3.0.9-10.3.0.5", "the first address must be the lower"),
        (values.parse_pool_addresses, "10.3.0.9-fd00::5", "of the same family"),
        (values.parse_pool_addresses, "10.3.0.7/24", "starts within the subnet 10.3.0.0/24"),
        (values.parse_peer_addresses, "gw.example.org", "names are not looked up"),
        (values.parse_peer_addresses, "192.0.2.9-192.0.2.1", "is no IP address, subnet or range"),
        (values.parse_own_identity, "*@example.org", "stands for many identities"),
        (values.parse_own_identity, "10.0.0.0/8", "stands for many identities"),
        (values.parse_secret, "0xabc", "what follows 0x is not hexadecimal"),
        (values.parse_secret, "0s?", "what follows 0s is not base64"),
        (values.parse_secret, "0x", "the secret is empty"),
        (values.parse_size_or_auto, "0", "leaves no room"),
        (values.parse_size_or_auto, "half", "no number of octets"),
        (values.parse_folder, "", "no folder"),
        (values.parse_workers, "many", "nor auto"),
        (values.parse_workers, "255", '"255" is no whole number from 1 to 254, nor auto'),
        (values.parse_user, "root:x", '"root:x" is no user name'),
        (values.AUTH.parse, "pubkey", "pubkey authentication is not built yet; there is: psk"),
        (values.AUTH.parse, "xauth", "belongs to IKEv1"),
        (values.AUTH.parse, "posk", '"posk" is not one of: psk'),
        (values.MODE.parse, "drop", "use the firewall"),
        (values.DATAPLANE.parse, "xfrm", "xfrm (the kernel's IPsec) is not built yet; there is: userspace, null"),
    ],
)  # fmt: skip
def test_wrong_values_are_explained(parse: Callable[[str], Any], text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text)


def test_a_text_is_read_once_and_its_value_shared_but_no_secret_is_kept() -> None:
    first = values.IKE_PROPOSALS.read("aes256gcm16-prfsha384-ecp384")
    assert values.IKE_PROPOSALS.read("aes256gcm16-" + "prfsha384-ecp384") is first
    assert values.SECRET.read("a secret of some length") == b"a secret of some length"
    assert values.SECRET.read("a secret of some length") is not values.SECRET.read("a secret of some length")
    with pytest.raises(ValueError, match="rot13"):
        values.IKE_PROPOSALS.read("rot13")
    with pytest.raises(ValueError, match="rot13"):
        values.IKE_PROPOSALS.read("rot13")
