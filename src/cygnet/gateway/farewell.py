"""How a worker ends: it tells every peer that its IKE_SA is deleted, and waits a while for what they say."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from cygnet.net.driver import Driver

_log = logging.getLogger(__name__)

FAREWELL_S: Final = 3.5
"""For telling all peers that we end, and for their answers. The supervisor's patience ends half a second later."""
_PER_TURN: Final = 64
_POLL_S: Final = 0.02


class Farewell:
    """Deletes all IKE_SAs, some in each turn of the loop, and stops the loop when all are gone or it takes too long."""

    def __init__(
        self, driver: Driver, loop: asyncio.AbstractEventLoop, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.has_begun = False
        self._driver = driver
        self._sas = driver.table.sas
        self._loop = loop
        self._clock = clock
        self._waiting: deque[bytes] = deque()
        self._until = 0.0

    def begin(self) -> None:
        """With all IKE_SAs that there are."""
        self.has_begun = True
        self._waiting.extend(self._sas)
        self._until = self._clock() + FAREWELL_S
        self._say()

    def _say(self) -> None:
        for _ in range(min(_PER_TURN, len(self._waiting))):
            self._driver.delete(self._waiting.popleft())
        if not self._sas:
            self._loop.stop()
        elif self._clock() >= self._until:
            _log.warning("%d peers have not answered that their IKE_SA ends", len(self._sas))
            self._loop.stop()
        elif self._waiting:
            self._loop.call_soon(self._say)
        else:
            self._loop.call_later(_POLL_S, self._say)
