"""How this host is told of DNS servers: with files and programs of the test's own, never those of the machine."""

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cygnet.config.gateway_settings import GatewaySettings, ResolveKind
from cygnet.gateway.control import NameServers
from cygnet.gateway.errands import resolver as module
from cygnet.gateway.errands.errands import Errands
from cygnet.gateway.errands.resolver import Note, Resolver, choose, open_resolver, with_servers
from cygnet.gateway.errands.scripts import Scripts
from cygnet.ike.settings import ConnectionSettings, Settings

OTHERS = "# of the administrator\nsearch example.org\nnameserver 192.0.2.53\noptions edns0\n"
LINKS = ("cygnet0", "cygnet1")


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "resolv.conf"
        self.note = folder / "note"
        self.loop = asyncio.new_event_loop()
        self.counted: Counter[str] = Counter()
        self.scripts = Scripts(self.loop, lambda series: self.counted.update([series]), timeout_s=20)

    def open(self, kind: ResolveKind, *, links: tuple[str, ...] = LINKS) -> Resolver | None:
        settings = GatewaySettings(resolve=kind, resolv_conf=str(self.file))
        return open_resolver(settings, self.scripts, links=links, note=self.note)

    def sure(self, kind: ResolveKind) -> Resolver:
        found = self.open(kind)
        assert found is not None
        return found

    def wait(self) -> None:
        async def waiting() -> None:
            async with asyncio.timeout(20):
                while not self.scripts.is_idle:
                    await asyncio.sleep(0.005)

        self.loop.run_until_complete(waiting())

    def servers(self) -> list[str]:
        return [line for line in self.file.read_text().splitlines() if line.startswith("nameserver")]

    def install(self, name: str, text: str = "") -> Path:
        """A program that writes down how it is called, and what is said to it."""
        program = self.folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text or _RECORDING.format(self.folder)}")
        program.chmod(0o755)
        return program

    def calls(self) -> list[str]:
        self.wait()
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []


_RECORDING = """
echo "$*" >> {0}/calls
if [ "$1" = -a ]; then sed 's/^/  /' >> {0}/calls; fi
"""


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(module, "_OF_SYSTEMD", tmp_path / "run")
    rig = Rig(tmp_path)
    yield rig
    rig.scripts.kill_all()
    rig.loop.close()


def test_servers_of_peers_stand_first_and_go_again(rig: Rig) -> None:
    rig.file.write_text(OTHERS)
    rig.file.chmod(0o604)
    resolver = rig.sure(ResolveKind.FILE)
    resolver.use(1, ("10.1.0.53", "fd00::53"))
    ours = "nameserver 10.1.0.53   # by cygnet\nnameserver fd00::53   # by cygnet\n"
    assert rig.file.read_text() == ours + OTHERS
    resolver.use(0, ("10.2.0.53", "10.1.0.53"))
    first_again = "nameserver 10.2.0.53   # by cygnet\n" + ours
    assert rig.file.read_text() == first_again + OTHERS
    resolver.use(1, ())
    resolver.use(0, ())
    assert rig.file.read_text() == OTHERS
    assert rig.file.stat().st_mode & 0o777 == 0o604
    resolver.close()
    assert sorted(each.name for each in rig.folder.iterdir()) == ["resolv.conf"]


def test_what_others_write_meanwhile_stays() -> None:
    changed = with_servers(OTHERS, ("10.1.0.53",)) + "nameserver 198.51.100.1\n"
    assert with_servers(changed, ()) == OTHERS + "nameserver 198.51.100.1\n"
    assert with_servers(with_servers("", ("10.1.0.53",)), ()) == ""
    assert with_servers("nameserver 192.0.2.1", ("10.1.0.53",)).endswith("\nnameserver 192.0.2.1")


def test_a_link_is_followed_and_stays_a_link(rig: Rig) -> None:
    (rig.folder / "real").write_text(OTHERS)
    rig.file.symlink_to("real")
    rig.sure(ResolveKind.FILE).use(0, ("10.1.0.53",))
    assert rig.file.is_symlink()
    assert (rig.folder / "real").read_text().startswith("nameserver 10.1.0.53")


