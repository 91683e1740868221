"""Virtual addresses in the Configuration payload (RFC 7296 section 3.15)."""

import pytest
from tests.sim.world import ListPool, client_settings, gateway_settings

from cygnet.auth.identity import ANY_IDENTITY
from cygnet.iana import CfgAttribute, CfgType
from cygnet.ike.connections import Connection
from cygnet.ike.environment import Environment
from cygnet.ike.errors import InternalAddressFailure
from cygnet.ike.exchanges import virtual_ip
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.sa import Turn
from cygnet.ike.settings import ConnectionSettings
from cygnet.ike.table import IkeTable
from cygnet.wire.payloads.configuration import Configuration, ConfigurationAttribute

V4, V4_DNS = CfgAttribute.INTERNAL_IP4_ADDRESS, CfgAttribute.INTERNAL_IP4_DNS
V6, V6_DNS = CfgAttribute.INTERNAL_IP6_ADDRESS, CfgAttribute.INTERNAL_IP6_DNS
CAROL4, DNS4 = bytes((10, 0, 0, 1)), bytes((9, 9, 9, 9))
CAROL6, DNS6 = bytes.fromhex("fd00" + "00" * 13 + "01"), bytes.fromhex("fd00" + "00" * 13 + "53")
WITH_POOL = Connection(gateway_settings().connections[0])
WITHOUT = Connection(ConnectionSettings(name="none"))


def config(cfg_type: CfgType, *attributes: tuple[int, bytes]) -> Configuration:
    return Configuration(cfg_type, tuple(ConfigurationAttribute(t, v) for t, v in attributes))


@pytest.mark.parametrize(
    ("vips", "attributes"),
    [
        ((bytes(4),), [(V4, b""), (V4_DNS, b"")]),
        ((CAROL4,), [(V4, CAROL4), (V4_DNS, b"")]),
        ((bytes(16),), [(V6, b""), (V6_DNS, b"")]),
        ((CAROL6,), [(V6, CAROL6 + b"\x80"), (V6_DNS, b"")]),
    ],
)
def test_what_is_asked_for(vips: tuple[bytes, ...], attributes: list[tuple[int, bytes]]) -> None:
    assert virtual_ip.request(vips) == (config(CfgType.CFG_REQUEST, *attributes),)


def test_who_wants_no_address_asks_for_nothing() -> None:
    assert virtual_ip.request(()) == ()


@pytest.mark.parametrize(
    ("payloads", "addresses", "told"),
    [
        ((), (), ()),
        (
            (config(CfgType.CFG_REPLY, (V4, CAROL4), (V4_DNS, DNS4), (V6, CAROL6 + b"\x40")),),
            (CAROL4, CAROL6),
            ((V4_DNS, DNS4),),
        ),
        ((config(CfgType.CFG_REQUEST, (V4, CAROL4)),), (), ()),
        (
            (config(CfgType.CFG_REPLY, (V4, b""), (V4, b"abc"), (V6, CAROL4), (99, CAROL4)),),
            (),
            ((99, CAROL4),),
        ),
        ((config(CfgType.CFG_REPLY, *[(V4, CAROL4)] * 9),), (CAROL4,) * 4, ()),
        ((config(CfgType.CFG_REPLY, *[(99, b"")] * 999),), (), ((99, b""),) * 64),
    ],
    ids=["nothing", "both families", "no reply", "no addresses", "too many", "too much"],
)
def test_what_was_given(
    payloads: tuple[Configuration, ...], addresses: tuple[bytes, ...], told: tuple[tuple[int, bytes], ...]
) -> None:
    expected = tuple(ConfigurationAttribute(kind, value) for kind, value in told)
    assert virtual_ip.received(Parts(payloads)) == (addresses, expected)


def assign(
    connection: Connection, pool: ListPool, *asked: Configuration
) -> tuple[tuple[bytes, ...], tuple[Configuration, ...]]:
    env = Environment(client_settings(), entropy=bytes, count=lambda name, n=1: None, addresses=pool)
    return virtual_ip.assign(connection, ANY_IDENTITY, Parts(asked), Turn(env, IkeTable(env), 0.0))


@pytest.mark.parametrize(
    ("asked", "attributes"),
    [
        ([(V4, b""), (V4_DNS, b"")], [(V4, CAROL4), (V4_DNS, DNS4)]),
        ([(V6, b"")], [(V6, CAROL6 + b"\x80"), (V6_DNS, DNS6)]),
        (
            [(V4, CAROL4), (V6, CAROL6 + b"\x80")],
            [(V4, CAROL4), (V6, CAROL6 + b"\x80"), (V4_DNS, DNS4), (V6_DNS, DNS6)],
        ),
        # One of two is better than none.
        ([(V4, b""), (V4, b"")], [(V4, CAROL4), (V4_DNS, DNS4)]),
        ([(V4, b"x")], [(V4, CAROL4), (V4_DNS, DNS4)]),
    ],
)
def test_addresses_and_their_servers_are_given(
    asked: list[tuple[int, bytes]], attributes: list[tuple[int, bytes]]
) -> None:
    pool = ListPool((CAROL4, CAROL6), (ConfigurationAttribute(V4_DNS, DNS4), ConfigurationAttribute(V6_DNS, DNS6)))
    addresses, reply = assign(WITH_POOL, pool, config(CfgType.CFG_REQUEST, *asked))
    assert reply == (config(CfgType.CFG_REPLY, *attributes),)
    assert set(addresses) == pool.used


@pytest.mark.parametrize(
    ("connection", "asked"),
    [
        (WITH_POOL, ()),
        (WITH_POOL, (config(CfgType.CFG_REQUEST, (V4_DNS, b"")),)),
        (WITH_POOL, (config(CfgType.CFG_SET, (V4, b"")),)),
        (WITHOUT, (config(CfgType.CFG_REQUEST, (V4, b"")),)),
    ],
    ids=["nothing asked", "no address asked", "not a request", "no pools"],
)
def test_nothing_is_given(connection: Connection, asked: tuple[Configuration, ...]) -> None:
    pool = ListPool((CAROL4,))
    assert assign(connection, pool, *asked) == ((), ())
    assert not pool.used


def test_an_empty_pool_is_a_failure() -> None:
    with pytest.raises(InternalAddressFailure):
        assign(WITH_POOL, ListPool(), config(CfgType.CFG_REQUEST, (V4, b"")))


def test_what_is_of_use_to_neither_family_that_a_peer_has_is_not_told() -> None:
    told = [(V6_DNS, DNS6), (CfgAttribute.INTERNAL_IP4_SUBNET, CAROL4 + b"\xff" * 4), (25, b"example.org"), (4, DNS4)]
    told += [(CfgAttribute.INTERNAL_IP6_SUBNET, CAROL6 + b"\x40"), (CfgAttribute.P_CSCF_IP6_ADDRESS, CAROL6)]
    pool = ListPool((CAROL4,), tuple(ConfigurationAttribute(kind, value) for kind, value in told))
    _, (reply,) = assign(WITH_POOL, pool, config(CfgType.CFG_REQUEST, (V4, b"")))
    assert [attribute.type for attribute in reply.attributes] == [V4, CfgAttribute.INTERNAL_IP4_SUBNET, 25, 4]


def test_one_peer_gets_no_more_than_four_addresses() -> None:
    pool = ListPool(bytes((10, 0, 0, n)) for n in range(9))
    addresses, _ = assign(WITH_POOL, pool, config(CfgType.CFG_REQUEST, *[(V4, b"")] * 9))
    assert len(addresses) == len(pool.used) == 4
