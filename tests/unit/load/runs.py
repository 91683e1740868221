"""Whole runs of the tester, for tests."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.unit.load.responder import SECRET, Responder

from cygnet.iana import ProtocolId
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.settings import RetransmitPolicy
from cygnet.load.options import LoadOptions
from cygnet.load.processes import Progress, run_load
from cygnet.load.results import Results

LONG_S = 60.0
"""For which tunnels are held at most, where the hold ends when enough has happened."""
GCM = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519"),)
CBC = (parse_proposal(ProtocolId.IKE, "aes128-sha256-x25519"),)
ESP = (parse_proposal(ProtocolId.ESP, "aes128gcm16"),)
FAST = RetransmitPolicy(timeout_s=0.2, base=1.0, tries=20)


def options(port: int, natt_port: int, **changes: Any) -> LoadOptions:
    defaults: dict[str, Any] = {
        "target": "127.0.0.1",
        "secret": SECRET,
        "port": port,
        "natt_port": natt_port,
        "count": 30,
        "concurrency": 8,
        "proposals": GCM,
        "esp_proposals": ESP,
        "vips": (bytes(4),),
    }
    return LoadOptions(**{**defaults, **changes})


def load(
    responder: Responder, *, on_progress: Callable[[Progress], None] = lambda progress: None, **changes: Any
) -> Results:
    chosen = options(responder.port, responder.natt_port, **{"target": responder.address, **changes})
    results = run_load(chosen, on_progress=on_progress)
    assert results.established + results.failed == results.attempted
    return results


def signal_when(condition: Callable[[Progress], bool], number: int = signal.SIGINT) -> Callable[[Progress], None]:
    """An `on_progress` that sends us a signal, once."""
    is_sent = False

    def on_progress(progress: Progress) -> None:
        nonlocal is_sent
        if not is_sent and condition(progress):
            is_sent = True
            os.kill(os.getpid(), number)

    return on_progress


def load_until(responder: Responder, enough: Callable[[], bool], **changes: Any) -> tuple[Results, float]:
    """A run that holds its tunnels until enough has happened, and for how many seconds at most it did.

    So a machine that stands still makes a run longer, and not what it has to show less.
    """
    began = time.monotonic()
    results = load(responder, on_progress=signal_when(lambda progress: enough()), hold_s=LONG_S, **changes)
    took_s = time.monotonic() - began
    assert results.is_interrupted and took_s < LONG_S
    return results, took_s
