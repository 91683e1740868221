"""All tunnels are deleted, some at a time."""

import asyncio
from collections.abc import Callable

from cygnet.load.takedown import UNDER_WAY, Takedown


class Tunnels:
    """So many of them, of which those that are deleted stay until somebody lets them go."""

    def __init__(self, number: int) -> None:
        self.up = dict.fromkeys(bytes((n,)) for n in range(number))
        self.asked: list[bytes] = []
        self.is_settled = True
        self.takedown: Takedown

    def let_go(self) -> None:
        spi = next(each for each in self.asked if each in self.up)
        del self.up[spi]
        self.takedown.closed()


def run(number: int, then: Callable[[Tunnels], None]) -> Tunnels:
    tunnels = Tunnels(number)

    async def take_down() -> None:
        loop = asyncio.get_running_loop()
        tunnels.takedown = Takedown(tunnels.up, tunnels.asked.append, is_settled=lambda: tunnels.is_settled, loop=loop)
        tunnels.takedown.break_off()
        task = loop.create_task(tunnels.takedown.run())
        await asyncio.sleep(0)
        while not task.done():
            then(tunnels)
            await asyncio.sleep(0)

    asyncio.run(take_down())
    return tunnels


def test_no_more_than_a_few_are_under_way() -> None:
    most = 0

    def let_one_go(tunnels: Tunnels) -> None:
        nonlocal most
        most = max(most, sum(spi in tunnels.up for spi in tunnels.asked))
        if tunnels.up:
            tunnels.let_go()

    tunnels = run(200, let_one_go)
    assert tunnels.asked == [bytes((n,)) for n in range(200)]
    assert most == UNDER_WAY


def test_one_that_comes_late_goes_too_and_what_is_on_its_way_is_waited_for() -> None:
    steps = 0

    def step(tunnels: Tunnels) -> None:
        nonlocal steps
        steps += 1
        if steps == 1:
            tunnels.is_settled = False
            tunnels.let_go()
        elif steps == 3:
            tunnels.up[b"late"] = None
            tunnels.is_settled = True
            tunnels.takedown.add(b"late")
        elif steps == 5:
            tunnels.let_go()

    tunnels = run(1, step)
    assert (tunnels.asked, tunnels.up) == ([b"\0", b"late"], {})


def test_without_tunnels_it_is_over_at_once() -> None:
    assert run(0, lambda tunnels: tunnels.takedown.break_off()).asked == []


def test_it_can_be_broken_off() -> None:
    tunnels = run(2, lambda tunnels: tunnels.takedown.break_off())
    assert len(tunnels.up) == 2
