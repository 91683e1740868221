import argparse
import errno
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cygnet
from cygnet.cli import main as program
from cygnet.cli.main import COMMANDS, build_parser, main
from cygnet.config.errors import ConfigError, Problem
from cygnet.ike.errors import LocalError


def fail_with(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def fake_command(monkeypatch: pytest.MonkeyPatch, run: Callable[[argparse.Namespace], int]) -> None:
    """Put `run` in the place of `cygnet check PATH`."""
    module = importlib.import_module("cygnet.cli.check")
    monkeypatch.setattr(module, "run", run)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module_and_the_same_help(name: str) -> None:
    parser = build_parser(name)
    (subparsers,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    (choice,) = (each for each in subparsers._choices_actions if each.dest == name)
    assert choice.help == COMMANDS[name]
    assert callable(subparsers.choices[name].get_default("run"))


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_help_imports_nothing_that_takes_long() -> None:
    check = "import sys; from cygnet.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    check += "print({'cryptography', 'rich', 'msgspec', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"cygnet {cygnet.__version__}\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["check"], ["status", "--nonsense"], ["--nonsense"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: cygnet" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and all(name in err for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["stauts"], 'cygnet: error: there is no command "stauts": did you mean status?'),
        (["zzz"], 'cygnet: error: there is no command "zzz": there are gateway, load, '),
        (["--json", "sas"], "cygnet: error: --json is no option of the program: a command comes first"),
        (["status", "--vici", "x"], "cygnet status: error: unrecognized arguments: --vici x"),
    ],
)
def test_wrong_usage_says_what_to_do_instead(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (LocalError("no such port"), 1, "cygnet check: no such port\n"),
        (ConfigError([Problem("gw.conf", 1, 2, "wrong")]), 2, "gw.conf:1:2: wrong\n"),
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 1, "cygnet: there is not enough memory: raise its limit, `ulimit -v`, or ask for less\n"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            1,
            "cygnet: Too many open files: raise the limit of open files, `ulimit -n`\n",
        ),
    ],
)
def test_an_error_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, text: str
) -> None:
    fake_command(monkeypatch, fail_with(error))
    assert main(["check", "x"]) == status
    assert capsys.readouterr().err == text


def test_the_status_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(monkeypatch, lambda args: 7)
    assert main(["check", "x"]) == 7


def test_a_reader_that_has_enough_is_no_traceback() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "cygnet", "check", "--json", "/nowhere"]
    with os.fdopen(write_end, "wb") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("buffering", ["", "1"])
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["sas", "--help"], ["check", "--json", "/nowhere"]])
def test_a_full_disk_under_the_output_is_one_line(arguments: list[str], buffering: str) -> None:
    with Path("/dev/full").open("w") as nowhere:
        command = [sys.executable, "-m", "cygnet", *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": buffering}
        done = subprocess.run(command, stdout=nowhere, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr == "cygnet: cannot write the output: No space left on device\n"


def test_an_error_that_nobody_can_read_keeps_its_status() -> None:
    with Path("/dev/full").open("w") as nowhere:
        command = [sys.executable, "-m", "cygnet", "gateway", "--config", "/nowhere"]
        done = subprocess.run(command, stderr=nowhere, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "cygnet", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"cygnet {cygnet.__version__}\n"
    assert program.EXIT_OK == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_without_a_standard_stream_no_socket_gets_its_number(closed: str) -> None:
    # Sockets that do: an event loop that refuses, and log lines that go to a peer.
    command = f"exec {sys.executable} -m cygnet demo --count 1 --workers 1 {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_name_of_a_file_need_not_be_utf_8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/gw\xff.conf"
    Path(os.fsdecode(path)).write_text("")
    done = subprocess.run([sys.executable, "-m", "cygnet", "check", path], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, path + b": 0 connections, 0 children, 0 pools, 0 secrets: ok\n")


def test_what_the_locale_cannot_write_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "gw\N{GREEK SMALL LETTER ALPHA}.conf"
    path.write_text("")
    command = [sys.executable, "-m", "cygnet", "check", str(path)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "cannot write '\\u03b1' as ascii: choose a locale with UTF-8" in done.stderr
    assert done.stderr.count("\n") == 1
