"""Whole files of `ipsec.conf` in `golden/`: what `swanctl.conf` they become, and what is said of them.

`NAME.conf` and `NAME.secrets`, if it is there, become `NAME.swanctl`, with the lines of `NAME.said`; what Cygnet itself
thinks of it is not among them.
"""

import shutil
from pathlib import Path

import pytest

from cygnet.config.errors import ConfigError
from cygnet.config.ipsec.convert import Conversion, convert
from cygnet.config.ipsec.keywords import CONN_KEYWORDS
from cygnet.config.load import load_text
from cygnet.config.syntax import Section, parse_text
from cygnet.config.writer import render

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.conf"))


@pytest.fixture(autouse=True)
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in which secrets are private, as the current folder."""
    copy = Path(shutil.copytree(GOLDEN, tmp_path / "golden"))
    for path in copy.glob("*.secrets"):
        path.chmod(0o600)
    monkeypatch.chdir(copy)
    return copy


def converted(name: str) -> Conversion:
    secrets = f"{name}.secrets"
    return convert(f"{name}.conf", secrets if Path(secrets).exists() else None)


def convert_text(text: str, *, is_right_local: bool = False) -> Conversion:
    Path("x.conf").write_text(text)
    return convert("x.conf", is_right_local=is_right_local)


def tree_of(section: Section) -> dict[str, object]:
    inner: dict[str, object] = {name: tree_of(each) for name, each in section.sections.items()}
    return inner | {f"{key} =": setting.value for key, setting in section.settings.items()}


@pytest.mark.parametrize("name", NAMES)
def test_golden_files(name: str) -> None:
    conversion = converted(name)
    assert conversion.text == Path(f"{name}.swanctl").read_text()
    said = [*conversion.left_out, *conversion.notes]
    assert [str(problem) for problem in said] == Path(f"{name}.said").read_text().splitlines()
    assert "hunter2" not in "".join(map(str, (*said, *conversion.errors, *conversion.warnings)))


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_the_tree(name: str) -> None:
    conversion = converted(name)
    assert tree_of(parse_text(conversion.text)) == tree_of(conversion.root)


@pytest.mark.parametrize("name", ["roadwarriors", "sites"])
def test_our_own_reader_takes_it(name: str) -> None:
    conversion = converted(name)
    assert conversion.is_complete
    assert load_text(conversion.text).settings.connections


def test_our_own_reader_refuses_what_was_said_to_be_refused() -> None:
    conversion = converted("everything")
    with pytest.raises(ConfigError) as caught:
        load_text(conversion.text)
    refused = [problem.message for problem in caught.value.problems if not problem.is_warning]
    assert sorted(refused) == sorted(problem.message for problem in conversion.errors)


@pytest.mark.parametrize("keyword", CONN_KEYWORDS)
def test_every_keyword_of_strongswan_has_a_rule(keyword: str) -> None:
    if keyword == "also":
        return
    conversion = convert_text(f"conn a\n auto=add\n left=192.0.2.1\n authby=psk\n {keyword}=1")
    assert "no keyword" not in "".join(map(str, conversion.left_out))


def test_a_default_that_differs_is_written_out() -> None:
    """Of strongSwan's starter (confread.c), against those of its swanctl."""
    text = convert_text("conn a\n auto=add\n authby=psk").text
    for line in ("unique = replace", "keyingtries = 3", "reauth_time = 171m", "over_time = 9m", "life_time = 1h"):
        assert f"{line}\n" in text
    assert "dpd_delay" not in text


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # What a conn says, then what the last also= says, then the others, then %default.
        ("conn a\n also=b\n also=c\n reqid=1\nconn b\n reqid=2\nconn c\n reqid=3", "1"),
        ("conn a\n also=b\n also=c\nconn b\n reqid=2\nconn c\n reqid=3", "3"),
        ("conn a\n also=b\n also=c\nconn b\n also=d\nconn c\n also=d\nconn d\n reqid=4\nconn b\n reqid=2", "2"),
        ("conn a\n also=b\nconn b\n mark=1\nconn %default\n reqid=5", "5"),
        ("conn a\n also=b\n reqid=\nconn b\n reqid=2", None),
        ("conn a\n reqid=1\nconn a\n reqid=2", "2"),
    ],
)
def test_inheritance(lines: str, expected: str | None) -> None:
    conversion = convert_text(f"{lines}\nconn a\n auto=add\n authby=psk")
    child = conversion.root.sections["connections"].sections["a"].sections["children"].sections["a"]
    assert (child.settings["reqid"].value if "reqid" in child.settings else None) == expected


