"""`list-sas` and `list-policies`."""

from functools import partial

from cygnet.ike.selector_text import format_setting
from cygnet.vici.backend import Backend
from cygnet.vici.commands.control import filter_of
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command


def table(backend: Backend) -> dict[str, Command]:
    """The commands by name. A list ends when its client has read it, or doesn't read on."""
    return {
        "list-sas": Command(partial(_list_sas, backend), deadline_s=None),
        "list-policies": Command(partial(_list_policies, backend), deadline_s=None),
    }


async def _list_sas(backend: Backend, call: Call) -> Encodable:
    chosen = filter_of(call)
    async for packets in backend.sas(chosen):
        await call.forward("list-sa", packets)
    return {}


async def _list_policies(backend: Backend, call: Call) -> Encodable:
    """The trap policies: there are no others. Without `trap`, `drop` or `pass` all kinds are meant."""
    wants_traps = call.is_true("trap") or not (call.is_true("drop") or call.is_true("pass"))
    trapped = await backend.traps() if wants_traps else set()
    connections = [each for each in backend.store.connections.values() if call.text("ike") in ("", each.name)]
    for connection, child in [(each, child) for each in connections for child in each.children]:
        if (connection.name, child.name) in trapped and call.text("child") in ("", child.name):
            policy: Encodable = {
                "child": child.name,
                "ike": connection.name,
                "mode": child.mode.name,
                "local-ts": [format_setting(selector) for selector in child.local_ts],
                "remote-ts": [format_setting(selector) for selector in child.remote_ts],
            }
            await call.emit("list-policy", {f"{connection.name}/{child.name}": policy})
    return {}
