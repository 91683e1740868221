"""The command line of the load tester."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.load.responder import ECHO_TEXT, Responder
from tests.unit.load.test_results import measured

from cygnet.cli import load
from cygnet.load.options import Arrivals, LoadOptions, Rekeyed
from cygnet.load.processes import Progress
from cygnet.load.results import Results

GOOD = ("127.0.0.1", "--psk", "swordfish")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="cygnet")
    load.add_parser(found.add_subparsers())
    return found


def command(*words: str) -> int:
    args = parser().parse_args(["load", *words])
    status: int = args.run(args)
    return status


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoadOptions]:
    """The options that words come to; the run is not made, and succeeds."""
    seen: list[LoadOptions] = []

    def run_load(options: LoadOptions, *, on_progress: Callable[[Progress], None]) -> Results:
        seen.append(options)
        results = Results(options, 100.0)
        results.add(measured([0.01]))
        return results

    monkeypatch.setattr(load, "run_load", run_load)

    def parse(*words: str) -> LoadOptions:
        assert command(*words) == 0
        return seen[-1]

    return parse


@pytest.mark.parametrize(
    ("target", "address", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 500),
        ("127.0.0.1:15500", "127.0.0.1", 15500),
        ("localhost:15500", "127.0.0.1", 15500),
        ("[::1]:15500", "::1", 15500),
        ("[::1]", "::1", 500),
        ("::1", "::1", 500),
    ],
)
def test_target(options: Callable[..., LoadOptions], target: str, address: str, port: int) -> None:
    source = ("--source", address)
    found = options(target, "--psk", "x", *source)
    assert (found.target, found.port) == (address, port)


def test_defaults(options: Callable[..., LoadOptions]) -> None:
    found = options(*GOOD)
    assert (found.secret, found.count, found.arrivals, found.concurrency) == (b"swordfish", 1000, Arrivals.CLOSED, 64)
    assert (found.natt_port, found.processes, found.ping, found.vips) == (4500, 1, None, ())


def test_the_example_of_the_architecture(options: Callable[..., LoadOptions]) -> None:
    found = options(
        *("127.0.0.1:15500", "--natt-port", "15501", "--psk", "SECRET", "--id", "c{n}@example.org"),
        *("--remote-id", "gw.example.org", "--proposal", "aes128gcm16-prfsha256-x25519", "--esp", "aes128gcm16"),
        *("--vip", "--count", "5000", "--concurrency", "64", "--json"),
    )
    assert (found.port, found.natt_port, found.count, found.concurrency) == (15500, 15501, 5000, 64)
    assert found.vips == (bytes(4),)
    assert str(found.identities.identity(3)) == "c3@example.org"
    assert str(found.remote_id) == "gw.example.org"
    assert [str(p) for p in found.proposals] == ["aes128gcm16-prfsha256-x25519"]


def test_an_open_loop(options: Callable[..., LoadOptions]) -> None:
    found = options(*GOOD, "--rate", "12.5", "--arrivals", "poisson", "--seed", "9")
    assert (found.arrivals, found.rate, found.seed) == (Arrivals.POISSON, 12.5, 9)
    assert options(*GOOD, "--rate", "1").arrivals is Arrivals.CONSTANT


@pytest.mark.parametrize(("content", "secret"), [("swordfish\n", b"swordfish"), ("0x00ff\r\n", b"\x00\xff")])
def test_a_secret_from_a_file(options: Callable[..., LoadOptions], tmp_path: Path, content: str, secret: bytes) -> None:
    (tmp_path / "psk").write_text(content, newline="")
    assert options("127.0.0.1", "--psk-file", str(tmp_path / "psk")).secret == secret


def test_retransmission(options: Callable[..., LoadOptions]) -> None:
    found = options(*GOOD, "--retransmit-timeout", "0.5", "--retransmit-base", "1", "--tries", "2", "--timeout", "0")
    assert (found.retransmit.timeout_s, found.retransmit.base, found.retransmit.tries) == (0.5, 1.0, 2)
    assert found.timeout_s == 0.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("127.0.0.1",), "one of the arguments --psk --psk-file is required"),
        ((*GOOD, "--psk-file", __file__), "not allowed with argument --psk"),
        (("127.0.0.1", "--psk", ""), "the secret is empty"),
        (("127.0.0.1", "--psk", "0xzz"), "is not hexadecimal"),
        (("127.0.0.1", "--psk-file", "/nowhere/psk"), "cannot read /nowhere/psk: No such file or directory"),
        (("127.0.0.1:0", "--psk", "x"), '"0" is no whole number from 1 to 65535'),
        (("127.0.0.1:65536", "--psk", "x"), '"65536" is no whole number from 1 to 65535'),
        (("127.0.0.1:", "--psk", "x"), "has no port after the colon"),
        (("[::1", "--psk", "x"), "is no target"),
        ((":500", "--psk", "x"), "names no host"),
        (("no-such-host.invalid", "--psk", "x"), 'cannot resolve "no-such-host.invalid": '),
        ((*GOOD, "--natt-port", "x"), "argument --natt-port"),
        ((*GOOD, "--count", "0"), '"0" is no whole number of 1 or more'),
        ((*GOOD, "--rate", "0"), '"0" must be 0.001 or more, at most 1000000'),
        ((*GOOD, "--rate", "1e-320"), "must be 0.001 or more"),
        ((*GOOD, "--rate", "inf"), '"inf" is no number'),
        ((*GOOD, "--hold", "1e300"), '"1e300" must be more than 0, at most 31536000'),
        ((*GOOD, "--retransmit-timeout", "1e308"), "at most 31536000"),
        ((*GOOD, "--retransmit-base", "1e308"), "at most 100"),
        ((*GOOD, "--count", "\N{ARABIC-INDIC DIGIT THREE}"), "is no whole number of 1 or more"),
        ((*GOOD, "--count", "9" * 5000), "is no whole number of 1 or more"),
        ((*GOOD, "--proposal", ""), '"" is empty: leave the option out for the default'),
        ((*GOOD, "--esp", ","), '"," is empty'),
        ((*GOOD, "--remote-id", ""), '"" is empty'),
        ((*GOOD, "--remote-id", "\udcff"), "'\\udcff' is no UTF-8 text"),
        ((*GOOD, "--id", "\udcff{n}"), "'\\udcff{n}' is no UTF-8 text"),
        (("127.0.0.1", "--psk-file", ""), '"" is empty'),
        ((*GOOD, "--source", "0.0.0.0"), "packets can't come from there"),
        ((*GOOD, "--source", "127.0.0.1,224.0.0.1"), "packets can't come from there"),
        (
            (*GOOD, "--vip", "--ping-target", "fd00::1"),
            "another IP version than the addresses in the tunnel: is --vip6",
        ),
        ((*GOOD, "--rate", "-5"), "argument --rate"),
        ((*GOOD, "--rate", "nan"), '"nan" is no number'),
        ((*GOOD, "--rate", "fast"), '"fast" is no number'),
        ((*GOOD, "--rate", "5", "--concurrency", "5"), "not allowed with argument --rate"),
        ((*GOOD, "--arrivals", "poisson"), "--arrivals is about an open loop"),
        ((*GOOD, "--concurrency", "1", "--processes", "2"), "is not enough for 2 processes"),
        ((*GOOD, "--count", "1", "--processes", "2"), "is not enough for 2 processes"),
        ((*GOOD, "--proposal", "aes128gcm17"), 'unknown algorithm "aes128gcm17"'),
        ((*GOOD, "--esp", "nothing"), 'unknown algorithm "nothing"'),
        ((*GOOD, "--id", "c{m}@example.org"), "the only field is {n}"),
        ((*GOOD, "--ping"), "--ping needs --ping-target"),
        ((*GOOD, "--ping-target", "gateway"), "argument --ping-target"),
        ((*GOOD, "--encap", "--no-encap"), "not allowed with argument --encap"),
        ((*GOOD, "--source", "localhost"), "is no IP address, subnet or range"),
        ((*GOOD, "--source-ports", "some"), 'neither "ephemeral" nor "same"'),
        ((*GOOD, "--source-ports", "same", "--processes", "2"), "are not enough for 2 processes"),
        ((*GOOD, "--allow-failures", "101"), "at most 100"),
        ((*GOOD, "--retransmit-base", "0.5"), "1 or more"),
    ],
)
def test_a_wrong_value_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as exited:
        command(*words)
    assert exited.value.code == 2
    captured = capsys.readouterr()
    usage, error = captured.err.splitlines()
    assert usage.startswith("usage: cygnet load ")
    assert message in error
    assert "swordfish" not in error
    assert not captured.out


def test_a_target_of_another_ip_version_than_the_source_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        command("127.0.0.1", "--psk", "x", "--source", "::1")
    assert exited.value.code == 2
    assert "--source ::1 and the target 127.0.0.1 are of different IP versions" in capsys.readouterr().err


def against(responder: Responder, *words: str) -> int:
    return command(
        *(f"127.0.0.1:{responder.port}", "--natt-port", str(responder.natt_port), "--psk", "swordfish"),
        *("--proposal", "aes128gcm16-prfsha256-x25519", "--esp", "aes128gcm16", "--vip", "--count", "20", *words),
    )


def test_json_is_one_object_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    with Responder() as responder:
        assert against(responder, "--json", "--ping-target", ECHO_TEXT, "--encap", "--delete") == 0
    captured = capfd.readouterr()
    found: dict[str, Any] = json.loads(captured.out)
    assert (found["attempted"], found["established"], found["failed"]) == (20, 20, 0)
    assert found["echoes"] == {"answered": 20, "unanswered": 0}
    assert found["deleted"] == {"confirmed": 20, "unconfirmed": 0}
    assert found["interrupted"] is False


def test_the_table_names_what_was_measured(capfd: pytest.CaptureFixture[str]) -> None:
    with Responder() as responder:
        assert against(responder, "--remote-id", "gw.example.org") == 0
    out = capfd.readouterr().out
    for text in ("127.0.0.1:", "aes128gcm16-prfsha256-x25519 / aes128gcm16", "established", "setup delay", "p99"):
        assert text in out


@pytest.mark.parametrize(("allowed", "status"), [("0", 1), ("99.9", 1), ("100", 0)])
def test_failures_make_the_status(capfd: pytest.CaptureFixture[str], allowed: str, status: int) -> None:
    with Responder() as responder:
        assert against(responder, "--remote-id", "other.example.org", "--allow-failures", allowed) == status
    assert "authentication_failed 20" in capfd.readouterr().out


def test_what_makes_a_run_impossible_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert command(*GOOD, "--source", "192.0.2.77") == 1
    captured = capfd.readouterr()
    assert captured.err.startswith("cygnet load: cannot open a UDP port on 192.0.2.77: ")
    assert len(captured.err.splitlines()) == 1
    assert not captured.out


def test_a_port_at_which_nobody_listens_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with Responder() as responder:
        port = responder.port
    assert command(f"127.0.0.1:{port}", "--psk", "x", "--json", "--count", "5") == 1
    captured = capfd.readouterr()
    assert json.loads(captured.out)["failures"] == {"connection_refused": 5}
    assert f"127.0.0.1:{port} refuses datagrams: no IKE responder listens there." in captured.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("60", (60, Rekeyed.CHILD)), ("0.5:child", (0.5, Rekeyed.CHILD)), ("60:ike", (60, Rekeyed.IKE))],
)
def test_what_is_rekeyed_and_how_often(
    options: Callable[..., LoadOptions], text: str, expected: tuple[float, Rekeyed]
) -> None:
    found = options(*GOOD, "--hold", "5", "--rekey", text)
    assert (found.rekey_s, found.rekeyed) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("60:both", "neither child nor ike"),
        ("60:", "neither child nor ike"),
        ("0", "more than 0"),
        (":ike", "no number"),
    ],
)
def test_other_rekeyings_are_wrong_usage(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(*GOOD, "--hold", "5", "--rekey", text)
    assert message in capsys.readouterr().err


def test_who_moves_without_mobike_is_behind_a_nat(options: Callable[..., LoadOptions]) -> None:
    moving = (*GOOD, "--hold", "5", "--roam", "1")
    assert options(*moving).is_encapsulation_forced
    assert not options(*moving, "--no-encap").is_encapsulation_forced
    by_mobike = options(*moving, "--mobike")
    assert by_mobike.mobike and not by_mobike.is_encapsulation_forced
