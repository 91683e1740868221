"""The table of states: total, the one that the documents draw, and the one that the exchanges follow."""

from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from tests.sim.world import Host, ListPool, World, client_connection, client_settings, counted, gateway_settings

from cygnet.iana import ExchangeType
from cygnet.ike.sa import IkeSa
from cygnet.ike.settings import SharedSecret
from cygnet.ike.states import TRANSITIONS, SaState, is_request_allowed, is_response_allowed
from cygnet.ike.tasks import RekeyIke

DOCUMENT = Path(__file__).parents[3] / "docs" / "states.md"

ALLOWED = {
    (SaState.INIT_SENT, "response", ExchangeType.IKE_SA_INIT),
    (SaState.AUTH_SENT, "response", ExchangeType.IKE_AUTH),
    (SaState.HALF_OPEN, "request", ExchangeType.IKE_AUTH),
    (SaState.ESTABLISHED, "request", ExchangeType.CREATE_CHILD_SA),
    (SaState.ESTABLISHED, "request", ExchangeType.INFORMATIONAL),
    (SaState.ESTABLISHED, "response", ExchangeType.CREATE_CHILD_SA),
    (SaState.ESTABLISHED, "response", ExchangeType.INFORMATIONAL),
    (SaState.DELETING, "request", ExchangeType.CREATE_CHILD_SA),
    (SaState.DELETING, "request", ExchangeType.INFORMATIONAL),
    (SaState.DELETING, "response", ExchangeType.INFORMATIONAL),
    (SaState.REPLACED, "request", ExchangeType.CREATE_CHILD_SA),
    (SaState.REPLACED, "request", ExchangeType.INFORMATIONAL),
    (SaState.REPLACED, "response", ExchangeType.CREATE_CHILD_SA),
    (SaState.REPLACED, "response", ExchangeType.INFORMATIONAL),
}
CHECKS = {"request": is_request_allowed, "response": is_response_allowed}


def render_states() -> str:
    """docs/states.md, drawn from the tables."""

    def name(state: SaState | None) -> str:
        return "[*]" if state is None else state.name

    def taken(state: SaState, kind: str) -> str:
        return ", ".join(exchange.name for exchange in ExchangeType if CHECKS[kind](state, exchange)) or "none"

    arrows = [f"    {name(t.before)} --> {name(t.after)}: {t.cause}" for t in TRANSITIONS]
    rows = [f"| {state.name} | {taken(state, 'request')} | {taken(state, 'response')} |" for state in SaState]
    return "\n".join(
        (
            "# States of an IKE_SA",
            "",
            "Drawn from the tables in `src/cygnet/ike/states.py`; `tests/unit/ike/test_states.py` compares.",
            "",
            "```mermaid",
            "stateDiagram-v2",
            *arrows,
            "```",
            "",
            "What is taken from the peer in which state; anything else is dropped and counted.",
            "",
            "| state | requests | responses |",
            "|---|---|---|",
            *rows,
            "",
        )
    )


@pytest.mark.parametrize(
    ("state", "kind", "exchange"), list(product(SaState, CHECKS, [*ExchangeType, 0, 255])), ids=str
)
def test_the_table_is_total(state: SaState, kind: str, exchange: int) -> None:
    assert CHECKS[kind](state, exchange) == ((state, kind, exchange) in ALLOWED)


def test_every_state_can_be_reached_and_left() -> None:
    assert {t.after for t in TRANSITIONS} == {t.before for t in TRANSITIONS} == {None, *SaState}


def test_a_message_that_changes_the_state_is_allowed_in_it() -> None:
    for before, cause, _ in TRANSITIONS:
        exchange, _, kind = cause.split(",")[0].partition(" ")
        if before is not None and exchange in ExchangeType.__members__:
            assert CHECKS[kind](before, ExchangeType[exchange]), cause


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, list[SaState | None]]]:
    """The states that each IKE_SA goes through while the fixture lasts."""
    seen: dict[int, list[SaState | None]] = {}
    slot: Any = IkeSa.__dict__["state"]

    def change(sa: IkeSa, state: SaState) -> None:
        seen.setdefault(id(sa), [None, slot.__get__(sa)]).append(state)
        keep.append(sa)
        slot.__set__(sa, state)

    keep: list[IkeSa] = []
    monkeypatch.setattr(IkeSa, "state", property(slot.__get__, change))
    yield seen


def test_the_exchanges_follow_the_table(steps: dict[int, list[SaState | None]]) -> None:
    """Every change of state is in the table, and every one in the table between two SAs' states happens."""
    world = World()
    gateway = Host(world, "198.51.100.1", gateway_settings(), ListPool(counted(9)))
    for number, settings in enumerate((client_settings(), client_settings(secrets=(SharedSecret(b"wrong"),)))):
        host = Host(world, f"192.0.2.{number}", settings)
        host.initiate(gateway, client_connection())
        world.run(1.0)
        for spi in list(host.table.sas):
            host.carry_out(host.table.order(spi, RekeyIke(), world.now))
        world.run(1.0)
        for spi in list(host.table.sas):
            host.delete(spi)
        world.run(1.0)
    taken = {pair for states in steps.values() for pair in pairwise(states)}
    assert taken == {(t.before, t.after) for t in TRANSITIONS if t.after is not None}


def test_the_document_is_drawn_from_the_table() -> None:
    assert DOCUMENT.read_text() == render_states(), "write what render_states() returns to docs/states.md"
