"""What the supervisor and a worker tell each other, and the channel they tell it over.

A channel is a pair of SOCK_SEQPACKET sockets: a message is a packet, a packet is a message. Neither side ever waits
for the other: what the kernel doesn't take is kept, up to a bound. A worker that restarts gets a new channel.
"""

import asyncio
import logging
import math
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from cygnet.gateway.claims import USED, Claim
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

_log = logging.getLogger(__name__)

MAX_WAITING: Final = 10_000
"""Messages kept for a side that doesn't read: some seconds of the busiest talk there is."""
_MAX_MESSAGE_OCTETS: Final = 65536
_MESSAGES_PER_TURN: Final = 256


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One message; each kind says who sends it."""


class Ready(Message, frozen=True, array_like=True, tag=True):
    """Worker: I serve."""


class Stop(Message, frozen=True, array_like=True, tag=True):
    """Supervisor: tell your peers and end; your end is answer enough."""


class LeaseRequest(Message, frozen=True, array_like=True, tag=True):
    """Worker: I have too few free addresses of this pool."""

    pool: str
    blocks: int
    """How many more I want."""
    free: int
    """How many addresses I have left."""
    is_urgent: bool = False
    """Whether a peer waits for one."""


class LeaseGrant(Message, frozen=True, array_like=True, tag=True):
    """Supervisor: these blocks of the pool are yours. None: there are none to be had now."""

    pool: str
    blocks: tuple[int, ...]


class LeaseRecall(Message, frozen=True, array_like=True, tag=True):
    """Supervisor: the pool has no more blocks, and another worker needs some; give back what you have to spare."""

    pool: str
    free: int
    """How many addresses the other worker has left."""
    is_urgent: bool = False
    """Whether a peer of its waits for one: then give back a block that nobody uses, if it is your last."""


class LeaseReturn(Message, frozen=True, array_like=True, tag=True):
    """Worker: nobody has an address of these blocks, and I will give none from now on."""

    pool: str
    blocks: tuple[int, ...]


class AddressWanted(Message, frozen=True, array_like=True, tag=True):
    """Worker: a peer of mine authenticates itself anew, and has this virtual address by another worker.

    Supervisor, to the worker that has it: hand it over.
    """

    pool: str
    address: bytes
    peer: tuple[int, bytes]
    """Type and data of its identity."""
    worker: int = -1
    """The one that wants it, as the supervisor says."""


class AddressHanded(Message, frozen=True, array_like=True, tag=True):
    """Worker, and supervisor to the one that wants it: the address is handed over; or not, if it isn't that peer's."""

    pool: str
    address: bytes
    peer: tuple[int, bytes]
    worker: int
    is_given: bool


class AddressReturned(Message, frozen=True, array_like=True, tag=True):
    """Worker: no peer of mine has an address any more that was handed to me. Supervisor: one that you handed over, or
    on, is yours again."""

    address: bytes


class AddressClaimed(Message, frozen=True, array_like=True, tag=True):
    """Worker: what I have for the packets to an address that was handed to me, or by me: an IKE_SA, and one that the
    peer receives on; or none, which is RESERVED."""

    address: bytes
    claim: Claim


class LonelyPeer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A peer that should have no IKE_SA but `sa` with this identity of ours (RFC 7296 section 2.4)."""

    sa: bytes
    local_id: tuple[int, bytes]
    """Type and data."""
    remote_id: tuple[int, bytes]
    demand: int = 0
    """What yours are to do: a `Demand`."""
    remote: str = ""
    """Its address in that IKE_SA."""
    begun: float = math.inf
    """When it began that, as the clock of all workers has it."""


class PeersAreAlone(Message, frozen=True, array_like=True, tag=True):
    """Worker, and supervisor to all others: close what you have of these peers besides."""

    peers: tuple[LonelyPeer, ...]


class PeersAreHeard(Message, frozen=True, array_like=True, tag=True):
    """Supervisor: what you said of these IKE_SAs has gone to all others, after what I have sent you before, and before
    what I send you after this."""

    sas: tuple[bytes, ...]


class AddRoute(Message, frozen=True, array_like=True, tag=True):
    """Worker: I want the packets for this prefix, such as `10.7.0.0/16`."""

    prefix: str
    claim: Claim = USED
    sa: tuple[str, int] = ("", 0)
    """Connection and number of its IKE_SA, for the log."""


class DelRoute(Message, frozen=True, array_like=True, tag=True):
    """Worker: I have that claim on it no longer."""

    prefix: str
    claim: Claim = USED


class AddAddress(Message, frozen=True, array_like=True, tag=True):
    """Worker: a peer has given me this virtual address, such as `10.3.0.7`."""

    address: str
    sa: tuple[str, int] = ("", 0)
    """Connection and number of the IKE_SA, for the log."""


class DelAddress(Message, frozen=True, array_like=True, tag=True):
    """Worker: the tunnel is gone that it was for."""

    address: str


