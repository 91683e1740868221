"""The table of keys, against the settings that it fills and against strongSwan's own list."""

from typing import Any

import msgspec
import pytest

from cygnet.config.errors import ConfigError
from cygnet.config.gateway_settings import GatewaySettings
from cygnet.config.keys import TABLES
from cygnet.config.load import load_text
from cygnet.config.log_settings import TARGETS, Levels, LogSettings
from cygnet.config.reader import Reader
from cygnet.config.resource_keys import UNBUILT_SECRETS
from cygnet.config.schema import ANYTHING, Key, Unbuilt
from cygnet.config.syntax import parse_text
from cygnet.ike.settings import (
    AdmissionSettings,
    AuthoritySettings,
    AuthSettings,
    ChildSettings,
    ConnectionSettings,
    PoolSettings,
    RetransmitPolicy,
    Settings,
    SharedSecret,
)

# Every key of swanctl.conf(5), of strongSwan 5.9.8 and of 6.0.6.
STRONGSWAN_KEYS = {
    "connection": """version local_addrs remote_addrs local_port remote_port proposals vips aggressive pull dscp encap
        mobike dpd_delay dpd_timeout fragmentation childless send_certreq send_cert ocsp ppk_id ppk_required keyingtries
        unique reauth_time rekey_time over_time rand_time pools if_id_in if_id_out mediation mediated_by
        mediation_peer""",
    "local": "round certs pubkeys auth id eap_id aaa_id xauth_id",
    "remote": "round id eap_id groups cert_policy certs cacerts ca_id pubkeys revocation auth",
    "child": """ah_proposals esp_proposals sha256_96 local_ts remote_ts rekey_time life_time rand_time rekey_bytes
        life_bytes rand_bytes rekey_packets life_packets rand_packets updown hostaccess mode policies policies_fwd_out
        dpd_action ipcomp inactivity reqid priority interface mark_in mark_in_sa mark_out set_mark_in set_mark_out
        if_id_in if_id_out label label_mode tfc_padding replay_window per_cpu_sas hw_offload copy_df copy_ecn copy_dscp
        icmp start_action close_action""",
    "pool": "addrs dns nbns dhcp netmask server subnet p_cscf split_include split_exclude 25 28672 32767",
    "secret": "secret id id-1 id2 idx",
    "authority": "cacert file handle slot module crl_uris ocsp_uris cert_uri_base",
}

STRONGSWAN_SECRETS = {
    **dict.fromkeys(("eap", "xauth", "ntlm", "ppk"), "secret id id-1 idx"),
    **dict.fromkeys(("private", "rsa", "ecdsa", "pkcs8", "pkcs12"), "file secret"),
    "token": "handle slot module pin",
}

STRUCTS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "connection": (ConnectionSettings,),
    "local": (AuthSettings,),
    "remote": (AuthSettings,),
    "child": (ChildSettings,),
    "pool": (PoolSettings,),
    "secret": (SharedSecret,),
    "authority": (AuthoritySettings,),
    "gateway": (GatewaySettings, Settings, RetransmitPolicy, AdmissionSettings),
    "log": (LogSettings,),
    "log_levels": (Levels,),
}

ALL_KEYS = [pytest.param(name, key, id=f"{name}-{key.name}") for name, table in TABLES.items() for key in table.keys]
ALL_UNBUILT = [
    pytest.param(name, row, id=f"{name}-{row.name}") for name, table in TABLES.items() for row in table.unbuilt
]


def read(table: str, key: str, value: str) -> list[str]:
    """What is said of a section with one key in it, but for required keys that are missing."""
    reader = Reader()
    reader.read(parse_text(f'{key} = "{value}"', "x"), table, TABLES[table])
    return [str(problem) for problem in reader.problems if not problem.message.startswith(f"{table} has no ")]


@pytest.mark.parametrize("table", STRONGSWAN_KEYS)
def test_no_key_of_strongswan_is_unknown(table: str) -> None:
    for key in STRONGSWAN_KEYS[table].split():
        assert "unknown key" not in "".join(read(table, key, "1")), key


@pytest.mark.parametrize("table", STRONGSWAN_KEYS)
def test_no_key_of_strongswan_that_is_not_built_passes_in_silence(table: str) -> None:
    silent = {key for key in STRONGSWAN_KEYS[table].split() if not read(table, key, "something else")}
    built = {key.name for key in TABLES[table].keys}
    # There is one round, whatever its number.
    assert {key for key in silent if key not in built and not key.startswith("id") and not key.isdigit()} <= {"round"}


