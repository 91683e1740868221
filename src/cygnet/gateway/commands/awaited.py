"""What clients of the control socket wait for: SAs that are to stand, or to end."""

import asyncio
from typing import Final

from cygnet.ike.effects import (
    ChildFailed,
    ChildStands,
    Effect,
    InstallChild,
    RemoveChild,
    SaClosed,
    SaEstablished,
    SaRekeyed,
)
from cygnet.ike.errors import LocalError

Awaiting = asyncio.Future[None]

_SETTLING: Final = frozenset((SaEstablished, InstallChild, ChildStands, ChildFailed, RemoveChild, SaRekeyed, SaClosed))
"""The effects that somebody may wait for."""


class Awaited:
    """Settled by the events of the core. Several may wait for the same; true while anybody waits for anything."""

    __slots__ = ("_ended", "_loop", "_set_up")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._set_up: dict[tuple[bytes, str], Awaiting] = {}
        self._ended: dict[bytes, Awaiting] = {}

    def __bool__(self) -> bool:
        return bool(self._set_up or self._ended)

    def set_up(self, sa: bytes, child: str) -> Awaiting:
        """The CHILD_SA of that name in the IKE_SA with that SPI of ours, or without a name the IKE_SA itself.

        Fails with LocalError if it can't be set up.
        """
        return self._set_up.setdefault((sa, child), self._new())

    def end(self, spi: bytes) -> Awaiting:
        """The end of the SA with that SPI of ours: 8 octets of an IKE_SA, 4 of a CHILD_SA."""
        return self._ended.setdefault(spi, self._new())

    def settle(self, effect: Effect) -> None:
        """Something has happened in the core."""
        if type(effect) not in _SETTLING:
            # Of the effects of a handshake most are others.
            return
        if isinstance(effect, SaEstablished):
            _succeed(self._set_up.pop((effect.sa, ""), None))
        elif isinstance(effect, InstallChild | ChildStands):
            _succeed(self._set_up.pop((effect.sa, effect.name), None))
        elif isinstance(effect, ChildFailed):
            _fail(self._set_up.pop((effect.sa, effect.name), None), effect.reason)
        elif isinstance(effect, RemoveChild):
            _succeed(self._ended.pop(effect.spi_in, None))
        elif isinstance(effect, SaRekeyed):
            # What was asked of it is the successor's to do.
            for key in [key for key in self._set_up if key[0] == effect.old]:
                self._set_up[effect.sa, key[1]] = self._set_up.pop(key)
        elif isinstance(effect, SaClosed):
            _succeed(self._ended.pop(effect.sa, None))
            for key in [key for key in self._set_up if key[0] == effect.sa]:
                _fail(self._set_up.pop(key), effect.reason)

    def _new(self) -> Awaiting:
        future = self._loop.create_future()
        # Nobody may be left to hear that it failed.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future


def _fail(waiting: Awaiting | None, reason: str) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_exception(LocalError(reason.replace("_", " ")))


def _succeed(waiting: Awaiting | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
