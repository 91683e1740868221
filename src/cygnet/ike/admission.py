"""Admission: what becomes of an IKE_SA_INIT request, decided before anything is allocated for it.

Whom it counts: half-open IKE_SAs only, by the prefix that their peers are in. A peer that authenticates itself leaves
the count, so a crowd behind one NAT is held back by what it leaves undone, and not by its size. Peers that have
returned a cookie (RFC 7296 section 2.6) and those that haven't are counted apart, since the address of the latter may
be forged:

* Without a cookie a peer is served while few SAs are half open, in all and from its prefix, and while what was computed
  for those that brought none is not much: with a large group that is sooner. Above that it is asked for a cookie. It is
  never refused: somebody who sends with its address must not be able to lock it out. Where peers have authenticated
  themselves lately (`cygnet.ike.known_sources`), what counts is what has been served like that there and at other such
  prefixes: those who know the gateway need not pay for what strangers leave half open.
* With a cookie it is served until its prefix has left too many SAs half open, or there is no more room: then it is
  dropped, and sends again by itself. Well before that it must solve a puzzle (RFC 8019), the harder the closer the
  limit is. It is asked for the cookie alone first, so that what a puzzle costs us is not spent on forged addresses.
  Peers that don't solve theirs, as most can't, are let in at a limited rate (section 7.1.5).

Each count has an entry only while an SA is half open, so there are never more entries than half-open SAs.
"""

import struct
from enum import IntEnum

import msgspec

from cygnet.iana import ExchangeType, NotifyType, PayloadType
from cygnet.ike.answers import cookie_answer, plain_notify, stateless_answer
from cygnet.ike.cookies import MAX_COOKIE_LIFE_S, NO_NOTE, CookieJar
from cygnet.ike.effects import Send
from cygnet.ike.environment import Environment
from cygnet.ike.expiring_map import ExpiringMap
from cygnet.ike.handshake import Admitted
from cygnet.ike.known_sources import KnownSources, prefix_of
from cygnet.ike.nat import pack_address, pack_once
from cygnet.ike.path import Path
from cygnet.ike.puzzles import (
    Challenge,
    choose_prf,
    decode_challenge,
    encode_challenge,
    is_solution,
    wanted_difficulty,
)
from cygnet.ike.rate_limit import RateLimit
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.settings import AdmissionSettings
from cygnet.wire.errors import WireError
from cygnet.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, HEADER_OCTETS, NO_SPI, Header
from cygnet.wire.message import decode_message
from cygnet.wire.payloads.security_association import SecurityAssociation
from cygnet.wire.peek import peek_cookie, peek_nonce, peek_solution

MAX_INITIAL_OCTETS = 10_000
"""IKE_SA_INIT requests above are dropped: a half-open SA keeps its request, and its peer has proven nothing. As much as
strongSwan takes of any message; RFC 7296 section 2 asks for 3000."""
_INITIAL_HEADER = struct.Struct("!8s8sBBBBQ")
"""A header whose last two fields are one: the Message ID of a first message is 0, so they read as its length."""
_MAJOR_VERSION = 2
COST_AT_RISK = 4
"""What may be computed for half-open SAs whose peers have shown nothing, for each that `cookie_threshold` allows: what
MODP-2048 takes (`KeyExchangeMethod.init_cost`), and with 1,000 of them half a second of a core. Of MODP-4096's they are
two seconds, which a flood would have had before anybody was asked for a cookie."""
_MAX_SPENT = 50_000
"""Cookies whose puzzles were solved that are remembered; above that the oldest is forgotten early."""


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
    is_out_of_memory: bool = False
    known: int | None = None
    """If the peer's prefix is known: half-open SAs from all such prefixes whose peers have not returned a cookie."""
    at_risk: int = 0
    """What was computed for half-open SAs whose peers have not returned a cookie: if the peer's prefix is known, for
    those from such prefixes, else for all others (`KeyExchangeMethod.init_cost`).
    """


class Proof(IntEnum):
    """What a new peer has shown."""

    NOTHING = 0
    COOKIE = 1
    """It is at its address."""
    UNSOLVED = 2
    """The same, with the cookie of a puzzle that it has not solved."""
    SOLVED = 3


# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_COOKIE = NotifyType.COOKIE
_PUZZLE = NotifyType.PUZZLE
_IKE_SA_INIT = int(ExchangeType.IKE_SA_INIT)
_NOTIFY = int(PayloadType.NOTIFY)
_NOTHING = Proof.NOTHING
_PROVEN = Proof.COOKIE
_SOLVED = Proof.SOLVED
_UNSOLVED = Proof.UNSOLVED

SERVE = ""
SERVE_FEW = "puzzle_unsolved"
"""Serve so many a second; the others are dropped for this reason."""
ASK_COOKIE = "cookie"
ASK_PUZZLE = "puzzle"


