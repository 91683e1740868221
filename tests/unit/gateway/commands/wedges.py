"""Clients of the control socket that do it no good: what broken scripts, and people in a hurry, may do at once."""

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cygnet.vici.message import Encodable, decode, encode
from cygnet.vici.packet import LENGTH, Packet, PacketType, decode_packet, encode_packet

EVENTS = ("ike-updown", "child-updown", "ike-rekey", "child-rekey", "ike-update", "log")
INITIATE_EVERY_S = 0.01
INITIATE_LIMIT_MS = 1
_TIMEOUT_S = 30.0

Opening = Callable[[Path], socket.socket]
_SMALL_BUFFER_OCTETS = 4096


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_OCTETS)
    client.connect(str(path))
    client.settimeout(_TIMEOUT_S)
    return client


def command(name: str, message: Encodable) -> bytes:
    return encode_packet(Packet(PacketType.CMD_REQUEST, name, encode(message)))


def receive(client: socket.socket) -> Packet:
    head = client.recv(LENGTH.size, socket.MSG_WAITALL)
    if len(head) < LENGTH.size:
        raise ConnectionResetError
    return decode_packet(client.recv(LENGTH.unpack(head)[0], socket.MSG_WAITALL))


def half_a_message(path: Path) -> socket.socket:
    """Begins a packet, and stops."""
    client = connect(path)
    client.sendall(command("stats", {"x": "y" * 100})[:20])
    return client


def no_reader(path: Path) -> socket.socket:
    """Asks for long lists, and reads nothing."""
    client = connect(path)
    client.sendall(encode_packet(Packet(PacketType.EVENT_REGISTER, "list-sa")))
    for _ in range(8):
        client.sendall(command("list-sas", {}) + command("list-conns", {}))
    return client


def idle(path: Path) -> socket.socket:
    """Says nothing."""
    return connect(path)


def stopped_subscriber(path: Path) -> socket.socket:
    """Wants to hear of everything, and reads no more once that is confirmed."""
    client = connect(path)
    for event in EVENTS:
        client.sendall(encode_packet(Packet(PacketType.EVENT_REGISTER, event)))
        while receive(client).type is PacketType.EVENT:
            pass
    return client


class Wedges:
    """All of them at once, and set up again as soon as the daemon hangs up on one. Between `with` and its end."""

    def __init__(self, path: Path, child: str, *, many: int = 200, few: int = 4) -> None:
        """`child` is what is initiated, again and again; its peer is to be one that doesn't answer."""
        self._path = path
        self._child = child
        self._kinds: tuple[tuple[Opening, int], ...] = (
            (half_a_message, few),
            (no_reader, few),
            (idle, many),
            (stopped_subscriber, few),
        )
        self._clients: list[tuple[Opening, socket.socket]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._keep_open), threading.Thread(target=self._initiate)]
        self.initiated = 0
        """How often something was initiated, and given up after a millisecond."""
        self.reopened = 0
        """How many clients the daemon has hung up on."""
        self.errors: list[str] = []

    def __enter__(self) -> "Wedges":
        for opening, number in self._kinds:
            self._clients += [(opening, opening(self._path)) for _ in range(number)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for _, client in self._clients:
            client.close()

    def _keep_open(self) -> None:
        while not self._stop.wait(0.5):
            for place, (opening, client) in enumerate(list(self._clients)):
                if self._is_hung_up_on(client):
                    client.close()
                    self.reopened += 1
                    self._clients[place] = (opening, opening(self._path))

    @staticmethod
    def _is_hung_up_on(client: socket.socket) -> bool:
        """Without reading: what was sent before it hung up may still wait."""
        with suppress(OSError):
            poll = select.poll()
            # Nothing but what is told of in any case: that it was hung up.
            poll.register(client, 0)
            return bool(poll.poll(0))
        return True

    def _initiate(self) -> None:
        with connect(self._path) as client:
            while not self._stop.wait(INITIATE_EVERY_S):
                began = time.monotonic()
                client.sendall(command("initiate", {"child": self._child, "timeout": INITIATE_LIMIT_MS}))
                answer = decode(receive(client).body)
                self.initiated += 1
                # The attempt that all of them wait for fails now and then, for whoever waits just then.
                why = answer.get("errmsg", b"")
                is_given_up = isinstance(why, bytes) and why.endswith(
                    (b"not established after 1ms", b": timeout ike sa init")
                )
                if answer.get("success") != b"no" or not is_given_up:
                    self.errors.append(f"{answer} after {time.monotonic() - began:.3f} s")
