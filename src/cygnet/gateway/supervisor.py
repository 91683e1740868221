"""The supervisor: the one process with privileges. It opens what needs them, runs the workers, and serves nobody.

It never touches what a peer sent, and no worker ever waits for it.
"""

import asyncio
import errno
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from cygnet.config.gateway_settings import DataplaneKind, GatewaySettings
from cygnet.config.load import ConfigurationFile
from cygnet.gateway.commands.vici_service import ViciService
from cygnet.gateway.control import (
    Answer,
    AnyMessage,
    Channel,
    ChildDown,
    ChildUp,
    Happened,
    LogLevels,
    NameServers,
    PeersAreAlone,
    PeersAreHeard,
    Ready,
    Settled,
    Stop,
    Stranded,
)
from cygnet.gateway.errands.errands import Errands
from cygnet.gateway.errands.resolver import open_resolver
from cygnet.gateway.errands.scripts import Scripts
from cygnet.gateway.host.devices import Devices, open_devices
from cygnet.gateway.host.host_changes import HostChange, change_host
from cygnet.gateway.logs.log_hub import LogHub
from cygnet.gateway.pools.leasing import Leasing, PoolMessage
from cygnet.gateway.process import signals
from cygnet.gateway.process.limits import Finding, find, no_space, raise_descriptors, survey, to_json, workers_that_fit
from cygnet.gateway.process.listeners import Listeners, open_listeners
from cygnet.gateway.process.privileges import User, unprivileged_user
from cygnet.gateway.process.self_test import try_algorithms
from cygnet.gateway.process.serving import Serving
from cygnet.gateway.process.spawn import spawn
from cygnet.gateway.process.state_dir import RESOLVE, StateDir
from cygnet.gateway.process.systemd import notify
from cygnet.gateway.worker import Kit, run_worker
from cygnet.ike.errors import LocalError
from cygnet.ike.settings import Settings
from cygnet.observe.counters import Counters, CounterWriter

_log = logging.getLogger(__name__)

STOP_S: Final = 4.0
"""After which a worker that was told to stop is killed: a gateway ends within 5 s, also on a busy machine."""
STEADY_S: Final = 10.0
"""A worker that lived for longer did not die of its start, and is started again at once."""
FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 5.0
"""Pauses before a worker that keeps dying is started again: they double, from the first to the last."""

EXIT_INTERRUPTED: Final = 130


class _Slot:
    """A worker's place, which outlives the worker."""

    __slots__ = ("channel", "failures", "index", "is_ready", "pid", "pidfd", "restart", "started")

    def __init__(self, index: int) -> None:
        self.index = index
        self.pid = 0
        """0 while there is none."""
        self.pidfd = -1
        self.channel: Channel | None = None
        self.started = 0.0
        self.failures = 0
        """In a row, soon after its start."""
        self.is_ready = False
        self.restart: asyncio.TimerHandle | None = None


