"""Tells this host of the DNS servers that peers give us, as strongSwan's plugin `resolve` does, and takes it back.

A note in the state directory says what was done, so that a start after a crash undoes it.
"""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from cygnet.config.gateway_settings import GatewaySettings, ResolveKind
from cygnet.gateway.errands.name_servers import MAX_SERVERS, is_server
from cygnet.gateway.errands.scripts import Line, Scripts
from cygnet.observe.log_groups import group_logger

_log = group_logger("knl")

MARK: Final = "# by cygnet"
"""Ends the lines that are ours."""
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_OF_SYSTEMD: Final = Path("/run/systemd/resolve")
_SYSTEM_PATH: Final = "/sbin:/usr/sbin:/bin:/usr/bin"

# Addresses are all that is put into these, and no peer chooses a word of them.
_RESOLVCONF: Final = """
if [ -n "$SERVERS" ]; then printf 'nameserver %s\\n' $SERVERS | "$PROGRAM" -a lo.cygnet
else "$PROGRAM" -d lo.cygnet; fi
"""
_RESOLVED: Final = """
if [ -n "$SERVERS" ]; then "$PROGRAM" dns "$LINK" $SERVERS && "$PROGRAM" domain "$LINK" "~."
else "$PROGRAM" revert "$LINK"; fi
"""


class Note(msgspec.Struct, frozen=True):
    """What is to be undone."""

    kind: ResolveKind
    path: str
    """Of the file, or of the program."""
    is_made: bool = False
    """Whether there was no file before."""


class Resolver:
    """The servers of all workers, which are numbers. Those of the lowest number come first."""

    def __init__(
        self, kind: ResolveKind, path: str, scripts: Scripts, *, links: Sequence[str], note: Path | None
    ) -> None:
        """`path` is that of the file, or of the program; `links` are the TUN devices of the workers."""
        self._scripts = scripts
        self._links = links
        self._note = note
        self._is_noted = False
        self._what = Note(kind, path, is_made=kind is ResolveKind.FILE and not os.path.exists(path))  # noqa: PTH110
        self._servers: dict[int, tuple[str, ...]] = {}
        command = _RESOLVED if kind is ResolveKind.RESOLVED else _RESOLVCONF
        self._lines = [Line("resolve", "the DNS servers", command) for _ in links]

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return self._scripts.is_idle

    def use(self, worker: int, servers: tuple[str, ...]) -> None:
        """These are the servers of a worker's peers, and no others any more. Raises ValueError for what is none."""
        fit = tuple(server for server in servers[:MAX_SERVERS] if is_server(server))
        if fit == self._servers.get(worker, ()):
            return
        self._servers.pop(worker, None)
        if fit:
            self._servers[worker] = fit
        _log.info("DNS servers are %s now", " ".join(self._all) or "those of this host alone")
        self._take_note()
        if self._what.kind is ResolveKind.FILE:
            self._edit(self._all)
        elif self._what.kind is ResolveKind.RESOLVCONF:
            self._call(0, self._all)
        else:
            self._call(worker, fit)

    def forget_all(self) -> None:
        """None any more."""
        for worker in list(self._servers):
            self.use(worker, ())

    def close(self) -> None:
        """Give up what is still under way."""
        self._scripts.kill_all()
        if not self._servers and self._is_noted and self._note is not None:
            self._note.unlink(missing_ok=True)

    def undo(self, note: Note) -> None:
        """What another gateway has left behind."""
        _log.warning("a gateway that did not end in order has left DNS servers behind; they are removed")
        self._what = note
        if note.kind is ResolveKind.FILE:
            self._edit(())
        elif note.kind is ResolveKind.RESOLVCONF:
            self._scripts.redo(Line("resolve", "the DNS servers", _RESOLVCONF), self._environment(note.path, (), ""))

    @property
    def _all(self) -> tuple[str, ...]:
        in_order = (server for worker in sorted(self._servers) for server in self._servers[worker])
        return tuple(dict.fromkeys(in_order))[:MAX_SERVERS]

    def _take_note(self) -> None:
        if self._note is None or self._is_noted:
            return
        self._is_noted = True
        try:
            self._note.write_bytes(msgspec.json.encode(self._what))
        except OSError as exc:
            _log.warning("after a crash the DNS servers will stay, as there is no room for a note: %s", exc.strerror)

    def _call(self, line: int, servers: tuple[str, ...]) -> None:
        self._scripts.redo(self._lines[line], self._environment(self._what.path, servers, self._links[line]))

    def _environment(self, program: str, servers: tuple[str, ...], link: str) -> Mapping[str, str]:
        path = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}".lstrip(":")
        return {"PATH": path, "PROGRAM": program, "SERVERS": " ".join(servers), "LINK": link}

    def _edit(self, servers: tuple[str, ...]) -> None:
        path = Path(os.path.realpath(self._what.path))
        try:
            text = with_servers(path.read_text() if path.exists() else "", servers)
            if self._what.is_made and not text:
                path.unlink(missing_ok=True)
            else:
                _replace(path, text)
        except (OSError, UnicodeDecodeError) as exc:
            _log.warning("cannot change the DNS servers in %s: %s", path, exc)


