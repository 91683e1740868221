import ipaddress

import pytest

from cygnet.ike.known_sources import MAX_KNOWN, KnownSources, prefix_of
from cygnet.ike.nat import pack_address
from cygnet.ike.settings import AdmissionSettings


@pytest.mark.parametrize(
    ("address", "bits", "prefix"),
    [
        ("192.0.2.77", (32, 64), "c000024d"),
        ("192.0.2.77", (24, 64), "c00002"),
        ("192.0.2.77", (26, 64), "c0000240"),
        ("192.0.2.77", (25, 64), "c0000200"),
        ("192.0.2.77", (31, 64), "c000024c"),
        ("2001:db8:1:2:3:4:5:6", (32, 64), "20010db800010002"),
        ("2001:db8:1:2ff:3:4:5:6", (32, 60), "20010db8000102f0"),
        ("2001:db8:1:2:3:4:5:6", (32, 128), "20010db8000100020003000400050006"),
    ],
)
def test_prefixes(address: str, bits: tuple[int, int], prefix: str) -> None:
    limits = AdmissionSettings(source_prefix_ipv4=bits[0], source_prefix_ipv6=bits[1])
    assert prefix_of(pack_address(address), limits).hex() == prefix


LIMITS = AdmissionSettings()


def at(address: str, limits: AdmissionSettings = LIMITS) -> bytes:
    return prefix_of(pack_address(address), limits)


def test_a_prefix_of_either_family_is_known_once_it_was_added() -> None:
    known = KnownSources(LIMITS)
    known.add(at("192.0.2.1"))
    known.add(at("2001:db8::1"))
    assert at("192.0.2.1") in known and at("2001:db8::2") in known
    assert at("192.0.2.2") not in known and at("2001:db8:0:1::1") not in known
    assert list(known.prefixes(is_ipv6=False)) == [at("192.0.2.1")]
    assert list(known.prefixes(is_ipv6=True)) == [at("2001:db8::1")]


def test_those_that_came_last_are_remembered() -> None:
    known = KnownSources(LIMITS)
    addresses = [str(ipaddress.ip_address(0xC0000000 + n)) for n in range(MAX_KNOWN + 2)]
    for address in (*addresses[:-1], addresses[1], addresses[-1]):
        known.add(at(address))
    assert [address for address in addresses if at(address) not in known] == [addresses[0], addresses[2]]


def test_shorter_prefixes_are_those_of_who_is_known_and_longer_ones_nobodys() -> None:
    known = KnownSources(LIMITS)
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        known.add(at(address))
    other = AdmissionSettings(source_prefix_ipv4=24, source_prefix_ipv6=96)
    known.configure(other)
    assert list(known.prefixes(is_ipv6=False)) == [at("192.0.2.77", other)]
    assert not list(known.prefixes(is_ipv6=True))


def test_other_limits_change_nothing() -> None:
    known = KnownSources(LIMITS)
    known.add(at("192.0.2.1"))
    known.configure(AdmissionSettings(cookie_threshold=5))
    assert at("192.0.2.1") in known
