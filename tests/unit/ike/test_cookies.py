"""Cookies: who may return which, and for how long."""

import random

import pytest

from cygnet.ike.cookies import CookieJar
from cygnet.ike.exchanges.ike_sa_init import MAX_COOKIE_OCTETS

NONCE, REMOTE, SPI = b"n" * 32, b"\xc0\x00\x02\x01", b"s" * 8


@pytest.fixture
def jar() -> CookieJar:
    return CookieJar(random.Random(1).randbytes)


@pytest.mark.parametrize(("age_s", "is_good"), [(0.0, True), (59.0, True), (60.0, True), (119.0, True), (121.0, False)])
@pytest.mark.parametrize("start", [0.0, 5.0, 1e6])
def test_a_cookie_lives_between_one_and_two_minutes(jar: CookieJar, start: float, age_s: float, is_good: bool) -> None:
    cookie = jar.make(NONCE, REMOTE, SPI, start)
    assert jar.is_good(cookie, NONCE, REMOTE, SPI, start + age_s) == is_good


def test_cookies_begin_with_a_tag_that_changes_with_the_secret(jar: CookieJar) -> None:
    tags = set()
    for minute in range(10):
        cookie = jar.make(NONCE, REMOTE, SPI, minute * 60.0)
        assert cookie[:4] == jar.tags[0]
        assert jar.make(b"m" * 32, b"\xc0\x00\x02\x02", b"t" * 8, minute * 60.0)[:4] == cookie[:4]
        tags.add(jar.tags)
    assert len({tag for pair in tags for tag in pair}) == 11


def test_a_cookie_is_for_one_nonce_address_and_spi(jar: CookieJar) -> None:
    cookie = jar.make(NONCE, REMOTE, SPI, 0.0)
    assert 1 <= len(cookie) <= MAX_COOKIE_OCTETS
    for nonce, remote, spi in (
        (b"m" * 32, REMOTE, SPI),
        (NONCE, b"\xc0\x00\x02\x02", SPI),
        (NONCE, REMOTE, b"t" * 8),
        # The same octets in a row, divided elsewhere.
        (NONCE[1:], REMOTE + NONCE[:1], SPI),
    ):
        assert not jar.is_good(cookie, nonce, remote, spi, 0.0)
    assert not jar.is_good(jar.tags[1] + cookie[4:], NONCE, REMOTE, SPI, 0.0)


@pytest.mark.parametrize("spoil", [lambda c: b"", lambda c: c[:1], lambda c: c[:-1], lambda c: c + b"\0"])
def test_what_is_no_cookie_is_not_good(jar: CookieJar, spoil: object) -> None:
    cookie = jar.make(NONCE, REMOTE, SPI, 0.0)
    assert not jar.is_good(spoil(cookie), NONCE, REMOTE, SPI, 0.0)  # type: ignore[operator]


def test_another_jar_has_other_secrets(jar: CookieJar) -> None:
    cookie = jar.make(NONCE, REMOTE, SPI, 0.0)
    assert not CookieJar(random.Random(2).randbytes).is_good(cookie, NONCE, REMOTE, SPI, 0.0)
