"""Whole files in `golden/`: what is wrong with them, word for word, or what they come to.

`golden/wrong/NAME.conf` goes with `golden/wrong/NAME.expected`, the lines that `cygnet check` prints for it.
"""

import logging
import shutil
from pathlib import Path

import pytest

from cygnet.auth.identity import parse_identity
from cygnet.config.errors import ConfigError
from cygnet.config.gateway_settings import DataplaneKind, GatewaySettings
from cygnet.config.load import load_settings
from cygnet.config.log_settings import LogFormat, LogSettings
from cygnet.iana import ProtocolId
from cygnet.ike.proposals import DEFAULT_ESP_PROPOSALS, parse_proposal
from cygnet.ike.selectors import DYNAMIC, parse_selector
from cygnet.ike.settings import AdmissionSettings, PoolSettings, RetransmitPolicy, SharedSecret, StartAction
from cygnet.wire.payloads.configuration import ConfigurationAttribute

GOLDEN = Path(__file__).parent / "golden"
WRONG = sorted(path.stem for path in (GOLDEN / "wrong").glob("*.conf"))


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in which the files are private, as those with secrets should be, as the current folder."""
    copy = Path(shutil.copytree(GOLDEN, tmp_path / "golden"))
    for path in copy.rglob("*.*"):
        if path.is_file():
            path.chmod(0o600)
    monkeypatch.chdir(copy)
    return copy


def packed(text: str) -> bytes:
    return parse_identity(text).data


@pytest.mark.parametrize("name", WRONG)
def test_everything_wrong_is_named(golden: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(golden / "wrong")
    with pytest.raises(ConfigError) as caught:
        load_settings(f"{name}.conf")
    assert str(caught.value).splitlines() == Path(f"{name}.expected").read_text().splitlines()


@pytest.mark.parametrize("name", WRONG)
def test_no_secret_is_repeated(golden: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(f"wrong/{name}.conf")
    assert "hunter2" not in str(caught.value)


def test_roadwarriors(golden: Path) -> None:
    configuration = load_settings("valid/roadwarriors.conf")
    assert configuration.warnings == ()
    (connection,) = configuration.settings.connections
    assert connection.name == "rw"
    assert connection.local_addrs == ("192.0.2.1",)
    assert connection.remote_addrs == ()
    assert connection.proposals == tuple(
        parse_proposal(ProtocolId.IKE, text) for text in ("aes128gcm16-prfsha256-x25519", "aes256-sha256-modp2048")
    )
    assert connection.pools == ("rw_pool4", "rw_pool6")
    assert connection.dpd_delay_s == 30
    assert connection.local.id == parse_identity("gw.example.org")
    assert connection.remote.id == parse_identity("*@example.org")
    (child,) = connection.children
    assert child.name == "net"
    assert child.local_ts == (parse_selector("10.1.0.0/16"), parse_selector("fd01::/64"))
    assert child.remote_ts == (DYNAMIC,)
    assert child.esp_proposals == (parse_proposal(ProtocolId.ESP, "aes128gcm16-x25519-esn"),)
    assert child.replay_window == 128
    assert child.start_action is StartAction.NONE
    assert configuration.settings.pools == (
        PoolSettings(
            "rw_pool4",
            packed("10.3.0.1"),
            packed("10.3.0.254"),
            (ConfigurationAttribute(3, packed("10.1.0.53")), ConfigurationAttribute(10, packed("fd01::53"))),
            packed("10.3.0.0"),
        ),
        PoolSettings("rw_pool6", packed("fd03::10"), packed("fd03::ffff")),
    )
    assert configuration.settings.secrets == (
        SharedSecret(b"\x01\x02\xff", (parse_identity("gw.example.org"), parse_identity("guest@example.org"))),
        SharedSecret(b'a # b { c } = "d"'),
    )
    assert configuration.gateway == GatewaySettings(echo=(packed("10.3.0.1"), packed("fd03::10")))


def test_sites(golden: Path) -> None:
    configuration = load_settings("valid/sites.conf")
    assert configuration.warnings == ()
    sun, venus = configuration.settings.connections
    assert (sun.name, sun.remote_addrs, sun.keyingtries, sun.encap, sun.dpd_delay_s) == (
        "sun",
        ("192.0.2.2",),
        0,
        True,
        120,
    )
    assert sun.local.id == parse_identity("moon.example.org")
    assert sun.remote.id == parse_identity("sun.example.org")
    nets, mail = sun.children
    assert (nets.name, nets.start_action) == ("nets", StartAction.START)
    assert nets.local_ts == mail.local_ts == (parse_selector("10.1.0.0/16"),)
    assert nets.esp_proposals == (parse_proposal(ProtocolId.ESP, "chacha20poly1305"),)
    assert (mail.name, mail.start_action) == ("mail", StartAction.NONE)
    assert mail.remote_ts == (parse_selector("10.2.0.25/32[tcp/25]"),)
    assert mail.esp_proposals == DEFAULT_ESP_PROPOSALS
    assert (venus.remote_addrs, venus.encap, venus.keyingtries) == (("2001:db8::3",), False, 0)
    assert venus.remote.id == parse_identity("venus.example.org")
    assert [(child.name, child.remote_ts) for child in venus.children] == [
        ("nets", (parse_selector("10.3.0.0/16"),)),
        ("mail", (parse_selector("10.2.0.25/32[tcp/25]"),)),
    ]
    assert venus.children[0].start_action is StartAction.START
    assert configuration.settings.secrets == (
        SharedSecret(b"secret", (parse_identity("moon.example.org"), parse_identity("sun.example.org"))),
        SharedSecret(b"venus", (parse_identity("venus.example.org"),)),
    )


def test_every_key_of_the_gateway_section(golden: Path) -> None:
    configuration = load_settings("valid/sites.conf")
    assert configuration.gateway == GatewaySettings(
        workers=4,
        port=15500,
        natt_port=15501,
        listen=("127.0.0.1", "::1"),
        dataplane=DataplaneKind.NULL,
        state_dir="/var/lib/my gateway",
        user="cygnet",
        log=LogSettings(
            default=logging.DEBUG,
            ike=7,
            lib=100,
            stderr=False,
            file="/var/log/cygnet.log",
            syslog="local3",
            journal=True,
            format=LogFormat.JSON,
        ),
        echo=(packed("10.9.0.1"),),
        node=7,
        receive_buffer=512 << 10,
        memory_limit=1 << 30,
    )
    settings = configuration.settings
    assert settings.retransmit == RetransmitPolicy(timeout_s=0.5, base=2, tries=3, limit_s=5)
    assert settings.half_open_timeout_s == 10
    assert settings.admission == AdmissionSettings(cookie_threshold=0, init_limit_half_open=500, ike_sa_limit=0)


def test_secrets_that_everybody_can_read_are_warned_of(golden: Path) -> None:
    (golden / "valid/conf.d/sites.secrets").chmod(0o644)
    (warning,) = load_settings("valid/sites.conf").warnings
    assert str(warning) == (
        "valid/conf.d/sites.secrets:5:9: warning: this secret is readable by everybody on this machine: "
        "chmod o-rwx valid/conf.d/sites.secrets"
    )
