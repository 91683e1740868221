"""`cygnet check`."""

import argparse
import json
from pathlib import Path

import pytest

from cygnet.cli import check
from cygnet.gateway.process import limits

GOOD = """
connections { rw { pools = p
    local { auth = psk }
    remote { auth = psk }
    dscp = 000001
    children { net { } mail { } } } }
pools { p { addrs = 10.3.0.0/24 } }
secrets { ike-1 { secret = hunter2 } }
"""


def cygnet(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    check.add_parser(parser.add_subparsers())
    args = parser.parse_args(arguments)
    status = args.run(args)
    assert isinstance(status, int)
    return status


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gw.conf"
    path.write_text(GOOD)
    path.chmod(0o600)
    return path


def test_a_good_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cygnet("check", str(config)) == 0
    out, err = capsys.readouterr()
    assert out == f"{config}: 1 connection, 2 children, 1 pool, 1 secret: ok\n"
    assert err == (
        f"{config}:5:5: warning: dscp in connections.rw has no effect: "
        "IKE datagrams are sent with the default codepoint\n"
    )


def test_a_bad_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("gateway { prot = 500\nnode = 0 }")
    assert cygnet("check", str(config)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f'{config}:1:11: unknown key "prot" in gateway (did you mean "port"?)\n'
        f'{config}:2:8: node in gateway: "0" is no whole number from 1 to 255\n'
    )


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cygnet("check", str(tmp_path / "none")) == 1
    assert capsys.readouterr() == ("", f"{tmp_path}/none: no such file or directory\n")


def test_json_of_a_good_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cygnet("check", str(config), "--json") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == ""
    assert result["is_valid"] is True
    assert result["connections"] == {"rw": ["net", "mail"]}
    assert (result["pools"], result["secrets"], result["errors"]) == (["p"], 1, [])
    assert [(w["file"], w["line"], w["column"]) for w in result["warnings"]] == [(str(config), 5, 5)]
    assert "hunter2" not in out


def test_json_of_a_bad_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("a {")
    assert cygnet("check", "--json", str(config)) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "path": str(config),
        "is_valid": False,
        "errors": [
            {"file": str(config), "line": 1, "column": 1, "message": "section a is not closed: } is missing"},
        ],
        "warnings": [],
    }


def test_wrong_usage() -> None:
    with pytest.raises(SystemExit, match="2"):
        cygnet("check")


def test_the_system_is_looked_at_when_asked(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "usable_cores", lambda: 2)
    config.write_text(GOOD + "gateway { workers = 3\n memory_limit = 1M }")
    assert cygnet("check", str(config), "--system") == 0
    said = capsys.readouterr().err.splitlines()
    assert any(line.startswith("limit of cores: 2, in turns instead of 3, one for each worker; ") for line in said)
    assert any(line.startswith("limit of memory: 1 MiB, enough for about 0 tunnels, instead of ") for line in said)
    assert cygnet("check", str(config), "--json") == 0
    assert "limits" not in json.loads(capsys.readouterr().out)
    assert cygnet("check", str(config), "--json", "--system") == 0
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)["limits"]}
    assert found["cores"]["mend"].startswith("set workers = auto")
    assert found["memory"].keys() == {"what", "found", "wanted", "mend"}
