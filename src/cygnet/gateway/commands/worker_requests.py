"""What the supervisor asks workers, and their answers, on behalf of the control socket.

Each is the body of an `Ask` or an `Answer`, see `control.py`. A request is answered by one body, or page by page: a
page is made when the one before was taken, so a slow reader costs a worker nothing.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from cygnet.vici.backend import Lease
from cygnet.vici.views import SaFilter


class _Body(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Tagged by its kind."""


class ListSas(_Body, frozen=True, array_like=True, tag=True):
    """-> `SaPage`, several times."""

    chosen: SaFilter


class NextPage(_Body, frozen=True, array_like=True, tag=True):
    """The page of a list was taken; -> the next."""


class Forget(_Body, frozen=True, array_like=True, tag=True):
    """Nobody wants the answer any more; there is none to this."""


class Configure(_Body, frozen=True, array_like=True, tag=True):
    """A part of a piece of new settings, see `changes.py`; -> `Done` when all of them are in force."""

    octets: bytes
    ends_piece: bool
    is_last: bool


class Initiate(_Body, frozen=True, array_like=True, tag=True):
    """Set up a CHILD_SA of a connection, or without `child` the IKE_SA; -> `Done` or `Failed`, when that is known."""

    ike: str
    child: str


class Terminate(_Body, frozen=True, array_like=True, tag=True):
    """End SAs; -> `Counted`, when they have ended."""

    chosen: SaFilter
    is_forced: bool


class Rekey(_Body, frozen=True, array_like=True, tag=True):
    """Begin to give SAs new keys; -> `Counted`."""

    chosen: SaFilter
    is_reauthentication: bool


class UsePools(_Body, frozen=True, array_like=True, tag=True):
    """How are the pools used? -> `PoolPage`, several times, with leases only if asked for."""

    name: str
    with_leases: bool


class RetirePools(_Body, frozen=True, array_like=True, tag=True):
    """Give no more addresses of these pools; -> `PoolsInUse`."""

    names: tuple[str, ...]


class KeepPools(_Body, frozen=True, array_like=True, tag=True):
    """Give addresses of them again; -> `Done`."""

    names: tuple[str, ...]


class ListTraps(_Body, frozen=True, array_like=True, tag=True):
    """Which children do packets set up? -> `TrapPage`, several times."""


class ListTallies(_Body, frozen=True, array_like=True, tag=True):
    """What was counted for the connections, or the one of that name? -> `TallyPage`, several times."""

    name: str


class SaPage(_Body, frozen=True, array_like=True, tag=True):
    """Some of the SAs, as packets of the event `list-sa`."""

    packets: bytes
    is_whole: bool = True
    """False: the last packet goes on in the next page."""


class PoolPage(_Body, frozen=True, array_like=True, tag=True):
    """Of one pool, how many addresses are in use, and some of their leases."""

    name: str
    in_use: int
    leases: tuple[Lease, ...]


class PoolsInUse(_Body, frozen=True, array_like=True, tag=True):
    """Those of the pools of which addresses are in use, and how many."""

    in_use: dict[str, int]


class TrapPage(_Body, frozen=True, array_like=True, tag=True):
    """Some of the traps, each by the names of its connection and child."""

    traps: tuple[tuple[str, str], ...]


class TallyPage(_Body, frozen=True, array_like=True, tag=True):
    """What was counted for some connections, by their names."""

    tallies: dict[str, dict[str, int]]


class Done(_Body, frozen=True, array_like=True, tag=True):
    """It is done."""


class Counted(_Body, frozen=True, array_like=True, tag=True):
    """How many were meant, and for how many it is done."""

    matches: int
    done: int = 0


class Failed(_Body, frozen=True, array_like=True, tag=True):
    """It can't be done."""

    why: str


Request = (
    ListSas
    | NextPage
    | Forget
    | Configure
    | Initiate
    | Terminate
    | Rekey
    | UsePools
    | RetirePools
    | KeepPools
    | ListTraps
    | ListTallies
)
Reply = SaPage | PoolPage | PoolsInUse | TrapPage | TallyPage | Done | Counted | Failed

_encoder: Final = msgspec.msgpack.Encoder()
_requests: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_replies: Final[msgspec.msgpack.Decoder[Reply]] = msgspec.msgpack.Decoder(Reply)


def trap_pages(traps: Iterable[tuple[str, str]], octets: int) -> list[TrapPage]:
    """At least one page, none of them much longer than that."""
    pages: list[list[tuple[str, str]]] = [[]]
    used = 0
    for names in traps:
        used += len(_encoder.encode(names))
        if used > octets:
            pages.append([])
            used = 0
        pages[-1].append(names)
    return [TrapPage(tuple(page)) for page in pages]


def encode_body(body: Request | Reply) -> bytes:
    """The body of a message."""
    return _encoder.encode(body)


def decode_request(octets: bytes) -> Request:
    """Raises msgspec.MsgspecError."""
    return _requests.decode(octets)


def decode_reply(octets: bytes) -> Reply:
    """Raises msgspec.MsgspecError."""
    return _replies.decode(octets)
