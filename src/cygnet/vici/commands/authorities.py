"""`load-authority`, `unload-authority`, `get-authorities`, `list-authorities`: refused until certificates are built."""

from cygnet.vici.commands.results import unavailable
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError


def table() -> dict[str, Command]:
    """The commands by name."""
    return {
        "load-authority": Command(unavailable("certificate authorities are of no use before certificates are built")),
        "unload-authority": Command(_unload),
        "get-authorities": Command(_get),
        "list-authorities": Command(_list),
    }


async def _unload(call: Call) -> Encodable:
    raise CommandError("there is no such authority")


async def _get(call: Call) -> Encodable:
    return {"authorities": ()}


async def _list(call: Call) -> Encodable:
    return {}
