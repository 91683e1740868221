"""Serves vici on a UNIX socket, to clients that may be slow, silent, broken or many.

A command runs as a task of its own, with a deadline, and is cancelled when its client hangs up. Commands of one client
run one after the other. What a client doesn't read is kept up to a bound: a command that streams its answer waits for
it, for a while; an event that others caused is dropped then, and counted. No client can delay another one, or the
daemon.
"""

import asyncio
import errno
import grp
import logging
import os
import pwd
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from cygnet.observe.counters import Count
from cygnet.vici.message import Encodable, Encoded, Section, ViciError, decode, encode
from cygnet.vici.packet import LENGTH, MAX_PACKET_OCTETS, Packet, PacketType, decode_packet, encode_event, encode_packet

_log = logging.getLogger(__name__)

MAX_CLIENTS: Final = 2048
"""Connections at a time; a daemon has a handful, and a broken script of its administrator's some more."""
MAX_WAITING_OCTETS: Final = 1 << 20
"""Kept of events for a client that doesn't read: two of the largest packets, or some thousand usual ones."""
MAX_COMMANDS_WAITING: Final = 16
"""Commands that a client may send ahead."""
PACKET_S: Final = 10.0
"""In which a packet that has begun must be complete, and in which a client must read on."""
COMMAND_S: Final = 30.0
"""After which a command is given up that has no time limit of its own."""
DEAF_S: Final = 0.5
"""Between two looks whether a client that lost an event has read the others."""
_BACKLOG: Final = 128
_HIGH_WATER_OCTETS: Final = 1 << 17
_LOW_WATER_OCTETS: Final = 1 << 16
_ACCEPTS_PER_TURN: Final = 16
ACCEPT_PAUSE_S: Final = 1.0
"""After the process has run out of descriptors: a client that waits would have us try again in every turn."""


class CommandError(Exception):
    """A command that fails: `success = no`, with this text as `errmsg`."""


class Call(msgspec.Struct):
    """One command of a client's."""

    message: Section
    emit: Callable[[str, Encodable], Awaitable[None]]
    """Sends an event to this client alone, if it has registered for it; waits while the client doesn't read."""
    forward: Callable[[str, bytes], Awaitable[None]]
    """The same for whole packets of an event, which somebody has encoded already."""

    def text(self, name: str, default: str = "") -> str:
        """A value of the message as text. Raises CommandError if it is none."""
        value = self.message.get(name)
        if value is None:
            return default
        if not isinstance(value, bytes):
            raise CommandError(f"{name} is to be a value")
        return value.decode(errors="replace")

    def number(self, name: str, default: int = 0) -> int:
        """A value as a number. Raises CommandError if it is none."""
        text = self.text(name)
        try:
            return int(text) if text else default
        except ValueError:
            raise CommandError(f"{name} is to be a number, not {text!r}") from None

    def is_true(self, name: str) -> bool:
        """Whether a value says yes."""
        return self.text(name).lower() in ("yes", "true", "enabled", "1")

    def items(self, name: str) -> list[str]:
        """A list as texts; empty if there is none."""
        value = self.message.get(name, [])
        if not isinstance(value, list):
            raise CommandError(f"{name} is to be a list")
        return [item.decode(errors="replace") for item in value]


class Command(msgspec.Struct, frozen=True):
    """What runs a command, and how long it may take."""

    run: Callable[[Call], Awaitable[Encodable]]
    deadline_s: float | None = COMMAND_S
    """None for commands that see to it themselves."""