def with_servers(text: str, servers: tuple[str, ...]) -> str:
    """The text of a resolv.conf with these servers of ours, before all others, which stay as they are."""
    others = [line for line in text.splitlines(keepends=True) if not line.rstrip().endswith(MARK)]
    return "".join([*(f"nameserver {server}   {MARK}\n" for server in servers), *others])


def _replace(path: Path, text: str) -> None:
    """Put a file in the place of another, at once and with its owner and mode. Raises OSError."""
    fresh = path.with_name(f".{path.name}.cygnet")
    fresh.unlink(missing_ok=True)
    try:
        fresh.write_text(text)
        if path.exists():
            status = path.stat()
            fresh.chmod(status.st_mode & 0o7777)
            os.chown(fresh, status.st_uid, status.st_gid)
        else:
            fresh.chmod(0o644)
        fresh.rename(path)
    except OSError as exc:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        if exc.errno in _NO_ROOM:
            # To write it in place would begin by emptying it, and this host would have no servers at all.
            raise
        # One that is mounted, as in containers, can't be replaced.
        with path.open("r+") as file:
            file.write(text)
            file.truncate()


def choose(kind: ResolveKind, resolv_conf: str) -> tuple[ResolveKind, str]:
    """The way that fits this host, and the path of the file or program; NO if the program is not there."""
    if kind is ResolveKind.AUTO:
        is_of_systemd = _OF_SYSTEMD in Path(os.path.realpath(resolv_conf)).parents
        for each in (ResolveKind.RESOLVED, ResolveKind.RESOLVCONF):
            program = _program(each)
            if program and (is_of_systemd or each is ResolveKind.RESOLVCONF):
                return each, program
        return ResolveKind.FILE, resolv_conf
    if kind in (ResolveKind.RESOLVED, ResolveKind.RESOLVCONF):
        program = _program(kind)
        if not program:
            _log.error("resolve = %s, and there is no such program: DNS servers are not used", kind.value)
            return ResolveKind.NO, ""
        return kind, program
    return kind, resolv_conf


def _program(kind: ResolveKind) -> str:
    name = "resolvectl" if kind is ResolveKind.RESOLVED else "resolvconf"
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}") or ""


def open_resolver(
    gateway: GatewaySettings, scripts: Scripts, *, links: Sequence[str], note: Path | None
) -> Resolver | None:
    """The one that is configured, after what was left behind is undone; None if no servers are to be used.

    Without TUN devices the servers could not be reached.
    """
    _undo_what_is_left(scripts, note)
    kind, path = choose(gateway.resolve, gateway.resolv_conf)
    if kind is ResolveKind.NO or not links:
        return None
    return Resolver(kind, path, scripts, links=links, note=note)


def _undo_what_is_left(scripts: Scripts, note: Path | None) -> None:
    if note is None or not note.exists():
        return
    with suppress(OSError, msgspec.MsgspecError):
        left = msgspec.json.decode(note.read_bytes(), type=Note)
        Resolver(left.kind, left.path, scripts, links=(), note=None).undo(left)
    note.unlink(missing_ok=True)
