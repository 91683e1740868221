"""`version`, `stats`, `reload-settings`, and our own `reload`."""

import os
import time
from functools import partial
from importlib.metadata import version
from typing import Final

from cygnet.vici.backend import Backend, Reloaded
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command

PRIORITIES: Final = ("critical", "high", "medium", "low")
"""Of strongSwan's jobs."""
RELOAD_S: Final = 600.0
"""For which whoever asks for a reload waits at most. It goes on after that, and the log has the outcome."""
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400


def table(backend: Backend) -> dict[str, Command]:
    """The commands by name."""
    return {
        "version": Command(_version),
        "stats": Command(partial(_stats, backend)),
        "reload-settings": Command(partial(_reload_settings, backend), deadline_s=RELOAD_S),
        "reload": Command(partial(_reload, backend), deadline_s=RELOAD_S),
    }


async def _version(call: Call) -> Encodable:
    system = os.uname()
    return {
        "daemon": "cygnet",
        "version": version("cygnet"),
        "sysname": system.sysname,
        "release": system.release,
        "machine": system.machine,
    }


async def _stats(backend: Backend, call: Call) -> Encodable:
    """strongSwan's layout. Its four priorities are our four queues, in the order in which they are served: what is of
    established SAs (critical), handshakes under way (high), new peers (medium), and what is of no SA (low).

    Deviation: `mem` and `mallinfo`, which tell of its memory allocators, are not there; `memory` is ours.
    """
    stats = await backend.stats()
    return {
        "uptime": {
            "running": duration(time.time() - stats.started),
            "since": time.strftime("%b %d %H:%M:%S %Y", time.localtime(stats.started)),
        },
        "workers": {
            "total": stats.workers,
            "idle": stats.workers_ready - sum(stats.busy),
            "active": dict(zip(PRIORITIES, stats.busy, strict=True)),
        },
        "queues": dict(zip(PRIORITIES, stats.queued, strict=True)),
        "scheduled": stats.timers,
        "ikesas": {"total": stats.ike_sas, "half-open": stats.half_open},
        "plugins": ["cygnet"],
        # One value: swanctl takes every list here for one of plugins.
        "listening": " ".join(stats.listening),
        "memory": {"workers": stats.memory_octets},
    }


async def _reload_settings(backend: Backend, call: Call) -> Encodable:
    """What strongswan.conf holds for others stands in `gateway { }` here: that is read again, and nothing else."""
    return _reloaded(await backend.reload_settings())


async def _reload(backend: Backend, call: Call) -> Encodable:
    return _reloaded(await backend.reload())


def _reloaded(done: Reloaded) -> Encodable:
    return {"success": True, "changed": done.changed, "warnings": done.warnings or None}


def duration(seconds: float) -> str:
    """A duration as strongSwan prints it, such as `3 hours`."""
    for unit_s, unit in ((_DAY_S, "day"), (_HOUR_S, "hour"), (_MINUTE_S, "minute")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}s"
    number = round(seconds)
    return f"{number} second{'' if number == 1 else 's'}"
