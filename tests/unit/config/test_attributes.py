"""What pools tell peers, from the file to the octets of RFC 7296 section 3.15.1 and back."""

import pytest

from cygnet.config.attributes import attribute_name, format_attribute
from cygnet.config.errors import ConfigError
from cygnet.config.load import load_text
from cygnet.iana import CfgAttribute as Cfg
from cygnet.wire.payloads.configuration import ConfigurationAttribute

FD01 = "fd01" + "00" * 14


def told(lines: str) -> list[tuple[int, str]]:
    (pool,) = load_text(f"pools {{ p {{ addrs = 10.3.0.0/24\n{lines}\n }} }}").settings.pools
    return [(attribute.type, attribute.value.hex()) for attribute in pool.attributes]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dns = 10.1.0.53, fd01::", [(Cfg.INTERNAL_IP4_DNS, "0a010035"), (Cfg.INTERNAL_IP6_DNS, FD01)]),
        ("nbns = 10.1.0.53, fd01::", [(Cfg.INTERNAL_IP4_NBNS, "0a010035"), (11, FD01)]),
        ("dhcp = 10.1.0.53, fd01::", [(Cfg.INTERNAL_IP4_DHCP, "0a010035"), (Cfg.INTERNAL_IP6_DHCP, FD01)]),
        ("netmask = 255.255.255.0", [(Cfg.INTERNAL_IP4_NETMASK, "ffffff00")]),
        ("server = 10.1.0.53, fd01::", [(23456, "0a010035"), (23457, FD01)]),
        ("p_cscf = 10.1.0.53, fd01::", [(Cfg.P_CSCF_IP4_ADDRESS, "0a010035"), (Cfg.P_CSCF_IP6_ADDRESS, FD01)]),
        # With the mask in IPv4, with the length of the prefix in IPv6.
        (
            "subnet = 10.1.0.0/16, fd01::/64, 10.2.0.9",
            [(13, "0a010000ffff0000"), (15, FD01 + "40"), (13, "0a020009ffffffff")],
        ),
        ("subnet = 0.0.0.0/0", [(13, "00" * 8)]),
        ("25 = corp.example.org", [(25, b"corp.example.org".hex())]),
        ("17 = 10.1.0.0/16, fd01::/64", [(17, "0a010000ffff0000"), (17, FD01 + "40")]),
        ("17 = 10.1.0.53, 0x00ff", [(17, "0a010035"), (17, "00ff")]),
        # In the file's order, each once.
        ("nbns = 10.1.0.53\ndns = 9.9.9.9, 9.9.9.9", [(4, "0a010035"), (3, "09090909")]),
        ("dns =", []),
    ],
)  # fmt: skip
def test_encodings(line: str, expected: list[tuple[int, str]]) -> None:
    assert told(line) == expected


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("dns = 10.1.0.0/16", 'dns in pools.p: "10.1.0.0/16" is no IP address'),
        ("0 = x", "0 in pools.p: there is no such attribute"),
        ("32768 = x", "32768 in pools.p: there is no such attribute"),
        ("8 = fd03::1", "8 in pools.p: virtual addresses are those of addrs"),
        ("dsn = 10.1.0.53", r'unknown key "dsn" in pools.p \(did you mean "dns"\?\)'),
        ("٣ = x", "unknown key"),
    ],
)
def test_what_is_wrong_is_said(line: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        told(line)


@pytest.mark.parametrize("key", ["split_include", "split_exclude"])
def test_what_only_ikev1_has_is_warned_of(key: str) -> None:
    (warning,) = load_text(f"pools {{ p {{ addrs = 10.3.0.0/24\n{key} = 10.1.0.0/16\n }} }}").warnings
    assert f"{key} in pools.p has no effect: it is Cisco's extension of IKEv1" in str(warning)


@pytest.mark.parametrize(
    ("kind", "value", "key", "text"),
    [
        (3, "0a010035", "dns", "10.1.0.53"),
        (15, FD01 + "40", "subnet", "fd01::/64"),
        (13, "0a010000ffff0000", "subnet", "10.1.0.0/16"),
        (25, b"corp.example.org".hex(), "25", "corp.example.org"),
        (25, "00ff", "25", "0x00ff"),
        (25, "", "25", "0x"),
        # A peer may send anything.
        (13, "0a010000", "subnet", "10.1.0.0"),
        (3, "01", "dns", "0x01"),
        (25, b"a\nb".hex(), "25", "0x610a62"),
        (25, "61ff", "25", "0x61ff"),
    ],
)
def test_how_they_are_shown(kind: int, value: str, key: str, text: str) -> None:
    attribute = ConfigurationAttribute(kind, bytes.fromhex(value))
    assert (attribute_name(kind), format_attribute(attribute)) == (key, text)