@pytest.mark.parametrize("kind", STRONGSWAN_SECRETS)
def test_the_keys_of_secrets_that_are_not_used_are_known_and_their_values_not_told(kind: str) -> None:
    for key in STRONGSWAN_SECRETS[kind].split():
        (warning,) = load_text(f"secrets {{ {kind}-x {{ {key} = hunter2\n }} }}").warnings
        use = "only opens a file, to be listed" if "file" in STRONGSWAN_SECRETS[kind].split() else "is skipped"
        assert f"secrets.{kind}-x {use}: " in str(warning)
        assert "hunter2" not in str(warning)
    with pytest.raises(ConfigError, match=f'unknown key "sekret" in secrets.{kind}-x'):
        load_text(f"secrets {{ {kind}-x {{ sekret = hunter2\n }} }}")


def test_those_are_all_kinds_of_secrets() -> None:
    assert {*STRONGSWAN_SECRETS, "bliss"} == set(UNBUILT_SECRETS)


@pytest.mark.parametrize("section", ["local-1.cert-1", "remote.cert", "remote.cacert2"])
def test_certificates_in_sections_of_their_own_are_refused(section: str) -> None:
    side, _, inner = section.partition(".")
    with pytest.raises(ConfigError, match=f"{inner} in connections.c.{side} is refused: certificates are not built"):
        load_text(f"connections {{ c {{ {side} {{ {inner} {{ file = x\n }} }} }} }}")


@pytest.mark.parametrize(("table", "key"), ALL_KEYS)
def test_defaults_are_those_of_the_settings(table: str, key: Key) -> None:
    if not key.default or key.is_prefix:
        return
    defaults = [
        field.default
        for struct in STRUCTS[table]
        for field in msgspec.structs.fields(struct)
        if field.name == key.attribute
    ]
    assert [key.kind.parse(key.default)] == defaults


@pytest.mark.parametrize(("table", "key"), ALL_KEYS)
def test_every_key_fills_a_field(table: str, key: Key) -> None:
    special = {"addrs": "first", "id": "id" if table in ("local", "remote") else "owners"}
    fields = [name for struct in STRUCTS[table] for name in struct.__struct_fields__]
    assert special.get(key.name, key.attribute) in fields


@pytest.mark.parametrize("table", STRUCTS)
def test_every_field_has_a_key(table: str) -> None:
    filled_elsewhere = {
        "name",
        "local",
        "remote",
        "children",
        "first",
        "last",
        "base",
        "owners",
        "connections",
        "pools",
    }
    filled_elsewhere |= {f"{target}_levels" for target in TARGETS}
    filled_elsewhere |= {"pools", "secrets", "retransmit", "admission", "authorities", "log", "trap_orders"}
    attributes = {key.attribute for key in TABLES[table].keys} | filled_elsewhere
    for struct in STRUCTS[table]:
        assert set(struct.__struct_fields__) <= attributes


@pytest.mark.parametrize(("table", "row"), ALL_UNBUILT)
def test_unbuilt_keys_are_judged_by_value(table: str, row: Unbuilt) -> None:
    for value in row.harmless:
        assert read(table, row.name, value) == []
        assert read(table, row.name, value.upper()) == []
    said = read(table, row.name, "something else")
    if ANYTHING in row.harmless:
        assert said == []
    elif row.is_refused:
        assert said == [f"x:1:1: {row.name} in {table} is refused: {row.instead}"]
    else:
        assert said == [f"x:1:1: warning: {row.name} in {table} has no effect: {row.instead}"]
    for value in row.refused:
        assert read(table, row.name, value) == [f"x:1:1: {row.name} in {table} is refused: {row.instead}"]


@pytest.mark.parametrize("table", TABLES)
def test_names_are_unique(table: str) -> None:
    rows: list[Any] = [*TABLES[table].keys, *TABLES[table].unbuilt]
    names = [row.name for row in rows]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("table", "key"), ALL_KEYS)
def test_values_can_be_shared(table: str, key: Key) -> None:
    if key.default:
        hash(key.kind.parse(f"1:{key.default}" if key.is_number else key.default))
