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
    assert found["limit"] in ("gateway", "tester", "machine", "neither")
    assert f"{found['limit']} was the limit: " in found["verdict"].lower()
    assert 0 <= found["idle_share"] <= 1 and 0 <= found["others_share"] <= 1
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
    ("tester", "gateway", "idle_share", "limit", "evidence"),
    [
        ((3.8, 0.0), (2.0, 0.0), 0.3, "tester", "it used 95% of 1 core; the gateway used 25% of 2 cores."),
        ((1.0, 0.0), (7.6, 0.0), 0.0, "gateway", "it used 95% of 2 cores; the tester used 25% of 1 core."),
        (
            (3.5, 0.4),
            (3.7, 2.8),
            0.1,
            "tester",
            "it used 88% of 1 core and waited for one 10% of the time; the gateway",
        ),
        (
            (2.0, 0.0),
            (4.4, 3.2),
            0.2,
            "gateway",
            "it used 55% of 2 cores and waited for one 40% of the time; the tester",
        ),
        ((2.0, 1.8), (1.6, 1.0), 0.05, "machine", "waited for one 45% of the time; other work had 50% of 2 cores."),
        ((2.0, 1.8), (1.6, 1.0), None, "tester", "it used 50% of 1 core and waited for one 45% of the time;"),
        ((2.0, 0.0), (1.6, 0.0), 0.45, "neither", "50% of 1 core; 2 cores had nothing to do for 45% of the time."),
        ((2.0, 0.0), (1.6, 0.0), None, "neither", "the tester used 50% of 1 core. Each waited for the other at times."),
    ],
)
def test_the_limit_is_who_always_had_something_to_do(
    tester: tuple[float, float],
    gateway: tuple[float, float],
    idle_share: float | None,
    limit: str,
    evidence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    results = Results(LoadOptions(target="127.0.0.1", secret=b"s"), 100.0)
    used_s, waited_s = tester
    results.add(measured([0.01], cpu_s=used_s, busy_cpu_s=used_s, busy_waited_s=waited_s, busy_s=4.0, ended=104.0))
    used_s, waited_s = gateway
    found = demo.Measured(
        results=results,
        gateway_cpu_s=used_s,
        gateway_waited_s=waited_s,
        gateway_drops=0,
        workers=2,
        idle_share=idle_share,
    )
    assert found.limit == limit
    assert found.verdict.startswith("Neither was the limit: " if limit == "neither" else f"The {limit} was the limit: ")
    assert evidence in found.verdict


def test_a_system_that_does_not_say_how_idle_it_is_has_a_verdict_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def idle_seconds(cores: object) -> float:
        raise ValueError

    monkeypatch.setattr(demo, "idle_seconds", idle_seconds)
    assert command("--count", "10", "--workers", "1", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["idle_share"] is None and "was the limit" in found["verdict"]
