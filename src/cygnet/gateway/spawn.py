"""Forking a worker: what must happen between `fork` and its first line of work, and after its last."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from cygnet.gateway.privileges import User, become, die_with_parent, forbid_new_privileges

_log = logging.getLogger(__name__)

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
"""The supervisor gets these too, and tells its workers what to do."""


def spawn(work: Callable[[], None], *, user: User | None, let_go: Callable[[], None]) -> int:
    """Run `work` in a new process, as `user`; returns its process id. OSError if there can't be one.

    `let_go` closes, in the new process, what belongs to others. Nothing of the caller runs there afterwards: no
    `finally`, no `atexit`, no event loop.
    """
    parent = os.getpid()
    # A signal that came between `fork` and `_reset_signals` would be told to the parent's event loop.
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _live(work, user, let_go, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
    return pid


def _live(work: Callable[[], None], user: User | None, let_go: Callable[[], None], parent: int) -> None:
    status = 1
    try:
        _reset_signals()
        # The parent's loop is not ours, though we have a copy of it.
        asyncio.set_event_loop(None)
        let_go()
        if user is not None:
            become(user)
        forbid_new_privileges()
        die_with_parent(parent)
        work()
        status = 0
    except BaseException:
        _log.exception("the worker fails")
    finally:
        with suppress(Exception):
            logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN, None):
            signal.signal(number, signal.SIG_DFL)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
