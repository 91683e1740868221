"""What every interop test gets: a fit machine, networks, logs when it fails, and a check that all is gone."""

import os
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest
from tests.interop.daemons import Daemon
from tests.interop.ownership import clear, leftovers, search_path, session_mark, sweep
from tests.interop.topologies import Topology, direct_topology, nat_topology

TOOLS = ("charon-systemd", "swanctl", "pki", "ip", "ping", "nft", "ike-scan", "sysctl", "setpriv", "taskset", "unshare")
HERE = Path(__file__).parent
GROUPS = 2
"""Of test files that run at the same time, where several processes run tests."""


def missing_requirements() -> str:
    """What the machine lacks for these tests, in words; empty if nothing."""
    lacking = [] if os.geteuid() == 0 else ["root"]
    lacking += [tool for tool in TOOLS if shutil.which(tool, path=search_path()) is None]
    lacking += [device for device in ("/dev/net/tun",) if not Path(device).exists()]
    return ", ".join(lacking)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They mostly wait: few processes run them, each one file after the other, and begin with them."""
    ours = [item for item in items if HERE in item.path.parents]
    files = sorted({item.path for item in ours})
    for item in ours:
        item.add_marker(pytest.mark.interop)
        item.add_marker(pytest.mark.xdist_group(f"interop-{files.index(item.path) % GROUPS}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [(f"{daemon.label} log", daemon.log_tail()) for daemon in Daemon.running]
    return report


@pytest.fixture(scope="session", autouse=True)
def machine() -> Iterator[None]:
    """Skips these tests where they cannot run, or fails under CI. Afterwards nothing of them may be left."""
    if lacking := missing_requirements():
        reason = f"this machine lacks {lacking}; see tests/interop/packages"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    sweep()

    def end_in_order(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(signum).name)

    before = {number: signal.signal(number, end_in_order) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        left = leftovers()
        clear(session_mark())
    assert not left, f"the interop tests left behind: {left}"


@pytest.fixture
def direct() -> Iterator[Topology]:
    """A client and a server on one link."""
    with direct_topology() as topology:
        yield topology


@pytest.fixture(scope="module")
def module_direct() -> Iterator[Topology]:
    """The same, for tests that only look at what runs there."""
    with direct_topology() as topology:
        yield topology


@pytest.fixture
def behind_nat() -> Iterator[Topology]:
    """A client behind a NAT, and a server."""
    with nat_topology() as topology:
        yield topology


@pytest.fixture(params=[direct_topology, nat_topology], ids=["direct", "nat"])
def topology(request: pytest.FixtureRequest) -> Iterator[Topology]:
    """One test for each way between the client and the server."""
    with request.param() as built:
        yield built
