"""Client puzzles (RFC 8019): work that a peer does before it is let in, while too many are.

A cookie proves an address, and an attacker with many addresses returns them all. So under more load we ask for four
keys under which a PRF of the cookie ends in so many zero bits. To find them takes 4 * 2^bits tries on average, to check
them takes us four.

Threat: as initiator we must not be made to compute for ever, and nothing else may wait while we do. Puzzles above our
`puzzle_effort` are left unsolved, as by a peer that knows of none (section 7.1.2), and the others are worked at in
slices, between which the event loop sees to everything else.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from cygnet.crypto.prf import PRF, PrfAlgorithm
from cygnet.iana.transforms import PrfId, TransformType
from cygnet.ike.settings import AdmissionSettings
from cygnet.wire.payloads.puzzle_solution import SOLUTION_KEYS
from cygnet.wire.payloads.security_association import SecurityAssociation

_PRF_TYPE: Final = TransformType.PRF

SLICE_TRIES: Final = 1000
"""Keys that are tried between two looks at the event loop: some 2 ms."""
OWN_DIFFICULTY: Final = 12
"""Zero bits that we look for where the responder leaves it to us (section 7.1.1.1)."""
MAX_DIFFICULTY: Final = 24
"""The most that we ask for, or work for: a minute of an attacker's machine, and several of ours."""
MAX_KEY_OCTETS: Final = 64
"""Keys of solutions that we look at are not longer: no peer needs more, and a longer one would be hashed first."""
_OWN_KEY_OCTETS: Final = 4
"""Enough for 64 times as many keys as the hardest puzzle takes."""


class Challenge(msgspec.Struct, frozen=True, gc=False):
    """What a PUZZLE notify asks for (RFC 8019 section 8.1)."""

    prf: int
    """Transform ID."""
    difficulty: int
    """Zero bits at the end; 0 leaves it to the initiator."""


CHALLENGE_OCTETS: Final = 3


def encode_challenge(challenge: Challenge) -> bytes:
    """The data of a PUZZLE notify."""
    return challenge.prf.to_bytes(2, "big") + bytes((challenge.difficulty,))


def decode_challenge(data: bytes) -> Challenge | None:
    """Take apart the data of a PUZZLE notify; None if it is none."""
    if len(data) != CHALLENGE_OCTETS:
        return None
    return Challenge(int.from_bytes(data[:2], "big"), data[2])


def algorithm_of(number: int) -> PrfAlgorithm | None:
    """The PRF with that transform ID, if we have it."""
    try:
        return PRF.get(PrfId(number))
    except ValueError:
        return None


# As responder.


def choose_prf(offer: SecurityAssociation) -> int:
    """The first PRF of the initiator's offer that we have (section 7.1.1.2); 0 if there is none."""
    for proposal in offer.proposals:
        for transform in proposal.transforms:
            if transform.type == _PRF_TYPE and algorithm_of(transform.id) is not None:
                return transform.id
    return 0


def wanted_difficulty(half_open: int, from_source: int, limits: AdmissionSettings) -> int:
    """Zero bits to ask for: more, the nearer the limits are. 0 asks for none.

    `half_open` SAs are there in all, `from_source` of them from the peer's prefix and with proven address.
    """
    level = max(
        _level(half_open, limits.puzzle_threshold, limits.init_limit_half_open),
        _level(from_source, limits.puzzle_threshold_ip, limits.block_threshold),
    )
    if level < 0:
        return 0
    return limits.puzzle_difficulty + round(level * max(0, limits.puzzle_max_difficulty - limits.puzzle_difficulty))


def _level(number: int, threshold: int, limit: int) -> float:
    """From 0 at the threshold to 1 at the limit, or at twice the threshold where there is no limit; below it -1."""
    if not threshold or number < threshold:
        return -1.0
    span = limit - threshold if limit > threshold else threshold
    return min(1.0, (number - threshold) / span)


def is_solution(data: bytes, cookie: bytes, challenge: Challenge) -> bool:
    """Whether these are four different keys of equal length that solve the puzzle of that cookie."""
    octets, rest = divmod(len(data), SOLUTION_KEYS)
    algorithm = algorithm_of(challenge.prf)
    if rest or not 0 < octets <= MAX_KEY_OCTETS or algorithm is None:
        return False
    keys = [data[start : start + octets] for start in range(0, len(data), octets)]
    if len(set(keys)) != SOLUTION_KEYS:
        return False
    mask = (1 << challenge.difficulty) - 1
    return all(not int.from_bytes(algorithm.once(key, cookie), "big") & mask for key in keys)


# As initiator.


class Solver:
    """Looks for the four keys of one puzzle, a slice at a time."""

    __slots__ = ("_cookie", "_found", "_mask", "_next", "_once")

    def __init__(self, cookie: bytes, algorithm: PrfAlgorithm, difficulty: int) -> None:
        self._cookie = cookie
        self._once = algorithm.once
        self._mask = (1 << difficulty) - 1
        self._next = 0
        self._found: list[bytes] = []

    def work(self, tries: int = SLICE_TRIES) -> bytes:
        """Try so many keys more; the data of the solution, or empty as long as there is none."""
        cookie, once, mask, found = self._cookie, self._once, self._mask, self._found
        for number in range(self._next, self._next + tries):
            key = number.to_bytes(_OWN_KEY_OCTETS, "big")
            if not int.from_bytes(once(key, cookie), "big") & mask:
                found.append(key)
                if len(found) == SOLUTION_KEYS:
                    return b"".join(found)
        self._next += tries
        return b""


def solver_of(cookie: bytes, challenge: Challenge, effort: int) -> Solver | None:
    """Who solves that puzzle; None if that is beyond us, or harder than `effort` zero bits."""
    algorithm = algorithm_of(challenge.prf)
    difficulty = challenge.difficulty or min(OWN_DIFFICULTY, effort)
    if algorithm is None or not effort or difficulty > min(effort, MAX_DIFFICULTY):
        return None
    return Solver(cookie, algorithm, difficulty)


class Solvers:
    """The puzzles that the SAs of one worker wait for, in turn."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, Solver]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, spi: bytes, solver: Solver) -> None:
        """Work for the SA with that SPI of ours."""
        self._queue.append((spi, solver))

    def work(self, is_waiting: Callable[[bytes], bool]) -> tuple[bytes, bytes] | None:
        """One slice for the SA whose turn it is, if it still waits; its SPI and its solution, if that is found."""
        if not self._queue:
            return None
        spi, solver = self._queue.popleft()
        if not is_waiting(spi):
            return None
        solution = solver.work()
        if solution:
            return spi, solution
        self._queue.append((spi, solver))
        return None
