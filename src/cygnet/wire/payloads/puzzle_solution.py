"""Puzzle Solution payload (RFC 8019 section 8.2).

+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
~                     Puzzle Solution Data                      ~
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from typing import ClassVar, Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.wire.errors import WireError, WireFault

SOLUTION_KEYS: Final = 4
"""Keys in a solution (RFC 8019 section 4.4): several, so that luck counts for less."""


class PuzzleSolution(msgspec.Struct, frozen=True, gc=False):
    """What an initiator has found out for being let in."""

    payload_type: ClassVar[PayloadType] = PayloadType.PS

    data: bytes
    """Four keys of equal length in a row; not empty."""


def decode_puzzle_solution(body: bytes) -> PuzzleSolution:
    """Take apart the body of a Puzzle Solution payload; raises `WireError` if it can't be cut into four keys."""
    if not body or len(body) % SOLUTION_KEYS:
        raise WireError(WireFault.BAD_LENGTH)
    return PuzzleSolution(body)


def encode_puzzle_solution(payload: PuzzleSolution) -> bytes:
    """The body of a Puzzle Solution payload; raises `WireError` if it can't be cut into four keys."""
    if not payload.data or len(payload.data) % SOLUTION_KEYS:
        raise WireError(WireFault.BAD_LENGTH)
    return payload.data