class Supervisor:
    """A gateway, from its settings to its exit status."""

    def __init__(
        self,
        settings: Settings,
        gateway: GatewaySettings,
        *,
        state_dir: Path | None = None,
        counters: Counters | None = None,
        has_tun: bool = True,
        vici: Path | None = None,
        file: ConfigurationFile | None = None,
        logs: LogHub | None = None,
        on_serving: Callable[[Serving], object] = lambda serving: None,
    ) -> None:
        """Open nothing yet.

        Counters are kept in `state_dir` if it is given, or else in `counters`, which must have one row more than
        `gateway.worker_count`. `has_tun` allows TUN devices where we may make them. With `vici` there is a control
        socket, and `file` is read again for those who ask for it there. `logs` is where this process logs to, and with
        it its workers. `on_serving` is called when all workers serve.
        """
        self._settings = settings
        self._gateway = gateway
        self._state_dir = state_dir
        self._given_counters = counters
        self._has_tun = has_tun
        self._vici_path = vici
        self._file = file
        self._logs = logs
        self._vici: ViciService | None = None
        self._on_serving = on_serving
        self._user: User | None = None
        self._listeners: Listeners
        self._devices: Devices | None = None
        self._limits: tuple[Finding, ...] = ()
        self._counters: Counters
        self._writer: CounterWriter
        self._leasing: Leasing
        self._loop: asyncio.AbstractEventLoop
        self._errands: Errands
        self._slots: list[_Slot] = []
        self._has_served = False
        self._is_stopping = False
        self._is_over = False
        """The workers are gone; what is left is seen to its end."""
        self._status = 0

    def run(self) -> int:
        """Serve until a signal ends it; returns the exit status. Raises LocalError if it can't begin."""
        with signals.starting() as early, ExitStack() as stack:
            self._open(stack)
            self._serve(early)
        return self._status

    def _open(self, stack: ExitStack) -> None:
        """Open everything, in such an order that what leaves traces comes last."""
        try_algorithms(self._settings)
        self._user = unprivileged_user(self._gateway.user)
        asked, descriptors = self._gateway, raise_descriptors()
        self._gateway = msgspec.structs.replace(asked, workers=workers_that_fit(asked, descriptors))
        self._listeners = open_listeners(self._gateway)
        stack.callback(self._listeners.close)
        self._limits = find(survey(self._settings, asked, self._listeners, descriptors))
        workers = self._listeners.workers
        if self._has_tun and self._gateway.dataplane is DataplaneKind.USERSPACE:
            self._devices = open_devices(
                workers, self._gateway.tun_mtu, (self._listeners.port, self._listeners.natt_port)
            )
            if self._devices is not None:
                stack.callback(self._devices.close)
        self._counters = self._open_counters(stack)
        self._writer = self._counters.writer(self._counters.writers - 1)
        self._count_event = self._writer.by_label("dataplane_events_total")
        self._leasing = Leasing(
            self._settings.pools,
            workers,
            routes=self._devices.routes if self._devices is not None else None,
            send=self._tell,
        )
        self._slots = [_Slot(index) for index in range(workers)]
        if self._vici_path is not None:
            self._vici = ViciService(
                self._settings,
                self._counters,
                send=self._send,
                workers=lambda: [slot.index for slot in self._slots if slot.is_ready],
                file=self._file,
                logs=self._logs,
                in_force=self._configure,
                listening=lambda: self._listeners.addresses,
                count=self._writer.count,
                started_with=asked,
            )

    def _open_counters(self, stack: ExitStack) -> Counters:
        if self._given_counters is not None:
            return self._given_counters
        writers = self._gateway.worker_count + 1
        if self._state_dir is None:
            return Counters.create(writers=writers)
        house = StateDir(self._state_dir)
        stack.callback(house.close)
        try:
            house.limits.write_bytes(msgspec.json.encode(to_json(self._limits)))
            return Counters.create(writers=writers, path=house.counters)
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise LocalError(f"cannot write to {house.path}: {exc.strerror}") from exc
            # Tunnels matter more than figures of them.
            self._limits += (no_space(str(house.path), exc),)
            return Counters.create(writers=writers)

    @property
    def serving(self) -> Serving:
        """What is served, and how."""
        dataplane = self._gateway.dataplane.value
        if self._gateway.dataplane is DataplaneKind.USERSPACE:
            dataplane += " (echo)" if self._devices is None else " (tun)"
        return Serving(
            addresses=self._listeners.addresses,
            port=self._listeners.port,
            natt_port=self._listeners.natt_port,
            workers=self._listeners.workers,
            dataplane=dataplane,
            pid=os.getpid(),
            limits=self._limits,
        )

    def _serve(self, early: signals.Early) -> None:
        # What workers share with us stays shared if the collector doesn't write to it.
        gc.collect()
        gc.freeze()
        self._loop = asyncio.new_event_loop()
        self._errands = self._make_errands()
        try:
            for number in signals.HANDLED:
                self._loop.add_signal_handler(number, self._on_signal, number)
            early.check()
            if self._vici is not None and self._vici_path is not None:
                self._vici.start(self._loop, self._vici_path, self._gateway)
            if self._logs is not None:
                self._logs.attach(self._loop, count=self._writer.count, tell=self._tell_levels)
            for slot in self._slots:
                self._start(slot)
            self._loop.run_forever()
        except OSError as exc:
            raise LocalError(f"cannot start a worker: {exc.strerror}") from exc
        finally:
            self._is_over = True
            self._kill_all()
            self._errands.finish()
            if self._vici is not None:
                self._vici.stop(self._loop)
            self._loop.close()
            signals.ignore()

    def _make_errands(self) -> Errands:
        timeout_s, count, state_dir = self._gateway.updown_timeout_s, self._writer.count, self._state_dir
        resolver = open_resolver(
            self._gateway,
            Scripts(self._loop, count, timeout_s=timeout_s),
            links=self._devices.names if self._devices is not None else (),
            note=state_dir / RESOLVE if state_dir is not None else None,
        )
        return Errands(self._loop, count, lambda: self._settings, timeout_s=timeout_s, resolver=resolver)

    # Workers.

    def _start(self, slot: _Slot) -> None:
        """Fork the worker of a slot. Raises OSError."""
        slot.restart = None
        ours, theirs = Channel.pair()
        leases = self._leasing.at_start(slot.index)
        try:
            slot.pid = spawn(
                partial(self._work, slot.index, theirs, leases),
                user=self._user,
                keep=self._descriptors_of(slot.index, theirs),
            )
            slot.pidfd = os.pidfd_open(slot.pid)
        except OSError:
            ours.close()
            self._kill(slot)
            if slot.pid:
                os.waitpid(slot.pid, 0)
                slot.pid = 0
            self._free(slot.index)
            raise
        finally:
            theirs.close()
        if self._vici is not None:
            self._vici.calls.began_with(slot.index, self._settings)
        slot.channel = ours
        slot.started = time.monotonic()
        slot.is_ready = False
        ours.attach(self._loop, partial(self._on_message, slot), partial(self._on_channel_end, slot))
        self._loop.add_reader(slot.pidfd, self._on_death, slot)

    def _descriptors_of(self, worker: int, channel: Channel) -> list[int]:
        """What a worker keeps of what is open here."""
        tun = [self._devices.descriptors[worker]] if self._devices is not None else []
        logs = self._logs.descriptors if self._logs is not None else ()
        return [channel.fileno(), *tun, *logs, *self._listeners.descriptors_of(worker)]

    def _work(self, index: int, channel: Channel, leases: list[tuple[str, tuple[int, ...]]]) -> None:
        """The worker's life, in its own process."""
        counters = self._counters.writer(index)
        if self._logs is not None:
            self._logs.become_worker(index + 1, counters.count)
        kit = Kit(
            index=index,
            workers=self._listeners.workers,
            udp=self._listeners.udp[index],
            esp=self._listeners.esp[index],
            tun=self._devices.descriptors[index] if self._devices is not None else None,
            channel=channel,
            counters=counters,
            leases=leases,
            spi_seal=self._listeners.spi_seal,
            takes_transport=self._devices is not None and self._devices.diversions is not None,
        )
        run_worker(self._settings, self._gateway, kit)

    def _on_death(self, slot: _Slot) -> None:
        """A worker has ended."""
        pid, lived_s = slot.pid, time.monotonic() - slot.started
        how = self._reap(slot)
        self._free(slot.index)
        if self._is_stopping:
            if how:
                _log.error("worker %d (pid %d) %s while it was to stop", slot.index, pid, how)
            if not any(other.pid for other in self._slots):
                self._loop.stop()
            return
        slot.failures = slot.failures + 1 if lived_s < STEADY_S else 0
        pause_s = min(FIRST_PAUSE_S * 2 ** (slot.failures - 2), LAST_PAUSE_S) if slot.failures > 1 else 0.0
        self._writer.count("worker_restarts_total")
        when = f"in {pause_s:.1f} s" if pause_s else "at once"
        _log.error(
            "worker %d (pid %d) %s after %.1f s; it is started again %s",
            slot.index,
            pid,
            how or "ended by itself",
            lived_s,
            when,
        )
        slot.restart = self._loop.call_later(pause_s, self._restart, slot)

    def _restart(self, slot: _Slot) -> None:
        try:
            self._start(slot)
        except OSError as exc:
            _log.error("worker %d can't be started, again in %.0f s: %s", slot.index, LAST_PAUSE_S, exc.strerror)
            slot.restart = self._loop.call_later(LAST_PAUSE_S, self._restart, slot)

    def _reap(self, slot: _Slot) -> str:
        """Take leave of a worker that has ended, or is about to; how it ended, empty for in order."""
        self._loop.remove_reader(slot.pidfd)
        os.close(slot.pidfd)
        if slot.channel is not None:
            slot.channel.close()
        status = os.waitstatus_to_exitcode(os.waitpid(slot.pid, 0)[1])
        slot.pid, slot.pidfd, slot.channel, slot.is_ready = 0, -1, None, False
        if self._vici is not None:
            self._vici.on_gone(slot.index)
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"failed with status {status}" if status else ""

    def _on_channel_end(self, slot: _Slot) -> None:
        """A worker without a channel can't be told to stop. It ends as a rule a moment later, or is made to."""
        self._kill(slot)

    # Messages.

    def _on_message(self, slot: _Slot, message: AnyMessage) -> None:
        try:
            self._handle(slot, message)
        except (KeyError, ValueError):
            # A worker faces the network: what it says is checked like anything from there.
            _log.error("worker %d sent a message that makes no sense: %r", slot.index, message)

    def _handle(self, slot: _Slot, message: AnyMessage) -> None:
        if isinstance(message, Ready):
            slot.is_ready = True
            self._announce()
            if self._vici is not None:
                self._vici.on_ready(slot.index)
        elif isinstance(message, Answer | Happened):
            if self._vici is not None:
                self._vici.on_message(slot.index, message)
        elif isinstance(message, ChildUp | ChildDown | NameServers):
            self._errands.on_message(slot.index, message)
        elif isinstance(message, PoolMessage):
            self._leasing.on_message(slot.index, message)
        elif isinstance(message, PeersAreAlone):
            for other in self._slots:
                if other is not slot and other.channel is not None:
                    other.channel.send(message)
            self._tell(slot.index, PeersAreHeard(tuple(peer.sa for peer in message.peers)))
        elif self._devices is not None and isinstance(message, Stranded):
            if not self._tell(self._devices.holder(message.key, otherwise=slot.index), message):
                self._count_event("inner_not_handed_on")
        elif self._devices is not None and isinstance(message, HostChange):
            change_host(message, slot.index, self._devices, self._settings)
        elif isinstance(message, Settled):
            self._tell(slot.index, message)

    def _tell_levels(self, thresholds: Mapping[str, int]) -> None:
        for slot in self._slots:
            self._send(slot.index, LogLevels(dict(thresholds)))

    def _send(self, worker: int, message: AnyMessage) -> bool:
        """Send to a worker that serves; False if there is none."""
        return self._slots[worker].is_ready and self._tell(worker, message)

    def _tell(self, worker: int, message: AnyMessage) -> bool:
        """Send to a worker that runs, if it does not serve yet."""
        channel = self._slots[worker].channel
        return channel is not None and channel.send(message)

    def _configure(self, settings: Settings) -> None:
        """Other settings are in force from now on; the workers are about to be told."""
        if settings.pools != self._settings.pools:
            self._leasing.configure(settings.pools)
        self._settings = settings

    def _announce(self) -> None:
        if not self._has_served and all(slot.is_ready for slot in self._slots):
            self._has_served = True
            notify("READY=1")
            self._on_serving(self.serving)

    def _free(self, worker: int) -> None:
        """A worker is dead: its addresses and routes are nobody's."""
        if self._devices is not None:
            self._devices.routes.discard_all(worker)
            self._devices.addresses.discard_all(worker)
            if self._devices.diversions is not None:
                self._devices.diversions.discard_all(worker)
        self._errands.on_gone(worker)
        self._leasing.free(worker)

    # The end.

    def _on_signal(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            if self._logs is not None:
                self._logs.reopen()
            if self._vici is not None and not self._is_stopping:
                self._vici.reload(self._loop)
        elif self._is_over:
            if number == signal.SIGINT:
                self._status = EXIT_INTERRUPTED
                self._errands.break_off()
        elif not self._is_stopping:
            self._stop()
        elif number == signal.SIGINT:
            self._status = EXIT_INTERRUPTED
            self._loop.stop()

    def _stop(self) -> None:
        """Have all workers tell their peers and end."""
        self._is_stopping = True
        notify("STOPPING=1")
        _log.info("stopping")
        for slot in self._slots:
            if slot.restart is not None:
                slot.restart.cancel()
            if slot.channel is not None:
                slot.channel.send(Stop())
        if any(slot.pid for slot in self._slots):
            self._loop.call_later(STOP_S, self._give_up_waiting)
        else:
            self._loop.stop()

    def _give_up_waiting(self) -> None:
        for slot in self._slots:
            if slot.pid:
                _log.warning("worker %d (pid %d) does not stop; it is killed", slot.index, slot.pid)
                self._kill(slot)

    def _kill(self, slot: _Slot) -> None:
        if slot.pid:
            os.kill(slot.pid, signal.SIGKILL)

    def _kill_all(self) -> None:
        """Leave no process behind, however we end."""
        for slot in self._slots:
            if slot.pid:
                self._kill(slot)
                self._reap(slot)
