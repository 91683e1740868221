"""`initiate`, `terminate`, `rekey`, `install`, `uninstall`, and what is refused: `redirect`."""

import asyncio
from functools import partial

from cygnet.config.errors import ConfigError
from cygnet.vici.backend import Backend, Outcome
from cygnet.vici.commands.results import SUCCESS, failure
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError
from cygnet.vici.views import SaFilter


def table(backend: Backend) -> dict[str, Command]:
    """The commands by name. The first three have the time limits that the client gives."""
    return {
        "initiate": Command(partial(_initiate, backend), deadline_s=None),
        "terminate": Command(partial(_terminate, backend), deadline_s=None),
        "rekey": Command(partial(_rekey, backend)),
        "redirect": Command(partial(_redirect, backend)),
        "install": Command(partial(_order_trap, backend, True)),
        "uninstall": Command(partial(_order_trap, backend, False)),
    }


def filter_of(call: Call) -> SaFilter:
    """Which SAs a command is about. Raises CommandError."""
    return SaFilter(
        ike=call.text("ike"),
        child=call.text("child"),
        ike_id=_id_of(call, "ike-id"),
        child_id=_id_of(call, "child-id"),
        peer=call.text("peer"),
        identity=call.text("identity"),
        vip=call.text("vip"),
    )


def _id_of(call: Call, name: str) -> int:
    """The number of an SA; 0 for none. Raises CommandError: a wrong one must not mean every SA."""
    number = call.number(name)
    if number < 0:
        raise CommandError(f"{name} is to be a number from 1 on, not {number}")
    return number


async def _log(call: Call, name: str, text: str) -> None:
    if call.number("loglevel", 1) >= 0:
        await call.emit("control-log", {"group": "IKE", "level": 1, "ikesa-name": name or None, "msg": text})


async def _initiate(backend: Backend, call: Call) -> Encodable:
    ike, child = call.text("ike"), call.text("child")
    if not ike and not child:
        raise CommandError("missing configuration name")
    what = f"CHILD_SA '{child}'" if child else f"IKE_SA '{ike}'"
    timeout_ms = call.number("timeout")
    if backend.store.find(ike, child) is None:
        raise CommandError(f"{'CHILD_SA' if child else 'IKE_SA'} config '{child or ike}' not found")
    await backend.apply()
    await _log(call, ike, f"establishing {what}")
    # As in strongSwan, a negative time limit doesn't wait at all, and none waits for the end.
    if timeout_ms < 0:
        await backend.initiate(ike, child, waits=False)
        return SUCCESS
    try:
        async with asyncio.timeout(timeout_ms / 1000 or None):
            await backend.initiate(ike, child, waits=True)
    except TimeoutError:
        raise CommandError(f"{what} not established after {timeout_ms}ms") from None
    except CommandError as exc:
        await _log(call, ike, f"establishing {what} failed: {exc}")
        raise CommandError(f"establishing {what} failed: {exc}") from None
    await _log(call, ike, f"{what} established")
    return SUCCESS


async def _terminate(backend: Backend, call: Call) -> Encodable:
    chosen = filter_of(call)
    if chosen.is_any:
        raise CommandError("missing terminate selector")
    timeout_ms = call.number("timeout")
    try:
        async with asyncio.timeout(abs(timeout_ms) / 1000 or None):
            outcome = await backend.terminate(chosen, is_forced=call.is_true("force") or timeout_ms < 0)
    except TimeoutError:
        raise CommandError(f"not all SAs terminated after {timeout_ms}ms") from None
    if outcome.done < outcome.matches:
        return _outcome(outcome, "terminated", f"{outcome.matches - outcome.done} SAs are yet to be terminated")
    return _outcome(outcome, "terminated", "" if outcome.matches else "no matching SAs to terminate found")


async def _rekey(backend: Backend, call: Call) -> Encodable:
    chosen = filter_of(call)
    if chosen.is_any:
        raise CommandError("missing rekey selector")
    outcome = await backend.rekey(chosen, is_reauthentication=call.is_true("reauth"))
    # strongSwan tells `matches` only.
    return _outcome(outcome, "ordered", "" if outcome.matches else "no matching SAs to rekey found")


async def _redirect(backend: Backend, call: Call) -> Encodable:
    """Refused, of SAs that there are. Without any, the same answers as strongSwan's."""
    if not call.text("gateway"):
        raise CommandError("missing target gateway")
    chosen = SaFilter(ike=call.text("ike"), ike_id=_id_of(call, "ike-id"))
    if chosen.is_any and not call.text("peer-ip") and not call.text("peer-id"):
        raise CommandError("missing redirect selector")
    async for packets in backend.sas(chosen):
        if packets:
            raise CommandError("redirecting peers (RFC 5685) is not built yet: nothing was sent")
    return {"success": False, "matches": 0, "errmsg": "no matching SAs to redirect found"}


async def _order_trap(backend: Backend, is_installed: bool, call: Call) -> Encodable:
    ike, child = call.text("ike"), call.text("child")
    if not child:
        raise CommandError("missing configuration name")
    try:
        trapped = await backend.traps() if not is_installed else ()
        is_found = backend.store.order_trap(ike, child, is_installed=is_installed, trapped=trapped)
    except ConfigError as exc:
        raise CommandError(f"installing policy '{child}' failed: {failure(exc)}") from None
    if not is_found:
        raise CommandError("configuration name not found" if is_installed else f"policy '{child}' not found")
    await backend.apply()
    return SUCCESS


def _outcome(outcome: Outcome, done: str, error: str) -> Encodable:
    return {
        "success": not error,
        "matches": outcome.matches,
        done: outcome.done,
        "errmsg": error or None,
    }