class Diversion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What this host itself sends to a peer under one of its addresses, or a part of that."""

    local: str
    remote: str
    protocol: int = 0
    """0 for all."""
    local_ports: tuple[int, int] = (0, 65535)
    remote_ports: tuple[int, int] = (0, 65535)


class AddDiversion(Message, frozen=True, array_like=True, tag=True):
    """Worker: I want this, for a CHILD_SA in transport mode or for a trap."""

    diversion: Diversion
    claim: Claim = USED
    sa: tuple[str, int] = ("", 0)
    """Connection and number of its IKE_SA, for the log."""


class DelDiversion(Message, frozen=True, array_like=True, tag=True):
    """Worker: I have that claim on it no longer."""

    diversion: Diversion
    claim: Claim = USED


class Stranded(Message, frozen=True, array_like=True, tag=True):
    """Worker: a packet has come to my device, and the CHILD_SA that it was for has gone on to another worker.

    Supervisor, to the worker that has what it is for now: send it. That may be the one that it came from.
    """

    packet: bytes
    key: str | Diversion
    """The prefix or the diversion that has brought it."""


class Settled(Message, frozen=True, array_like=True, tag=True):
    """Worker: tell me when you have done what I asked of you before this. Supervisor: that is done."""

    number: int


class Ask(Message, frozen=True, array_like=True, tag=True):
    """Supervisor: a request for the control socket; its body is one of `worker_requests.py`."""

    number: int
    body: bytes


class Answer(Message, frozen=True, array_like=True, tag=True):
    """Worker: the answer to the request of that number, or a page of it."""

    number: int
    body: bytes
    is_last: bool


class Happened(Message, frozen=True, array_like=True, tag=True):
    """Worker: an event for clients of the control socket, as its name and its encoded message."""

    event: str
    body: bytes


class Interest(Message, frozen=True, array_like=True, tag=True):
    """Supervisor: the events that somebody wants to hear of, and no others."""

    events: tuple[str, ...]
    unread: dict[str, int] = {}
    """Events that only clients want who don't read them now, and how many do: they are counted, not told."""


class ChildUp(Message, frozen=True, array_like=True, tag=True):
    """Worker: a CHILD_SA is there that has a script; what the script is to know of it."""

    spi_in: bytes
    """Ours, by which its end will be told."""
    connection: str
    child: str
    unique_id: int
    """Of its IKE_SA."""
    reqid: int
    local_host: str
    remote_host: str
    remote_port: int
    """Of ESP in UDP; 0 for ESP without."""
    local_id: str
    remote_id: str
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    local_vips: tuple[str, ...]
    remote_vips: tuple[str, ...]
    servers: tuple[str, ...]
    """DNS servers that the peer has named."""


class ChildDown(Message, frozen=True, array_like=True, tag=True):
    """Worker: it is gone, and so are those that followed it by rekeying."""

    spi_in: bytes


class NameServers(Message, frozen=True, array_like=True, tag=True):
    """Worker: these are the DNS servers that my peers have given us; no others any more."""

    servers: tuple[str, ...]


class LogLevels(Message, frozen=True, array_like=True, tag=True):
    """Supervisor: log what reaches these severities, by group."""

    thresholds: dict[str, int]


AnyMessage = (
    Ready
    | Stop
    | LeaseRequest
    | LeaseGrant
    | LeaseRecall
    | LeaseReturn
    | AddressWanted
    | AddressHanded
    | AddressReturned
    | AddressClaimed
    | PeersAreAlone
    | PeersAreHeard
    | AddRoute
    | DelRoute
    | AddAddress
    | DelAddress
    | AddDiversion
    | DelDiversion
    | Settled
    | Stranded
    | Ask
    | Answer
    | Happened
    | Interest
    | LogLevels
    | ChildUp
    | ChildDown
    | NameServers
)

Errand = ChildUp | ChildDown | NameServers
"""What the supervisor does on the host for workers."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(AnyMessage)


class Channel:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._waiting: deque[bytes] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_message: Callable[[AnyMessage], None] | None = None
        self._on_end: Callable[[], None] | None = None

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """The two ends."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            end.setblocking(False)
        return cls(ends[0]), cls(ends[1])

    def fileno(self) -> int:
        """The descriptor of this end; -1 when it is closed."""
        return self._socket.fileno()

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_message: Callable[[AnyMessage], None], on_end: Callable[[], None]
    ) -> None:
        """Receive on a loop; `on_end` is called once, when the other side is gone."""
        self._loop = loop
        self._on_message = on_message
        self._on_end = on_end
        loop.add_reader(self._socket.fileno(), self._readable)
        if self._waiting:
            loop.add_writer(self._socket.fileno(), self._writable)

    def send(self, message: AnyMessage) -> bool:
        """Send, or keep to be sent; False if the other side is gone, or so far behind that the message is dropped."""
        octets = _encoder.encode(message)
        if self._waiting:
            if len(self._waiting) >= MAX_WAITING:
                return False
            self._waiting.append(octets)
            return True
        try:
            self._socket.send(octets)
        except BlockingIOError:
            self._waiting.append(octets)
            if self._loop is not None:
                self._loop.add_writer(self._socket.fileno(), self._writable)
        except OSError:
            # Reading tells why, and what to do.
            return False
        return True

    def close(self) -> None:
        """Leave the loop and close this end."""
        if self._socket.fileno() < 0:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._loop = None
        self._waiting.clear()
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(_MESSAGES_PER_TURN):
            if self._loop is None:
                return
            try:
                octets = self._socket.recv(_MAX_MESSAGE_OCTETS)
            except BlockingIOError:
                return
            except OSError:
                octets = b""
            if not octets:
                self._end()
                return
            try:
                message = _decoder.decode(octets)
            except msgspec.MsgspecError as exc:
                _log.error("a control message does not decode: %s", exc)
                continue
            if self._on_message is not None:
                self._on_message(message)

    def _writable(self) -> None:
        while self._waiting:
            try:
                self._socket.send(self._waiting[0])
            except BlockingIOError:
                return
            except OSError:
                self._waiting.clear()
                break
            self._waiting.popleft()
        if self._loop is not None:
            self._loop.remove_writer(self._socket.fileno())

    def _end(self) -> None:
        on_end = self._on_end
        self.close()
        if on_end is not None:
            on_end()
