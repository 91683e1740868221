"""The log between workers, the supervisor and its targets, with real pipes, files and sockets."""

import asyncio
import json
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from cygnet.config.log_settings import Levels, LogFormat, LogSettings
from cygnet.gateway.logs.log_hub import LINES_PER_SECOND, LogHub
from cygnet.gateway.logs.log_lines import LogLine
from cygnet.gateway.logs.log_targets import MAX_WAITING, FileTarget, journal_target, syslog_target
from cygnet.ike.errors import LocalError
from cygnet.observe.log_groups import AUDIT, GROUPS, about, group_logger, put_into_force

QUIET = LogSettings(stderr=False)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    names = ["", "cygnet", *(f"cygnet.{name}" for name in (*GROUPS, "cli", "gateway", "vici", "config", "dataplane"))]
    levels, handlers = {name: logging.getLogger(name).level for name in names}, list(root.handlers)
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def line(text: str = "up", severity: int = AUDIT) -> LogLine:
    return LogLine(1_800_000_000.0, 1, "ike", severity, text, "rw", 7)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.005)


class Kept:
    """A target that keeps what it gets."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def put(self, line: LogLine) -> None:
        self.texts.append(line.text)

    def reopen(self) -> None:
        raise NotImplementedError

    def retire(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """There is nothing to close."""


class Rig:
    """A hub that logs to a file, on a loop that runs when it is told to."""

    def __init__(self, path: Path, **settings: object) -> None:
        self.path = path
        self.counted: Counter[str] = Counter()
        self.told: list[Mapping[str, int]] = []
        self.events: list[Mapping[str, object]] = []
        self.loop = asyncio.new_event_loop()
        self.hub = LogHub(LogSettings(stderr=False, file=str(path), **settings))  # type: ignore[arg-type]
        self.hub.attach(self.loop, count=self.count, tell=self.told.append)
        self.hub.publish = lambda name, event: self.events.append(event)

    def count(self, series: str) -> None:
        self.counted[series] += 1

    def turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def end(self) -> list[str]:
        self.hub.close()
        self.loop.close()
        return self.path.read_text().splitlines()


def in_a_child(work: Callable[[], None]) -> None:
    """As a worker is forked, next to a thread that writes."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12
def test_lines_of_supervisor_and_workers_are_in_one_file(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "log")
    group_logger("dmn").info("ours")

    def work() -> None:
        rig.hub.become_worker(2, lambda series: None)
        group_logger("ike").log(AUDIT, "theirs of %s", "c1", extra=about("rw", 7))
        group_logger("ike").debug("a detail")

    in_a_child(work)
    rig.turn()
    assert [each[24:] for each in rig.end()] == ["00[DMN] ours", "02[IKE] <rw|7> theirs of c1"]


def test_a_worker_that_says_too_much_loses_lines_which_are_counted(tmp_path: Path) -> None:
    """Also one whose supervisor does not read, and neither has to wait."""
    rig = Rig(tmp_path / "log")
    lost: Counter[str] = Counter()
    rig.hub.become_worker(1, lambda series: lost.update([series]), clock=lambda: 100.0)
    for number in range(LINES_PER_SECOND + 100):
        group_logger("ike").info("line %d", number)
    assert lost['log_lines_lost_total{target="worker"}'] == 100
    while len(rig.path.read_text().splitlines()) < LINES_PER_SECOND:
        rig.turn()
    rig.end()


def test_nothing_is_made_of_what_a_worker_invents(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "log")
    (fd,) = rig.hub.descriptors
    for octets in (b"", b"\xc1", b"\x97\x01\x02", b"x" * 1000):
        if octets:
            os.write(fd, octets)
    rig.turn()
    assert rig.end() == []


@pytest.mark.parametrize("form", list(LogFormat))
def test_levels_change_while_it_runs_and_workers_are_told(tmp_path: Path, form: LogFormat) -> None:
    rig = Rig(tmp_path / "log", format=form, chd=logging.WARNING)
    group_logger("ike").debug("one")
    rig.hub.change({"ike": "2", "chd": ""})
    group_logger("ike").debug("two")
    group_logger("chd").info("three")
    group_logger("dmn").debug("four")
    assert rig.told == [{"default": logging.INFO, "ike": logging.DEBUG}]
    assert rig.hub.levels() == {"default": "1", "ike": "2"}
    with pytest.raises(ValueError, match="there is no group"):
        rig.hub.change({"ike": "0", "nonsense": "2"})
    with pytest.raises(ValueError, match="is no log level"):
        rig.hub.change({"ike": "9"})
    assert rig.hub.levels() == {"default": "1", "ike": "2"}
    lines = rig.end()
    texts = [json.loads(each)["msg"] for each in lines] if form is LogFormat.JSON else [each[32:] for each in lines]
    assert texts == ["two", "three"]


