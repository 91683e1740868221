"""From sections to settings: what holds across sections. Values and messages are in test_values and test_golden."""

import logging
import os

import pytest

from cygnet.auth.identity import ANY_IDENTITY
from cygnet.config.defaults import MAX_PROBLEMS
from cygnet.config.errors import ConfigError
from cygnet.config.gateway_settings import GatewaySettings
from cygnet.config.load import Configuration, load_text
from cygnet.ike.settings import AuthSettings, ChildSettings, ConnectionSettings, Settings
from cygnet.observe.log_groups import AUDIT, RAW

ROUNDS = "local { auth = psk }\nremote { auth = psk }\n"
SECRET = "\nsecrets { ike { secret = x } }"


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "x")
    return [str(problem) for problem in caught.value.problems if not problem.is_warning]


def warnings(text: str) -> list[str]:
    return [str(problem) for problem in load_text(text, "x").warnings]


def test_an_empty_configuration_is_all_defaults() -> None:
    assert load_text("") == Configuration(settings=Settings())


def test_what_is_left_out_has_the_defaults_of_the_settings() -> None:
    configuration = load_text(f"connections {{ c {{ {ROUNDS} children {{ n {{ }} }} }} }}{SECRET}")
    assert configuration.warnings == ()
    assert configuration.settings.connections == (ConnectionSettings("c", children=(ChildSettings("n"),)),)
    assert configuration.settings.connections[0].local == AuthSettings(id=ANY_IDENTITY)


def test_rounds_may_have_a_suffix() -> None:
    rounds = "local-psk { auth = psk }\nremote1 { auth = psk }\n"
    text = f"connections {{ c {{ {rounds} children {{ n {{ }} }} }} }}{SECRET}"
    assert load_text(text).warnings == ()


def test_a_connection_without_children_or_secrets_is_warned_of() -> None:
    assert warnings(f"connections {{ c {{ {ROUNDS} }} }}") == [
        "x:1:1: warning: there is no secret (secrets { ike { ... } }): no peer can authenticate itself",
        "x:1:15: warning: connections.c has no children: it can carry no traffic",
    ]


@pytest.mark.parametrize("addresses", ["192.0.2.0/24", "192.0.2.1-192.0.2.2", "%any"])
def test_what_is_to_be_started_needs_an_address(addresses: str) -> None:
    text = f"connections {{ c {{ {ROUNDS} remote_addrs = {addresses}\nchildren {{ n {{ start_action = start }} }} }} }}"
    assert errors(text) == [
        "x:3:17: connections.c is to be started, and its remote_addrs hold no single address to connect to"
    ]
    load_text(text.replace(f"= {addresses}", f"= {addresses.replace('%any', '10.9.0.0/16')}, 192.0.2.7"))


def test_pools_may_touch_and_not_overlap() -> None:
    touching = "pools { a { addrs = 10.0.0.1-10.0.0.9 }\nb { addrs = 10.0.0.10-10.0.0.19 }\nc { addrs = fd00::/64 } }"
    assert len(load_text(touching).settings.pools) == 3
    for addresses in ("10.0.0.9-10.0.0.9", "9.0.0.0-11.0.0.0", "10.0.0.1-10.0.0.9"):
        text = f"pools {{ a {{ addrs = 10.0.0.1-10.0.0.9 }}\nb {{ addrs = {addresses} }} }}"
        assert errors(text) == ["x:2:13: addrs in pools.b overlap with those of pools.a"]


def test_templates_are_not_taken_for_typing_errors() -> None:
    assert errors("pols { }") == ['x:1:1: unknown section "pols" (did you mean "pools"?)']
    assert load_text("pols { addrs = 10.0.0.0/24 }\npools { a : pols { } }").settings.pools[0].name == "a"


def test_inherited_errors_are_named_once() -> None:
    text = "pools { t { addrs = x }\na : pools.t { dns = 1.1.1.1 } }"
    assert [error.split(": ")[0] for error in errors(text)] == ["x:1:21", "x:1:21"]
    text = "t { lcoal = 1 }\nconnections { a : t { } a : t { } }"
    assert sum("lcoal" in error for error in errors(text)) == 1


