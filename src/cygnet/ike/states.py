"""The states of an IKE_SA, and which exchange is allowed in which: told here as a table, and obeyed from it.

Three things are kept apart: the state of the SA (here), the request that is outstanding (`message_id.py`), and
who we are in the SA (`is_original_initiator`) as against in the exchange (whoever sends the request).

docs/states.md is drawn from the tables.
"""

from enum import IntEnum
from typing import NamedTuple

from cygnet.iana import ExchangeType


class SaState(IntEnum):
    """How far an IKE_SA has come."""

    INIT_SENT = 0
    """Original initiator: IKE_SA_INIT is outstanding; there are no keys."""
    AUTH_SENT = 1
    """Original initiator: IKE_AUTH is outstanding; the peer has proven nothing."""
    HALF_OPEN = 2
    """Original responder: IKE_SA_INIT is answered; the peer has proven nothing."""
    ESTABLISHED = 3
    """Both ends are authenticated."""
    DELETING = 4
    """Our Delete is outstanding."""
    REPLACED = 5
    """An IKE_SA with new keys has taken its place and its CHILD_SAs; its Delete is to come."""


_REQUESTS: dict[SaState, frozenset[ExchangeType]] = {
    SaState.INIT_SENT: frozenset(),
    SaState.AUTH_SENT: frozenset(),
    SaState.HALF_OPEN: frozenset({ExchangeType.IKE_AUTH}),
    SaState.ESTABLISHED: frozenset({ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL}),
    SaState.DELETING: frozenset({ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL}),
    SaState.REPLACED: frozenset({ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL}),
}

_RESPONSES: dict[SaState, frozenset[ExchangeType]] = {
    SaState.INIT_SENT: frozenset({ExchangeType.IKE_SA_INIT}),
    SaState.AUTH_SENT: frozenset({ExchangeType.IKE_AUTH}),
    SaState.HALF_OPEN: frozenset(),
    SaState.ESTABLISHED: frozenset({ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL}),
    SaState.DELETING: frozenset({ExchangeType.INFORMATIONAL}),
    SaState.REPLACED: frozenset({ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL}),
}


def is_request_allowed(state: SaState, exchange_type: int) -> bool:
    """Whether the peer may begin this exchange now."""
    return exchange_type in _REQUESTS[state]


def is_response_allowed(state: SaState, exchange_type: int) -> bool:
    """Whether a response of this exchange can be one to us now."""
    return exchange_type in _RESPONSES[state]


class Transition(NamedTuple):
    """What leads from one state to the next. None stands for no SA: one that isn't yet, or is no more."""

    before: SaState | None
    cause: str
    after: SaState | None


TRANSITIONS = (
    Transition(None, "we initiate", SaState.INIT_SENT),
    Transition(SaState.INIT_SENT, "IKE_SA_INIT response", SaState.AUTH_SENT),
    Transition(SaState.INIT_SENT, "refused, timed out or abandoned", None),
    Transition(SaState.AUTH_SENT, "IKE_AUTH response", SaState.ESTABLISHED),
    Transition(SaState.AUTH_SENT, "refused, timed out or abandoned", None),
    Transition(None, "IKE_SA_INIT request", SaState.HALF_OPEN),
    Transition(SaState.HALF_OPEN, "IKE_AUTH request", SaState.ESTABLISHED),
    Transition(SaState.HALF_OPEN, "not authenticated, or not in time", None),
    Transition(SaState.ESTABLISHED, "we delete", SaState.DELETING),
    Transition(None, "the IKE_SA before it is rekeyed", SaState.ESTABLISHED),
    Transition(SaState.ESTABLISHED, "rekeyed, by us or by the peer", SaState.REPLACED),
    Transition(SaState.REPLACED, "we delete, having rekeyed it or waited long enough", SaState.DELETING),
    Transition(SaState.REPLACED, "deleted by the peer, or peer dead", None),
    Transition(SaState.ESTABLISHED, "deleted by the peer, peer dead, or a fatal error", None),
    Transition(SaState.DELETING, "INFORMATIONAL response, the peer's Delete, or timed out", None),
)
"""Every way from state to state; the exchanges change it, and a test compares what they do with this."""
