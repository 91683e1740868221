"""The server on a real socket, with clients that behave and clients that don't."""

import asyncio
import errno
import gc
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import vici

from cygnet.vici import server as server_module
from cygnet.vici.client import ViciClient
from cygnet.vici.message import Encodable, Section, ViciError, encode
from cygnet.vici.packet import LENGTH, Packet, PacketType, encode_packet
from cygnet.vici.server import Call, Command, CommandError, Server, listen


class Daemon:
    """A server with a few commands, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counted: list[str] = []
        self.interest: list[frozenset[str]] = []
        self.unread: dict[str, int] = {}
        self.cancelled = threading.Event()
        self.began = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.server = Server(
            {
                "echo": Command(self._echo),
                "list-things": Command(self._list),
                "fail": Command(self._fail),
                "break": Command(self._break),
                "hang": Command(self._hang),
                "late": Command(self._hang, deadline_s=0.01),
                "much": Command(self._much),
            },
            ("thing", "log"),
            count=lambda name, by=1: self.counted.extend([name] * by),
            on_interest=self._on_interest,
        )
        self._listener = listen(path)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Daemon":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.server.stop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def run(self, function: Callable[[], Awaitable[object]]) -> None:
        async def call() -> None:
            await function()

        asyncio.run_coroutine_threadsafe(call(), self.loop).result(10)

    def _on_interest(self, events: frozenset[str], unread: Mapping[str, int]) -> None:
        self.interest.append(events)
        self.unread = dict(unread)

    def publish(self, event: str, message: Encodable) -> None:
        async def call() -> None:
            self.server.publish(event, message)

        self.run(call)

    def _run(self) -> None:
        self.server.start(self.loop, self._listener, self.path)
        self.loop.run_forever()

    async def _echo(self, call: Call) -> Encodable:
        return call.message

    async def _list(self, call: Call) -> Encodable:
        for number in range(call.number("count")):
            await call.emit("thing", {"number": number})
        return {}

    async def _fail(self, call: Call) -> Encodable:
        raise CommandError("it can't be done")

    async def _break(self, call: Call) -> Encodable:
        raise ZeroDivisionError

    async def _hang(self, call: Call) -> Encodable:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return {}

    async def _much(self, call: Call) -> Encodable:
        while True:
            await call.emit("thing", {"octets": bytes(60000)})


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "vici") as running:
        yield running


def raw(daemon: Daemon) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(daemon.path))
    return client


def test_strongswans_own_client_runs_a_command(daemon: Daemon) -> None:
    with raw(daemon) as connection:
        session = vici.Session(connection)
        assert session.request("echo", {"a": {"b": ["c"]}}) == {"a": {"b": [b"c"]}}


def test_strongswans_own_client_gets_a_streamed_answer(daemon: Daemon) -> None:
    with raw(daemon) as connection:
        things = list(vici.Session(connection).streamed_request("list-things", "thing", {"count": "3"}))
    assert things == [{"number": b"0"}, {"number": b"1"}, {"number": b"2"}]


def test_our_client_gets_answers_and_events(daemon: Daemon) -> None:
    seen: list[Section] = []
    with ViciClient(daemon.path) as client:
        assert client.request("list-things", {"count": 2}, event="thing", on_event=seen.append) == {}
        assert client.request("list-things", {"count": 2}, on_event=seen.append) == {}
    assert seen == [{"number": b"0"}, {"number": b"1"}]


def test_a_failure_is_an_answer(daemon: Daemon) -> None:
    with ViciClient(daemon.path) as client:
        assert client.request("fail") == {"success": b"no", "errmsg": b"it can't be done"}
        assert client.request("list-things", {"count": "many"})["errmsg"] == b"count is to be a number, not 'many'"


def test_an_internal_error_ends_the_command_alone(daemon: Daemon) -> None:
    with ViciClient(daemon.path) as client:
        assert client.request("break")["success"] == b"no"
        assert client.request("echo", {"a": "b"}) == {"a": b"b"}


def test_a_command_has_a_deadline(daemon: Daemon) -> None:
    with ViciClient(daemon.path) as client:
        assert b"was not done" in client.request("late")["errmsg"]


def test_what_there_is_not_is_said(daemon: Daemon) -> None:
    with ViciClient(daemon.path) as client:
        with pytest.raises(ViciError, match="no command nonsense"):
            client.request("nonsense")
        with pytest.raises(ViciError, match="no event nonsense"):
            client.register("nonsense")


def test_hanging_up_cancels_the_command(daemon: Daemon) -> None:
    client = raw(daemon)
    client.sendall(encode_packet(Packet(PacketType.CMD_REQUEST, "hang")))
    assert daemon.began.wait(10)
    client.close()
    assert daemon.cancelled.wait(10)


@pytest.mark.parametrize(
    "octets",
    [
        LENGTH.pack(512 * 1024 + 1),
        LENGTH.pack(1) + b"\x63",
        LENGTH.pack(0),
        LENGTH.pack(1) + b"\x01",
        LENGTH.pack(3) + b"\x00\x09a",
        encode_packet(Packet(PacketType.CMD_REQUEST, "echo", b"\x02")),
        encode_packet(Packet(PacketType.CMD_REQUEST, "hang")) * (server_module.MAX_COMMANDS_WAITING + 2),
    ],
)
def test_who_breaks_the_protocol_is_hung_up_on(daemon: Daemon, octets: bytes) -> None:
    with raw(daemon) as client:
        client.sendall(octets)
        assert client.recv(100) == b""


def test_half_a_packet_delays_nobody_and_ends(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PACKET_S", 0.05)
    with raw(daemon) as half, ViciClient(daemon.path) as client:
        half.sendall(LENGTH.pack(100) + b"\x00")
        assert client.request("echo") == {}
        assert half.recv(100) == b""


def test_who_does_not_read_a_streamed_answer_is_hung_up_on(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PACKET_S", 0.05)
    with raw(daemon) as wedged, ViciClient(daemon.path) as client:
        wedged.sendall(encode_packet(Packet(PacketType.EVENT_REGISTER, "thing")))
        wedged.sendall(encode_packet(Packet(PacketType.CMD_REQUEST, "much")))
        while daemon.server.clients < 2:
            client.request("echo")
        while daemon.server.clients > 1:
            assert client.request("echo") == {}


def test_events_for_who_does_not_read_are_dropped_and_counted(daemon: Daemon) -> None:
    with raw(daemon) as wedged, ViciClient(daemon.path) as client:
        wedged.sendall(encode_packet(Packet(PacketType.EVENT_REGISTER, "log")))
        while not daemon.server.is_wanted("log"):
            assert client.request("echo") == {}
        for _ in range(100):
            daemon.publish("log", {"octets": bytes(60000)})
        assert daemon.counted.count("vici_events_dropped_total") > 50
        assert client.request("echo") == {}


def test_a_client_that_reads_again_hears_of_events_again(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then nobody needs to make any for it."""
    monkeypatch.setattr(server_module, "DEAF_S", 0.01)
    with raw(daemon) as slow, ViciClient(daemon.path) as client:
        slow.sendall(encode_packet(Packet(PacketType.EVENT_REGISTER, "log")))
        while not daemon.server.is_wanted("log"):
            client.request("echo")
        while not daemon.unread:
            daemon.publish("log", {"octets": bytes(60000)})
        assert daemon.interest[-1] == frozenset()
        assert daemon.unread == {"log": 1}
        dropped = daemon.counted.count("vici_events_dropped_total")
        daemon.publish("log", {})
        assert daemon.counted.count("vici_events_dropped_total") == dropped + 1
        # Somebody else wants them, and has them.
        client.register("log")
        assert daemon.interest[-1] == {"log"} and daemon.unread == {}
        client.close()
        while daemon.interest[-1]:
            pass
        slow.settimeout(0.05)
        while daemon.interest[-1] != {"log"}:
            with suppress(TimeoutError):
                slow.recv(1 << 20)
        assert daemon.unread == {}
    while daemon.server.clients:
        pass
    assert (daemon.interest[-1], daemon.unread) == (frozenset(), {})


