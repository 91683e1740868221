"""`load-pool`, `unload-pool`, `get-pools`."""

from functools import partial

from cygnet.config.attributes import attribute_name, format_attribute
from cygnet.config.errors import ConfigError, Problem
from cygnet.config.load import load_pool
from cygnet.config.messages import section_of
from cygnet.ike.nat import unpack_address
from cygnet.ike.settings import PoolSettings
from cygnet.vici.backend import Backend, PoolUse
from cygnet.vici.commands.results import SUCCESS, failure, with_warnings
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError


def table(backend: Backend) -> dict[str, Command]:
    """The commands by name."""
    return {
        "load-pool": Command(partial(_load, backend)),
        "unload-pool": Command(partial(_unload, backend)),
        "get-pools": Command(partial(_get, backend)),
    }


async def _load(backend: Backend, call: Call) -> Encodable:
    warnings: list[Problem] = []
    for name, message in call.message.items():
        if not isinstance(message, dict):
            raise CommandError(f"{name} is to be a section")
        try:
            pool, found = load_pool(section_of(name, message))
            await backend.put_pool(pool)
        except ConfigError as exc:
            raise failure(exc) from None
        warnings += found
    return with_warnings(tuple(warnings))


async def _unload(backend: Backend, call: Call) -> Encodable:
    if not call.text("name"):
        raise CommandError("missing pool name to unload")
    await backend.remove_pool(call.text("name"))
    return SUCCESS


async def _get(backend: Backend, call: Call) -> Encodable:
    uses = await backend.pools(call.text("name"), with_leases=call.is_true("leases"))
    return {use.pool.name: _layout(use, with_leases=call.is_true("leases")) for use in uses}


def _layout(use: PoolUse, *, with_leases: bool) -> Encodable:
    leases: Encodable = {
        str(number): {"address": lease.address, "identity": lease.identity, "status": "online"}
        for number, lease in enumerate(use.leases)
    }
    return {
        "base": unpack_address(use.pool.base or use.pool.first),
        "size": use.size,
        "online": use.online,
        "offline": 0,
        "leases": leases if with_leases else None,
        **_attributes(use.pool),
    }


def _attributes(pool: PoolSettings) -> dict[str, list[str]]:
    """What the pool tells, by the keys that configure it. strongSwan's clients pass over it."""
    told: dict[str, list[str]] = {}
    for attribute in pool.attributes:
        told.setdefault(attribute_name(attribute.type), []).append(format_attribute(attribute))
    return told
