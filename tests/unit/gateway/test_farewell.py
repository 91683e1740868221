"""The end of a worker: every peer is told, and not for ever."""

import logging
from typing import Any, cast

import pytest

from cygnet.gateway.embedded import STOP_TIMEOUT_S
from cygnet.gateway.farewell import FAREWELL_S, Farewell
from cygnet.gateway.supervisor import STOP_S


class Worker:
    """A loop that runs by itself, and IKE_SAs that go when their peer answers."""

    def __init__(self, sas: int, *, answers: bool) -> None:
        self.table = self
        self.sas = dict.fromkeys(bytes((n,)) for n in range(sas))
        self.told: list[bytes] = []
        self.now = 0.0
        self.is_stopped = False
        self._answers = answers
        self._calls: list[tuple[float, Any]] = []
        self.farewell = Farewell(cast(Any, self), cast(Any, self), clock=lambda: self.now)

    def delete(self, spi: bytes) -> None:
        self.told.append(spi)

    def stop(self) -> None:
        self.is_stopped = True

    def call_soon(self, call: Any) -> None:
        self._calls.append((self.now, call))

    def call_later(self, delay: float, call: Any) -> None:
        self._calls.append((self.now + delay, call))

    def run(self) -> int:
        """Until the loop is stopped; in how many turns."""
        turns = 0
        self.farewell.begin()
        while not self.is_stopped:
            turns += 1
            if self._answers:
                for spi in self.told:
                    self.sas.pop(spi, None)
            self.now, call = self._calls.pop(0)
            call()
        return turns


def test_all_are_told_some_in_each_turn() -> None:
    worker = Worker(200, answers=True)
    assert worker.run() == 4
    assert worker.told == [bytes((n,)) for n in range(200)]
    assert worker.now == 0.02


def test_without_peers_it_is_over_at_once() -> None:
    assert Worker(0, answers=True).run() == 0


def test_peers_that_do_not_answer_are_waited_for_so_long(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(3, answers=False)
    with caplog.at_level(logging.WARNING):
        worker.run()
    assert worker.now == pytest.approx(FAREWELL_S, abs=0.03)
    assert "3 peers have not answered" in caplog.text


def test_all_that_is_waited_for_fits_into_the_five_seconds_in_which_a_gateway_ends() -> None:
    """A worker for its peers, the supervisor for a worker, and whoever embeds them for the supervisor."""
    assert FAREWELL_S < STOP_S < 5.0 < STOP_TIMEOUT_S
