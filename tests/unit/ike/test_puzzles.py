"""Puzzles: what solves one, how hard they get, and who works at which."""

import hashlib
import hmac

import pytest

from cygnet.crypto.prf import PRF
from cygnet.iana.transforms import PrfId, TransformType
from cygnet.ike.puzzles import (
    MAX_KEY_OCTETS,
    OWN_DIFFICULTY,
    SLICE_TRIES,
    Challenge,
    Solver,
    Solvers,
    choose_prf,
    decode_challenge,
    encode_challenge,
    is_solution,
    solver_of,
    wanted_difficulty,
)
from cygnet.ike.settings import AdmissionSettings
from cygnet.wire.payloads import Proposal, SecurityAssociation, Transform

COOKIE = bytes.fromhex("739ae7492d8a810cf5e8dc0f9626c9dda773c5a3")
SHA256 = int(PrfId.HMAC_SHA2_256)
EASY = Challenge(SHA256, 8)


def solve(challenge: Challenge, cookie: bytes = COOKIE) -> bytes:
    solver = solver_of(cookie, challenge, 24)
    assert solver is not None
    while not (solution := solver.work()):
        pass
    return solution


@pytest.mark.parametrize("prf", sorted(PRF))
def test_what_we_find_is_what_we_take(prf: PrfId) -> None:
    challenge = Challenge(int(prf), 6)
    solution = solve(challenge)
    assert is_solution(solution, COOKIE, challenge)
    assert not is_solution(solution, COOKIE[:-1] + b"?", challenge)


def test_the_result_of_each_key_ends_in_zero_bits() -> None:
    """RFC 8019 section 4.4, computed with nothing of ours: PRF(key, cookie), zeros at the right-hand end."""
    solution = solve(Challenge(SHA256, 11))
    keys = [solution[n : n + 4] for n in range(0, 16, 4)]
    assert len(set(keys)) == 4
    for key in keys:
        octets = hmac.new(key, COOKIE, hashlib.sha256).digest()
        assert octets[-1] == 0 and octets[-2] & 0x07 == 0


def test_a_harder_puzzle_is_not_solved_by_the_solution_of_an_easier_one() -> None:
    solution = solve(EASY)
    assert is_solution(solution, COOKIE, Challenge(SHA256, 7))
    assert not is_solution(solution, COOKIE, Challenge(SHA256, 24))
    assert not is_solution(solution, COOKIE, Challenge(int(PrfId.HMAC_SHA2_512), 8))


def test_what_is_no_solution() -> None:
    solution = solve(EASY)
    first = solution[:4]
    for data in (
        b"",
        solution[:-1],
        solution[:-4] + first,
        first * 4,
        solution[:8],
        bytes(4 * (MAX_KEY_OCTETS + 1)),
    ):
        assert not is_solution(data, COOKIE, EASY)
    assert not is_solution(solution, COOKIE, Challenge(0, 8))
    assert not is_solution(solution, COOKIE, Challenge(65000, 8))


def test_the_notify() -> None:
    assert encode_challenge(Challenge(5, 18)).hex() == "000512"
    assert decode_challenge(bytes.fromhex("000512")) == Challenge(5, 18)
    assert decode_challenge(b"\0\5") is None and decode_challenge(b"\0\5\x12\0") is None


LIMITS = AdmissionSettings(
    puzzle_threshold=100,
    init_limit_half_open=200,
    puzzle_threshold_ip=10,
    block_threshold=20,
    puzzle_difficulty=10,
    puzzle_max_difficulty=16,
)


@pytest.mark.parametrize(
    ("half_open", "from_source", "difficulty"),
    [
        (0, 0, 0),
        (99, 9, 0),
        (100, 0, 10),
        (150, 0, 13),
        (200, 0, 16),
        (10**6, 0, 16),
        (0, 10, 10),
        (0, 15, 13),
        (150, 10, 13),
        (100, 19, 15),
    ],
)
def test_difficulty_grows_with_load(half_open: int, from_source: int, difficulty: int) -> None:
    assert wanted_difficulty(half_open, from_source, LIMITS) == difficulty


def test_thresholds_of_zero_never_ask() -> None:
    assert wanted_difficulty(10**6, 10**6, AdmissionSettings(puzzle_threshold=0, puzzle_threshold_ip=0)) == 0


def test_without_a_limit_twice_the_threshold_is_the_hardest() -> None:
    limits = AdmissionSettings(puzzle_threshold=0, puzzle_threshold_ip=10, block_threshold=0)
    assert wanted_difficulty(0, 10, limits) == limits.puzzle_difficulty
    assert wanted_difficulty(0, 20, limits) == wanted_difficulty(0, 999, limits) == limits.puzzle_max_difficulty


def test_the_prf_is_one_that_both_have() -> None:
    def offer(*ids: int) -> SecurityAssociation:
        transforms = tuple(Transform(int(TransformType.PRF), number) for number in ids)
        return SecurityAssociation((Proposal(1, 1, b"", (Transform(1, 20, 128), *transforms)),))

    assert choose_prf(offer(1000, SHA256, int(PrfId.HMAC_SHA1))) == SHA256
    assert choose_prf(offer(1000)) == 0
    assert choose_prf(offer()) == 0


@pytest.mark.parametrize(
    ("challenge", "effort", "is_solved"),
    [
        (Challenge(SHA256, 18), 18, True),
        (Challenge(SHA256, 19), 18, False),
        (Challenge(SHA256, 255), 24, False),
        (Challenge(SHA256, 1), 0, False),
        (Challenge(SHA256, 0), 18, True),
        (Challenge(SHA256, 0), 0, False),
        (Challenge(1000, 8), 18, False),
    ],
)
def test_puzzles_beyond_our_effort_are_left(challenge: Challenge, effort: int, is_solved: bool) -> None:
    assert (solver_of(COOKIE, challenge, effort) is not None) == is_solved


def test_a_difficulty_of_zero_leaves_it_to_us() -> None:
    solution = solve(Challenge(SHA256, 0))
    assert is_solution(solution, COOKIE, Challenge(SHA256, OWN_DIFFICULTY))


def test_solvers_take_turns_and_forget_who_is_gone() -> None:
    solvers = Solvers()
    algorithm = PRF[PrfId.HMAC_SHA2_256]
    for spi in (b"one", b"two", b"gone"):
        solvers.add(spi, Solver(COOKIE + spi, algorithm, 9))
    found = []
    slices = 0
    while solvers:
        slices += 1
        done = solvers.work(lambda spi: spi != b"gone")
        if done is not None:
            found.append(done)
    assert sorted(spi for spi, _ in found) == [b"one", b"two"]
    for spi, solution in found:
        assert is_solution(solution, COOKIE + spi, Challenge(SHA256, 9))
    assert slices >= 2 * 4 * 2**9 // 2 // SLICE_TRIES + 1
