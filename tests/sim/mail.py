"""A network on which nothing moves by itself: the test says which datagram arrives when."""

from collections.abc import Callable

from tests.sim.world import Host, World

from cygnet.iana import NotifyType
from cygnet.ike.effects import Send
from cygnet.ike.path import Path
from cygnet.ike.protected import open_message
from cygnet.ike.sa import IkeSa
from cygnet.ike.tasks import Task
from cygnet.wire.header import decode_header
from cygnet.wire.message import decode_message, decode_payloads
from cygnet.wire.payloads import Encrypted, Payload
from cygnet.wire.payloads.delete import Delete
from cygnet.wire.payloads.notify import Notify

FIRST_STATUS = 16384


class Mail:
    """Holds what two hosts send to each other from now on, until it is delivered."""

    def __init__(self, world: World, a: Host, b: Host) -> None:
        self.world = world
        self._peer = {a.address: b, b.address: a}
        self.held: dict[str, list[Send]] = {a.address: [], b.address: []}
        self.asked: list[tuple[str, Task]] = []
        """Every request that was sent, with who sent it."""
        self._seen: set[bytes] = set()
        world.tamper = self._hold

    def _hold(self, host: Host, send: Send) -> tuple[Send, ...]:
        self.held[host.address].append(send)
        if send.datagram not in self._seen and not decode_header(send.datagram).is_response:
            self._seen.add(send.datagram)
            for sa in host.table.sas.values():
                waiting = sa.message_ids.outstanding
                if waiting is not None and waiting.datagram == send.datagram and waiting.task is not None:
                    self.asked.append((host.address, waiting.task))
        return ()

    def carry(self, host: Host) -> None:
        """Deliver the oldest datagram that `host` has sent."""
        send = self.held[host.address].pop(0)
        path = send.path
        self._peer[host.address].receive(
            send.datagram, Path(path.remote, path.remote_port, path.local, path.local_port)
        )

    def lose(self, host: Host) -> None:
        """It never arrives."""
        self.held[host.address].pop(0)

    def carry_all(self) -> None:
        """Deliver until nobody says anything more."""
        while any(self.held.values()):
            for address, sends in self.held.items():
                if sends:
                    self.carry(self.world.hosts[address])

    def release(self) -> None:
        """Deliver what is held, and from now on at once."""
        self.carry_all()
        self.world.tamper = lambda host, send: (send,)

    def read(self, host: Host, by: IkeSa) -> tuple[Payload, ...]:
        """What is in the oldest datagram that `host` has sent, opened with the peer's SA."""
        datagram = self.held[host.address][0].datagram
        encrypted = decode_message(datagram).payloads[-1]
        assert isinstance(encrypted, Encrypted) and by.incoming is not None
        return tuple(decode_payloads(encrypted.inner_type, open_message(by.incoming, datagram, encrypted)))


def describe(payloads: tuple[Payload, ...]) -> str:
    """A response in the words of RFC 7296 section 2.25."""
    if not payloads:
        return "without a Delete payload"
    for payload in payloads:
        if isinstance(payload, Notify) and payload.notify_type < FIRST_STATUS:
            return NotifyType(payload.notify_type).name
        if isinstance(payload, Delete):
            return "with a Delete payload"
    return "as usual"


def entropy_with_nonces(host: Host, *first_octets: int) -> None:
    """Let the next nonces of `host` begin with these octets: which of several is the lowest is the test's to say."""
    draw: Callable[[int], bytes] = host.env.entropy
    coming = list(first_octets)

    def entropy(octets: int) -> bytes:
        drawn = draw(octets)
        return bytes((coming.pop(0),)) + drawn[1:] if octets == 32 and coming else drawn

    host.env.entropy = entropy
