"""`version`, `stats`, `reload-settings`, and our own `reload`."""

import os
import time
from functools import partial
from importlib.metadata import version
from typing import Final

from cygnet.vici.backend import Backend
from cygnet.vici.commands.results import SUCCESS
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400


def table(backend: Backend) -> dict[str, Command]:
    """The commands by name."""
    return {
        "version": Command(_version),
        "stats": Command(partial(_stats, backend)),
        "reload-settings": Command(_reload_settings),
        "reload": Command(partial(_reload, backend)),
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
    """strongSwan's layout. Its priorities are ours in other words: what is of established SAs is served first (high),
    then handshakes under way (medium), then new peers (low)."""
    stats = await backend.stats()
    high, medium, low = stats.queued
    return {
        "uptime": {
            "running": duration(time.time() - stats.started),
            "since": time.strftime("%b %d %H:%M:%S %Y", time.localtime(stats.started)),
        },
        "workers": {
            "total": stats.workers,
            "idle": stats.workers_ready if not any(stats.queued) else 0,
            "active": {"critical": 0, "high": 0, "medium": 0, "low": 0},
        },
        "queues": {"critical": 0, "high": high, "medium": medium, "low": low},
        "scheduled": stats.ike_sas,
        "ikesas": {"total": stats.ike_sas, "half-open": stats.half_open},
        "plugins": ["cygnet"],
        "listening": stats.listening,
        "mem": {"total": stats.resident_octets, "allocs": stats.workers},
        "mallinfo": {"sbrk": stats.resident_octets, "mmap": 0, "used": stats.resident_octets, "free": 0},
    }


async def _reload_settings(call: Call) -> Encodable:
    """There is no strongswan.conf to read again: what it holds stands in `gateway { }`, which `reload` reads."""
    return SUCCESS


async def _reload(backend: Backend, call: Call) -> Encodable:
    warnings = await backend.reload()
    return {"success": True, "warnings": warnings or None}


def duration(seconds: float) -> str:
    """A duration as strongSwan prints it, such as `3 hours`."""
    for unit_s, unit in ((_DAY_S, "day"), (_HOUR_S, "hour"), (_MINUTE_S, "minute")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}s"
    number = round(seconds)
    return f"{number} second{'' if number == 1 else 's'}"
