import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cygnet.dataplane.null import NullDataplane
from cygnet.ike.effects import Effect, RemoveChild, Retransmitted, SaClosed, Send
from cygnet.ike.path import Path
from cygnet.ike.table import IkeTable
from cygnet.net.driver import _MOMENT_S, _TOGETHER, Driver

PATH = Path("192.0.2.1", 500, "192.0.2.2", 500)


class Core:
    """Stands in for the table: answers each datagram with itself; the SA that it serves is the datagram's name."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.env = self
        self.serving: Any = None

    def count(self, name: str, n: int = 1, /) -> None:
        self.log.append(name)

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Effect]:
        name = datagram.decode()
        self.serving = Sa(name)
        self.log.append(f"receive {name}")
        if name.startswith("core fails"):
            raise RuntimeError
        return [Retransmitted(datagram), RemoveChild(bytes(8), datagram[:4]), Send(datagram, path)]

    def abort(self, sa: str, now: float) -> list[Effect]:
        return [SaClosed(sa.encode(), "", "internal_error", False)]

    def next_timer(self) -> float | None:
        return 60.0

    def handle_timers(self, now: float) -> list[Effect]:
        self.log.append(f"timers {now}")
        return []


class Sa(str):
    """What the driver asks of an IKE_SA that it gives up."""

    name = "rw"
    spi = bytes(7) + b"\7"


class Loop:
    """Wakes who wants to be woken when the test says so."""

    def __init__(self) -> None:
        self.now = 1.0
        self.due: dict[int, tuple[float, Callable[[], object]]] = {}
        self._made = 0

    def call_later(self, delay: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        number = self._made = self._made + 1
        self.due[number] = (self.now + delay, call)
        return cast(asyncio.TimerHandle, SimpleNamespace(cancel=lambda: self.due.pop(number, None)))

    @property
    def next(self) -> float:
        """When it wakes somebody: one, and once."""
        ((at, _),) = self.due.values()
        return at

    def wake(self) -> None:
        ((self.now, call),) = self.due.values()
        self.due.clear()
        call()


class Rig:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.loop = Loop()
        self.driver = Driver(
            cast(IkeTable, Core(self.log)),
            NullDataplane(lambda name: None),
            self._send,
            send_keepalive=lambda path: self.log.append("keepalive"),
            on_event=self._event,
            loop=cast(asyncio.AbstractEventLoop, self.loop),
            clock=lambda: self.loop.now,
        )

    def receive(self, *names: str) -> list[str]:
        self.driver.receive_ike(((name.encode(), PATH) for name in names), self.loop.now)
        return self.log

    def _send(self, datagram: bytes, path: Path) -> None:
        self.log.append(f"send {datagram.decode()}")

    def _event(self, effect: Effect) -> None:
        if isinstance(effect, SaClosed):
            self.log.append(f"closed {effect.sa.decode()}")
        elif isinstance(effect, Retransmitted):
            name = effect.sa.decode()
            if name.startswith("event fails"):
                raise RuntimeError
            self.log.append(f"event {name}")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_effects_are_carried_out_in_the_order_of_their_datagrams(rig: Rig) -> None:
    assert rig.receive("a", "b") == ["receive a", "receive b", "event a", "send a", "event b", "send b"]


def test_an_answer_waits_for_no_more_than_a_few_others(rig: Rig) -> None:
    log = rig.receive(*(str(n) for n in range(_TOGETHER + 1)))
    assert log.index("send 0") < log.index(f"receive {_TOGETHER}")
    assert [line for line in log if line.startswith("send")] == [f"send {n}" for n in range(_TOGETHER + 1)]


@pytest.mark.parametrize("name", ["core fails", "event fails"])
def test_an_internal_error_costs_the_sa_that_it_happened_in_and_no_other(
    rig: Rig, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = rig.receive("a", name, "b")
    assert [line for line in log if line.startswith("closed")] == [f"closed {name}"]
    assert [line for line in log if line.startswith("send")] == ["send a", "send b"]
    assert log.count("internal_errors_total") == 1
    assert f"giving up {name}" in caplog.text
    assert [record.sa for record in caplog.records] == [("rw", 7)]  # type: ignore[attr-defined]
    assert log.index(f"closed {name}") > log.index("send a"), "what the core has asked for before comes before"


def test_timers_that_datagrams_set_are_looked_at_in_a_moment(rig: Rig) -> None:
    """And not after each few datagrams, which would put the moment off for ever."""
    rig.receive("a")
    assert rig.loop.next == 1.0 + _MOMENT_S
    rig.loop.now += _MOMENT_S / 2
    rig.receive("b")
    assert rig.loop.next == 1.0 + _MOMENT_S
    rig.loop.wake()
    assert rig.log[-1] == f"timers {1.0 + _MOMENT_S}"
    assert rig.loop.next == 60.0, "then it is the table that says when"
    rig.receive("c")
    assert rig.loop.next == rig.loop.now + _MOMENT_S


def test_a_timer_that_comes_up_sooner_stays(rig: Rig) -> None:
    rig.loop.now = 60.0 - _MOMENT_S / 2
    rig.driver.carry_out(())
    rig.receive("a")
    assert rig.loop.next == 60.0
