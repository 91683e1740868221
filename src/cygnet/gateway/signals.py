"""The signals that end a gateway, while its event loop does not run: at its start, and at its very end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What the event loop handles in between."""


@contextmanager
def starting() -> Iterator[None]:
    """Around the life of a gateway: until its loop handles signals, SIGTERM ends it in order too, with SystemExit 0,
    and SIGHUP does nothing, since the configuration is being read anyway. SIGINT is a KeyboardInterrupt as ever."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore() -> None:
    """What is left to close takes no time, and must be closed."""
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
