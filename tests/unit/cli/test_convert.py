"""`cygnet convert`."""

import argparse
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cygnet.cli import convert
from cygnet.cli.main import main
from cygnet.config.load import load_settings
from cygnet.ike.errors import LocalError

CONF = "conn rw\n left=192.0.2.1\n right=%any\n authby=psk\n rightsourceip=10.3.0.0/24\n auto=add\n"
SECRETS = ': PSK "hunter2"\n'


def cygnet(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    convert.add_parser(parser.add_subparsers())
    args = parser.parse_args(["convert", *arguments])
    status = args.run(args)
    assert isinstance(status, int)
    return status


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "ipsec.conf"
    path.write_text(CONF)
    secrets = tmp_path / "ipsec.secrets"
    secrets.write_text(SECRETS)
    secrets.chmod(0o600)
    return path


def test_to_standard_output_with_the_secrets_beside_it(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cygnet(str(conf)) == 0
    out, err = capsys.readouterr()
    assert out.startswith("connections {\n    rw {\n        local_addrs = 192.0.2.1\n")
    assert "secret = hunter2" in out
    assert err == ""


def test_to_a_new_private_file(conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "swanctl.conf"
    assert cygnet(str(conf), "--output", str(output)) == 0
    assert capsys.readouterr() == ("", "")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    settings = load_settings(str(output)).settings
    assert [connection.name for connection in settings.connections] == ["rw"]
    assert [secret.secret for secret in settings.secrets] == [b"hunter2"]
    with pytest.raises(LocalError, match="is there already"):
        cygnet(str(conf), "--output", str(output))
    with pytest.raises(LocalError, match="cannot write"):
        cygnet(str(conf), "--output", str(tmp_path / "nowhere" / "swanctl.conf"))


def test_what_is_left_out_and_what_is_refused(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text(CONF + " leftdns=10.1.0.53\n ah=sha256\n")
    assert cygnet(str(conf)) == 1
    out, err = capsys.readouterr()
    assert "ah_proposals = sha256, default" in out
    left_out, refused, summary = err.splitlines()
    assert left_out.startswith(f"{conf}:7:2: leftdns is not carried over")
    assert refused.startswith(f"{conf}:8:5: ah_proposals in connections.rw.children.rw is refused")
    assert summary == "cygnet convert: look at these by hand: 1 not carried over, 1 that Cygnet refuses"


def test_json(conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text(CONF + " leftdns=10.1.0.53\n")
    assert cygnet(str(conf), "--json") == 1
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == ""
    assert (result["is_complete"], result["connections"]) == (False, {"rw": ["rw"]})
    assert [(p["file"], p["line"], p["column"]) for p in result["left_out"]] == [(str(conf), 7, 2)]
    assert (result["errors"], result["output"]) == ([], None)
    assert "secret = hunter2" in result["config"]
    assert cygnet(str(conf), "--json", "--output", str(tmp_path / "x")) == 1
    assert "hunter2" not in capsys.readouterr().out


def test_secrets_elsewhere_and_our_end_on_the_right(
    conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write_text(CONF.replace("left", "x").replace("right", "left").replace("x", "right"))
    other = tmp_path / "other"
    other.write_text(': PSK "other"')
    assert cygnet(str(conf), "--secrets", str(other), "--right-is-local") == 0
    out, _ = capsys.readouterr()
    assert "local_addrs = 192.0.2.1" in out
    assert "secret = other" in out


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert cygnet(str(tmp_path / "none"), *arguments) == 1
    assert "no such file or directory" in "".join(capsys.readouterr())


def test_a_full_disk_leaves_no_part_of_the_file(tmp_path: Path) -> None:
    conf, output = tmp_path / "ipsec.conf", tmp_path / "swanctl.conf"
    conf.write_text("conn a\n  keyexchange=ikev2\n  authby=psk\n  auto=add\n  left=192.0.2.1\n  right=%any\n")
    words = f"exec {sys.executable} -m cygnet convert {conf} --output {output}"
    done = subprocess.run(["sh", "-c", f"ulimit -f 0; {words}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"cygnet convert: cannot write {output}: File too large\n")
    assert not output.exists()


def test_an_empty_name_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["convert", ""], ["convert", "x", "--output", ""], ["check", ""], ["gateway", "--config", ""]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert "an empty name is no file" in capsys.readouterr().err
