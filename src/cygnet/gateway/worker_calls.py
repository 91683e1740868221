"""The supervisor's side of asking workers: a request goes out, and an answer comes back, or page after page of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Final, TypeVar

import msgspec

from cygnet.gateway.control import Answer, AnyMessage, Ask
from cygnet.gateway.worker_requests import (
    Configure,
    Failed,
    Forget,
    NextPage,
    Reply,
    Request,
    decode_reply,
    encode_body,
)
from cygnet.ike.settings import Settings
from cygnet.vici.server import CommandError

ANSWER_S: Final = 15.0
"""For what a worker does at once; it also sees to its datagrams."""
_PART_OCTETS: Final = 48 * 1024
"""Of settings that are sent in parts: a message has at most 64 KiB."""

_R = TypeVar("_R", bound=Reply)


class WorkerCalls:
    """Requests to workers that are under way."""

    def __init__(self, send: Callable[[int, AnyMessage], bool]) -> None:
        """`send(worker, message)` is False if the worker isn't there."""
        self._send = send
        self._numbers = count(1)
        self._waiting: dict[int, tuple[int, asyncio.Queue[Answer | None]]] = {}

    async def ask(self, worker: int, request: Request, kind: type[_R], *, within_s: float | None = ANSWER_S) -> _R:
        """The answer of one worker. Raises CommandError if it fails, or is gone."""
        async for reply in self.pages(worker, request, kind, within_s=within_s):
            return reply
        raise CommandError(f"worker {worker} gave no answer")

    async def pages(
        self, worker: int, request: Request, kind: type[_R], *, within_s: float | None = ANSWER_S
    ) -> AsyncIterator[_R]:
        """The pages of an answer; the next is asked for when one was taken. Raises CommandError."""
        number = next(self._numbers)
        answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        self._waiting[number] = (worker, answers)
        is_over = False
        try:
            self._tell(worker, number, request)
            while True:
                try:
                    async with asyncio.timeout(within_s):
                        answer = await answers.get()
                except TimeoutError:
                    raise CommandError(f"worker {worker} did not answer in {within_s:.0f} s") from None
                is_over = answer is None or answer.is_last
                if answer is None:
                    raise CommandError(f"worker {worker} ended before it answered")
                reply = decode_reply(answer.body)
                if isinstance(reply, Failed):
                    raise CommandError(reply.why)
                if not isinstance(reply, kind):
                    raise CommandError(f"worker {worker} answered with {type(reply).__name__}")
                yield reply
                if answer.is_last:
                    return
                self._tell(worker, number, NextPage())
        finally:
            del self._waiting[number]
            if not is_over:
                self._send(worker, Ask(number, encode_body(Forget())))

    async def configure(self, worker: int, settings: Settings) -> None:
        """Hand a worker new settings. Raises CommandError."""
        octets = msgspec.msgpack.encode(settings)
        parts = max(1, -(-len(octets) // _PART_OCTETS))
        number = next(self._numbers)
        answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        self._waiting[number] = (worker, answers)
        try:
            for part in range(parts):
                chunk = octets[part * _PART_OCTETS : (part + 1) * _PART_OCTETS]
                self._tell(worker, number, Configure(part, parts, chunk))
            async with asyncio.timeout(ANSWER_S):
                # A worker that is gone starts again with the new settings.
                await answers.get()
        except TimeoutError:
            raise CommandError(f"worker {worker} did not take the configuration in {ANSWER_S:.0f} s") from None
        finally:
            del self._waiting[number]

    def on_answer(self, worker: int, answer: Answer) -> None:
        """An answer has come; one that nobody waits for is dropped."""
        waiting = self._waiting.get(answer.number)
        if waiting is not None and waiting[0] == worker:
            waiting[1].put_nowait(answer)

    def on_gone(self, worker: int) -> None:
        """A worker is gone: it will not answer."""
        for asked, answers in self._waiting.values():
            if asked == worker:
                answers.put_nowait(None)

    def _tell(self, worker: int, number: int, request: Request) -> None:
        if not self._send(worker, Ask(number, encode_body(request))):
            raise CommandError(f"worker {worker} is not there just now")
