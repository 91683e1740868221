"""Admission: what becomes of an IKE_SA_INIT request, decided before anything is allocated for it.

Whom it counts: half-open IKE_SAs only, by the prefix that their peers are in. A peer that authenticates itself leaves
the count, so a crowd behind one NAT is held back by what it leaves undone, and not by its size. Peers that have
returned a cookie (RFC 7296 section 2.6) and those that haven't are counted apart, since the address of the latter may
be forged:

* Without a cookie a peer is served while few SAs are half open, in all and from its prefix. Above that it is asked for
  a cookie. It is never refused: somebody who sends with its address must not be able to lock it out.
* With a cookie it is served until its own prefix has left too many SAs half open, or until memory is used up: both
  are its prefix's doing or a fact, and it is dropped. It sends again by itself.

Each count has an entry only while an SA is half open, so there are never more entries than half-open SAs.
"""

import msgspec

from cygnet.iana import NotifyType
from cygnet.ike.answers import plain_notify, stateless_answer
from cygnet.ike.cookies import CookieJar
from cygnet.ike.effects import Send
from cygnet.ike.environment import Environment
from cygnet.ike.nat import pack_address
from cygnet.ike.path import Path
from cygnet.ike.sa import Admitted, IkeSa, Turn
from cygnet.ike.settings import AdmissionSettings
from cygnet.wire.errors import WireError
from cygnet.wire.header import Header
from cygnet.wire.peek import peek_cookie, peek_nonce

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_COOKIE = NotifyType.COOKIE

_IPV4_OCTETS = 4


class Load(msgspec.Struct, frozen=True, gc=False):
    """How much there is of everything that is limited."""

    ike_sas: int
    half_open: int
    waiting: int
    """Datagrams of new peers that wait to be served."""
    unproven: int
    """Half-open SAs from the peer's prefix whose peers have not returned a cookie."""
    proven: int
    """The same of peers that have."""


SERVE = ""
ASK_COOKIE = "cookie"


def judge(load: Load, limits: AdmissionSettings, *, is_proven: bool) -> str:
    """What a new peer gets: SERVE, ASK_COOKIE, or the reason for which it is dropped."""
    is_full = load.half_open >= limits.init_limit_half_open
    has_too_many = 0 < limits.ike_sa_limit <= load.ike_sas
    if not is_proven:
        if (
            load.half_open >= limits.cookie_threshold
            or load.unproven >= limits.cookie_threshold_ip
            or 0 < limits.init_limit_job_load <= load.waiting
            # It will be refused; but with a cookie in hand it is known for real when there is room again.
            or is_full
            or has_too_many
        ):
            return ASK_COOKIE
        return SERVE
    if is_full:
        return "half_open_limit"
    if has_too_many:
        return "ike_sa_limit"
    if 0 < limits.block_threshold <= load.proven:
        return "source_limit"
    return SERVE


class Admission:
    """Decides about new peers of one worker, and counts those that are half open."""

    __slots__ = ("_cookies", "_env", "_proven", "_unproven", "half_open")

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._cookies = CookieJar(env.entropy)
        self._unproven: dict[bytes, int] = {}
        self._proven: dict[bytes, int] = {}
        self.half_open = 0
        """SAs, as original responder, whose peer has not authenticated itself."""

    def admit(self, header: Header, datagram: bytes, path: Path, turn: Turn, ike_sas: int) -> Admitted | None:
        """Decide about an IKE_SA_INIT request; None if it was answered with a cookie, or dropped.

        Raises WireError if a payload that is looked at is malformed.
        """
        env, limits = self._env, self._env.settings.admission
        remote = pack_address(path.remote)
        source = prefix_of(remote, limits)
        is_proven = False
        cookie = peek_cookie(datagram)
        if cookie:
            is_proven = self._cookies.is_good(cookie, peek_nonce(datagram), remote, header.spi_i, turn.now)
            env.count("cookies_accepted_total" if is_proven else "cookies_rejected_total")
        load = Load(ike_sas, self.half_open, env.waiting(), self._unproven.get(source, 0), self._proven.get(source, 0))
        verdict = judge(load, limits, is_proven=is_proven)
        if verdict == SERVE:
            return Admitted(source, is_proven)
        if verdict == ASK_COOKIE:
            cookie = self._cookies.make(peek_nonce(datagram), remote, header.spi_i, turn.now)
            env.count("cookies_sent_total")
            turn.effects.append(Send(stateless_answer(header, plain_notify(_COOKIE, cookie)), path))
        else:
            env.count(f'datagrams_dropped_total{{reason="{verdict}"}}')
        return None

    def is_proven(self, datagram: bytes, path: Path, now: float) -> bool:
        """Whether an IKE_SA_INIT request brings a good cookie; of any other octets, False."""
        try:
            cookie = peek_cookie(datagram)
            if not cookie:
                return False
            remote, spi_i = pack_address(path.remote), datagram[:8]
            return self._cookies.is_good(cookie, peek_nonce(datagram), remote, spi_i, now)
        except WireError:
            return False

    def entered(self, sa: IkeSa, admitted: Admitted) -> None:
        """An SA is half open; `admitted` is what the request was let in with."""
        assert sa.handshake is not None
        sa.handshake.admitted = admitted
        counts = self._proven if admitted.is_proven else self._unproven
        counts[admitted.source] = counts.get(admitted.source, 0) + 1
        self.half_open += 1

    def left(self, sa: IkeSa) -> None:
        """A half-open SA is established now, or closed."""
        assert sa.handshake is not None and sa.handshake.admitted is not None
        admitted = sa.handshake.admitted
        counts = self._proven if admitted.is_proven else self._unproven
        remaining = counts[admitted.source] - 1
        if remaining:
            counts[admitted.source] = remaining
        else:
            del counts[admitted.source]
        self.half_open -= 1


def prefix_of(address: bytes, limits: AdmissionSettings) -> bytes:
    """The prefix by which a packed address is counted. Those of the two families differ in length."""
    bits = limits.source_prefix_ipv4 if len(address) == _IPV4_OCTETS else limits.source_prefix_ipv6
    octets, rest = divmod(bits, 8)
    if not rest:
        return address[:octets]
    return address[:octets] + bytes((address[octets] & (0xFF00 >> rest) & 0xFF,))
