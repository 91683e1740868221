"""What waits in the receive queues of sockets, and what the kernel threw away because they were full."""

import os
import select
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from cygnet.net.sockets import EspSocket, UdpSocket
from cygnet.observe.system import UdpSocketState, udp_sockets

# The value of Linux (4.12), which the socket module of Python 3.11 does not name.
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
_MEMINFO_RECEIVE: Final = 0
_MEMINFO_DROPS: Final = 8


class ReceiveQueue(msgspec.Struct, frozen=True):
    """A socket's receive queue, or the sum of several."""

    waiting_octets: int = 0
    """What waits to be received, the kernel's book-keeping included (Recv-Q of `ss`); 0 if, and only if, nothing
    waits."""
    drops: int = 0
    """Datagrams thrown away since the socket was opened, because the queue was full."""

    def __add__(self, other: "ReceiveQueue") -> "ReceiveQueue":
        return ReceiveQueue(self.waiting_octets + other.waiting_octets, self.drops + other.drops)


def receive_queues(sockets: Sequence[UdpSocket | EspSocket]) -> dict[str, ReceiveQueue]:
    """The receive queues as they are now, by the kind of socket."""
    readable = _readable(sockets)
    by_inode: Mapping[int, UdpSocketState] | None = None
    queues: dict[str, ReceiveQueue] = {}
    for each in sockets:
        fd = each.socket.fileno()
        try:
            meminfo = _MEMINFO.unpack(each.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
            queue = ReceiveQueue(meminfo[_MEMINFO_RECEIVE], meminfo[_MEMINFO_DROPS])
        except OSError:  # before Linux 4.12, and in sandboxes that emulate it
            if by_inode is None:
                by_inode = {state.inode: state for state in udp_sockets()}
            state = by_inode.get(os.fstat(fd).st_ino)
            queue = ReceiveQueue(state.receive_queue_octets, state.drops) if state is not None else ReceiveQueue()
        if fd not in readable:
            # The kernel gives the memory of what was received back in bulk: an empty queue may still be charged for
            # up to a quarter of its buffer.
            queue = ReceiveQueue(0, queue.drops)
        queues[each.kind] = queues.get(each.kind, ReceiveQueue()) + queue
    return queues


def kernel_drops(sockets: Sequence[UdpSocket | EspSocket]) -> int:
    """Datagrams that the kernel threw away since these sockets were opened, because a queue was full."""
    return sum(queue.drops for queue in receive_queues(sockets).values())


def read_drops(inodes: Sequence[int]) -> int:
    """What `kernel_drops` says, for UDP sockets of any process in this network namespace, by their inodes."""
    wanted = frozenset(inodes)
    return sum(state.drops for state in udp_sockets() if state.inode in wanted)


def _readable(sockets: Iterable[UdpSocket | EspSocket]) -> frozenset[int]:
    """The descriptors of those in which something waits."""
    poll = select.poll()
    for each in sockets:
        poll.register(each.socket, select.POLLIN)
    return frozenset(fd for fd, events in poll.poll(0) if events & select.POLLIN)
