"""`get-counters` and `reset-counters`: strongSwan's 21 counters of IKE, for the daemon as a whole."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from cygnet.observe.counters import Counters
from cygnet.observe.metrics import EXCHANGE_MESSAGES, MALFORMED
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError

SERIES: Final[Mapping[str, tuple[str, ...]]] = {
    "ike-rekey-init": ("ike_sas_rekeyed_by_us_total",),
    "ike-rekey-resp": ("ike_sas_rekeyed_total", "-ike_sas_rekeyed_by_us_total"),
    "child-rekey": ("child_sas_rekeyed_total",),
    "invalid": tuple(f'datagrams_dropped_total{{reason="{reason}"}}' for reason in MALFORMED),
    "invalid-spi": ('datagrams_dropped_total{reason="unknown_spi"}',),
    **{name: (f'ike_messages_total{{message="{name}"}}',) for name in EXCHANGE_MESSAGES},
}
"""Each counter is the sum of some of ours, and those with a minus are taken off."""


class _Since:
    """What the counters were when they were last reset: ours never go back, since Prometheus reads them too."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._base = dict.fromkeys(SERIES, 0)

    def values(self) -> dict[str, int]:
        return {name: self._now(name) - self._base[name] for name in SERIES}

    def reset(self) -> None:
        self._base = {name: self._now(name) for name in SERIES}

    def _now(self, name: str) -> int:
        value = self._counters.value
        return sum(-value(series[1:]) if series[0] == "-" else value(series) for series in SERIES[name])


def table(counters: Counters) -> dict[str, Command]:
    """The commands by name."""
    since = _Since(counters)
    return {"get-counters": Command(partial(_get, since)), "reset-counters": Command(partial(_reset, since))}


async def _get(since: _Since, call: Call) -> Encodable:
    _refuse_names(call)
    return {"counters": {"": since.values()}, "success": True}


async def _reset(since: _Since, call: Call) -> Encodable:
    _refuse_names(call)
    since.reset()
    return {"success": True}


def _refuse_names(call: Call) -> None:
    if call.text("name"):
        raise CommandError("counters are kept for the daemon as a whole, not by connection")
