"""`get-counters` and `reset-counters`: strongSwan's 21 counters of IKE, for the daemon as a whole and by connection.

A message counts for a connection once it is known which one its IKE_SA is of: as in strongSwan, a peer's first request
and its first IKE_AUTH count for the daemon alone.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from cygnet.observe.counters import Counters
from cygnet.observe.metrics import EXCHANGE_MESSAGES, MALFORMED
from cygnet.vici.backend import Backend
from cygnet.vici.commands.results import SUCCESS
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command

SERIES: Final[Mapping[str, tuple[str, ...]]] = {
    "ike-rekey-init": ("ike_sas_rekeyed_by_us_total",),
    "ike-rekey-resp": ("ike_sas_rekeyed_total", "-ike_sas_rekeyed_by_us_total"),
    "child-rekey": ("child_sas_rekeyed_total",),
    "invalid": tuple(f'datagrams_dropped_total{{reason="{reason}"}}' for reason in MALFORMED),
    "invalid-spi": ('datagrams_dropped_total{reason="unknown_spi"}',),
    **{name: (f'ike_messages_total{{message="{name}"}}',) for name in EXCHANGE_MESSAGES},
}
"""Each counter is the sum of some of ours, and those with a minus are taken off."""
_DAEMON: Final = ""
"""Its name among those of connections, as strongSwan has it."""

Values = dict[str, int]


class _Since:
    """What the counters were when they were last reset: ours never go back, since Prometheus reads them too."""

    def __init__(self, backend: Backend, counters: Counters) -> None:
        self._backend = backend
        self._counters = counters
        self._bases: dict[str, Values] = {}

    def of_daemon(self) -> Values:
        return self._since(_DAEMON, _values(self._counters.value))

    async def of_connections(self, name: str) -> dict[str, Values]:
        """Of those that have counted anything; all of them, or the one of that name."""
        tallies = await self._backend.tallies(name)
        found = {each: self._since(each, _values(_reading(tally))) for each, tally in sorted(tallies.items())}
        return {each: values for each, values in found.items() if any(values.values())}

    async def reset(self, name: str) -> None:
        tallies = await self._backend.tallies(name) if name else {_DAEMON: {}}
        for each, tally in tallies.items():
            self._bases[each] = _values(_reading(tally) if each else self._counters.value)

    async def reset_all(self) -> None:
        await self.reset(_DAEMON)
        for name, tally in (await self._backend.tallies("")).items():
            self._bases[name] = _values(_reading(tally))

    def _since(self, name: str, values: Values) -> Values:
        base = self._bases.get(name, {})
        # A worker that was started anew has counted less than was taken off.
        return {key: max(0, value - base.get(key, 0)) for key, value in values.items()}


def table(backend: Backend, counters: Counters) -> dict[str, Command]:
    """The commands by name."""
    since = _Since(backend, counters)
    return {"get-counters": Command(partial(_get, since)), "reset-counters": Command(partial(_reset, since))}


async def _get(since: _Since, call: Call) -> Encodable:
    if call.is_true("all"):
        return {"counters": await since.of_connections(""), "success": True}
    name = call.text("name")
    if not name:
        return {"counters": {_DAEMON: since.of_daemon()}, "success": True}
    found = await since.of_connections(name)
    if not found:
        return {"counters": {}, "success": False, "errmsg": "no counters found for this connection"}
    return {"counters": found, "success": True}


async def _reset(since: _Since, call: Call) -> Encodable:
    if call.is_true("all"):
        await since.reset_all()
    else:
        await since.reset(call.text("name"))
    return SUCCESS


def _values(value: Callable[[str], int]) -> Values:
    return {
        name: sum(-value(each[1:]) if each[0] == "-" else value(each) for each in series)
        for name, series in SERIES.items()
    }


def _reading(tally: Mapping[str, int]) -> Callable[[str], int]:
    return lambda series: tally.get(series, 0)
