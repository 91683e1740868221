"""Sources that ask for IKE_SAs and never come back with the cookie that they got.

An honest peer returns its cookie within a round trip. Whoever has many cookies sent to an address and returns none is
not there, or does not mean to come in: a flood from forged addresses, or from hosts that somebody has in his hand. To
answer each of its requests costs a fiftieth of a handshake, and at fifty thousand a second that is most of the
processor. So the kernel is told to let only a few of them in.

What counts is how many cookies are not returned, not how many were asked for: a crowd behind one address that means it
is no suspect, however large. An honest peer at the address of a suspect has less of a chance with each of its
requests, but it has one: some are let in, and as soon as most cookies for its address return all are.

A flood from addresses that are never the same twice makes no suspects. While most cookies in all are not returned, only
so many requests are let in as can be answered at little cost, chosen by chance; all of those from where peers have
authenticated themselves lately, and all that bring what looks like a cookie of ours. A stranger's first request may
take several tries then: the fewer the more time the worker has to spare, of which a part is spent on them. Should many
bring what looks like a cookie and is not, it is no longer looked at.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from cygnet.ike.known_sources import KnownSources
from cygnet.ike.nat import pack_once
from cygnet.ike.settings import AdmissionSettings
from cygnet.net.shedding import is_notable
from cygnet.net.shedding_filter import MAX_SUSPECTS, Sources
from cygnet.net.source_key import SourceKeys

REVIEW_S: Final = 0.5
"""How often it is looked who has returned its cookie; one is waited for once to twice as long."""
LIMIT_PER_S: Final = 32
"""Who leaves fewer cookies than this unreturned is nobody to bother about: 512 of them cost a tenth of a processor."""
RETURNS: Final = 0.5
"""Who returns this part of its cookies at least is no suspect."""
HOLD_S: Final = 10.0
"""A suspect stays one for so long after it was last seen not to return."""
LET_IN_PER_S: Final = 500
"""First requests of all suspects that are let in: a hundredth of the processor."""
STRANGERS_PER_S: Final = 4000
"""Those of strangers that are let in at least, while most of them return no cookies: a fifteenth of the processor. The
more, the sooner an honest one among them gets its cookie."""
_ANSWER_S: Final = 18e-6
"""About what a worker needs to take a request from a socket and to answer it with a cookie."""
_NONE_LEFT: Final = 0.05
"""A worker with less to spare than this part of a core has none."""
_APPROACH: Final = 1 / 3
"""Which part of what is missing, or too much, is made good with each review: if an answer costs five times as much, it
is not yet so much that more and less follow each other."""
SMALLEST_SHARE: Final = 1 / 1024
MAX_SOURCES: Final = 8192
"""Addresses that are counted between two reviews. With more than that, forged at random, nobody stands out."""
_NOTABLE_CHANGE: Final = 1.25


class _Source(msgspec.Struct, gc=False):
    """What has come from one prefix, or from all strangers, in this interval and in the one before it."""

    asked: int = 0
    """Cookies sent to it."""
    returned: int = 0
    """Good cookies that came from it."""
    asked_before: int = 0
    returned_before: int = 0

    def is_suspect(self, limit: float) -> bool:
        """Whether it leaves too much unreturned of what it was sent before, `limit` being too little to mind."""
        returned = self.returned_before + self.returned
        return self.asked_before > limit and returned < RETURNS * self.asked_before

    @property
    def is_honest(self) -> bool:
        """Whether it has returned what it was sent."""
        returned = self.returned_before + self.returned
        return returned > 0 and returned >= RETURNS * self.asked_before

    def turn(self) -> None:
        """Another interval begins."""
        self.asked_before, self.returned_before, self.asked, self.returned = self.asked, self.returned, 0, 0


def allowance(let_in_per_s: float, spare: float) -> float:
    """How many first requests of strangers are to be let in a second, after so many were and the part `spare` of a core
    was left over: so many more or less that they take the square of what is then left.

    So a worker that has nothing else to do spends four tenths of its time on them, one of which others take half a
    seventh, and one of which others take two thirds no more than always: with half of what was left the others lost
    more than that (docs/adr/0010). And if more of those come who are no strangers, they find more time than strangers
    are given. Should that be too little, strangers get no more than always from the next review on.
    """
    if spare < _NONE_LEFT:
        return STRANGERS_PER_S
    taken = let_in_per_s * _ANSWER_S
    return max(STRANGERS_PER_S, let_in_per_s + _APPROACH * (spare * spare - taken) / _ANSWER_S)


class SuspectSources:
    """Watches the sources of new peers, of both families."""

    __slots__ = (
        "_asked",
        "_cookie_tags",
        "_families",
        "_limit",
        "_returned",
        "_reviewed",
        "_secret",
        "_spare",
        "_tags",
        "_untagged_until",
        "_wrong",
        "share",
    )

    def __init__(
        self,
        limits: AdmissionSettings,
        *,
        limit: Callable[[Sources, Sources], object],
        cookie_tags: Callable[[], tuple[bytes, ...]],
        known: KnownSources,
        spare: Callable[[float], float],
        secret: int,
        now: float,
    ) -> None:
        """`limit` tells the kernel of the sources, IPv4 and IPv6; `known` are those that are no strangers; `spare` says
        which part of a core was left over since it was asked last; `secret` is for `SourceKeys`.
        """
        self._limit = limit
        self._cookie_tags = cookie_tags
        self._spare = spare
        self._tags: tuple[bytes, ...] = ()
        self._secret = secret
        self._asked: dict[str, int] = {}
        self._returned: dict[str, int] = {}
        self._reviewed = now
        self._wrong = 0
        """Requests since the last review that looked as if they brought a cookie of ours."""
        self._untagged_until = now
        """How long what cookies begin with is no reason to let somebody in."""
        self.share = 1.0
        """Which part of the requests of suspects is let in."""
        self._families = {
            False: _Family(is_ipv6=False, bits=limits.source_prefix_ipv4, secret=secret, known=known),
            True: _Family(is_ipv6=True, bits=limits.source_prefix_ipv6, secret=secret, known=known),
        }

    def __len__(self) -> int:
        """How many sources are suspect."""
        return sum(len(family.suspects) for family in self._families.values())

    def share_of_strangers(self, *, is_ipv6: bool = False) -> float:
        """Which part of the requests of strangers is let in."""
        return self._families[is_ipv6].strangers_share

    @property
    def limits_strangers(self) -> bool:
        """Whether not all strangers are let in."""
        return any(family.is_limited for family in self._families.values())

    def configure(self, limits: AdmissionSettings) -> None:
        """Tell sources apart by these prefixes from now on. Those that were told apart by others are forgotten."""
        bits = {False: limits.source_prefix_ipv4, True: limits.source_prefix_ipv6}
        forgotten = False
        for is_ipv6, family in self._families.items():
            if bits[is_ipv6] != family.bits:
                forgotten |= bool(family.suspects) or family.is_limited
                self._families[is_ipv6] = _Family(
                    is_ipv6=is_ipv6, bits=bits[is_ipv6], secret=self._secret, known=family.known
                )
        if forgotten:
            self._tell()

    def asked(self, remote: str) -> None:
        """A cookie was sent to that address."""
        self._families[":" in remote].asked += 1
        _count(self._asked, remote)

    def returned(self, remote: str) -> None:
        """A good cookie came from that address."""
        self._families[":" in remote].returned += 1
        _count(self._returned, remote)

    def wrong(self) -> None:
        """A request came that begins like one with a cookie, and brings no good one."""
        self._wrong += 1

    def review(self, now: float) -> None:
        """Look who is suspect, if it is time for that."""
        elapsed_s = now - self._reviewed
        if elapsed_s < REVIEW_S:
            return
        self._reviewed = now
        for family in self._families.values():
            family.note(self._asked, self._returned, LIMIT_PER_S * elapsed_s)
        self._asked.clear()
        self._returned.clear()
        if self._wrong > STRANGERS_PER_S * elapsed_s:
            self._untagged_until = now + HOLD_S
        self._wrong = 0
        let_in = 0
        has_changed = False
        spare = self._spare(now) if self.limits_strangers else 0.0
        for family in self._families.values():
            has_changed |= family.judge_strangers(now, elapsed_s, spare)
            has_changed |= family.judge(now, elapsed_s, self.share)
            # Of this interval; those are among them that have become suspects just now, so that their share is right
            # from the beginning.
            let_in += sum(family.sources[key].asked_before for key in family.suspects if key in family.sources)
        tags = self._cookie_tags() if now >= self._untagged_until else ()
        self._set_share(let_in / elapsed_s, tags, has_changed)

    def _set_share(self, let_in_per_s: float, tags: tuple[bytes, ...], has_changed: bool) -> None:
        """Let in as many of the suspects' requests as is meant, after so many were with the share so far."""
        wanted = 1.0
        if len(self):
            # What was not seen at all may have become much less: look again, with twice the share.
            wanted = self.share * (LET_IN_PER_S / let_in_per_s if let_in_per_s else 2.0)
            wanted = min(1.0, max(SMALLEST_SHARE, wanted))
        if len(self) or self.limits_strangers:
            has_changed |= tags != self._tags
        if has_changed or is_notable(wanted, self.share, _NOTABLE_CHANGE):
            self.share, self._tags = wanted, tags
            self._tell()

    def _tell(self) -> None:
        """Have the kernel know who is suspect."""
        ipv4, ipv6 = (self._families[is_ipv6].told(self.share, self._tags) for is_ipv6 in (False, True))
        self._limit(ipv4, ipv6)


