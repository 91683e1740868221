"""The commands of vici, and its events, by name."""

from typing import Final

from cygnet.observe.counters import Counters
from cygnet.vici.backend import Backend
from cygnet.vici.commands import (
    algorithms,
    authorities,
    certificates,
    connections,
    control,
    counters,
    credentials,
    daemon,
    pools,
    sas,
)
from cygnet.vici.server import Command

EVENTS: Final = (
    "log",
    "control-log",
    "list-sa",
    "list-policy",
    "list-conn",
    "list-cert",
    "list-authority",
    "ike-updown",
    "ike-rekey",
    "ike-update",
    "child-updown",
    "child-rekey",
    "alert",
)
"""All events of strongSwan's. Of those that nothing causes yet, registering for them is confirmed all the same."""

WORKER_EVENTS: Final = frozenset({"ike-updown", "ike-rekey", "ike-update", "child-updown", "child-rekey"})
"""Those that the workers tell of."""


def command_table(backend: Backend, counted: Counters) -> dict[str, Command]:
    """Every command."""
    return {
        **daemon.table(backend),
        **control.table(backend),
        **sas.table(backend),
        **connections.table(backend),
        **credentials.table(backend),
        **certificates.table(backend),
        **pools.table(backend),
        **authorities.table(backend),
        **algorithms.table(),
        **counters.table(backend, counted),
    }