@pytest.mark.parametrize(
    ("lines", "key", "expected"),
    [
        ("ike=aes128-sha256-x25519!", "proposals", "aes128-sha256-x25519"),
        ("ike=aes128-sha256-x448,aes256-sha512-x448", "proposals", "aes128-sha256-x448, aes256-sha512-x448, default"),
        ("leftsourceip=%config\n leftsubnet=fd00::/8", "vips", "::"),
        ("leftsourceip=%config\n rightsubnet=fd00::/8", "vips", "::"),
        ("leftsourceip=%config\n left=2001:db8::1", "vips", "::"),
        ("leftsourceip=%config", "vips", "0.0.0.0"),
        ("leftsourceip=%config4,%config6,10.9.0.1", "vips", "0.0.0.0, ::, 10.9.0.1"),
        ("right=%192.0.2.9", "remote_addrs", "192.0.2.9, 0.0.0.0/0, ::/0"),
        ("right=192.0.2.9\n rightallowany=yes", "remote_addrs", "192.0.2.9, 0.0.0.0/0, ::/0"),
        ("rekey=no\n ikelifetime=1h", "rekey_time", "0s"),
        ("reauth=no\n ikelifetime=1h\n margintime=90s", "rekey_time", "3510s"),
        ("ikelifetime=1m\n rekeymargin=1h", "reauth_time", "0s"),
    ],
)  # fmt: skip
def test_rules(lines: str, key: str, expected: str) -> None:
    conversion = convert_text(f"conn a\n auto=add\n authby=psk\n {lines}")
    assert conversion.root.sections["connections"].sections["a"].settings[key].value == expected


@pytest.mark.parametrize(
    ("levels", "log", "why"),
    [
        ('"ike 2, knl  -1,  CFG 0"', {"ike": "2", "knl": "-1", "cfg": "0"}, ""),
        ('"any 0, ike 1"', {"default": "0", "ike": "1"}, ""),
        ('"ike 2, kernel 1"', {"ike": "2"}, '"kernel 1" of charondebug is no group and level such as ike 2'),
        ("ike", None, '"ike" of charondebug is no group and level'),
        ('"ike 5"', None, '"ike 5" of charondebug is no group and level'),
        ('""', None, ""),
    ],
)
def test_levels_of_the_log_are_carried_over(levels: str, log: dict[str, str | None] | None, why: str) -> None:
    conversion = convert_text(f"config setup\n charondebug={levels}\nconn a\n auto=add\n authby=psk")
    gateway = conversion.root.sections.get("gateway")
    found = gateway.sections["log"].settings if gateway is not None else None
    assert (None if found is None else {key: setting.value for key, setting in found.items()}) == log
    assert [why in problem.message for problem in conversion.left_out] == ([True] if why else [])
    assert not conversion.errors


def test_our_end_may_be_the_right_one() -> None:
    text = "conn a\n auto=add\n authby=psk\n left=192.0.2.1\n right=192.0.2.2\n leftid=@a\n rightsubnet=10.0.0.0/8"
    swapped = text.replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")
    assert convert_text(text).text == convert_text(swapped, is_right_local=True).text


def test_conns_that_share_a_pool_but_not_what_it_tells(golden: Path) -> None:
    conn = "conn {}\n auto=add\n authby=psk\n rightid=@{}\n rightsourceip=10.3.0.0/24\n rightdns={}\n"
    conversion = convert_text(conn.format("a", "a", "10.1.0.53") + conn.format("b", "b", "10.1.0.54"))
    (problem,) = conversion.left_out
    assert str(problem) == 'x.conf:12:2: pool "a" is shared: all that get an address of it are told of 10.1.0.53'


def test_a_file_that_is_missing_is_one_error() -> None:
    with pytest.raises(ConfigError, match=r"^nowhere\.conf: no such file or directory$"):
        convert("nowhere.conf")
    with pytest.raises(ConfigError, match=r"^nowhere\.secrets: no such file or directory$"):
        convert("sites.conf", "nowhere.secrets")


def test_rendering_quotes_what_needs_it() -> None:
    text = 'a {\n    k = "x # y"\n    l = plain words\n    m = "\\"\\\\\\n"\n    n =\n    o = " x"\n    b {\n    }\n}\n'
    assert render(parse_text(text)) == text