def _count(counts: dict[str, int], remote: str) -> None:
    if remote in counts:
        counts[remote] += 1
    elif len(counts) < MAX_SOURCES:
        counts[remote] = 1


class _Family:
    """The sources of one family."""

    __slots__ = (
        "_is_ipv6",
        "_limited_until",
        "_strangers",
        "_trusted_keys",
        "asked",
        "bits",
        "is_limited",
        "keys",
        "known",
        "returned",
        "sources",
        "strangers_share",
        "suspects",
    )

    def __init__(self, *, is_ipv6: bool, bits: int, secret: int, known: KnownSources) -> None:
        self._is_ipv6 = is_ipv6
        self.bits = bits
        self.keys = SourceKeys(is_ipv6=is_ipv6, bits=bits, secret=secret)
        self.sources: dict[int, _Source] = {}
        self.suspects: dict[int, float] = {}
        """When each was last seen not to return its cookies."""
        self.asked = 0
        """Cookies that were sent since the last review."""
        self.returned = 0
        self.known = known
        """Where peers have authenticated themselves."""
        self.strangers_share = 1.0
        self.is_limited = False
        """Whether it may be less than all."""
        self._strangers = _Source()
        self._limited_until = 0.0
        self._trusted_keys: frozenset[int] = frozenset()

    def note(self, asked: dict[str, int], returned: dict[str, int], limit: float) -> None:
        """So many cookies were sent to, and came from, addresses of both families.

        Of forged addresses there are thousands, none of which stands out or will be seen again: of a prefix that was
        sent so few that it can't become a suspect nothing is kept, unless its peers are known or it is suspect.
        """
        sent, came = self._by_prefix(asked), self._by_prefix(returned)
        if not sent and not came:
            return
        many = [key for key, count in sent.items() if count > limit]
        watched = self._known_keys().union(self.suspects, self.sources, many)
        for key in watched.intersection(sent.keys() | came.keys()):
            source = self.sources.setdefault(key, _Source())
            source.asked += sent.get(key, 0)
            source.returned += came.get(key, 0)

    def _by_prefix(self, counts: dict[str, int]) -> dict[int, int]:
        """Those of this family, by the key of the prefix."""
        key_of, is_ipv6 = self.keys.key, self._is_ipv6
        found: dict[int, int] = {}
        for remote, count in counts.items():
            if (":" in remote) is is_ipv6:
                key = key_of(pack_once(remote))
                found[key] = found.get(key, 0) + count
        return found

    def _known_keys(self) -> frozenset[int]:
        octets = 16 if self._is_ipv6 else 4
        prefixes = self.known.prefixes(is_ipv6=self._is_ipv6)
        return frozenset(self.keys.key(prefix.ljust(octets, b"\0")) for prefix in prefixes)

    def judge_strangers(self, now: float, elapsed_s: float, spare: float) -> bool:
        """See how many of those are to be let in that are neither trusted nor suspect; whether the kernel must know."""
        strangers, share = self._strangers, self.strangers_share
        if not self.asked and not strangers.asked_before and not self.is_limited:
            self.returned = 0
            return False
        trusted = self._known_keys()
        known = [self.sources[key] for key in trusted.union(self.suspects) if key in self.sources]
        strangers.asked = self.asked - sum(source.asked for source in known)
        strangers.returned = self.returned - sum(source.returned for source in known)
        self.asked = self.returned = 0
        let_in_per_s = strangers.asked / elapsed_s
        if strangers.is_suspect(share * STRANGERS_PER_S * elapsed_s):
            self._limited_until = now + HOLD_S
        strangers.turn()
        was_limited, self.is_limited = self.is_limited, now < self._limited_until
        wanted = 1.0
        if self.is_limited:
            # Nobody was asked: nobody came, or there was no time to ask. Which of them it was the next one shows.
            wanted = share * (allowance(let_in_per_s, spare) / let_in_per_s if let_in_per_s else 1.0)
            wanted = min(1.0, max(SMALLEST_SHARE, wanted))
        has_changed = was_limited is not self.is_limited or (self.is_limited and trusted != self._trusted_keys)
        self._trusted_keys = trusted if self.is_limited else frozenset()
        if has_changed or is_notable(wanted, share, _NOTABLE_CHANGE):
            self.strangers_share = wanted
            return True
        return False

    def judge(self, now: float, elapsed_s: float, share: float) -> bool:
        """See who is suspect now, after another interval; whether they are others than before."""
        before = set(self.suspects)
        limit = LIMIT_PER_S * elapsed_s
        for key, source in tuple(self.sources.items()):
            if source.is_suspect(share * limit if key in self.suspects else limit):
                # At the end, among those that were seen last.
                self.suspects.pop(key, None)
                self.suspects[key] = now
            elif source.is_honest:
                self.suspects.pop(key, None)
            source.turn()
            if not source.asked_before and not source.returned_before:
                del self.sources[key]
        for key, seen in tuple(self.suspects.items()):
            if now - seen > HOLD_S:
                del self.suspects[key]
        while len(self.suspects) > MAX_SUSPECTS:
            del self.suspects[next(iter(self.suspects))]
        return before != set(self.suspects)

    def told(self, share: float, tags: tuple[bytes, ...]) -> Sources:
        """What the kernel is told."""
        return Sources(
            self.keys,
            tuple(sorted(self.suspects)),
            share,
            trusted=tuple(sorted(self._trusted_keys)),
            strangers_share=self.strangers_share,
            cookie_tags=tags,
        )