def test_interest_in_events_is_told(daemon: Daemon) -> None:
    with ViciClient(daemon.path) as client:
        client.register("log")
        assert daemon.server.is_wanted("log")
    with ViciClient(daemon.path) as client:
        while daemon.server.is_wanted("log"):
            client.request("echo")
    assert daemon.interest == [frozenset({"log"}), frozenset()]


def test_a_client_that_came_a_moment_ago_is_hung_up_on_too(tmp_path: Path) -> None:
    """Its connection is accepted, and nobody serves it yet."""
    with Daemon(tmp_path / "vici") as daemon:
        late = raw(daemon)
    with late, suppress(ConnectionResetError):
        assert late.recv(1) == b""
    gc.collect()


def test_without_descriptors_it_pauses_and_goes_on(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "ACCEPT_PAUSE_S", 0.01)

    class Exhausted:
        """A listener that fails once."""

        def __init__(self, listener: socket.socket) -> None:
            self.listener = listener

        def accept(self) -> object:
            daemon.server._listener = self.listener
            raise OSError(errno.EMFILE, "Too many open files")

        def fileno(self) -> int:
            return self.listener.fileno()

    daemon.server._listener = Exhausted(daemon.server._listener)  # type: ignore[assignment, arg-type]
    with ViciClient(daemon.path) as client:
        assert client.request("echo") == {}


def test_clients_beyond_the_bound_are_refused_and_counted(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 2)
    with ViciClient(daemon.path) as first, ViciClient(daemon.path) as second:
        assert first.request("echo") == second.request("echo") == {}
        with raw(daemon) as third:
            assert third.recv(1) == b""
        assert daemon.counted == ["vici_clients_refused_total"]
        assert first.request("echo") == {}


def test_a_socket_that_nobody_serves_is_replaced_and_one_that_is_served_is_not(tmp_path: Path) -> None:
    path = tmp_path / "vici"
    with listen(path), pytest.raises(FileExistsError):
        listen(path)
    with listen(path, mode=0o600):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("mine")
    with pytest.raises(OSError, match="there is a file that is no socket"):
        listen(path)
    assert path.read_text() == "mine"


def test_an_owner_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        listen(tmp_path / "vici", owner="nobody-of-that-name")


def test_encoding_is_checked_before_anything_is_sent() -> None:
    with pytest.raises(ViciError):
        encode_packet(Packet(PacketType.EVENT, "log", encode({"a": bytes(65535)}) * 9))


def test_a_client_waits_for_its_turn_when_many_others_come(tmp_path: Path) -> None:
    """It was turned away at once while the queue of those to be accepted was full."""
    path = tmp_path / "vici"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(str(path))
        listener.listen(0)
        other.connect(str(path))

        def accept_both() -> None:
            for _ in range(2):
                listener.accept()[0].close()

        accepting = threading.Timer(0.2, accept_both)
        accepting.start()
        with ViciClient(path) as client, pytest.raises(ViciError):
            client.request("stats")
        accepting.join()
