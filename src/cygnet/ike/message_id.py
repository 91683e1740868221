"""Message IDs, the response cache and retransmission (RFC 7296 sections 2.1 to 2.3), for a window of one.

Both windows of an IKE_SA are here: of the requests that we send, and of those that the peer sends. Exchanges
never touch a message ID.
"""

import zlib
from enum import Enum

import msgspec

from cygnet.ike.settings import RetransmitPolicy
from cygnet.ike.tasks import Task

_SPIS_OCTETS = 16
_CRC_RANGE = 1 << 32


class Arrival(Enum):
    """What a request of the peer is, by its message ID."""

    NEW = "new"
    REPEATED = "repeated"
    """The one that we answered last, octet for octet: it is answered again from the cache."""
    STALE = "stale"
    """Answered before that, or the cached ID with other octets: a replay."""
    BEYOND = "beyond"
    """Past the window."""


# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_NEW = Arrival.NEW
_REPEATED = Arrival.REPEATED
_STALE = Arrival.STALE


class Outstanding(msgspec.Struct, gc=False, array_like=True):
    """A request of ours that waits for its response."""

    message_id: int
    exchange_type: int
    datagram: bytes
    """A flight, see `protected.py`: nearly always one datagram."""
    sent: int
    """How often it went out."""
    due: float
    """When it goes out again, or the peer is given up: seconds of the driver's monotonic clock."""
    task: Task | None = None
    """What it serves; None in the exchanges that set an IKE_SA up."""


class LastWords(msgspec.Struct, frozen=True, gc=False):
    """The last request that an IKE_SA answered and that answer, kept after the SA is gone (RFC 7296 section 2.1)."""

    request_hash: int
    response: bytes


class MessageIds(msgspec.Struct, gc=False, eq=False, array_like=True):
    """The two windows of one IKE_SA."""

    next_id: int = 0
    """The message ID of our next request."""
    expected_id: int = 0
    """The message ID of the peer's next request."""
    outstanding: Outstanding | None = None
    cached_response: bytes = b""
    """The response to the peer's last request; a flight too."""
    request_hash: int = 0
    """Of that request, or of its first fragment."""
    answered_at: float = 0.0
    """When it was answered, in seconds of the driver's clock; 0.0 before the SA is established."""

    # The peer's requests.

    def classify(self, message_id: int, datagram: bytes) -> Arrival:
        """Place a request that has arrived; nothing of it needs to be authenticated for that."""
        if message_id == self.expected_id:
            return _NEW
        if message_id > self.expected_id:
            return Arrival.BEYOND
        if message_id == self.expected_id - 1 and self.cached_response and hash(datagram) == self.request_hash:
            return _REPEATED
        return _STALE

    def answered(self, request: bytes, response: bytes) -> None:
        """Remember the response to the request that was expected, and expect the next."""
        # Python's hash of octets is keyed anew in each process: a peer can't aim for a collision.
        self.request_hash = hash(request)
        self.cached_response = response
        self.expected_id += 1

    def last_words(self) -> LastWords | None:
        """What is to be kept when the SA goes; None if it never answered a request."""
        return LastWords(self.request_hash, self.cached_response) if self.cached_response else None

    # Our requests.

    def sent(
        self, exchange_type: int, datagram: bytes, policy: RetransmitPolicy, now: float, task: Task | None = None
    ) -> None:
        """Note that the request with `next_id` went out for the first time."""
        self.outstanding = Outstanding(
            message_id=self.next_id,
            exchange_type=exchange_type,
            datagram=datagram,
            sent=1,
            due=now + wait_before(1, policy, datagram),
            task=task,
        )
        self.next_id += 1

    def restart(self) -> None:
        """Begin again at message ID 0: IKE_SA_INIT is repeated with a cookie or another key exchange method."""
        self.outstanding = None
        self.next_id = 0

    def is_awaited(self, message_id: int, exchange_type: int) -> bool:
        """Whether a response answers our outstanding request."""
        waiting = self.outstanding
        return waiting is not None and (waiting.message_id, waiting.exchange_type) == (
            message_id,
            exchange_type,
        )

    def response_received(self) -> None:
        """The outstanding request is answered."""
        self.outstanding = None

    def begin_again(self, policy: RetransmitPolicy, now: float) -> bytes | None:
        """The outstanding request, to be sent again now as if for the first time: on another path. None without one."""
        waiting = self.outstanding
        if waiting is None:
            return None
        waiting.sent = 1
        waiting.due = now + wait_before(1, policy)
        return waiting.datagram

    def retransmit(self, policy: RetransmitPolicy, now: float) -> bytes | None:
        """The outstanding request, to be sent again now; None once all tries are used up."""
        waiting = self.outstanding
        if waiting is None or waiting.sent > policy.tries:
            return None
        waiting.sent += 1
        waiting.due = now + wait_before(waiting.sent, policy, waiting.datagram)
        return waiting.datagram


def wait_before(sent: int, policy: RetransmitPolicy, datagram: bytes = b"") -> float:
    """Seconds to wait after a request, `datagram`, went out `sent` times."""
    wait = policy.timeout_s * policy.base ** (sent - 1)
    if policy.limit_s > 0:
        wait = min(wait, policy.limit_s)
    if policy.jitter:
        # The SPIs are random, and so is this, anew for each time: what began in step doesn't go on in step.
        wait *= 1 - policy.jitter / 100 * zlib.crc32(datagram[:_SPIS_OCTETS], sent) / _CRC_RANGE
    return wait