def test_a_file_that_was_not_there_is_not_there_again(rig: Rig) -> None:
    resolver = rig.sure(ResolveKind.FILE)
    resolver.use(0, ("10.1.0.53",))
    assert rig.servers() == ["nameserver 10.1.0.53   # by cygnet"]
    resolver.use(0, ())
    assert not rig.file.exists()


def test_a_file_that_can_not_be_replaced_is_written_over(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is mounted from outside of a container: `rename` says EBUSY."""

    def busy(self: Path, target: Path) -> Path:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", busy)
    rig.file.write_text(OTHERS)
    resolver = rig.sure(ResolveKind.FILE)
    resolver.use(0, ("10.1.0.53",))
    assert rig.servers()[0] == "nameserver 10.1.0.53   # by cygnet"
    resolver.use(0, ())
    assert rig.file.read_text() == OTHERS
    assert sorted(each.name for each in rig.folder.iterdir()) == ["note", "resolv.conf"]


def test_a_full_disk_leaves_the_file_as_it_is(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To open a file for writing empties it, and then there is no room for anything."""
    rig.file.write_text(OTHERS)
    resolver = rig.sure(ResolveKind.FILE)

    def write_nothing(path: Path, text: str) -> None:
        path.open("w").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_nothing)
    resolver.use(0, ("10.1.0.53",))
    assert rig.file.read_text() == OTHERS
    assert "No space left on device" in caplog.text
    assert sorted(each.name for each in rig.folder.iterdir()) == ["note", "resolv.conf"]


def test_a_file_that_can_not_be_written_is_a_line_in_the_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.file.mkdir()
    resolver = rig.sure(ResolveKind.FILE)
    resolver.use(0, ("10.1.0.53",))
    assert "cannot change the DNS servers" in caplog.text


