"""The control socket of a gateway: strongSwan's protocol, served by the supervisor, answered with the workers' help."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cygnet.config.gateway_settings import GatewaySettings
from cygnet.config.load import ConfigurationFile
from cygnet.config.store import Store
from cygnet.gateway.commands.vici_backend import GatewayBackend
from cygnet.gateway.commands.worker_calls import WorkerCalls
from cygnet.gateway.control import Answer, AnyMessage, Happened, Interest
from cygnet.gateway.logs.log_hub import LogHub
from cygnet.ike.errors import LocalError
from cygnet.ike.settings import Settings
from cygnet.observe.counters import Count, Counters
from cygnet.observe.log_groups import group_logger
from cygnet.vici.commands import EVENTS, WORKER_EVENTS, command_table
from cygnet.vici.commands.logs import table as log_table
from cygnet.vici.message import Encoded
from cygnet.vici.server import CommandError, Server, listen

_log = group_logger("cfg")


class ViciService:
    """Joins the server with the workers."""

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        *,
        send: Callable[[int, AnyMessage], bool],
        workers: Callable[[], Sequence[int]],
        file: ConfigurationFile | None,
        logs: LogHub | None = None,
        in_force: Callable[[Settings], object],
        listening: Callable[[], tuple[str, ...]],
        count: Count,
        started_with: GatewaySettings,
    ) -> None:
        """`send(worker, message)` is False for one that isn't there; `workers` tells which serve.

        `file` is the configuration file, if there is one; `in_force` is told of new settings before the workers are.
        `started_with` is what the file said of the daemon itself when that was started.
        """
        self._send = send
        self._workers = workers
        self.calls = WorkerCalls(send)
        self.store = Store(settings, file.files if file is not None else None)
        self.backend = GatewayBackend(
            self.store,
            self.calls,
            counters,
            workers=workers,
            file=file,
            in_force=in_force,
            listening=listening,
            started_with=started_with,
            **({"log": logs.configure} if logs is not None else {}),
        )
        self._reloads: set[asyncio.Task[None]] = set()
        self._interest = Interest(())
        self._logs = logs
        commands = command_table(self.backend, counters) | (log_table(logs) if logs is not None else {})
        self._server = Server(commands, EVENTS, count=count, on_interest=self._on_interest)

    def start(self, loop: asyncio.AbstractEventLoop, path: Path, gateway: GatewaySettings) -> None:
        """Serve on a socket. Raises LocalError."""
        try:
            listener = listen(path, mode=gateway.vici_mode, owner=gateway.vici_owner, group=gateway.vici_group)
        except FileExistsError:
            raise LocalError(f"another daemon serves on the control socket {path}: choose another one") from None
        except LookupError as exc:
            raise LocalError(f"the control socket can't be given to its owner: {exc.args[0]}") from None
        except OSError as exc:
            raise LocalError(f"cannot open the control socket {path}: {exc.strerror or exc}") from None
        self._server.start(loop, listener, path)
        if self._logs is not None:
            self._logs.publish = self._server.publish

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hang up on everybody, and see their commands cancelled."""
        if self._logs is not None:
            self._logs.publish = None
        loop.run_until_complete(self._stop())

    async def _stop(self) -> None:
        await self._server.stop()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def reload(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read the configuration file again, as the command `reload` does; the log has the outcome."""
        task = loop.create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        try:
            await self.backend.reload()
        except CommandError:
            # Said already.
            pass
        except Exception:
            _log.exception("internal error while the configuration was read again")

    def on_message(self, worker: int, message: Answer | Happened) -> None:
        """A worker has answered, or tells of an event."""
        if isinstance(message, Answer):
            self.calls.on_answer(worker, message)
        else:
            self._server.publish(message.event, Encoded(message.body))

    def on_ready(self, worker: int) -> None:
        """A worker serves now: it has to know what clients want to hear of."""
        if self._interest != Interest(()):
            self._send(worker, self._interest)
        self.backend.on_ready(worker)

    def on_gone(self, worker: int) -> None:
        """A worker is gone."""
        self.calls.on_gone(worker)

    def _on_interest(self, events: frozenset[str], unread: Mapping[str, int]) -> None:
        if self._logs is not None:
            self._logs.listen(wanted="log" in events)
        unread = {event: number for event, number in unread.items() if event in WORKER_EVENTS}
        interest = Interest(tuple(sorted(events & WORKER_EVENTS)), unread)
        if interest != self._interest:
            self._interest = interest
            for worker in self._workers():
                self._send(worker, interest)
