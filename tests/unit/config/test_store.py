"""A configuration that changes piece by piece."""

import pytest

from cygnet.auth.held_credentials import CertificateFlag, CertificateKind, HeldCertificate, HeldFiles
from cygnet.auth.identity import parse_identity
from cygnet.config.errors import ConfigError
from cygnet.config.load import load_pool, load_text
from cygnet.config.messages import Message, section_of
from cygnet.config.store import Store
from cygnet.ike.settings import PoolSettings, Settings, SharedSecret
from cygnet.wire.payloads.configuration import ConfigurationAttribute

KIND, FLAG = CertificateKind.X509, CertificateFlag.NONE
CONNECTION: Message = {
    "version": b"2",
    "remote_addrs": [b"192.0.2.1", b"192.0.2.2"],
    "local": {"auth": b"psk", "id": b"gw.example.org"},
    "remote": {"auth": b"psk"},
    "children": {"net": {"local_ts": [b"10.1.0.0/16", b"10.2.0.0/16"]}},
}
FILE = """
connections { rw { remote_addrs = 192.0.2.1, 192.0.2.2
  local { auth = psk
 id = gw.example.org }
  remote { auth = psk }
  children { net { local_ts = 10.1.0.0/16, 10.2.0.0/16 } } } }
secrets { ike { secret = s } }
"""


def pool(name: str, message: Message) -> PoolSettings:
    return load_pool(section_of(name, message))[0]


@pytest.fixture
def store() -> Store:
    return Store(Settings())


def test_a_connection_is_what_the_same_file_makes_it(store: Store) -> None:
    assert store.load_connection("rw", CONNECTION) == ()
    assert store.settings.connections == load_text(FILE).settings.connections


def test_every_change_makes_new_settings(store: Store) -> None:
    before = store.settings
    assert store.settings is before
    store.load_connection("rw", CONNECTION)
    assert (before.connections, len(store.settings.connections)) == ((), 1)
    assert store.unload_connection("rw")
    assert not store.unload_connection("rw")
    assert store.settings.connections == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"remote_adrs": b"192.0.2.1"}, r'unknown key "remote_adrs" .*did you mean "remote_addrs"'),
        ({"local": {"auth": b"pubkey"}}, "pubkey"),
        ({"children": {"net": {"local_ts": [b"10.1.0.0/99"]}}}, "10.1.0.0/99"),
        ({"local": {"auth": b"psk", "certs": [b"\x30\x82\xff"]}}, "certs .*is refused"),
    ],
)
def test_a_wrong_connection_replaces_nothing(store: Store, changes: Message, why: str) -> None:
    store.load_connection("rw", CONNECTION)
    before = store.settings
    with pytest.raises(ConfigError, match=why):
        store.load_connection("rw", {**CONNECTION, **changes})
    assert store.settings is before


def test_sections_have_a_depth(store: Store) -> None:
    deep: Message = {}
    for _ in range(100):
        deep = {"a": deep}
    with pytest.raises(ConfigError, match="nested too deeply"):
        store.load_connection("rw", deep)


def test_pools_must_not_overlap(store: Store) -> None:
    store.put_pool(pool("a", {"addrs": b"10.3.0.0/24"}))
    with pytest.raises(ConfigError, match='overlap with those of "a"'):
        store.put_pool(pool("b", {"addrs": b"10.3.0.128/25"}))
    # With itself it may.
    store.put_pool(pool("a", {"addrs": b"10.3.0.0/25", "dns": [b"10.1.0.53"]}))
    assert [pool.attributes for pool in store.settings.pools] == [(ConfigurationAttribute(3, bytes((10, 1, 0, 53))),)]
    assert store.remove_pool("a")
    assert not store.remove_pool("a")


def test_secrets_have_keys_or_stand_beside_each_other(store: Store) -> None:
    store.load_secret("ike-1", b"old", ["a@example.org"])
    store.load_secret("ike-1", b"new", ["a@example.org", "a@example.org"])
    store.load_secret("", b"other", [])
    store.load_secret("", b"other", [])
    assert store.settings.secrets == (
        SharedSecret(b"new", (parse_identity("a@example.org"),)),
        SharedSecret(b"other"),
    )
    assert store.unload_secret("ike-1")
    store.clear_secrets()
    assert not store.settings.secrets


def test_files_come_and_go_with_the_configuration_and_what_clients_load_stays(store: Store) -> None:
    first, second, third = (
        HeldCertificate(KIND, FLAG, name, (parse_identity(name.decode()),)) for name in (b"a", b"b", b"c")
    )
    authority = HeldCertificate(KIND, CertificateFlag.CA, b"ca", (parse_identity("ca"),))
    store.replace(Settings(), HeldFiles((first, second), ("k1",), {"a": authority}))
    held = store.held
    assert list(held.listed()) == [second, first, authority]
    assert not held.add(first) and held.add(third)
    assert not held.add_key("k1") and held.add_key("k2")
    store.replace(Settings(), HeldFiles((second,), ("k3",)))
    assert list(held.listed()) == [third, first, second]
    assert list(held.key_ids) == ["k3", "k1", "k2"]
    # Of what is there a client may take away anything, whoever loaded it; another reading brings it back.
    assert held.remove_key("k3") and not held.remove_key("k3")
    held.clear()
    assert not list(held.listed()) and not held.key_ids
    store.replace(Settings(), HeldFiles((second,), ("k3",)))
    assert (list(held.listed()), list(held.key_ids)) == ([second], ["k3"])


def test_what_is_loaded_again_as_it_was_is_no_change(store: Store) -> None:
    def load(time: bytes, secret: bytes, dns: bytes) -> None:
        store.load_connection("rw", {**CONNECTION, "dpd_delay": time})
        store.put_pool(pool("a", {"addrs": b"10.3.0.0/24", "dns": [dns]}))
        store.load_secret("ike-1", secret, ["a@example.org"])

    load(b"30s", b"s", b"10.1.0.53")
    before = store.settings
    load(b"30s", b"s", b"10.1.0.53")
    assert store.settings is before
    generation = store.generation
    load(b"31s", b"t", b"10.1.0.54")
    assert store.generation == generation + 3


def test_what_a_file_says_again_stays_what_it_is() -> None:
    ends = "local {{ auth = psk\n }}\n remote {{ auth = psk\n }}\n"
    text = "connections {{ a {{ " + ends + "dpd_delay = {}\n }} b : connections.a {{}} }}"
    store = Store(load_text(text.format("5s") + "pools { p { addrs = 10.0.0.0/24\n } }").settings)
    a, b, p = store.connections["a"], store.connections["b"], store.pools["p"]
    store.replace(load_text(text.format("5s") + "pools { p { addrs = 10.0.0.0/24\n } }").settings)
    assert (store.connections["a"] is a, store.connections["b"] is b, store.pools["p"] is p) == (True, True, True)
    store.replace(load_text(text.format("6s")).settings)
    assert store.connections["a"].dpd_delay_s == 6.0 and store.pools == {}
