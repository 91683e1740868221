import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cygnet.gateway.process.state_dir import StateDir, running_gateway
from cygnet.ike.errors import LocalError

_HOLD = """
import sys
from pathlib import Path
from cygnet.gateway.process.state_dir import StateDir
from cygnet.ike.errors import LocalError
try:
    house = StateDir(Path(sys.argv[1]))
except LocalError as exc:
    print(exc)
    sys.exit(1)
print("held", flush=True)
sys.stdin.read()
house.close()
"""


@contextmanager
def other_process(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another gateway on that folder. Record locks don't hold within a process."""
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_makes_the_folder_for_its_owner_alone_and_takes_it_away(tmp_path: Path) -> None:
    house = StateDir(tmp_path / "state")
    assert stat.S_IMODE(house.path.stat().st_mode) == 0o700
    house.counters.write_bytes(b"x")
    house.close()
    assert list(tmp_path.iterdir()) == []


def test_leaves_a_folder_that_was_there_and_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("precious")
    StateDir(tmp_path).close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["journal"]


def test_one_gateway_at_a_time_and_it_is_named(tmp_path: Path) -> None:
    with other_process(tmp_path) as first:
        assert first_line(first) == "held"
        assert running_gateway(tmp_path) == first.pid
        with pytest.raises(LocalError, match=rf"another gateway \(process {first.pid}\) uses the state directory"):
            StateDir(tmp_path)
        assert (tmp_path / "lock").exists()
        first.communicate("")
    assert running_gateway(tmp_path) is None
    StateDir(tmp_path).close()


def test_a_killed_gateway_is_none_and_hinders_nobody(tmp_path: Path) -> None:
    with other_process(tmp_path) as first:
        assert first_line(first) == "held"
        first.kill()
        first.wait()
    assert (tmp_path / "lock").exists()
    assert running_gateway(tmp_path) is None
    StateDir(tmp_path).close()


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    house = StateDir(tmp_path)
    pid = os.fork()
    if pid == 0:
        # The child's end must not end the parent's lock.
        os.close(house._lock)
        os._exit(0)
    os.waitpid(pid, 0)
    with other_process(tmp_path) as second:
        assert first_line(second).startswith("another gateway")
    house.close()


def test_no_folder_is_no_gateway(tmp_path: Path) -> None:
    assert running_gateway(tmp_path / "nowhere") is None


def test_a_file_in_its_place_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match=r"cannot use the state directory .*: Not a directory$"):
        StateDir(tmp_path / "file")


def test_a_folder_that_may_not_be_made_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(LocalError, match="Permission denied; choose one with --state-dir"):
        StateDir(tmp_path / "state")
