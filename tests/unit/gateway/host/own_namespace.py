"""A network namespace for a check of what the kernel does, and that leaves nothing behind."""

import ctypes
import os
import traceback
from collections.abc import Callable

_CLONE_NEWNET = 0x40000000


def in_own_namespace(check: Callable[[], None]) -> None:
    """Run something in a network namespace of its own, in a process of its own: it ends with that."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0:
                check()
                status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
