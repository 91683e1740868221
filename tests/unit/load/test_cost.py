"""What a tunnel costs the tester, in bytecode instructions: `tests/sim/test_cost.py` says how to go about it.

Nothing is waited for here but the responder, and one attempt is made after the other: so each takes the same steps.
"""

import asyncio
import time

import pytest
from tests.instructions import Instructions, assert_within, not_traced
from tests.unit.load.responder import Responder
from tests.unit.load.runs import options

from cygnet.ike.settings import RetransmitPolicy
from cygnet.load.fleet import Fleet
from cygnet.load.options import LoadOptions
from cygnet.load.sources import open_sources

WARM_UP, TIMES = 5, 10
ATTEMPT = 8900
"""Of all that begins an attempt and follows it, the core included: as counted with CPython 3.11, and a tenth."""
OF_TESTER = 705
"""What of that is the tester's own."""


async def run(chosen: LoadOptions) -> None:
    async def proceed() -> None:
        pass

    fleet = Fleet(chosen, open_sources(chosen, 0), process=0, loop=asyncio.get_running_loop())
    await fleet.run(time.monotonic(), proceed)
    assert fleet.tally.established == chosen.count


@not_traced
def test_an_attempt_stays_cheap(responder: Responder, monkeypatch: pytest.MonkeyPatch) -> None:
    instructions = Instructions()
    begin = Fleet._begin

    def begin_counted(fleet: Fleet, intended: float, now: float) -> None:
        if fleet.tally.attempted == WARM_UP:
            instructions.by_function.clear()
        begin(fleet, intended, now)

    monkeypatch.setattr(Fleet, "_begin", instructions.counting(begin_counted))
    monkeypatch.setattr(Fleet, "_on_ike", instructions.counting(Fleet._on_ike))
    patient = RetransmitPolicy(timeout_s=60.0)
    asyncio.run(
        run(options(responder.port, responder.natt_port, count=WARM_UP + TIMES, concurrency=1, retransmit=patient))
    )
    assert_within(instructions, ATTEMPT, TIMES)
    assert_within(instructions.only("cygnet.load"), OF_TESTER, TIMES)
