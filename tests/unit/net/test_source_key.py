import ipaddress

import pytest

from cygnet.net.bpf import Op
from cygnet.net.source_key import SourceKeys

SECRET = 0xC0FFEE


def key(address: str, bits: int, secret: int = SECRET) -> int:
    packed = ipaddress.ip_address(address).packed
    return SourceKeys(is_ipv6=":" in address, bits=bits, secret=secret).key(packed)


@pytest.mark.parametrize(
    ("address", "other", "bits"),
    [
        ("192.0.2.1", "192.0.2.254", 24),
        ("10.1.2.3", "10.254.2.3", 8),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::", 64),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::", 128),
        ("2001:db8:1:2::1", "2001:db8:1:fe::", 48),
    ],
)
def test_one_prefix_has_one_key(address: str, other: str, bits: int) -> None:
    assert key(address, bits) == key(other, bits)


@pytest.mark.parametrize(
    ("address", "other", "bits"),
    [
        ("192.0.2.1", "192.0.2.2", 32),
        ("192.0.2.1", "192.0.3.1", 24),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", 64),
        ("2001:db8:1:2::1", "2001:db9:1:2::1", 64),
        ("2001:db8:1:2::1", "2001:db8:2:2::1", 48),
    ],
)
def test_others_have_others(address: str, other: str, bits: int) -> None:
    assert key(address, bits) != key(other, bits)


def test_which_ipv6_prefixes_collide_is_a_secret() -> None:
    """The first word can be changed and made good for in the second only by who knows the factor."""
    first = SourceKeys(is_ipv6=True, bits=64, secret=3)
    forged = bytes(3) + bytes((1,)) + (3).to_bytes(4, "big") + bytes(8)
    assert first.key(forged) == first.key(bytes(16))
    other = SourceKeys(is_ipv6=True, bits=64, secret=5)
    assert other.key(forged) != other.key(bytes(16))


@pytest.mark.parametrize("is_ipv6", [False, True])
def test_the_kernel_is_told_of_the_same_words(is_ipv6: bool) -> None:
    loads = [each for each in SourceKeys(is_ipv6=is_ipv6, bits=64, secret=1).load() if each.op is Op.LOAD_WORD]
    assert len(loads) == (2 if is_ipv6 else 1)