def judge(load: Load, limits: AdmissionSettings, proof: Proof) -> str:
    """What a new peer gets: one of the verdicts above, or else the reason for which it is dropped."""
    is_full = load.half_open >= limits.init_limit_half_open
    has_too_many = 0 < limits.ike_sa_limit <= load.ike_sas
    if proof is _NOTHING:
        if (
            (load.half_open if load.known is None else load.known) >= limits.cookie_threshold
            or load.unproven >= limits.cookie_threshold_ip
            or load.at_risk >= COST_AT_RISK * limits.cookie_threshold
            or 0 < limits.init_limit_job_load <= load.waiting
            # It will be refused; but with a cookie in hand it is known for real when there is room again.
            or is_full
            or has_too_many
            or load.is_out_of_memory
        ):
            return ASK_COOKIE
        return SERVE
    if is_full:
        return "half_open_limit"
    if has_too_many:
        return "ike_sa_limit"
    if load.is_out_of_memory:
        return "memory"
    if 0 < limits.block_threshold <= load.proven:
        return "source_limit"
    if proof is not _SOLVED and wanted_difficulty(load.half_open, load.proven, limits):
        return ASK_PUZZLE if proof is _PROVEN else SERVE_FEW
    return SERVE


class Admission:
    """Decides about new peers of one worker, and counts those that are half open."""

    __slots__ = (
        "_at_risk",
        "_cookies",
        "_env",
        "_few",
        "_known_unproven",
        "_proven",
        "_spent",
        "_unproven",
        "half_open",
        "is_out_of_memory",
        "known",
    )

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._cookies = CookieJar(env.entropy)
        self._unproven: dict[bytes, int] = {}
        self._proven: dict[bytes, int] = {}
        self._known_unproven = 0
        """Those of `_unproven` that were let in because their prefixes are known."""
        self._at_risk = [0, 0]
        """What was computed for those of `_unproven`: for strangers, and for those."""
        self.known = KnownSources(env.settings.admission)
        self._few = RateLimit()
        # A solution is for one SA: else it would let in as many as send other values with the same nonce and SPI.
        self._spent: ExpiringMap[bytes, bool] = ExpiringMap(MAX_COOKIE_LIFE_S, _MAX_SPENT)
        self.half_open = 0
        """SAs, as original responder, whose peer has not authenticated itself."""
        self.is_out_of_memory = False
        """Whether no memory is left for new peers. Whoever drives us measures it."""

    def admit(self, header: Header, datagram: bytes, path: Path, turn: Turn, ike_sas: int) -> Admitted | None:
        """Decide about an IKE_SA_INIT request; None if it was answered with a cookie or a puzzle, or dropped.

        Raises WireError if a payload that is looked at is malformed.
        """
        env, limits = self._env, self._env.settings.admission
        remote = pack_address(path.remote)
        source = prefix_of(remote, limits)
        cookie = peek_cookie(datagram)
        proof = self._examine(cookie, header, datagram, remote, turn.now) if cookie else _NOTHING
        load = self._load(source, ike_sas)
        verdict = judge(load, limits, proof)
        if verdict == ASK_COOKIE:
            self._ask_cookie(header, datagram, remote, path, turn)
            return None
        if verdict == ASK_PUZZLE:
            prf = _prf_offered(datagram, header)
            if prf:
                difficulty = wanted_difficulty(load.half_open, load.proven, limits)
                self._ask_puzzle(header, datagram, remote, path, turn, Challenge(prf, difficulty))
                return None
            # We have no PRF in common. To say so is cheap, and what serving comes to (RFC 8019 section 7.1.1.2).
        elif verdict != SERVE and not (verdict == SERVE_FEW and self._few.take(turn.now, limits.puzzle_unsolved_rate)):
            env.count(f'datagrams_dropped_total{{reason="{verdict}"}}')
            return None
        return Admitted(source, proof is not _NOTHING, load.known is not None, cookie if proof is _SOLVED else b"")

    def _load(self, source: bytes, ike_sas: int) -> Load:
        """How much there is for a peer from that prefix."""
        is_known = source in self.known
        return Load(
            ike_sas,
            self.half_open,
            self._env.waiting(),
            self._unproven.get(source, 0),
            self._proven.get(source, 0),
            self.is_out_of_memory,
            self._known_unproven if is_known else None,
            self._at_risk[is_known],
        )

    def cookie_tags(self) -> tuple[bytes, bytes]:
        """What the cookies begin with that are good now."""
        return self._cookies.tags

    def asks_all(self, ike_sas: int) -> bool:
        """Whether each new peer from a prefix that is not known gets nothing but a cookie now."""
        at_risk = self._at_risk[False]
        load = Load(ike_sas, self.half_open, self._env.waiting(), 0, 0, self.is_out_of_memory, at_risk=at_risk)
        return judge(load, self._env.settings.admission, _NOTHING) == ASK_COOKIE

    def ask(self, datagram: bytes, path: Path, ike_sas: int, now: float) -> bytes | None:
        """The cookie for a new peer, where `asks_all` is in force; None for what needs a closer look, or is served.

        What a flood consists of is answered here with less than a fourth of what `admit` and all before it costs, and
        in the same way.
        """
        octets = len(datagram)
        if not HEADER_OCTETS <= octets <= MAX_INITIAL_OCTETS:
            return None
        spi_i, spi_r, next_payload, version, exchange_type, flags, length = _INITIAL_HEADER.unpack_from(datagram)
        if (
            length != octets
            or spi_r != NO_SPI
            or spi_i == NO_SPI
            or exchange_type != _IKE_SA_INIT
            or version >> 4 != _MAJOR_VERSION
            or flags & (FLAG_INITIATOR | FLAG_RESPONSE) != FLAG_INITIATOR
        ):
            return None
        remote = pack_once(path.remote)
        limits = self._env.settings.admission
        source = prefix_of(remote, limits)
        if source in self.known and judge(self._load(source, ike_sas), limits, _NOTHING) == SERVE:
            return None
        try:
            nonce = peek_nonce(datagram)
            if next_payload == _NOTIFY:
                cookie = peek_cookie(datagram)
                if cookie and self._cookies.is_good(cookie, nonce, remote, spi_i, now):
                    return None
                if cookie:
                    self._env.count("cookies_rejected_total")
        except WireError:
            return None
        return cookie_answer(spi_i, self._cookies.make(nonce, remote, spi_i, now))

    def _examine(self, cookie: bytes, header: Header, datagram: bytes, remote: bytes, now: float) -> Proof:
        """What a cookie, and what comes with it, prove."""
        count = self._env.count
        if not self._cookies.is_good(cookie, peek_nonce(datagram), remote, header.spi_i, now):
            count("cookies_rejected_total")
            return _NOTHING
        count("cookies_accepted_total")
        note = self._cookies.note_of(cookie)
        if note == NO_NOTE:
            return _PROVEN
        solution, challenge = peek_solution(datagram), decode_challenge(note)
        if not solution or challenge is None:
            return _UNSOLVED
        if self._spent.get(cookie) or not is_solution(solution, cookie, challenge):
            count("puzzles_rejected_total")
            return _UNSOLVED
        count("puzzles_accepted_total")
        return _SOLVED

    def _ask_cookie(self, header: Header, datagram: bytes, remote: bytes, path: Path, turn: Turn) -> None:
        cookie = self._cookies.make(peek_nonce(datagram), remote, header.spi_i, turn.now)
        self._env.count("cookies_sent_total")
        turn.effects.append(Send(cookie_answer(header.spi_i, cookie), path))

    def _ask_puzzle(
        self, header: Header, datagram: bytes, remote: bytes, path: Path, turn: Turn, challenge: Challenge
    ) -> None:
        """Answer with a cookie, and the puzzle that goes with it."""
        note = encode_challenge(challenge)
        cookie = self._cookies.make(peek_nonce(datagram), remote, header.spi_i, turn.now, note)
        self._env.count("cookies_sent_total")
        self._env.count("puzzles_sent_total")
        answer = stateless_answer(header, plain_notify(_COOKIE, cookie), plain_notify(_PUZZLE, note))
        turn.effects.append(Send(answer, path))

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

    def entered(self, sa: IkeSa, admitted: Admitted, now: float) -> None:
        """An SA is half open; `admitted` is what the request was let in with."""
        assert sa.handshake is not None and sa.suite is not None
        if admitted.spent:
            self._spent.take_expired(now)
            self._spent.put(admitted.spent, True, now)
        sa.handshake.admitted = admitted
        counts = self._proven if admitted.is_proven else self._unproven
        counts[admitted.source] = counts.get(admitted.source, 0) + 1
        if not admitted.is_proven:
            self._known_unproven += admitted.is_known
            self._at_risk[admitted.is_known] += sa.suite.ke.init_cost
        self.half_open += 1

    def established(self, sa: IkeSa) -> None:
        """The peer of a half-open SA has authenticated itself."""
        self.left(sa)
        assert sa.handshake is not None and sa.handshake.admitted is not None
        self.known.add(sa.handshake.admitted.source)

    def left(self, sa: IkeSa) -> None:
        """A half-open SA is established now, or closed."""
        assert sa.handshake is not None and sa.handshake.admitted is not None and sa.suite is not None
        admitted = sa.handshake.admitted
        counts = self._proven if admitted.is_proven else self._unproven
        remaining = counts[admitted.source] - 1
        if remaining:
            counts[admitted.source] = remaining
        else:
            del counts[admitted.source]
        if not admitted.is_proven:
            self._known_unproven -= admitted.is_known
            self._at_risk[admitted.is_known] -= sa.suite.ke.init_cost
        self.half_open -= 1

    def configure(self, limits: AdmissionSettings) -> None:
        """Go on with other limits."""
        self.known.configure(limits)


def _prf_offered(datagram: bytes, header: Header) -> int:
    """A PRF of the initiator's that we have, for its puzzle; 0 if there is none, or no offer."""
    for payload in decode_message(datagram, header).payloads:
        if isinstance(payload, SecurityAssociation):
            return choose_prf(payload)
    return 0
