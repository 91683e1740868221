"""Shared secrets: `load-shared`, `unload-shared`, `get-shared`, `clear-creds`. Certificates and keys are refused by
name, and there are none to list."""

from functools import partial

from cygnet.config.errors import ConfigError
from cygnet.vici.backend import Backend
from cygnet.vici.commands.results import SUCCESS, failure, unavailable
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError

_NO_CERTIFICATES = "certificates are not built yet; peers prove themselves by a pre-shared key"


def table(backend: Backend) -> dict[str, Command]:
    """The commands by name."""
    return {
        "load-shared": Command(partial(_load_shared, backend)),
        "unload-shared": Command(partial(_unload_shared, backend)),
        "get-shared": Command(partial(_get_shared, backend)),
        "clear-creds": Command(partial(_clear, backend)),
        "flush-certs": Command(_nothing_to_flush),
        "list-certs": Command(_no_certificates),
        "get-keys": Command(_no_keys),
        "unload-key": Command(_no_key),
        **{name: Command(unavailable(_NO_CERTIFICATES)) for name in ("load-cert", "load-key", "load-token")},
    }


async def _load_shared(backend: Backend, call: Call) -> Encodable:
    kind = call.text("type").upper()
    if kind != "IKE":
        raise CommandError(f"secrets of type {kind} are not built yet; only pre-shared keys (IKE) are used")
    secret = call.message.get("data")
    if not isinstance(secret, bytes) or not secret:
        raise CommandError("missing or empty secret")
    try:
        backend.store.load_secret(call.text("id"), secret, call.items("owners"))
    except ConfigError as exc:
        raise failure(exc) from None
    backend.apply_soon()
    return SUCCESS


async def _unload_shared(backend: Backend, call: Call) -> Encodable:
    if not backend.store.unload_secret(call.text("id")):
        raise CommandError("no secret has that id")
    backend.apply_soon()
    return SUCCESS


async def _get_shared(backend: Backend, call: Call) -> Encodable:
    return {"keys": tuple(backend.store.secrets)}


async def _clear(backend: Backend, call: Call) -> Encodable:
    backend.store.clear_secrets()
    backend.apply_soon()
    return SUCCESS


async def _nothing_to_flush(call: Call) -> Encodable:
    return SUCCESS


async def _no_certificates(call: Call) -> Encodable:
    return {}


async def _no_keys(call: Call) -> Encodable:
    return {"keys": ()}


async def _no_key(call: Call) -> Encodable:
    raise CommandError("there is no such key")
