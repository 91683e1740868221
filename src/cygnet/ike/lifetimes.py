"""How long SAs live (RFC 7296 section 2.8).

An SA is rekeyed at its soft limit, and ends at its hard limit if it could not be. Soft limits are spread by a random
part, so that neither the two ends rekey at once, nor a thousand tunnels that came up together.

strongSwan's spread, a tenth, parts the two ends. It does not part a fleet that came up in one minute: that would be
rekeyed in the few minutes of the tenth, hour for hour, and grow apart by the square root of the hours. So the end that
a fleet comes to draws the first limit of each SA from nearly all of the time, once; from then on the work of a day is
even, and no SA is rekeyed more often. Deviation: only where the configuration sets a `rand_time` is it a limit there.
"""

from collections.abc import Callable
from functools import lru_cache
from math import inf
from typing import Final

import msgspec

from cygnet.ike.settings import ChildSettings, ConnectionSettings

NEVER: Final = inf

DEFAULT_IKE_REKEY_TIME_S: Final = 4 * 3600.0

FIRST_OF_MANY: Final = 0.1
"""From this share of the time on, the first soft limit of an SA that a peer has begun."""
REAUTH_OF_MANY: Final = 0.5
"""The same for reauthentication, after which an IKE_SA is like a first one: so it is every time."""
BEFORE_PEERS: Final = 0.9
"""Up to this share: a peer with strongSwan's spread is never the first, and what is left to it does not pile up."""


class Lifetime(msgspec.Struct, frozen=True, gc=False):
    """A soft and a hard limit, in seconds, octets or packets; 0 for none."""

    soft: float = 0.0
    hard: float = 0.0
    spread: float = 0.0
    """The soft limit is up to so much lower."""
    is_spread_free: bool = False
    """Whether no configuration says what the spread is."""

    @classmethod
    def of(cls, rekey: float, life: float | None, rand: float | None) -> "Lifetime":
        """With strongSwan's defaults: life is a tenth more than rekey, and the spread what lies between them."""
        hard = rekey * 1.1 if life is None else life
        spread = max(0.0, hard - rekey) if rand is None else rand
        return cls(rekey, hard, min(spread, rekey), rand is None)

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return bool(self.soft or self.hard)

    def draw(self, entropy: Callable[[int], bytes], *, earliest: float = 0.0) -> tuple[float, float]:
        """The limits of one SA, soft and hard; NEVER for none.

        `earliest`, if it is not zero, is the share of the soft limit from which on it may be where the spread is free.
        """
        if not self.soft:
            return NEVER, self.hard or NEVER
        if earliest and self.is_spread_free:
            soft = self.soft * (earliest + (BEFORE_PEERS - earliest) * fraction(entropy))
        else:
            soft = self.soft - self.spread * fraction(entropy)
        return soft, self.hard or NEVER


def fraction(entropy: Callable[[int], bytes]) -> float:
    """A random number from 0 to below 1."""
    return int.from_bytes(entropy(4), "big") / (1 << 32)


class IkeLifetimes(msgspec.Struct, frozen=True, gc=False):
    """Those of a connection's IKE_SAs."""

    rekey: Lifetime
    reauth: Lifetime
    over_s: float

    @classmethod
    def of(cls, settings: ConnectionSettings) -> "IkeLifetimes":
        """With strongSwan's defaults."""
        rekey, reauth = settings.rekey_time_s, settings.reauth_time_s
        if rekey is None:
            rekey = 0.0 if reauth else DEFAULT_IKE_REKEY_TIME_S
        over = max(rekey, reauth) / 10 if settings.over_time_s is None else settings.over_time_s
        spread = over if settings.rand_time_s is None else settings.rand_time_s
        is_free = settings.rand_time_s is None
        return cls(
            Lifetime(rekey, 0.0, min(spread, rekey), is_free), Lifetime(reauth, 0.0, min(spread, reauth), is_free), over
        )


class ChildLifetimes(msgspec.Struct, frozen=True, gc=False):
    """Those of a child's CHILD_SAs."""

    time: Lifetime
    octets: Lifetime
    packets: Lifetime

    @classmethod
    def of(cls, settings: ChildSettings) -> "ChildLifetimes":
        """With strongSwan's defaults."""
        return cls(
            _lifetime(settings.rekey_time_s, settings.life_time_s, settings.rand_time_s),
            _lifetime(settings.rekey_bytes, settings.life_bytes, settings.rand_bytes),
            _lifetime(settings.rekey_packets, settings.life_packets, settings.rand_packets),
        )


@lru_cache(maxsize=1024)
def _lifetime(rekey: float, life: float | None, rand: float | None) -> Lifetime:
    return Lifetime.of(rekey, life, rand)
