"""Stateless cookies (RFC 7296 section 2.6).

Threat: an attacker that sends IKE_SA_INIT requests from addresses that are not its own makes us keep state and compute.
A cookie proves that the sender receives at the address it claims, before anything is kept. It is a MAC over what
the sender can't change between its two tries: its nonce, address and SPI. The secret changes every minute, and the one
before it stays good, so a cookie lives between one and two minutes and a replay of one from another address fails.
"""

import hmac
from collections.abc import Callable

_SECRET_OCTETS = 32
_LIFE_S = 60.0
_VERSIONS = 256
_DIGEST = "sha256"


class CookieJar:
    """Makes and checks cookies; holds the two secrets that are good now."""

    __slots__ = ("_current", "_entropy", "_previous", "_renew_at", "_version")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._current = entropy(_SECRET_OCTETS)
        self._previous = entropy(_SECRET_OCTETS)
        self._version = 0
        self._renew_at = 0.0

    def make(self, nonce_i: bytes, remote: bytes, spi_i: bytes, now: float) -> bytes:
        """The cookie for a peer: its nonce, packed address and SPI; `now` in seconds of a monotonic clock."""
        self._renew(now)
        return bytes((self._version,)) + self._digest(self._current, nonce_i, remote, spi_i)

    def is_good(self, cookie: bytes, nonce_i: bytes, remote: bytes, spi_i: bytes, now: float) -> bool:
        """Whether we made this cookie for this peer, at most two minutes ago."""
        self._renew(now)
        if not cookie:
            return False
        age = (self._version - cookie[0]) % _VERSIONS
        if age > 1:
            return False
        secret = self._current if age == 0 else self._previous
        return hmac.compare_digest(cookie[1:], self._digest(secret, nonce_i, remote, spi_i))

    def _digest(self, secret: bytes, nonce_i: bytes, remote: bytes, spi_i: bytes) -> bytes:
        # The nonce alone has no fixed length here, and it stands last.
        return hmac.digest(secret, spi_i + bytes((len(remote),)) + remote + nonce_i, _DIGEST)

    def _renew(self, now: float) -> None:
        if now < self._renew_at:
            return
        if now >= self._renew_at + _LIFE_S:
            self._previous = self._entropy(_SECRET_OCTETS)
        else:
            self._previous = self._current
        self._current = self._entropy(_SECRET_OCTETS)
        self._version = (self._version + 1) % _VERSIONS
        self._renew_at = now + _LIFE_S
