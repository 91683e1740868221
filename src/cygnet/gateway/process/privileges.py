"""Giving up privileges, for good: what a worker does before it looks at anything that a peer sent."""

import ctypes
import os
import pwd
import signal
from typing import Final

import msgspec

from cygnet.ike.errors import LocalError

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38

_libc = ctypes.CDLL(None, use_errno=True)


class User(msgspec.Struct, frozen=True):
    """Whose privileges a process takes."""

    name: str
    uid: int
    gid: int


def unprivileged_user(name: str) -> User | None:
    """The user that workers become; None where we aren't root and stay who we are. Raises LocalError."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise LocalError(f'there is no user "{name}" for the workers to run as: set gateway.user') from None
    return User(name=name, uid=entry.pw_uid, gid=entry.pw_gid)


def become(user: User) -> None:
    """Take a user's privileges and no others, with no way back."""
    # The groups first: without root's user id we could not any more.
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


def forbid_new_privileges() -> None:
    """See to it that no program that we might execute gains any (PR_SET_NO_NEW_PRIVS)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(parent: int) -> None:
    """Be killed when `parent`, our parent process, ends. To be called after `become`, which would undo it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended before we asked.
        os.kill(os.getpid(), signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