def test_other_settings_open_what_is_new_close_what_is_gone_and_tell_the_workers(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "log")
    before = LogSettings(stderr=False, file=str(tmp_path / "log"))
    group_logger("dmn").info("one")
    rig.hub.change({"ike": "2"})
    assert not rig.hub.configure(before)
    assert rig.hub.levels() == {"default": "1", "ike": "2"}, "they last while the settings are the same"
    rig.told.clear()
    threads = threading.active_count()
    assert rig.hub.configure(msgspec.structs.replace(before, file=str(tmp_path / "other"), chd=logging.DEBUG))
    assert rig.told == [{"default": logging.INFO, "chd": logging.DEBUG}]
    group_logger("chd").debug("two")
    group_logger("ike").debug("is not wanted any more")
    with pytest.raises(LocalError, match=r"cannot log to .*/nowhere/log"):
        rig.hub.configure(
            msgspec.structs.replace(before, file=str(tmp_path / "nowhere" / "log"), default=logging.ERROR)
        )
    group_logger("dmn").info("three")
    eventually(lambda: threading.active_count() == threads)
    assert [each[32:] for each in rig.end()] == ["one"]
    assert [each[32:] for each in (tmp_path / "other").read_text().splitlines()] == ["two", "three"]


def test_a_target_that_stays_is_not_opened_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "log")
    (target,) = rig.hub._targets.values()
    rig.hub.configure(LogSettings(stderr=False, file=str(tmp_path / "log"), syslog="daemon", default=logging.ERROR))
    assert target in rig.hub._targets.values()
    rig.hub.configure(LogSettings(stderr=False, file=str(tmp_path / "log"), format=LogFormat.JSON))
    group_logger("dmn").info("now as an object")
    (line,) = rig.end()
    assert json.loads(line)["msg"] == "now as an object"


def test_a_client_hears_level_1_whatever_the_targets_get(tmp_path: Path) -> None:
    """As charon's: its vici logger has level 1 in all groups."""
    rig = Rig(tmp_path / "log", default=100)
    group_logger("ike").info("before")
    rig.hub.listen(wanted=True)
    group_logger("ike").info("heard")
    group_logger("ike").debug("not heard")
    rig.hub.listen(wanted=False)
    group_logger("ike").info("after")
    assert [event["msg"] for event in rig.events] == ["heard"]
    assert [told["default"] for told in rig.told] == [logging.INFO, 100]
    assert rig.end() == []


def test_a_full_pipe_costs_lines_and_no_time(tmp_path: Path) -> None:
    """Nobody reads, and whoever logs goes on; what was written is whole, and what was not is counted."""
    reader, writer = os.pipe()
    lost: list[int] = []
    target = FileTarget(fd=writer, is_json=False, lost=lambda: lost.append(1))
    many = MAX_WAITING + 3000
    for number in range(many):
        target.put(line(f"line {number}"))
    assert lost, "the pipe holds 64 KiB, and the queue no more than it may"
    read = bytearray()
    os.set_blocking(reader, False)
    while read.count(b"\n") < many - len(lost):
        try:
            read += os.read(reader, 65536)
        except BlockingIOError:
            time.sleep(0.001)
    target.close()
    os.close(writer)
    os.close(reader)
    assert read.splitlines()[0].endswith(b"line 0")
    assert read.count(b"\n") == many - len(lost)


def test_an_end_does_not_wait_for_a_target_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cygnet.gateway.logs.log_targets.CLOSE_S", 0.01)
    reader, writer = os.pipe()
    target = FileTarget(fd=writer, is_json=False, lost=lambda: None)
    for _ in range(MAX_WAITING):
        target.put(line("x" * 100))
    target.close()
    # The thread is a daemon: it does not keep the process. Let it end here.
    os.close(reader)
    target._thread.join(10)
    os.close(writer)
    assert not target._thread.is_alive()