class Server:
    """The socket and its clients."""

    def __init__(
        self,
        commands: Mapping[str, Command],
        events: Collection[str],
        *,
        count: Count,
        on_interest: Callable[[frozenset[str], Mapping[str, int]], object] = lambda events, unread: None,
    ) -> None:
        """`on_interest` is told, when that changes, the events that clients have registered for; and those that only
        clients have which don't read now, with their number. Of these nothing needs to be made: they would be lost.
        """
        self._commands = commands
        self._events = frozenset(events)
        self._count = count
        self._on_interest = on_interest
        self._clients: set[_Client] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._interest: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()
        """Of clients that are `is_deaf`, which `_interest` leaves out."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._path: Path | None = None

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def start(self, loop: asyncio.AbstractEventLoop, listener: socket.socket, path: Path | None = None) -> None:
        """Serve on a socket that listens; `path` is removed at the end."""
        self._loop = loop
        self._listener = listener
        self._path = path
        loop.add_reader(listener, self._accept)

    async def stop(self) -> None:
        """Hang up on everybody, and see their commands end."""
        if self._pause is not None:
            self._pause.cancel()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        # A task that has not begun would not close its connection.
        await asyncio.sleep(0)
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        # What was hung up on is closed in the next turn of the loop.
        await asyncio.sleep(0)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def publish(self, event: str, message: Encodable | Encoded) -> None:
        """Send an event to all clients that have registered for it."""
        if self._unread[event]:
            self._count("vici_events_dropped_total", self._unread[event])
        if not self._interest[event]:
            return
        body = message.octets if isinstance(message, Encoded) else encode(message)
        packet = encode_packet(Packet(PacketType.EVENT, event, body))
        for client in list(self._clients):
            if event in client.events and not client.is_deaf and not client.offer(packet):
                self._count("vici_events_dropped_total")
                self._set_deaf(client, True)

    def _set_deaf(self, client: "_Client", is_deaf: bool) -> None:
        """A client doesn't read its events, or does so again."""
        gains, loses = (self._unread, self._interest) if is_deaf else (self._interest, self._unread)
        for event in client.events:
            gains[event] += 1
            loses[event] -= 1
        client.is_deaf = is_deaf
        self._tell_interest()
        if is_deaf:
            asyncio.get_running_loop().call_later(DEAF_S, self._listen_again, client)

    def _listen_again(self, client: "_Client") -> None:
        if client not in self._clients:
            return
        if client.has_read():
            self._set_deaf(client, False)
        else:
            asyncio.get_running_loop().call_later(DEAF_S, self._listen_again, client)

    def _tell_interest(self) -> None:
        wanted = frozenset(name for name, number in self._interest.items() if number)
        unread = {name: number for name, number in self._unread.items() if number and name not in wanted}
        self._on_interest(wanted, unread)

    def is_wanted(self, event: str) -> bool:
        """Whether any client has registered for that event."""
        return self._interest[event] > 0

    def _accept(self) -> None:
        assert self._loop is not None and self._listener is not None
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                connection, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                _log.error("no client of the control socket can be taken for %.0f s: %s", ACCEPT_PAUSE_S, exc.strerror)
                self._loop.remove_reader(self._listener)
                self._pause = self._loop.call_later(ACCEPT_PAUSE_S, self._accept_again)
                return
            if len(self._serving) >= MAX_CLIENTS:
                self._count("vici_clients_refused_total")
                connection.close()
                continue
            task = self._loop.create_task(self._serve(connection))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    def _accept_again(self) -> None:
        assert self._loop is not None and self._listener is not None
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    async def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_PACKET_OCTETS)
        except BaseException:
            connection.close()
            raise
        client = _Client(self, reader, writer)
        self._clients.add(client)
        try:
            await client.run()
        finally:
            self._clients.discard(client)
            for event in list(client.events):
                self.register(client, event, wanted=False)
            writer.transport.abort()

    def register(self, client: "_Client", event: str, *, wanted: bool) -> bool:
        """Note that a client wants an event, or wants it no longer; False if there is no such event."""
        if event not in self._events:
            return False
        if wanted != (event in client.events):
            (client.events.add if wanted else client.events.discard)(event)
            counted = self._unread if client.is_deaf else self._interest
            counted[event] += 1 if wanted else -1
            self._tell_interest()
        return True

    def command(self, name: str) -> Command | None:
        """The command of that name."""
        return self._commands.get(name)


