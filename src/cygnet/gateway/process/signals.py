"""The signals that end a gateway, while its event loop does not run: at its start, and at its very end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What the event loop handles in between."""


class Early:
    """What has come before the loop handled signals."""

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raise once more what a signal has raised: the interpreter passes over what is raised in a finalizer, or in a
        callback of a weak reference, and the gateway would go on."""
        if self._error is not None:
            raise self._error

    def _take(self, number: int, frame: FrameType | None) -> NoReturn:
        self._error = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(0)
        raise self._error


@contextmanager
def starting() -> Iterator[Early]:
    """Around the life of a gateway: until its loop handles signals, SIGTERM ends it in order too, with SystemExit 0,
    and SIGHUP does nothing, since the configuration is being read anyway. SIGINT is a KeyboardInterrupt as ever."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    early = Early()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, early._take)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield early
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore() -> None:
    """What is left to close takes no time, and must be closed."""
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
