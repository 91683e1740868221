"""Puts new settings into force in a worker, without keeping its peers waiting.

All that takes long for many connections is done before, little by little: the pieces are decoded, what has changed is
made, and put into an index, and new pools get their first addresses. In between the worker serves. Then everything
changes at once, in one step that takes as long for ten thousand connections as for ten. What is not needed any more is
let go little by little too, once no handshake is left that began with it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from cygnet.auth.credentials import SharedSecrets
from cygnet.gateway.commands.changes import Connections, Pools, Rest, Secrets, decode_piece
from cygnet.gateway.commands.worker_requests import Configure, Done, Failed, Reply, encode_body
from cygnet.gateway.control import Answer
from cygnet.gateway.pools.pools import AddressPools
from cygnet.ike.connection_index import ConnectionIndex
from cygnet.ike.connections import Connection
from cygnet.ike.environment import Environment, InForce

_log = logging.getLogger(__name__)

SLICE_S: Final = 0.001
"""How long it works before the sockets and the queues get their turn: that takes up to five times as long."""
MAX_KEPT: Final = 4
"""Configurations that wait to be let go. Of one more the oldest goes in one piece, sooner than that memory fills up."""
_GRACE_S: Final = 1.0


class _Job:
    """One configuration."""

    __slots__ = ("parts", "pieces")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.pieces: deque[bytes] = deque()


class Installer:
    """Takes configurations, one after the other."""

    def __init__(
        self,
        env: Environment,
        pools: AddressPools,
        *,
        install: Callable[[InForce], object],
        send: Callable[[Answer], object],
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`install` puts what is ready into force, at once; `send` takes answers to the supervisor."""
        self._env = env
        self._pools = pools
        self._install = install
        self._send = send
        self._loop = loop
        self._clock = clock
        self._coming: dict[int, _Job] = {}
        """By the number of the request, those of which not all has come."""
        self._ready: deque[tuple[int, _Job]] = deque()
        self._steps: Iterator[Reply | None] | None = None
        self._kept: deque[asyncio.TimerHandle] = deque()
        """When what was in force before is let go."""

    def take(self, number: int, request: Configure) -> None:
        """Another part of a configuration has come."""
        job = self._coming.setdefault(number, _Job())
        job.parts.append(request.octets)
        if request.ends_piece:
            job.pieces.append(b"".join(job.parts))
            job.parts.clear()
        if request.is_last:
            del self._coming[number]
            self._ready.append((number, job))
            if self._steps is None:
                self._next()

    def forget(self, number: int) -> None:
        """The supervisor will send no more of that one."""
        self._coming.pop(number, None)

    def _next(self) -> None:
        self._steps = self._prepare(self._ready[0][1].pieces) if self._ready else None
        if self._steps is not None:
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        assert self._steps is not None
        end = self._clock() + SLICE_S
        reply: Reply | None = None
        try:
            for reply in self._steps:
                if reply is not None or self._clock() >= end:
                    break
        except (LookupError, ValueError, msgspec.MsgspecError) as exc:
            reply = Failed(f"the changes do not fit: {exc}")
        except Exception as exc:
            # The supervisor must have an answer, and the SAs live on.
            _log.exception("internal error while the configuration was put into force")
            reply = Failed(f"internal error in a worker: {type(exc).__name__}")
        if reply is None:
            self._loop.call_soon(self._run)
            return
        if isinstance(reply, Failed):
            self._pools.begin()
        number, _ = self._ready.popleft()
        self._send(Answer(number, encode_body(reply), is_last=True))
        self._next()

    def _prepare(self, pieces: deque[bytes]) -> Iterator[Reply | None]:
        """Step by step; the last says how it went."""
        env = self._env
        before, secrets = env.connections, SharedSecrets()
        index = ConnectionIndex()
        self._pools.begin()
        rest: Rest | None = None
        while pieces:
            piece = decode_piece(pieces.popleft())
            yield None
            if isinstance(piece, Connections):
                for connection in piece.items:
                    if isinstance(connection, str):
                        index.keep(_known(before.named(connection), connection))
                    else:
                        index.add(connection, before)
                    yield None
            elif isinstance(piece, Pools):
                for pool in piece.items:
                    self._pools.prepare(pool)
                    yield None
            elif isinstance(piece, Secrets):
                for secret in piece.items:
                    secrets.add(secret)
                    yield None
            else:
                rest = piece
        if rest is None:
            raise ValueError("there is no end")
        index.complete()
        yield None
        # From here to the end nothing is served: everything changes at once.
        life_s = env.settings.half_open_timeout_s
        gone = self._pools.switch() if rest.has_pools else {}
        old_secrets = env.secrets if rest.has_secrets else None
        self._install(
            InForce(
                rest.settings,
                index if rest.has_connections else before,
                secrets if rest.has_secrets else env.secrets,
            )
        )
        self._keep(_let_go(before if rest.has_connections else None, gone, old_secrets), life_s + _GRACE_S)
        yield Done()

    def _keep(self, going: Iterator[None], seconds: float) -> None:
        """Until every handshake that began with it has ended."""
        self._kept.append(self._loop.call_later(seconds, self._let_go_next, going))
        if len(self._kept) > MAX_KEPT:
            self._kept.popleft().cancel()

    def _let_go_next(self, going: Iterator[None]) -> None:
        self._kept.popleft()
        self._let_go(going)

    def _let_go(self, going: Iterator[None]) -> None:
        end = self._clock() + SLICE_S
        for _ in going:
            if self._clock() >= end:
                self._loop.call_soon(self._let_go, going)
                return


def _known(connection: Connection | None, name: str) -> Connection:
    if connection is None:
        raise LookupError(f"no connection {name} is known")
    return connection


def _let_go(index: ConnectionIndex | None, pools: dict[str, object], secrets: SharedSecrets | None) -> Iterator[None]:
    if index is not None:
        yield from index.dissolve()
    if secrets is not None:
        yield from secrets.dissolve()
    while pools:
        pools.popitem()
        yield
