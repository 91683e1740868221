"""Shared secrets: `load-shared`, `unload-shared`, `get-shared`; and `clear-creds`, of all credentials."""

from functools import partial

from cygnet.config.errors import ConfigError
from cygnet.vici.backend import Backend
from cygnet.vici.commands.results import SUCCESS, failure
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError

_OTHER_KINDS = ("EAP", "XAUTH", "NTLM", "PPK")


def table(backend: Backend) -> dict[str, Command]:
    """The commands by name."""
    return {
        "load-shared": Command(partial(_load_shared, backend)),
        "unload-shared": Command(partial(_unload_shared, backend)),
        "get-shared": Command(partial(_get_shared, backend)),
        "clear-creds": Command(partial(_clear, backend)),
    }


async def _load_shared(backend: Backend, call: Call) -> Encodable:
    kind = call.text("type").upper()
    if not kind:
        raise CommandError("shared key type missing")
    if kind in _OTHER_KINDS:
        raise CommandError(f"secrets of type {kind} are not built yet; only pre-shared keys (IKE) are used")
    if kind != "IKE":
        raise CommandError(f"invalid shared key type: {call.text('type')}")
    secret = call.message.get("data")
    if not isinstance(secret, bytes) or not secret:
        raise CommandError("shared key data missing")
    try:
        backend.store.load_secret(call.text("id"), secret, call.items("owners"))
    except ConfigError as exc:
        raise failure(exc) from None
    await backend.take_effect()
    return SUCCESS


async def _unload_shared(backend: Backend, call: Call) -> Encodable:
    """Of a secret that is not there, nothing is said, as in strongSwan."""
    if not call.text("id"):
        raise CommandError("unique identifier missing")
    if backend.store.unload_secret(call.text("id")):
        await backend.take_effect()
    return SUCCESS


async def _get_shared(backend: Backend, call: Call) -> Encodable:
    return {"keys": tuple(backend.store.secrets)}


async def _clear(backend: Backend, call: Call) -> Encodable:
    backend.store.held.clear()
    backend.store.clear_secrets()
    await backend.take_effect()
    return SUCCESS
