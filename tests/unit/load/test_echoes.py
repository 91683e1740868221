from collections.abc import Callable

import pytest

from cygnet.dataplane.echo import InnerEcho, build_echo_request
from cygnet.load.echoes import Echoes
from cygnet.load.options import PingOptions

TARGET = bytes((10, 0, 0, 1))
SOURCE = bytes((10, 0, 0, 2))
SPI = b"\x01abc"
OTHER_SPI = b"\x01xyz"


class World:
    """Echoes with a clock of ours, what they sent, and what came of it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[tuple[bytes, bytes]] = []
        self.answered: list[tuple[bytes, float]] = []
        self.echoes = Echoes(
            PingOptions(target=TARGET, timeout_s=1.0, tries=3),
            on_answer=lambda spi_in, delay_s: self.answered.append((spi_in, delay_s)),
            clock=lambda: self.now,
        )
        self.echoes.connect(self._send)
        self.gateway = InnerEcho((TARGET,), lambda name: None)

    def _send(self, spi_in: bytes, packet: bytes) -> bool:
        self.sent.append((spi_in, packet))
        return True

    def answer(self) -> bytes:
        """The gateway's answer to what was sent last."""
        answer = self.gateway.answer(self.sent[-1][1])
        assert answer is not None
        return answer

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.echoes.handle_timers(self.now)


@pytest.fixture
def world() -> World:
    world = World()
    world.echoes.start(SPI, number=70_000, source=SOURCE, intended=99.5)
    return world


def test_the_delay_counts_from_the_intended_start(world: World) -> None:
    world.now = 100.25
    world.echoes.deliver(world.answer(), SPI)
    assert world.answered == [(SPI, 0.75)]
    assert world.echoes.is_idle


def test_only_the_first_answer_counts(world: World) -> None:
    for _ in range(2):
        world.echoes.deliver(world.answer(), SPI)
    assert len(world.answered) == 1


@pytest.mark.parametrize(
    "packet",
    [
        lambda world: b"",
        lambda world: build_echo_request(TARGET, SOURCE, identifier=4464, sequence=1, payload=b""),
        lambda world: InnerEcho((SOURCE,), lambda name: None).answer(
            build_echo_request(TARGET, SOURCE, identifier=4464, sequence=1, payload=b"")
        ),
        lambda world: world.gateway.answer(build_echo_request(SOURCE, TARGET, identifier=1, sequence=1, payload=b"")),
    ],
    ids=["nothing", "a request", "an answer of somebody else", "an answer to another"],
)
def test_what_is_no_answer_to_us_does_not_count(world: World, packet: Callable[[World], bytes]) -> None:
    world.echoes.deliver(packet(world), SPI)
    assert not world.answered


def test_an_answer_through_another_tunnel_does_not_count(world: World) -> None:
    world.echoes.deliver(world.answer(), OTHER_SPI)
    assert not world.answered


def test_a_request_is_repeated_and_then_given_up(world: World) -> None:
    world.wait(0.9)
    assert len(world.sent) == 1
    world.wait(0.2)
    world.wait(1.1)
    assert len(world.sent) == 3
    assert world.echoes.failed == 0
    world.wait(1.1)
    assert len(world.sent) == 3
    assert world.echoes.failed == 1
    assert world.echoes.is_idle


def test_a_late_answer_to_the_first_request_is_one(world: World) -> None:
    answer = world.answer()
    world.wait(1.1)
    world.echoes.deliver(answer, SPI)
    assert len(world.answered) == 1


def test_a_tunnel_that_goes_without_an_answer_has_failed(world: World) -> None:
    world.echoes.forget(SPI)
    world.echoes.forget(SPI)
    world.wait(10.0)
    assert (world.echoes.failed, len(world.sent)) == (1, 1)


def test_no_inner_address_of_the_target_s_family_is_a_failure(world: World) -> None:
    world.echoes.start(OTHER_SPI, number=1, source=bytes(16), intended=100.0)
    assert (world.echoes.failed, len(world.sent)) == (1, 1)