@pytest.mark.parametrize("server", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1"])
def test_a_worker_can_not_name_what_is_no_server(rig: Rig, server: str) -> None:
    rig.file.write_text(OTHERS)
    rig.sure(ResolveKind.FILE).use(0, (server,))
    assert rig.file.read_text() == OTHERS


def test_a_worker_can_not_write_what_it_likes(rig: Rig) -> None:
    rig.file.write_text(OTHERS)
    with pytest.raises(ValueError, match="does not appear"):
        rig.sure(ResolveKind.FILE).use(0, ("10.1.0.53\nsearch evil.example",))
    assert rig.file.read_text() == OTHERS


@pytest.mark.parametrize("next_kind", [ResolveKind.FILE, ResolveKind.NO])
def test_after_a_crash_the_next_start_takes_them_back(rig: Rig, next_kind: ResolveKind) -> None:
    """Also one that is not to name any."""
    rig.file.write_text(OTHERS)
    rig.sure(ResolveKind.FILE).use(0, ("10.1.0.53",))
    assert rig.file.read_text() != OTHERS
    assert (rig.open(next_kind) is None) == (next_kind is ResolveKind.NO)
    assert rig.file.read_text() == OTHERS
    assert not rig.note.exists()


def test_after_a_crash_resolvconf_is_told(rig: Rig) -> None:
    rig.install("resolvconf")
    rig.sure(ResolveKind.RESOLVCONF).use(0, ("10.1.0.53",))
    assert rig.calls() == ["-a lo.cygnet", "  nameserver 10.1.0.53"]
    rig.open(ResolveKind.NO)
    assert rig.calls()[2:] == ["-d lo.cygnet"]


@pytest.mark.parametrize("octets", [b"", b"{}", b"\xff", b'{"kind": "no", "path": "/etc/passwd"}'])
def test_a_note_that_makes_no_sense_does_no_harm(rig: Rig, octets: bytes) -> None:
    rig.note.write_bytes(octets)
    assert rig.open(ResolveKind.NO) is None
    assert not rig.note.exists()


def test_resolvconf_has_all_servers_in_one_record(rig: Rig) -> None:
    rig.install("resolvconf")
    resolver = rig.sure(ResolveKind.RESOLVCONF)
    resolver.use(1, ("10.1.0.53", "fd00::53"))
    rig.wait()
    resolver.use(0, ("10.2.0.53",))
    rig.wait()
    resolver.use(0, ())
    rig.wait()
    resolver.forget_all()
    assert rig.calls() == [
        "-a lo.cygnet",
        "  nameserver 10.1.0.53",
        "  nameserver fd00::53",
        "-a lo.cygnet",
        "  nameserver 10.2.0.53",
        "  nameserver 10.1.0.53",
        "  nameserver fd00::53",
        "-a lo.cygnet",
        "  nameserver 10.1.0.53",
        "  nameserver fd00::53",
        "-d lo.cygnet",
    ]


def test_while_a_program_runs_only_the_last_word_waits(rig: Rig) -> None:
    rig.install("resolvconf", f"sleep 0.2\n{_RECORDING.format(rig.folder)}")
    resolver = rig.sure(ResolveKind.RESOLVCONF)
    for host in range(1, 50):
        resolver.use(0, (f"10.1.0.{host}",))
    assert rig.calls() == ["-a lo.cygnet", "  nameserver 10.1.0.1", "-a lo.cygnet", "  nameserver 10.1.0.49"]


def test_resolved_has_the_servers_of_each_link(rig: Rig) -> None:
    rig.install("resolvectl")
    resolver = rig.sure(ResolveKind.RESOLVED)
    resolver.use(1, ("10.1.0.53", "fd00::53"))
    assert rig.calls() == ["dns cygnet1 10.1.0.53 fd00::53", "domain cygnet1 ~."]
    resolver.forget_all()
    assert rig.calls()[2:] == ["revert cygnet1"]


def test_the_way_is_that_of_the_host(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SYSTEM_PATH", "")
    monkeypatch.setenv("PATH", str(rig.folder / "bin"))
    file = str(rig.file)
    assert choose(ResolveKind.AUTO, file) == (ResolveKind.FILE, file)
    assert choose(ResolveKind.RESOLVED, file)[0] is ResolveKind.NO
    resolvectl = str(rig.install("resolvectl"))
    assert choose(ResolveKind.AUTO, file) == (ResolveKind.FILE, file), "the host does not use it"
    resolvconf = str(rig.install("resolvconf"))
    assert choose(ResolveKind.AUTO, file) == (ResolveKind.RESOLVCONF, resolvconf)
    rig.file.symlink_to(rig.folder / "run" / "stub-resolv.conf")
    assert choose(ResolveKind.AUTO, file) == (ResolveKind.RESOLVED, resolvectl)
    assert choose(ResolveKind.FILE, file) == (ResolveKind.FILE, file)


def test_nothing_is_done_without_devices_or_unless_asked(rig: Rig) -> None:
    assert rig.open(ResolveKind.FILE, links=()) is None
    assert rig.open(ResolveKind.NO) is None


def test_only_a_gateway_that_asks_for_addresses_is_given_servers(rig: Rig) -> None:
    rig.file.write_text(OTHERS)
    settings = Settings(connections=(ConnectionSettings("home", vips=(bytes(4),)),))
    errands = Errands(
        rig.loop, lambda series: None, lambda: settings, timeout_s=20, resolver=rig.sure(ResolveKind.FILE)
    )
    errands.on_message(0, NameServers(("10.1.0.53",)))
    assert rig.servers()[0] == "nameserver 10.1.0.53   # by cygnet"
    errands.on_gone(0)
    assert rig.file.read_text() == OTHERS
    settings = Settings()
    errands.on_message(0, NameServers(("10.1.0.53",)))
    assert rig.file.read_text() == OTHERS
    settings = Settings(connections=(ConnectionSettings("home", vips=(bytes(4),)),))
    errands.on_message(0, NameServers(("10.1.0.53",)))
    errands.finish()
    assert rig.file.read_text() == OTHERS
    assert not rig.note.exists()


def test_the_note_says_what_was_done(rig: Rig) -> None:
    rig.sure(ResolveKind.FILE).use(0, ("10.1.0.53",))
    note = msgspec.json.decode(rig.note.read_bytes(), type=Note)
    assert note == Note(ResolveKind.FILE, str(rig.file), is_made=True)
