"""`list-conns`, `get-conns`, `load-conn`, `unload-conn`."""

from collections.abc import Mapping
from functools import partial

from cygnet.config.errors import ConfigError, Problem
from cygnet.ike.lifetimes import IkeLifetimes
from cygnet.ike.selector_text import format_setting
from cygnet.ike.settings import AuthKind, AuthSettings, ChildSettings, ConnectionSettings
from cygnet.vici.backend import Backend
from cygnet.vici.commands.results import SUCCESS, failure, with_warnings
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError

_AUTH_CLASSES: Mapping[AuthKind, str] = {AuthKind.PSK: "pre-shared key"}


def table(backend: Backend) -> dict[str, Command]:
    """The commands by name."""
    return {
        "list-conns": Command(partial(_list, backend), deadline_s=None),
        "get-conns": Command(partial(_get, backend)),
        "load-conn": Command(partial(_load, backend)),
        "unload-conn": Command(partial(_unload, backend)),
    }


async def _list(backend: Backend, call: Call) -> Encodable:
    wanted = call.text("ike")
    for connection in list(backend.store.connections.values()):
        if wanted in ("", connection.name):
            await call.emit("list-conn", {connection.name: layout(connection)})
    return {}


async def _get(backend: Backend, call: Call) -> Encodable:
    return {"conns": tuple(backend.store.connections)}


async def _load(backend: Backend, call: Call) -> Encodable:
    warnings: list[Problem] = []
    for name, message in call.message.items():
        if not isinstance(message, dict):
            raise CommandError(f"{name} is to be a section")
        try:
            warnings += backend.store.load_connection(name, message)
        except ConfigError as exc:
            raise failure(exc) from None
    await backend.take_effect()
    return with_warnings(tuple(warnings))


async def _unload(backend: Backend, call: Call) -> Encodable:
    name = call.text("name")
    if not name:
        raise CommandError("unload: missing connection name")
    if not backend.store.unload_connection(name):
        raise CommandError(f"unload: connection '{name}' not found")
    await backend.take_effect()
    return SUCCESS


def layout(connection: ConnectionSettings) -> Encodable:
    """A connection as strongSwan's clients expect it (event `list-conn`)."""
    return {
        "local_addrs": connection.local_addrs or ("%any",),
        "remote_addrs": connection.remote_addrs or ("%any",),
        "version": "IKEv2",
        "reauth_time": round(connection.reauth_time_s),
        "rekey_time": round(IkeLifetimes.of(connection).rekey.soft),
        "unique": f"UNIQUE_{connection.unique.name}",
        "dpd_delay": round(connection.dpd_delay_s) or None,
        "local-1": _round(connection.local),
        "remote-1": _round(connection.remote),
        "children": {child.name: _child(child) for child in connection.children},
    }


def _round(auth: AuthSettings) -> Encodable:
    return {
        "id": str(auth.id) if not auth.id.is_any else None,
        "class": _AUTH_CLASSES[auth.auth],
        "groups": (),
        "cert_policy": (),
        "certs": (),
        "cacerts": (),
    }


def _child(child: ChildSettings) -> Encodable:
    return {
        "mode": child.mode.name,
        "rekey_time": round(child.rekey_time_s),
        "rekey_bytes": child.rekey_bytes,
        "rekey_packets": child.rekey_packets,
        "dpd_action": child.dpd_action.value,
        "close_action": child.close_action.value,
        "local-ts": [format_setting(selector) for selector in child.local_ts],
        "remote-ts": [format_setting(selector) for selector in child.remote_ts],
    }
