import gc
import os
import resource
from pathlib import Path

import pytest

from cygnet.observe.memory import OwnMemory, address_space_limit, cgroup_memory_limit, memory_bound


def test_own_memory_grows_by_what_is_touched_and_not_by_files() -> None:
    # In a process of its own: here the collector may free what earlier tests have left, just then.
    pid = os.fork()
    if pid == 0:
        gc.disable()
        own = OwnMemory()
        before = own.private_octets()
        block = bytearray(b"x") * (64 << 20)
        grown = own.private_octets() - before
        is_right = 60 << 20 < grown < 80 << 20 and own.address_space_octets() > own.private_octets() > len(block)
        os._exit(0 if is_right else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_fork_begins_with_what_its_parent_has() -> None:
    block = bytearray(b"x") * (32 << 20)
    parent = OwnMemory()
    pid = os.fork()
    if pid == 0:
        # /proc/self is whoever opens it.
        os._exit(0 if OwnMemory().private_octets() > len(block) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    parent.close()


def group(root: Path, path: str, name: str, limit: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{limit}\n")


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        pytest.param("0::/a/b\n", {"a/b": "max", "a": "max"}, None, id="no limit"),
        pytest.param("0::/a/b\n", {"a/b": "max", "a": "1000"}, 1000, id="the parent's"),
        pytest.param("0::/a/b\n", {"a/b": "500", "a": "1000"}, 500, id="the lowest"),
        pytest.param("0::/../elsewhere\n", {"": "700"}, 700, id="a container that sees its group as the root"),
        pytest.param("0::/\n", {}, None, id="the root"),
    ],
)
def test_limits_of_control_groups_of_version_2(
    tmp_path: Path, membership: str, limits: dict[str, str], expected: int | None
) -> None:
    (tmp_path / "cgroup").write_text(membership)
    for path, limit in limits.items():
        group(tmp_path / "fs", path, "memory.max", limit)
    assert cgroup_memory_limit(tmp_path / "cgroup", tmp_path / "fs") == expected


@pytest.mark.parametrize(("limit", "expected"), [("4096000", 4096000), ("9223372036854771712", None)])
def test_limits_of_control_groups_of_version_1(tmp_path: Path, limit: str, expected: int | None) -> None:
    (tmp_path / "cgroup").write_text("9:name=systemd:/x\n4:cpu,memory:/x\n2:pids:/x\n")
    group(tmp_path / "fs/memory", "x", "memory.limit_in_bytes", limit)
    group(tmp_path / "fs/memory", "", "memory.limit_in_bytes", "9223372036854771712")
    assert cgroup_memory_limit(tmp_path / "cgroup", tmp_path / "fs") == expected


def test_without_control_groups_there_is_the_machine(tmp_path: Path) -> None:
    assert cgroup_memory_limit(tmp_path / "missing", tmp_path) is None
    assert 0 < memory_bound().octets <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_the_limit_of_the_address_space_is_the_soft_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    assert address_space_limit() == (None if soft == resource.RLIM_INFINITY else soft)
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 40, hard))
        os._exit(0 if address_space_limit() == 1 << 40 else 1)
    assert os.waitpid(pid, 0)[1] == 0
