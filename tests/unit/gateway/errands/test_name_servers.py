"""Which DNS servers a worker's peers have given it."""

import pytest

from cygnet.auth.identity import parse_identity
from cygnet.gateway.control import NameServers
from cygnet.gateway.errands.name_servers import MAX_SERVERS, PeerServers, is_server
from cygnet.iana import CfgAttribute
from cygnet.ike.effects import SaClosed, SaEstablished, SaRekeyed
from cygnet.wire.payloads.configuration import ConfigurationAttribute

PEER = parse_identity("gw.example.org")
ONE, TWO, THREE = (bytes(7) + bytes((number,)) for number in (1, 2, 3))


def dns(*hosts: int) -> tuple[ConfigurationAttribute, ...]:
    return tuple(ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_DNS, bytes((10, 1, 0, host))) for host in hosts)


def up(sa: bytes, *attributes: ConfigurationAttribute, is_initiator: bool = True) -> SaEstablished:
    return SaEstablished(sa, "home", PEER, (), 0.1, is_initiator=is_initiator, attributes=attributes)


def test_the_newest_come_first_and_go_with_their_ike_sa() -> None:
    told: list[NameServers] = []
    servers = PeerServers(told.append)
    servers(up(ONE, *dns(53, 54)))
    servers(up(TWO, *dns(99, 53)))
    servers(SaClosed(TWO, "home", "deleted", True))
    servers(SaClosed(ONE, "home", "deleted", True))
    assert [each.servers for each in told] == [
        ("10.1.0.53", "10.1.0.54"),
        ("10.1.0.99", "10.1.0.53", "10.1.0.54"),
        ("10.1.0.53", "10.1.0.54"),
        (),
    ]


def test_a_successor_inherits_them_and_nobody_is_told() -> None:
    told: list[NameServers] = []
    servers = PeerServers(told.append)
    servers(up(ONE, *dns(53)))
    servers(SaRekeyed(ONE, TWO, "home", PEER))
    servers(SaClosed(ONE, "home", "rekeyed", True))
    assert servers.of(TWO) == ("10.1.0.53",)
    assert servers.of(ONE) == ()
    # One that takes its place after reauthentication has been given its own, which are the same.
    servers(up(THREE, *dns(53)))
    servers(SaClosed(TWO, "home", "reauthenticated", True))
    assert [each.servers for each in told] == [("10.1.0.53",)]


def test_a_responder_takes_none() -> None:
    servers = PeerServers(None)
    servers(up(ONE, *dns(53), is_initiator=False))
    assert servers.of(ONE) == ()


@pytest.mark.parametrize("value", [b"", bytes(3), bytes(4), b"\xff" * 4, b"\x7f\0\0\1", bytes(15) + b"\1", bytes(17)])
def test_what_can_be_no_server_is_left_out(value: bytes) -> None:
    servers = PeerServers(None)
    kind = CfgAttribute.INTERNAL_IP6_DNS if len(value) > 4 else CfgAttribute.INTERNAL_IP4_DNS
    servers(up(ONE, ConfigurationAttribute(kind, value), *dns(53)))
    assert servers.of(ONE) == ("10.1.0.53",)


def test_there_are_never_many() -> None:
    servers = PeerServers(None)
    servers(up(ONE, *dns(*range(1, 200))))
    assert len(servers.of(ONE)) == MAX_SERVERS


def test_addresses_of_servers() -> None:
    assert is_server("10.1.0.53")
    assert is_server("fd00::53")
    assert not is_server("fe80::1")
    with pytest.raises(ValueError, match="does not appear"):
        is_server("nameserver")
