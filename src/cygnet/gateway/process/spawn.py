"""Forking a worker: what must happen between `fork` and its first line of work, and after its last."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress

from cygnet.gateway.process.privileges import User, become, die_with_parent, forbid_new_privileges

_log = logging.getLogger(__name__)

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
"""The supervisor gets these too, and tells its workers what to do."""


def spawn(work: Callable[[], None], *, user: User | None, keep: Iterable[int]) -> int:
    """Run `work` in a new process, as `user`; returns its process id. OSError if there can't be one.

    Of the file descriptors it has those to `keep` and the standard ones. Nothing of the caller runs there
    afterwards: no `finally`, no `atexit`, no event loop.
    """
    parent = os.getpid()
    # A signal that came between `fork` and `_reset_signals` would be told to the parent's event loop.
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _live(work, user, keep, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
    return pid


def _live(work: Callable[[], None], user: User | None, keep: Iterable[int], parent: int) -> None:
    status = 1
    try:
        _reset_signals()
        # The parent's loop is not ours, though we have a copy of it.
        asyncio.set_event_loop(None)
        _close_all_but(keep)
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


def _close_all_but(keep: Iterable[int]) -> None:
    """Close what is the parent's: other workers' sockets, its event loop, its lock.

    The objects that had these descriptors are still there, and must stay: one that is finalised would close a number
    that may be another's by then. That they do stay is why this process ends with `_exit` and without returning.
    """
    first = 3
    for fd in sorted({fd for fd in keep if fd >= first}):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
