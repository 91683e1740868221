"""When a change of the configuration takes effect: what a reload changes, and what waits for the next start."""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from cygnet.config.gateway_settings import GatewaySettings
from cygnet.config.keys import TABLES
from cygnet.ike.settings import Settings

MAX_NAMED: Final = 100
"""Of what was added, changed or removed, so many at most are named."""
_PLURALS: Final = {"connection": "connections", "pool": "pools", "authority": "authorities"}
_ATTRIBUTES: Final = {key.name: key.attribute for key in TABLES["gateway"].keys}


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def keys_of_start() -> tuple[str, ...]:
    """The keys of `gateway { }` that are read at the start only: those of what is opened, or shared out, then."""
    return tuple(key.name for key in TABLES["gateway"].keys if key.attribute in GatewaySettings.__struct_fields__)


def keys_of_reload() -> tuple[str, ...]:
    """The keys of `gateway { }` that take effect with a reload."""
    of_start = keys_of_start()
    return tuple(key.name for key in TABLES["gateway"].keys if key.name not in of_start)


def waiting_keys(started: GatewaySettings, now: GatewaySettings) -> tuple[str, ...]:
    """The keys of `gateway { }` whose values will take effect at the next start only.

    `started` is what this one began with.
    """
    return tuple(
        name for name in keys_of_start() if getattr(started, _ATTRIBUTES[name]) != getattr(now, _ATTRIBUTES[name])
    )


def differences(before: Settings, now: Settings) -> tuple[str, ...]:
    """What is different, in words, such as `connection rw changed`. Secrets are not told apart."""
    found = [
        *_differences_of("connection", before.connections, now.connections),
        *_differences_of("pool", before.pools, now.pools),
        *_differences_of("authority", before.authorities, now.authorities),
    ]
    if before.secrets != now.secrets:
        found.append("secrets changed")
    changed = [
        key.name
        for key in TABLES["gateway"].keys
        if any(
            getattr(old, key.attribute, None) != getattr(new, key.attribute, None)
            for old, new in ((before, now), (before.retransmit, now.retransmit), (before.admission, now.admission))
        )
    ]
    if changed:
        found.append(f"gateway: {', '.join(changed)} changed")
    return tuple(found)


def _differences_of(kind: str, before: Iterable[_Named], now: Iterable[_Named]) -> list[str]:
    old: Mapping[str, _Named] = {each.name: each for each in before}
    new: Mapping[str, _Named] = {each.name: each for each in now}
    return [
        *_said(kind, [name for name in new if name not in old], "added"),
        *_said(kind, [name for name in new if name in old and old[name] != new[name]], "changed"),
        *_said(kind, [name for name in old if name not in new], "removed"),
    ]


def _said(kind: str, names: list[str], what: str) -> list[str]:
    """One by one, or how many. Nobody reads thousands, and the answer to a command has an end."""
    if len(names) > MAX_NAMED:
        return [f"{len(names)} {_PLURALS[kind]} {what}"]
    return [f"{kind} {name} {what}" for name in names]
