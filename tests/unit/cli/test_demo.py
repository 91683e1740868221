"""The demo: a gateway and the tester, for real but small."""

import argparse
import json
import os
import signal
import time

import pytest
from tests.unit.load.test_results import measured

from cygnet.cli import demo
from cygnet.load.options import LoadOptions
from cygnet.load.processes import Progress
from cygnet.load.report import ProgressBar
from cygnet.load.results import Results
from cygnet.observe.system import process_tree


def command(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="cygnet")
    demo.add_parser(parser.add_subparsers())
    args = parser.parse_args(["demo", *words])
    before = signal.getsignal(signal.SIGTERM)
    try:
        status: int = args.run(args)
    finally:
        signal.signal(signal.SIGTERM, before)
    return status


def test_all_tunnels_come_up_and_carry_traffic(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(process_tree(os.getpid()))
    assert command("--count", "100", "--json") == 0
    captured = capfd.readouterr()
    found = json.loads(captured.out)
    assert (found["established"], found["failed"]) == (100, 0)
    assert found["echoes"] == {"answered": 100, "unanswered": 0}
    assert found["deleted"] == {"confirmed": 100, "unconfirmed": 0}
    assert found["gateway"]["workers"] == 2
    assert found["limit"] in ("gateway", "tester", "neither")
    assert f"{found['limit']} was the limit: " in found["verdict"].lower()
    assert not captured.err
    assert set(process_tree(os.getpid())) <= before


def test_the_table_ends_with_the_verdict(capfd: pytest.CaptureFixture[str]) -> None:
    assert command("--count", "10", "--workers", "1") == 0
    lines = capfd.readouterr().out.splitlines()
    assert "was the limit" in lines[-1]
    assert any("CPU per handshake" in line for line in lines)


def test_an_interrupt_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    before = set(process_tree(os.getpid()))
    seen: list[set[int]] = []

    def show(bar: ProgressBar, progress: Progress) -> None:
        if progress.established and not seen:
            seen.append(set(process_tree(os.getpid())) - before)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ProgressBar, "show", show)
    assert command("--count", "1000000") == 130
    assert len(seen[0]) == 4  # the supervisor, its workers, the tester
    deadline = time.monotonic() + 10
    while any(process_tree(pid) for pid in seen[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(process_tree(pid) for pid in seen[0])
    assert "Interrupted" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("tester_cpu_s", "gateway_cpu_s", "limit"), [(3.8, 2.0, "tester"), (1.0, 3.9, "gateway"), (2.0, 1.0, "neither")]
)
def test_the_limit_is_who_has_less_cpu_time_to_spare(tester_cpu_s: float, gateway_cpu_s: float, limit: str) -> None:
    results = Results(LoadOptions(target="127.0.0.1", secret=b"s"), 100.0)
    results.add(measured([0.01], busy_cpu_s=tester_cpu_s, busy_s=4.0, ended=104.0))
    found = demo.Measured(results=results, gateway_cpu_s=gateway_cpu_s, gateway_drops=0, workers=1)
    assert found.limit == limit
    assert found.verdict.count(".") == 1
