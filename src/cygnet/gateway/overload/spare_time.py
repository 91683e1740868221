"""How much of the processor is left over: what nobody wants may be spent on those who perhaps do not mean it.

A worker may be idle and have no time left all the same: where the kernel's own work on a flood, or other programs, take
its core. So two things are measured, and the lesser one counts: for how long the worker neither ran nor waited for a
core, and for how long the cores that it may run on were idle.
"""

import os
from typing import Final

from cygnet.observe.system import idle_seconds, wanted_seconds

_FORGET_S: Final = 2.0
"""What was measured longer ago says nothing of now."""


class SpareTime:
    """Measures from one time that it is asked to the next."""

    __slots__ = ("_cores_idle_s", "_measured", "_wanted_s")

    def __init__(self) -> None:
        self._measured = float("-inf")
        self._wanted_s = 0.0
        self._cores_idle_s = 0.0

    def take(self, now: float) -> float:
        """Which part of a core was left over since the last time, 0 to 1. None at first, after a pause, and where it
        can't be measured.
        """
        try:
            wanted_s, cores_idle_s = wanted_seconds(), idle_seconds(os.sched_getaffinity(0))
        except (OSError, ValueError):  # a sandbox without these files, or a kernel that does not keep them
            return 0.0
        elapsed_s = now - self._measured
        spare_s = min(elapsed_s - (wanted_s - self._wanted_s), cores_idle_s - self._cores_idle_s)
        self._measured, self._wanted_s, self._cores_idle_s = now, wanted_s, cores_idle_s
        return max(0.0, min(1.0, spare_s / elapsed_s)) if 0 < elapsed_s < _FORGET_S else 0.0
