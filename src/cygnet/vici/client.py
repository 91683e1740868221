"""A client of vici, for our own commands: blocking, one command at a time."""

import os
import socket
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Self

from cygnet.vici.message import Encodable, Section, ViciError, decode, encode
from cygnet.vici.packet import LENGTH, MAX_PACKET_OCTETS, Packet, PacketType, decode_packet, encode_packet

CONNECT_S: Final = 5
_READ_AHEAD_OCTETS: Final = 1 << 16
_TIMEVAL: Final = struct.Struct("@ll")


class ViciClient:
    """A connection to a daemon; a context manager."""

    def __init__(self, path: Path, *, timeout_s: float | None = 60.0) -> None:
        """Connect. `timeout_s` bounds every wait for the daemon. Raises OSError."""
        self._read_ahead = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Not by `settimeout`: a socket that doesn't block is turned away while many others wait to be accepted.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(CONNECT_S, 0))
            self._socket.connect(os.fspath(path))
            self._socket.settimeout(timeout_s)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; what the daemon still does for us it gives up."""
        self._socket.close()

    def request(
        self,
        command: str,
        message: Encodable | None = None,
        *,
        event: str = "",
        on_event: Callable[[Section], object] = lambda message: None,
    ) -> Section:
        """Run a command; returns its answer.

        `event` names the event by which the daemon streams its answer, or its log, meanwhile. Raises ViciError if the
        daemon doesn't know the command or is gone, and TimeoutError if it takes too long.
        """
        if event:
            self.register(event)
        self._send(Packet(PacketType.CMD_REQUEST, command, encode(message or {})))
        while True:
            packet = self._receive()
            if packet.type is PacketType.EVENT:
                on_event(decode(packet.body))
            elif packet.type is PacketType.CMD_RESPONSE:
                break
            elif packet.type is PacketType.CMD_UNKNOWN:
                raise ViciError(f"the daemon has no command {command}")
            else:
                raise ViciError(f"the daemon sent a {packet.type.name} for an answer")
        if event:
            self._register(PacketType.EVENT_UNREGISTER, event)
        return decode(packet.body)

    def register(self, event: str) -> None:
        """Want events of that name. Raises ViciError if the daemon has none such."""
        self._register(PacketType.EVENT_REGISTER, event)

    def events(self) -> Iterable[tuple[str, Section]]:
        """The events that were registered for, as they come."""
        while True:
            packet = self._receive()
            if packet.type is PacketType.EVENT:
                yield packet.name, decode(packet.body)

    def _register(self, kind: PacketType, event: str) -> None:
        self._send(Packet(kind, event))
        while (packet := self._receive()).type is PacketType.EVENT:
            pass
        if packet.type is not PacketType.EVENT_CONFIRM:
            raise ViciError(f"the daemon has no event {event}")

    def _send(self, packet: Packet) -> None:
        try:
            self._socket.sendall(encode_packet(packet))
        except TimeoutError:
            raise
        except OSError as exc:
            raise ViciError(exc.strerror or str(exc)) from exc

    def _receive(self) -> Packet:
        (octets,) = LENGTH.unpack(self._read(LENGTH.size))
        if octets > MAX_PACKET_OCTETS:
            raise ViciError(f"a packet of {octets} octets")
        return decode_packet(self._read(octets))

    def _read(self, octets: int) -> bytes:
        # A list comes as many small packets: they are fetched together.
        while len(self._read_ahead) < octets:
            try:
                part = self._socket.recv(max(octets - len(self._read_ahead), _READ_AHEAD_OCTETS))
            except TimeoutError:
                raise
            except OSError as exc:
                raise ViciError(exc.strerror or str(exc)) from exc
            if not part:
                raise ViciError("the daemon hung up")
            self._read_ahead += part
        taken = bytes(self._read_ahead[:octets])
        del self._read_ahead[:octets]
        return taken