class _Client:
    """One connection."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.events: set[str] = set()
        self.is_deaf = False
        """Whether it is left out when events are told, until it has read what waits for it."""
        self._server = server
        self._reader = reader
        self._writer = writer
        self._commands: asyncio.Queue[Packet] = asyncio.Queue(MAX_COMMANDS_WAITING)
        # An answer waits for its reader sooner than events are lost: what is not read need not be made.
        writer.transport.set_write_buffer_limits(high=_HIGH_WATER_OCTETS, low=_LOW_WATER_OCTETS)

    async def run(self) -> None:
        """Until it hangs up, breaks the protocol, or stops reading an answer that it asked for."""
        worker = asyncio.ensure_future(self._work())
        reading = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait((worker, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (worker, reading):
                task.cancel()
            for outcome in await asyncio.gather(worker, reading, return_exceptions=True):
                if isinstance(outcome, ViciError):
                    _log.warning("a vici client is hung up on: %s", outcome)
                elif isinstance(outcome, Exception) and not isinstance(outcome, OSError | EOFError | TimeoutError):
                    _log.error("internal error while serving a vici client", exc_info=outcome)

    def offer(self, packet: bytes) -> bool:
        """Send if there is room; False if this client doesn't read."""
        if self._writer.transport.get_write_buffer_size() + len(packet) > MAX_WAITING_OCTETS:
            return False
        self._writer.write(packet)
        return True

    def has_read(self) -> bool:
        """Whether hardly anything waits for it."""
        return self._writer.transport.get_write_buffer_size() <= _LOW_WATER_OCTETS

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            head = await self._reader.readexactly(LENGTH.size)
            (octets,) = LENGTH.unpack(head)
            if octets > MAX_PACKET_OCTETS:
                raise ViciError(f"a packet of {octets} octets")
            # Cheaper than `asyncio.timeout`, and nearly always for nothing.
            too_late = loop.call_later(PACKET_S, self._reader.set_exception, TimeoutError())
            try:
                packet = decode_packet(await self._reader.readexactly(octets))
            finally:
                too_late.cancel()
            if packet.type is PacketType.CMD_REQUEST:
                try:
                    self._commands.put_nowait(packet)
                except asyncio.QueueFull:
                    raise ViciError(f"more than {MAX_COMMANDS_WAITING} commands at once") from None
            elif packet.type in (PacketType.EVENT_REGISTER, PacketType.EVENT_UNREGISTER):
                is_known = self._server.register(self, packet.name, wanted=packet.type is PacketType.EVENT_REGISTER)
                await self._send(Packet(PacketType.EVENT_CONFIRM if is_known else PacketType.EVENT_UNKNOWN))
            else:
                raise ViciError(f"a packet of type {packet.type.name}, which clients don't send")

    async def _work(self) -> None:
        while True:
            packet = await self._commands.get()
            command = self._server.command(packet.name)
            if command is None:
                await self._send(Packet(PacketType.CMD_UNKNOWN))
                continue
            answer = await self._run(packet, command)
            await self._send(Packet(PacketType.CMD_RESPONSE, body=encode(answer)))

    async def _run(self, packet: Packet, command: Command) -> Encodable:
        call = Call(decode(packet.body), self._emit, self._forward)
        try:
            if command.deadline_s is None:
                return await command.run(call)
            async with asyncio.timeout(command.deadline_s):
                return await command.run(call)
        except CommandError as exc:
            return {"success": False, "errmsg": str(exc)}
        except TimeoutError:
            return {"success": False, "errmsg": f"{packet.name} was not done in {command.deadline_s:.0f} s"}
        except (ConnectionError, ViciError, asyncio.CancelledError):
            raise
        except Exception:
            _log.exception("internal error in the command %s", packet.name)
            return {"success": False, "errmsg": "internal error; the log has it"}

    async def _emit(self, event: str, message: Encodable) -> None:
        if event in self.events:
            await self._write(encode_event(event, message))

    async def _forward(self, event: str, packets: bytes) -> None:
        if event in self.events:
            await self._write(packets)

    async def _send(self, packet: Packet) -> None:
        await self._write(encode_packet(packet))

    async def _write(self, octets: bytes) -> None:
        self._writer.write(octets)
        if self.has_read():
            # As nearly always: below the mark from which on writing pauses, there is nothing to wait for.
            return
        try:
            async with asyncio.timeout(PACKET_S):
                await self._writer.drain()
        except TimeoutError:
            raise ConnectionResetError("the client does not read") from None


def listen(path: Path, *, mode: int = 0o660, owner: str = "", group: str = "") -> socket.socket:
    """Open the socket, in place of one that nobody serves any more.

    Raises OSError, FileExistsError if somebody serves there, and LookupError if there is no such owner or group.
    """
    uid = pwd.getpwnam(owner).pw_uid if owner else -1
    gid = grp.getgrnam(group).gr_gid if group else -1
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # Nobody else may connect before it has its owner and its mode.
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        if (uid, gid) != (-1, -1):
            os.chown(path, uid, gid)
        path.chmod(mode)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        if path.exists():
            raise OSError(errno.ENOTSOCK, "there is a file that is no socket", str(path))
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        with suppress(ConnectionRefusedError):
            probe.connect(os.fspath(path))
            raise FileExistsError(f"somebody serves on {path}")
    path.unlink(missing_ok=True)