def test_ports_must_differ_from_each_other_and_from_defaults() -> None:
    assert errors("gateway { natt_port = 500 }") == ["x:1:23: port and natt_port in gateway must be two ports"]
    assert errors("gateway { port = 4500 }") == ["x:1:18: port and natt_port in gateway must be two ports"]


def test_sections_and_keys_are_told_apart() -> None:
    assert errors("connections { a = b }") == [
        'x:1:15: "a" is no section: connections holds sections only, NAME { ... }'
    ]
    assert errors("gateway { port { } }") == ["x:1:11: port in gateway is a key: write port = VALUE"]
    assert errors("pools { a { addrs { } } }")[0] == "x:1:9: pools.a has no addrs"


def test_echo_is_by_default_the_first_address_of_each_pool() -> None:
    pools = "pools { a { addrs = 10.3.0.0/24 }\nb { addrs = 10.4.0.7-10.4.0.9 } }\n"
    assert load_text(pools).gateway.echo == (bytes((10, 3, 0, 1)), bytes((10, 4, 0, 7)))
    assert load_text(pools + "gateway { echo = 10.9.9.9 }").gateway.echo == (bytes((10, 9, 9, 9)),)


def test_auto_is_one_worker_for_each_usable_core() -> None:
    assert load_text("gateway { workers = auto }").gateway.worker_count == len(os.sched_getaffinity(0))
    assert load_text("gateway { workers = 3 }").gateway.worker_count == 3
    assert GatewaySettings().workers == 0


def test_the_list_of_problems_ends_somewhere() -> None:
    assert len(errors("gateway {" + "".join(f"x{n} = 1\n" for n in range(1000)) + "}")) == MAX_PROBLEMS


def test_secrets_do_not_show_in_what_is_loaded() -> None:
    assert "hunter2" not in repr(load_text("secrets { ike-1 { secret = hunter2 } }"))


@pytest.mark.parametrize("side", ["local", "remote"])
def test_an_identity_that_no_message_has_room_for_is_refused_where_it_stands(side: str) -> None:
    long = "x" * 65_000
    with pytest.raises(ConfigError) as caught:
        load_text(f"connections {{\n c {{\n  {side} {{\n   auth = psk\n   id = {long}\n  }}\n }}\n}}\n", "x.conf")
    assert f"x.conf:5:9: id in connections.c.{side}: an identity of 65000 octets does not fit into a message" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("224.0.0.1", "is a multicast address"),
        ("ff02::1", "is a multicast address"),
        ("255.255.255.255", "is the broadcast address"),
    ],
)
def test_what_no_host_has_for_an_address_is_not_listened_on(address: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(f"gateway {{\n  listen = 127.0.0.1, {address}\n}}\n", "x.conf")
    assert str(caught.value).startswith(f'x.conf:2:12: listen in gateway: "{address}" {why}; give one of this host')


def test_each_target_of_the_log_may_have_levels_of_its_own() -> None:
    text = "gateway {{ log {{\n ike = 2\n file = /x\n {} {{\n default = 0\n enc = error\n }}\n }} }}"
    log = load_text(text.format("file_levels")).gateway.log
    assert log.thresholds == log.thresholds_of("syslog") == {"default": logging.INFO, "ike": logging.DEBUG}
    assert log.thresholds_of("file") == {"default": AUDIT, "enc": logging.ERROR}
    own = load_text("gateway { log {\n ike = 2\n syslog_levels {\n ike = 0\n net = 3\n }\n } }").gateway.log
    assert own.thresholds_of("syslog") == {"default": logging.INFO, "ike": AUDIT, "net": RAW}
    with pytest.raises(ConfigError, match=r'x:4:2: unknown section "fail_levels" in gateway\.log'):
        load_text(text.format("fail_levels"), "x")
    with pytest.raises(ConfigError, match=r'ike in gateway\.log\.file_levels: "9" is no log level'):
        load_text("gateway { log { file_levels {\n ike = 9\n } } }")
