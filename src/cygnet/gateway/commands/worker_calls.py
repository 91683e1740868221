"""The supervisor's side of asking workers: a request goes out, and an answer comes back, or page after page of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from itertools import count
from typing import Final, TypeVar

import msgspec

from cygnet.gateway.commands.changes import encode_changes
from cygnet.gateway.commands.worker_requests import (
    Configure,
    Failed,
    Forget,
    NextPage,
    Reply,
    Request,
    decode_reply,
    encode_body,
)
from cygnet.gateway.control import Answer, AnyMessage, Ask
from cygnet.ike.settings import Settings
from cygnet.vici.server import CommandError

ANSWER_S: Final = 15.0
"""For what a worker does at once; it also sees to its datagrams."""
_PART_OCTETS: Final = 48 * 1024
"""Of settings that are sent in parts: a message has at most 64 KiB."""
_PART_S: Final = 0.1
"""How much longer a worker that is busy may take for each of them."""

_R = TypeVar("_R", bound=Reply)


class WorkerCalls:
    """Requests to workers that are under way."""

    def __init__(self, send: Callable[[int, AnyMessage], bool]) -> None:
        """`send(worker, message)` is False if the worker isn't there."""
        self._send = send
        self._numbers = count(1)
        self._waiting: dict[int, tuple[int, asyncio.Queue[Answer | None]]] = {}
        self._known: dict[int, Settings] = {}
        """What each worker has, as far as we know."""

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

    def began_with(self, worker: int, settings: Settings) -> None:
        """A worker was started with these settings."""
        self._known[worker] = settings

    def has(self, worker: int, settings: Settings) -> bool:
        """Whether a worker has these settings, or will start with them."""
        return self._known.get(worker) is settings

    async def configure(self, workers: Iterable[int], settings: Settings) -> None:
        """Hand workers what is different in new settings; returns when all have it. Raises CommandError."""
        # All that have the same, which are nearly always all there are, get the same.
        alike: dict[int, list[int]] = {}
        for worker in workers:
            alike.setdefault(id(self._known.get(worker)), []).append(worker)
        for group in alike.values():
            changes = await _messages(settings, self._known.get(group[0]))
            await asyncio.gather(*(self._hand_over(worker, changes, settings) for worker in group))

    async def _hand_over(self, worker: int, changes: Sequence[Configure], settings: Settings) -> None:
        known = self._known.pop(worker, None)
        reply = await self._send_settings(worker, changes)
        if isinstance(reply, Failed) and known is not None:
            # It has others than we thought, so it gets them all.
            reply = await self._send_settings(worker, await _messages(settings, None))
        if isinstance(reply, Failed):
            raise CommandError(f"worker {worker} does not take the configuration: {reply.why}")
        if reply is not None:
            self._known[worker] = settings

    async def _send_settings(self, worker: int, changes: Sequence[Configure]) -> Reply | None:
        """The answer; None from a worker that is gone: it starts again with the new settings."""
        number = next(self._numbers)
        answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        self._waiting[number] = (worker, answers)
        within_s = ANSWER_S + _PART_S * len(changes)
        is_over = False
        try:
            for request in changes:
                self._tell(worker, number, request)
            async with asyncio.timeout(within_s):
                answer = await answers.get()
            is_over = True
            return decode_reply(answer.body) if answer is not None else None
        except TimeoutError:
            raise CommandError(f"worker {worker} did not take the configuration in {within_s:.0f} s") from None
        finally:
            del self._waiting[number]
            if not is_over:
                self._send(worker, Ask(number, encode_body(Forget())))

    def on_answer(self, worker: int, answer: Answer) -> None:
        """An answer has come; one that nobody waits for is dropped."""
        waiting = self._waiting.get(answer.number)
        if waiting is not None and waiting[0] == worker:
            waiting[1].put_nowait(answer)

    def on_gone(self, worker: int) -> None:
        """A worker is gone: it will not answer."""
        self._known.pop(worker, None)
        for asked, answers in self._waiting.values():
            if asked == worker:
                answers.put_nowait(None)

    def _tell(self, worker: int, number: int, request: Request) -> None:
        if not self._send(worker, Ask(number, encode_body(request))):
            raise CommandError(f"worker {worker} is not there just now")


async def _messages(settings: Settings, known: Settings | None) -> list[Configure]:
    """What tells a worker that has `known` of new settings. Others are seen to in between."""
    messages: list[Configure] = []
    for piece in encode_changes(settings, known):
        for at in range(0, len(piece), _PART_OCTETS):
            end = at + _PART_OCTETS
            messages.append(Configure(piece[at:end], ends_piece=end >= len(piece), is_last=False))
        await asyncio.sleep(0)
    return [*messages[:-1], msgspec.structs.replace(messages[-1], is_last=True)]