def test_a_pipe_that_nobody_reads_any_more_costs_each_line(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    lost: list[int] = []
    target = FileTarget(fd=writer, is_json=False, lost=lambda: lost.append(1))
    target.put(line())
    target.put(line())
    target.close()
    os.close(writer)
    assert len(lost) == 2


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    rig = Rig(path)
    group_logger("dmn").info("first")
    eventually(lambda: "first" in path.read_text())
    path.rename(old)
    rig.hub.reopen()
    group_logger("dmn").info("second")
    rig.hub.reopen()
    group_logger("dmn").info("third")
    lines = rig.end()
    assert "first" in old.read_text()
    assert [each[32:] for each in lines] == ["second", "third"]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_can_not_be_opened_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"cannot log to .*/nowhere/log: No such file"):
        LogHub(LogSettings(stderr=False, file=str(tmp_path / "nowhere" / "log")))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LocalError, match="No such device or address"):
        LogHub(LogSettings(stderr=False, file=str(tmp_path / "pipe")))


def test_what_a_target_loses_is_counted_by_the_loop(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "log", syslog="daemon")
    targets = rig.hub._targets
    targets["syslog", "daemon", False] = syslog_target(3, rig.hub._losing("syslog"), tmp_path / "nobody")
    group_logger("dmn").info("lost there, and not here")
    rig.turn()
    assert rig.counted == {'log_lines_lost_total{target="syslog"}': 1}
    assert len(rig.end()) == 1


@pytest.mark.parametrize("make", [lambda lost, path: syslog_target(16, lost, path), journal_target])
def test_datagrams_reach_a_daemon_also_after_its_restart(tmp_path: Path, make: Callable[..., object]) -> None:
    lost: list[int] = []
    target = make(lambda: lost.append(1), tmp_path / "socket")
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
            daemon.bind(str(tmp_path / "socket"))
            target.put(line("said"))  # type: ignore[attr-defined]
            assert b"said" in daemon.recv(65536)
        (tmp_path / "socket").unlink()
    assert lost == []
    target.put(line("unheard"))  # type: ignore[attr-defined]
    target.close()  # type: ignore[attr-defined]
    assert len(lost) == 1


def test_a_daemon_that_does_not_read_costs_lines_and_no_time(tmp_path: Path) -> None:
    lost: list[int] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "socket"))
        target = journal_target(lambda: lost.append(1), tmp_path / "socket")
        for _ in range(5000):
            target.put(line())
        target.close()
    assert lost


def test_a_target_has_levels_of_its_own_and_all_change_together(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "log", ike=logging.WARNING, file_levels=Levels(chd=logging.DEBUG, ike=AUDIT))
    journal = rig.hub._targets["journal", True, False] = Kept()
    assert rig.hub.in_force == {"default": logging.INFO, "ike": AUDIT, "chd": logging.DEBUG}
    put_into_force(rig.hub.in_force)
    for group in ("ike", "chd", "net"):
        group_logger(group).debug("%s detail", group)
        group_logger(group).info("%s what else", group)
        group_logger(group).log(AUDIT, "%s up", group)
    # What only one of them wants goes to that one.
    assert journal.texts == ["chd what else", "chd up", "net what else", "net up"]
    assert (rig.hub.with_own_levels, rig.hub.levels()) == (["file"], {"default": "1", "ike": "warning"})
    assert rig.hub.levels("file") == {"default": "1", "ike": "0", "chd": "2"}
    rig.hub.change({"ike": "2", "chd": ""})
    assert rig.hub.levels("file") == rig.hub.levels() == {"default": "1", "ike": "2"}
    assert rig.told == [{"default": logging.INFO, "ike": logging.DEBUG}]
    texts = [each.split("] ", 1)[1] for each in rig.end()]
    assert texts == ["ike up", "chd detail", "chd what else", "chd up", "net what else", "net up"]


def test_a_default_of_its_own_leaves_nothing_of_what_all_have(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "log", ike=logging.DEBUG, file_levels=Levels(default=AUDIT))
    assert rig.hub.in_force == {"default": AUDIT}
    rig.hub.listen(wanted=True)
    assert rig.hub.in_force == {"default": logging.INFO}
    group_logger("ike").info("what else")
    assert [event["msg"] for event in rig.events] == ["what else"]
    rig.hub.configure(LogSettings(stderr=False, file=str(tmp_path / "log"), file_levels=Levels(enc=logging.DEBUG)))
    group_logger("enc").debug("encoded")
    assert [each.split("] ", 1)[1] for each in rig.end()] == ["encoded"]


def test_what_libraries_say_is_for_the_target_that_asks_for_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "log", file_levels=Levels(lib=logging.INFO))
    journal = rig.hub._targets["journal", True, False] = Kept()
    put_into_force(rig.hub.in_force)
    logging.getLogger("elsewhere").info("trifle")
    logging.getLogger("elsewhere").warning("matter")
    assert journal.texts == ["matter"]
    assert [each.split("] ", 1)[1] for each in rig.end()] == ["trifle", "WARNING matter"]
