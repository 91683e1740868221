"""A gateway inside another program, such as the demo: from settings at hand, without files or devices.

with GatewayProcess.start(settings, GatewaySettings(workers=2, port=0, natt_port=0, listen=("127.0.0.1",))) as gateway:
    ...                                        # talk to gateway.port and gateway.natt_port
    gateway.counters.value("ike_sas_established_total")
"""

import os
import select
import signal
import traceback
from pathlib import Path
from types import TracebackType

import msgspec

from cygnet.config.gateway_settings import GatewaySettings
from cygnet.gateway.process.privileges import die_with_parent
from cygnet.gateway.process.serving import Serving
from cygnet.gateway.supervisor import Supervisor
from cygnet.ike.errors import LocalError
from cygnet.ike.settings import Settings
from cygnet.observe.counters import Counters
from cygnet.observe.system import process_tree

START_TIMEOUT_S = 30.0
"""Seconds within which a gateway serves or says why it can't."""
STOP_TIMEOUT_S = 6.0
"""Longer than a supervisor takes for an orderly end, which is 5 s."""
_LAST_PATIENCE_S = 1.0
_PIPE_OCTETS = 65536


class _Answer(msgspec.Struct, frozen=True):
    """What the new process tells the one that started it."""

    serving: Serving | None = None
    error: str = ""


class GatewayProcess:
    """A supervisor and its workers in processes of their own. They end when this process does, or by `stop`."""

    def __init__(self, pid: int, serving: Serving, counters: Counters) -> None:
        self.pid = pid
        """Of the supervisor."""
        self.serving = serving
        self.counters = counters
        """The gateway's counters as they are now; reading them costs it nothing."""
        self._status: int | None = None

    @classmethod
    def start(cls, settings: Settings, gateway: GatewaySettings, *, vici: Path | None = None) -> "GatewayProcess":
        """Start a gateway and wait until it serves. Raises LocalError, with the reason, if it can't.

        With `vici` it has a control socket there.

        `state_dir` is not used, and inner packets go to the echo alone, also for root. With `port` and `natt_port` 0
        the kernel chooses, and `port` and `natt_port` of the result tell. Forks: threads of this process are not
        there in the new one, so start gateways before them.
        """
        counters = Counters.create(writers=gateway.worker_count + 1)
        parent = os.getpid()
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            _run_child(settings, gateway, counters, write_end, parent, vici)
        os.close(write_end)
        try:
            answer = _read_answer(read_end)
        except BaseException:
            _end(pid, _LAST_PATIENCE_S)
            counters.close()
            raise
        finally:
            os.close(read_end)
        if answer.serving is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            counters.close()
            raise LocalError(answer.error)
        return cls(pid, answer.serving, counters)

    @property
    def port(self) -> int:
        """The IKE port of the first address."""
        return self.serving.port

    @property
    def natt_port(self) -> int:
        """The NAT traversal port of the first address."""
        return self.serving.natt_port

    @property
    def worker_count(self) -> int:
        """How many workers run: fewer than asked for where the kernel can't steer."""
        return self.serving.workers

    def worker_pids(self) -> list[int]:
        """The process ids of the workers that run now, and of scripts while they run."""
        return process_tree(self.pid)[1:]

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End it: its peers are told. Returns the supervisor's exit status; after `timeout_s` it ends without them.

        The counters can be read afterwards.
        """
        if self._status is None:
            self._status = _end(self.pid, timeout_s)
        return self._status

    def __enter__(self) -> "GatewayProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _end(pid: int, timeout_s: float) -> int:
    """End a supervisor in order, or after `timeout_s` without waiting for its peers; returns its exit status."""
    pidfd = os.pidfd_open(pid)
    try:
        # The second, while it stops, has it end its workers at once and leave none behind.
        for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGINT, _LAST_PATIENCE_S)):
            signal.pidfd_send_signal(pidfd, number)
            if select.select([pidfd], [], [], patience_s)[0]:
                break
        else:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run_child(
    settings: Settings, gateway: GatewaySettings, counters: Counters, answers: int, parent: int, vici: Path | None
) -> None:
    """The new process's whole life. It must never return into the program that forked it."""
    status = 1
    try:
        # In a group of its own: an interrupt from the terminal is for the program, which stops us in order.
        os.setpgid(0, 0)
        die_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

        def tell(serving: Serving) -> None:
            os.write(answers, msgspec.msgpack.encode(_Answer(serving=serving)))

        supervisor = Supervisor(settings, gateway, counters=counters, has_tun=False, vici=vici, on_serving=tell)
        status = supervisor.run()
    except LocalError as exc:
        os.write(answers, msgspec.msgpack.encode(_Answer(error=str(exc))))
    except SystemExit:
        # It was told to end while it started.
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _read_answer(read_end: int) -> _Answer:
    if not select.select([read_end], [], [], START_TIMEOUT_S)[0]:
        return _Answer(error=f"the gateway did not serve within {START_TIMEOUT_S:g} s")
    octets = os.read(read_end, _PIPE_OCTETS)
    if not octets:
        return _Answer(error="the gateway ended before it served")
    return msgspec.msgpack.decode(octets, type=_Answer)
