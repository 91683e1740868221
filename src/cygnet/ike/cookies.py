"""Stateless cookies (RFC 7296 section 2.6).

Threat: an attacker that sends IKE_SA_INIT requests from addresses that are not its own makes us keep state and compute.
A cookie proves that the sender receives at the address it claims, before anything is kept. It is a MAC over what
the sender can't change between its two tries: its nonce, address and SPI. The secret changes every minute, and the one
before it stays good, so a cookie lives between one and two minutes and a replay of one from another address fails.

A cookie begins with a tag, a random word that says which of the two secrets it was made with. Nobody knows it who has
not received a cookie from us lately, so a filter that can't compute a MAC can tell by it what is no cookie of ours.

A cookie carries a note of ours, under the same MAC: what we asked of the peer along with it (RFC 8019 section 7.1.1.3).

The MAC is keyed BLAKE2 (RFC 7693), whose keyed state is copied for each cookie: half a microsecond, where a flood
makes us compute one for each datagram.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

_SECRET_OCTETS: Final = 32
_LIFE_S: Final = 60.0
MAX_COOKIE_LIFE_S: Final = 2 * _LIFE_S
"""No cookie is good for longer."""
_TAG_OCTETS: Final = 4
_DIGEST_OCTETS: Final = 16
NOTE_OCTETS: Final = 3
NO_NOTE: Final = bytes(NOTE_OCTETS)
_HEAD_OCTETS: Final = _TAG_OCTETS + NOTE_OCTETS
COOKIE_OCTETS: Final = _HEAD_OCTETS + _DIGEST_OCTETS
_LENGTHS: Final = tuple(bytes((n,)) for n in range(17))
"""Of an address, as one octet."""


class CookieJar:
    """Makes and checks cookies; holds the two secrets that are good now."""

    __slots__ = ("_current", "_entropy", "_previous", "_renew_at")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._current = self._new_secret()
        self._previous = self._new_secret()
        self._renew_at = 0.0

    @property
    def tags(self) -> tuple[bytes, bytes]:
        """The four octets that cookies of ours begin with, now and those made a while ago."""
        return self._current[0], self._previous[0]

    def make(self, nonce_i: bytes, remote: bytes, spi_i: bytes, now: float, note: bytes = NO_NOTE) -> bytes:
        """The cookie for a peer: its nonce, packed address and SPI; `now` in seconds of a monotonic clock."""
        if now >= self._renew_at:
            self._renew(now)
        tag, secret = self._current
        head = tag + note
        return head + _digest(secret, head, nonce_i, remote, spi_i)

    def is_good(self, cookie: bytes, nonce_i: bytes, remote: bytes, spi_i: bytes, now: float) -> bool:
        """Whether we made this cookie for this peer, at most two minutes ago."""
        if now >= self._renew_at:
            self._renew(now)
        if len(cookie) != COOKIE_OCTETS:
            return False
        head = cookie[:_HEAD_OCTETS]
        for tag, secret in (self._current, self._previous):
            if cookie[:_TAG_OCTETS] == tag:
                return hmac.compare_digest(cookie[_HEAD_OCTETS:], _digest(secret, head, nonce_i, remote, spi_i))
        return False

    @staticmethod
    def note_of(cookie: bytes) -> bytes:
        """What we noted in a cookie that is good."""
        return cookie[_TAG_OCTETS:_HEAD_OCTETS]

    def _new_secret(self) -> "tuple[bytes, hashlib.blake2s]":
        """A tag and the state that is keyed with it."""
        keyed = hashlib.blake2s(key=self._entropy(_SECRET_OCTETS), digest_size=_DIGEST_OCTETS)
        return self._entropy(_TAG_OCTETS), keyed

    def _renew(self, now: float) -> None:
        if now >= self._renew_at + _LIFE_S:
            self._previous = self._new_secret()
        else:
            self._previous = self._current
        self._current = self._new_secret()
        self._renew_at = now + _LIFE_S


def _digest(secret: "hashlib.blake2s", head: bytes, nonce_i: bytes, remote: bytes, spi_i: bytes) -> bytes:
    keyed = secret.copy()
    # The nonce alone has no fixed length here, and it stands last.
    keyed.update(head + spi_i + _LENGTHS[len(remote)] + remote + nonce_i)
    return keyed.digest()
