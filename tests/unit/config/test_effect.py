"""When a change takes effect."""

import msgspec

from cygnet.config.effect import MAX_NAMED, differences, keys_of_reload, keys_of_start, waiting_keys
from cygnet.config.gateway_settings import GatewaySettings
from cygnet.config.keys import TABLES
from cygnet.config.load import load_text
from cygnet.ike.settings import ConnectionSettings, Settings

CONFIG = """
connections {
    a { local { auth = psk } remote { auth = psk } pools = p }
    b { local { auth = psk } remote { auth = psk } }
}
pools { p { addrs = 10.3.0.0/24 } }
secrets { ike-1 { secret = one } }
"""


def settings(text: str) -> Settings:
    return load_text(text).settings


def test_every_key_of_the_gateway_takes_effect_at_one_time() -> None:
    names = [key.name for key in TABLES["gateway"].keys]
    assert sorted(keys_of_start() + keys_of_reload()) == sorted(names)
    assert {"workers", "listen", "memory_limit"} <= set(keys_of_start())
    assert {"cookie_threshold", "invalid_ike_spi_rate", "keep_alive", "retransmit_base"} <= set(keys_of_reload())


def test_every_key_of_a_reload_is_an_attribute_of_the_settings_that_workers_are_handed() -> None:
    whole = Settings()
    found = {*whole.__struct_fields__, *whole.retransmit.__struct_fields__, *whole.admission.__struct_fields__}
    attributes = {key.attribute for key in TABLES["gateway"].keys if key.name in keys_of_reload()}
    assert attributes <= found


def test_differences_have_names() -> None:
    before = settings(CONFIG)
    assert differences(before, settings(CONFIG)) == ()
    changed = (
        CONFIG.replace("    b {", "    c {")
        .replace("pools = p", "pools = p\n mobike = no\n")
        .replace("secret = one", "secret = two")
        .replace("addrs = 10.3.0.0/24", "addrs = 10.4.0.0/24")
    )
    changed += "gateway { retransmit_base = 2\n cookie_threshold = 5\n keep_alive = 9s\n }"
    found = differences(before, settings(changed))
    assert found[:-1] == (
        "connection c added",
        "connection a changed",
        "connection b removed",
        "pool p changed",
        "secrets changed",
    )
    assert set(found[-1].removeprefix("gateway: ").removesuffix(" changed").split(", ")) == {
        "retransmit_base",
        "cookie_threshold",
        "keep_alive",
    }


def test_what_waits_for_the_next_start_has_names() -> None:
    started = GatewaySettings()
    assert waiting_keys(started, GatewaySettings()) == ()
    assert waiting_keys(started, msgspec.structs.replace(started, port=1500, tun_mtu=1300)) == ("port", "tun_mtu")


def test_of_thousands_that_change_it_is_said_how_many() -> None:
    before = Settings(connections=tuple(ConnectionSettings(name=f"c-{n}") for n in range(MAX_NAMED + 1)))
    assert differences(before, Settings()) == (f"{MAX_NAMED + 1} connections removed",)
    fewer = msgspec.structs.replace(before, connections=before.connections[1:])
    assert len(differences(Settings(), fewer)) == MAX_NAMED
    assert differences(fewer, before) == ("connection c-0 added",)
