"""What the supervisor sends its workers."""

import asyncio

import msgspec
import pytest

from cygnet.gateway.commands.changes import Connections, decode_piece
from cygnet.gateway.commands.worker_calls import WorkerCalls
from cygnet.gateway.commands.worker_requests import Configure, Done, Failed, Forget, Reply, decode_request, encode_body
from cygnet.gateway.control import Answer, AnyMessage, Ask
from cygnet.ike.settings import ConnectionSettings, Settings
from cygnet.vici.server import CommandError


def settings(*names: str) -> Settings:
    return Settings(connections=tuple(ConnectionSettings(name=name) for name in names))


class Workers:
    """Answer each configuration at once."""

    def __init__(self, *answers: Reply | None) -> None:
        self.calls = WorkerCalls(self._send)
        self.got: dict[int, list[list[str | ConnectionSettings]]] = {}
        """The connections of each configuration, by worker."""
        self.octets: dict[int, bytes] = {}
        self.forgotten = 0
        self._answers = list(answers)
        self._items: dict[int, list[str | ConnectionSettings]] = {}
        self._parts: dict[int, bytes] = {}

    def _send(self, worker: int, message: AnyMessage) -> bool:
        assert isinstance(message, Ask)
        request = decode_request(message.body)
        if isinstance(request, Forget):
            self.forgotten += 1
            return True
        assert isinstance(request, Configure)
        self.octets[worker] = self.octets.get(worker, b"") + request.octets
        self._parts[worker] = self._parts.get(worker, b"") + request.octets
        if request.ends_piece:
            piece = decode_piece(self._parts.pop(worker))
            if isinstance(piece, Connections):
                self._items.setdefault(worker, []).extend(piece.items)
        if request.is_last:
            self.got.setdefault(worker, []).append(self._items.pop(worker, []))
            reply = self._answers.pop(0) if self._answers else Done()
            if reply is not None:
                body = encode_body(reply)
                asyncio.get_running_loop().call_soon(
                    self.calls.on_answer, worker, Answer(message.number, body, is_last=True)
                )
            else:
                asyncio.get_running_loop().call_soon(self.calls.on_gone, worker)
        return True


def test_a_worker_gets_all_once_and_then_what_is_different() -> None:
    workers = Workers()
    one, two = settings("a", "b"), settings("a", "c")

    async def run() -> None:
        await workers.calls.configure([0, 1], one)
        workers.octets.clear()
        await workers.calls.configure([0, 1], two)

    asyncio.run(run())
    assert workers.got[0] == workers.got[1] == [list(one.connections), ["a", two.connections[1]]]
    assert workers.octets[0] == workers.octets[1]
    assert workers.calls.has(0, two) and not workers.calls.has(0, one)


def test_a_worker_that_starts_has_what_it_was_started_with() -> None:
    workers = Workers()
    workers.calls.began_with(0, settings("a"))
    asyncio.run(workers.calls.configure([0, 1], settings("a", "b")))
    assert [len(items) for items in (workers.got[0][0], workers.got[1][0])] == [2, 2]
    assert workers.got[0][0][0] == "a" and workers.got[1][0][0] == ConnectionSettings(name="a")


def test_one_that_does_not_take_the_changes_gets_all_of_it() -> None:
    workers = Workers(Failed("no"))
    workers.calls.began_with(0, settings("a"))
    asyncio.run(workers.calls.configure([0], settings("a", "b")))
    assert workers.got[0] == [["a", ConnectionSettings(name="b")], list(settings("a", "b").connections)]


def test_one_that_does_not_take_all_of_it_either_is_an_error_and_gets_all_of_it_the_next_time() -> None:
    workers = Workers(Failed("no"), Failed("never"))
    workers.calls.began_with(0, settings("a"))

    async def run() -> None:
        with pytest.raises(CommandError, match="never"):
            await workers.calls.configure([0], settings("a", "b"))
        await workers.calls.configure([0], settings("a", "b"))

    asyncio.run(run())
    assert workers.got[0][-1] == list(settings("a", "b").connections)


def test_one_that_is_gone_is_no_error_and_nothing_is_known_of_it() -> None:
    workers = Workers(None)
    asyncio.run(workers.calls.configure([0], settings("a")))
    assert not workers.calls.has(0, settings("a"))
    assert workers.calls._waiting == {}


def test_a_connection_longer_than_a_message_comes_in_parts() -> None:
    workers = Workers()
    long = msgspec.structs.replace(settings("a"), connections=(ConnectionSettings(name="a" * 200_000),))
    asyncio.run(workers.calls.configure([0], long))
    assert workers.got[0] == [list(long.connections)]


def test_a_worker_that_can_not_be_told_all_forgets_what_it_was_told() -> None:
    sent = 0

    def send(worker: int, message: AnyMessage) -> bool:
        nonlocal sent
        sent += 1
        return sent < 3

    calls = WorkerCalls(send)
    with pytest.raises(CommandError, match="is not there"):
        asyncio.run(calls.configure([0], settings(*map(str, range(500)))))
    assert sent == 4
