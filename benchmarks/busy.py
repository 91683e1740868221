"""Programs that only compute, so that what is measured has a part of its core alone."""

import subprocess
import sys
from types import TracebackType
from typing import Final, Self

from benchmarks import common

# It ends with whoever started it, even if that is killed.
_COMPUTE: Final = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


class Busy:
    """So many of them on one core, between `with` and its end."""

    def __init__(self, number: int, core: int) -> None:
        self._number = number
        self._core = core
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for _ in range(self._number):
            self._running.append(subprocess.Popen([sys.executable, "-c", _COMPUTE]))
            common.pin(self._core, self._running[-1].pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._running:
            each.terminate()
        for each in self._running:
            each.wait()
