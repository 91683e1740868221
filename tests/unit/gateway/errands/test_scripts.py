"""Scripts as they are: they fail, hang, talk, start others, are not there, and are many."""

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cygnet.gateway.errands.scripts import MAX_LINE_OCTETS, MAX_LINES, MAX_RUNNING, MAX_WAITING, Line, Scripts
from cygnet.observe.log_groups import about

PATH = os.environ["PATH"]


class Rig:
    def __init__(self, timeout_s: float = 30) -> None:
        self.loop = asyncio.new_event_loop()
        self.counted: Counter[str] = Counter()
        self.scripts = Scripts(self.loop, self._count, timeout_s=timeout_s)
        self.done: list[Line] = []

    def _count(self, series: str) -> None:
        self.counted[series.partition('"')[2].rstrip('"}')] += 1

    def line(self, command: str) -> Line:
        line = Line("updown", "child net", command, about("rw", 7))
        line.done = lambda: self.done.append(line)
        return line

    def do(self, line: Line, *words: str) -> bool:
        return self.scripts.do(line, [{"PATH": PATH, "WORD": word} for word in words])

    def undo(self, line: Line, *words: str) -> None:
        self.scripts.undo(line, [{"PATH": PATH, "WORD": word} for word in words])

    def wait(self, condition: Callable[[], bool]) -> None:
        async def waiting() -> None:
            async with asyncio.timeout(20):
                while not condition():
                    await asyncio.sleep(0.005)

        self.loop.run_until_complete(waiting())

    def wait_for_all(self) -> None:
        self.wait(lambda: self.scripts.is_idle)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.scripts.kill_all()
    rig.loop.close()


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cygnet")
    caplog.set_level(logging.INFO, logger="cygnet.chd")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_each_environment_has_its_turn_and_what_is_printed_is_logged(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.do(rig.line('echo "out $WORD"; echo "err $WORD" >&2'), "1", "2")
    rig.wait_for_all()
    assert said(caplog) == ["updown: out 1", "updown: err 1", "updown: out 2", "updown: err 2"]
    assert {record.sa for record in caplog.records} == {("rw", 7)}  # type: ignore[attr-defined]
    assert rig.counted == {"done": 2}


def test_up_comes_before_down_however_long_it_takes(rig: Rig, tmp_path: Path) -> None:
    line = rig.line(f"sleep 0.2; echo $WORD >> {tmp_path}/order")
    rig.do(line, "up")
    rig.undo(line, "down")
    rig.wait_for_all()
    assert (tmp_path / "order").read_text() == "up\ndown\n"
    assert rig.done == [line]


def test_what_has_not_begun_is_not_undone(rig: Rig, tmp_path: Path) -> None:
    """Neither a line that waits, nor the pairs of selectors that it has not come to."""
    long = [rig.line(f"while ! [ -e {tmp_path}/go ]; do sleep 0.01; done") for _ in range(MAX_RUNNING - 1)]
    for each in long:
        rig.do(each, "")
    half = rig.line(f"while ! [ -e {tmp_path}/go ]; do sleep 0.01; done; echo $WORD >> {tmp_path}/half")
    rig.do(half, "up1", "up2")
    waiting = rig.line(f"touch {tmp_path}/wrong")
    rig.do(waiting, "up")
    rig.undo(waiting, "down")
    rig.undo(half, "down1", "down2")
    assert rig.done == [waiting]
    (tmp_path / "go").touch()
    rig.wait_for_all()
    assert (tmp_path / "half").read_text() == "up1\ndown1\n"
    assert not (tmp_path / "wrong").exists()
    assert rig.done == [waiting, half]


def test_a_script_that_fails_or_is_not_there_is_said_and_undone_all_the_same(
    rig: Rig, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    line = rig.line(f'[ "$WORD" = down ] && touch {tmp_path}/undone; exit 3')
    rig.do(line, "up")
    rig.do(rig.line("/nowhere/at/all"), "")
    rig.wait_for_all()
    rig.undo(line, "down")
    rig.wait_for_all()
    assert (tmp_path / "undone").exists()
    assert rig.counted == {"failed": 3}
    assert "the script of child net ended with status 3" in said(caplog)
    assert "the script of child net ended with status 127" in said(caplog)
    assert any("/nowhere/at/all" in each and each.startswith("updown: ") for each in said(caplog))


def test_a_script_that_hangs_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    rig = Rig(timeout_s=0.2)
    rig.do(rig.line(f"sleep 1000 & echo $! > {tmp_path}/pid; sleep 1000"), "")
    rig.wait_for_all()
    assert rig.counted == {"killed": 1}
    pid = int((tmp_path / "pid").read_text())
    rig.wait(lambda: _is_gone(pid))
    rig.loop.close()


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_what_it_leaves_in_the_background_does_not_keep_it(rig: Rig, tmp_path: Path) -> None:
    """The one in the background has the output open, and nobody waits for it."""
    rig.do(rig.line(f"sleep 1000 & echo $! > {tmp_path}/pid"), "")
    rig.wait_for_all()
    assert rig.counted == {"done": 1}
    pid = int((tmp_path / "pid").read_text())
    assert not _is_gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_chatty_script_is_logged_up_to_a_bound(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.do(rig.line('i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo "line $i"; done; exit 5'), "")
    rig.do(rig.line("head -c 100000 /dev/zero | tr '\\0' x"), "")
    rig.wait_for_all()
    assert len(said(caplog)) <= 2 * MAX_LINES + 3
    assert all(len(each) <= MAX_LINE_OCTETS + 50 for each in said(caplog))
    assert rig.counted == {"failed": 1, "done": 1}, "it was read on, and could end"


def test_of_many_some_run_at_a_time_and_too_many_are_dropped(rig: Rig, tmp_path: Path) -> None:
    lines = [rig.line(f"while ! [ -e {tmp_path}/go ]; do sleep 0.01; done") for _ in range(MAX_RUNNING)]
    assert all(rig.do(line, "") for line in lines)
    waiting = [rig.line(f"echo >> {tmp_path}/ran") for _ in range(MAX_WAITING)]
    assert all(rig.do(line, "") for line in waiting)
    assert not rig.do(rig.line("true"), "")
    assert rig.counted == {"dropped": 1}
    # What was not begun makes room when it is not wanted any more.
    for line in waiting[:-10]:
        rig.undo(line, "")
    assert rig.do(rig.line("true"), "")
    (tmp_path / "go").touch()
    rig.wait_for_all()
    assert len((tmp_path / "ran").read_text()) == 10
    assert rig.counted == {"dropped": 1, "done": MAX_RUNNING + 11}


def test_nothing_that_is_in_the_environment_is_run(rig: Rig, tmp_path: Path) -> None:
    rig.do(rig.line(f'printf %s "$WORD" > {tmp_path}/said'), f"$(touch {tmp_path}/a); `touch {tmp_path}/a`; '\"")
    rig.wait_for_all()
    assert not (tmp_path / "a").exists()
    assert "$(touch" in (tmp_path / "said").read_text()


def test_an_impossible_environment_is_a_failure_and_no_more(rig: Rig) -> None:
    rig.do(rig.line("true"), "a\0b")
    rig.wait_for_all()
    assert rig.counted == {"failed": 1}


def test_the_end_leaves_no_script_behind(rig: Rig, tmp_path: Path) -> None:
    rig.do(rig.line(f"echo $$ > {tmp_path}/pid; sleep 1000"), "")
    for _ in range(MAX_RUNNING):
        rig.do(rig.line("sleep 1000"), "")
    rig.wait((tmp_path / "pid").exists)
    rig.wait(lambda: bool((tmp_path / "pid").read_text()))
    rig.scripts.kill_all()
    assert rig.scripts.is_idle
    assert _is_gone(int((tmp_path / "pid").read_text()))
    assert rig.counted == {"killed": MAX_RUNNING, "dropped": 1}
