import ipaddress

import msgspec
import pytest
from tests.unit.dataplane.children import child as child_of_number
from tests.unit.dataplane.children import selector

from cygnet.auth.identity import parse_identity
from cygnet.gateway.control import AddAddress, AddRoute, AnyMessage, DelAddress, DelRoute
from cygnet.gateway.host.host_network import MAX_PREFIXES, HostNetwork, prefixes_to_route
from cygnet.ike.effects import InstallChild, SaEstablished
from cygnet.ike.path import Path

SA, SPI = bytes(range(8)), b"\1\0\0\1"
GATEWAY = parse_identity("gw.example.org")


def child(
    *remote: str, spi_in: bytes = SPI, peer: str = "192.0.2.2", sa: bytes = SA, local: str = "10.3.0.9/32"
) -> InstallChild:
    plain = child_of_number(1, local=(selector(local),), remote=tuple(selector(text) for text in remote))
    return msgspec.structs.replace(plain, spi_in=spi_in, path=Path("192.0.2.1", 4500, peer, 4500), sa=sa)


def established(*addresses: str, is_initiator: bool = True, sa: bytes = SA) -> SaEstablished:
    given = tuple(ipaddress.ip_address(address).packed for address in addresses)
    return SaEstablished(sa, "home", GATEWAY, given, 0.25, is_initiator)


class Rig:
    def __init__(self) -> None:
        self.sent: list[AnyMessage] = []
        self.settling: list[bytes] = []
        """The CHILD_SAs that something was asked for, by our SPI, in the order of time."""
        self.network = HostNetwork(self.sent.append, lambda octets, first, last: False, settle=self.settling.append)

    def take(self) -> list[AnyMessage]:
        """What was asked for since the last call."""
        taken = list(self.sent)
        self.sent.clear()
        return taken


def test_addresses_that_a_peer_gives_are_this_hosts_while_the_sa_stands() -> None:
    rig = Rig()
    rig.network.sa_established(established("10.3.0.9", "fd03::9"))
    assert rig.take() == [AddAddress("10.3.0.9"), AddAddress("fd03::9")]
    rig.network.sa_closed(b"another!")
    assert rig.take() == []
    rig.network.sa_closed(SA)
    rig.network.sa_closed(SA)
    assert rig.take() == [DelAddress("10.3.0.9"), DelAddress("fd03::9")]


def test_a_child_settles_that_something_was_asked_for() -> None:
    rig = Rig()
    rig.network.child_installed(child("10.7.0.0/16"))
    assert rig.settling == [SPI]
    rig.network.child_installed(child("10.7.0.0/16", spi_in=b"\1\0\0\2"))
    assert rig.settling == [SPI], "its successor finds all there"
    rig.network.child_removed(SPI)
    rig.network.child_removed(b"\1\0\0\2")
    rig.network.child_installed(child("10.7.0.0/16"))
    assert rig.settling == [SPI, SPI]


def test_a_clients_first_child_settles_with_its_address() -> None:
    rig = Rig()
    rig.network.child_installed(child("192.0.2.0/24"))
    assert rig.settling == [], "no routes: the peer is in it, and that this is a client's is not known yet"
    rig.network.sa_established(established("10.3.0.9"))
    assert rig.settling == [SPI]


def test_addresses_outlive_an_ike_sa_that_hands_its_children_to_a_successor() -> None:
    rig = Rig()
    rig.network.child_installed(child("0.0.0.0/0"))
    rig.network.sa_established(established("10.3.0.9"))
    rig.take()
    # The IKE_SA is rekeyed: the old one goes, the CHILD_SA stays.
    rig.network.sa_closed(SA)
    assert rig.take() == []
    # The CHILD_SA is rekeyed within the new one.
    rig.network.child_installed(child("0.0.0.0/0", spi_in=b"\1\0\0\2", sa=b"newer-sa"))
    rig.network.child_removed(SPI)
    assert rig.take() == []
    rig.network.child_removed(b"\1\0\0\2")
    sent = rig.take()
    assert sent[0] == DelAddress("10.3.0.9")
    assert len(sent) == 1 + 32
    assert all(isinstance(message, DelRoute) for message in sent[1:])


def test_a_child_for_other_addresses_is_no_clients() -> None:
    rig = Rig()
    rig.network.sa_established(established("10.3.0.9"))
    rig.take()
    rig.network.child_installed(child("0.0.0.0/0", local="10.2.0.0/24"))
    rig.network.child_installed(child("0.0.0.0/0", spi_in=b"\1\0\0\2", local="10.2.0.1/32"))
    assert rig.take() == []


def test_addresses_that_we_give_are_not_ours() -> None:
    rig = Rig()
    rig.network.sa_established(established("10.3.0.9", is_initiator=False))
    rig.network.sa_closed(SA)
    assert rig.sent == []


def test_a_client_of_everything_sends_all_but_esp_into_the_tunnel() -> None:
    """The first child comes before the IKE_SA is known to be a client's, further ones after."""
    rig = Rig()
    everything = child("0.0.0.0/0")
    rig.network.child_installed(everything)
    assert rig.take() == []
    rig.network.sa_established(established("10.3.0.9"))
    sent = rig.take()
    assert sent[0] == AddAddress("10.3.0.9")
    networks = [ipaddress.ip_network(message.prefix) for message in sent[1:] if isinstance(message, AddRoute)]
    assert len(networks) == len(sent) - 1 == 32
    assert sum(network.num_addresses for network in networks) == 2**32 - 1
    assert not any(ipaddress.ip_address("192.0.2.2") in network for network in networks)
    successor = child("0.0.0.0/0", spi_in=b"\1\0\0\2")
    rig.network.child_installed(successor)
    rig.network.child_removed(SPI)
    assert rig.take() == []
    rig.network.child_removed(b"\1\0\0\2")
    assert {message.prefix for message in rig.take() if isinstance(message, DelRoute)} == {str(n) for n in networks}


def test_nobody_elses_first_child_is_taken_for_a_clients() -> None:
    rig = Rig()
    rig.network.child_installed(child("0.0.0.0/0", sa=b"another!"))
    rig.network.sa_established(established("10.3.0.9"))
    assert rig.take() == [AddAddress("10.3.0.9")]


def test_routes_with_and_without_the_peer_are_counted_once() -> None:
    rig = Rig()
    rig.network.child_installed(child("10.7.0.0/16", "192.0.2.0/30"))
    assert rig.take() == [AddRoute("10.7.0.0/16")]
    rig.network.sa_established(established("10.3.0.9"))
    assert rig.take() == [
        AddAddress("10.3.0.9"),
        AddRoute("192.0.2.0/31"),
        AddRoute("192.0.2.3/32"),
    ]
    rig.network.child_removed(SPI)
    assert rig.take() == [DelRoute("10.7.0.0/16"), DelRoute("192.0.2.0/31"), DelRoute("192.0.2.3/32")]


def is_pooled(octets: int, first: int, last: int) -> bool:
    return octets == 4 and first >> 8 == last >> 8 == 0x0A0300


@pytest.mark.parametrize(
    ("remote", "prefixes"),
    [
        (["10.3.0.9/32"], ()),
        (["10.7.0.0/24"], ("10.7.0.0/24",)),
        (["10.7.0.1-10.7.0.4"], ("10.7.0.1/32", "10.7.0.2/31", "10.7.0.4/32")),
        (["10.7.0.0-10.7.0.9", "10.7.0.0-10.7.0.7"], ("10.7.0.0/29", "10.7.0.8/31")),
        (["fd00::/120"], ("fd00::/120",)),
        (["0.0.0.0/0"], ()),
        (["192.0.2.2/32"], ()),
        (["10.7.0.9-10.7.0.1"], ()),
        ([], ()),
    ],
)
def test_routes_what_no_pool_covers_and_never_the_way_to_the_peer(remote: list[str], prefixes: tuple[str, ...]) -> None:
    assert prefixes_to_route(child(*remote), is_pooled) == prefixes


@pytest.mark.parametrize("peer", ["2001:db8::1", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"])
def test_all_of_ipv6_but_the_peer(peer: str) -> None:
    networks = [ipaddress.ip_network(p) for p in prefixes_to_route(child("::/0", peer=peer), is_pooled, is_client=True)]
    assert sum(network.num_addresses for network in networks) == 2**128 - 1
    assert len(networks) == 128 <= MAX_PREFIXES
    assert not any(ipaddress.ip_address(peer) in network for network in networks)


def test_a_rekeyed_ike_sa_hands_its_addresses_on() -> None:
    """The end of the old one takes nothing away, the end of its successor does."""
    sent: list[AnyMessage] = []
    network = HostNetwork(sent.append, lambda octets, first, last: False)
    network.sa_established(SaEstablished(b"old", "home", parse_identity("gw"), (bytes((10, 3, 0, 7)),), 0.0, True))
    network.sa_rekeyed(b"old", b"new")
    network.sa_closed(b"old")
    assert sent == [AddAddress("10.3.0.7")]
    network.sa_closed(b"new")
    assert sent == [AddAddress("10.3.0.7"), DelAddress("10.3.0.7")]


def test_what_is_asked_for_says_for_which_ike_sa() -> None:
    """So that the supervisor, which knows of none, can name it where the kernel refuses."""
    sent: list[AnyMessage] = []
    network = HostNetwork(sent.append, lambda octets, first, last: False, {SA: "home"}.__getitem__)
    network.child_installed(child("10.7.0.0/16"))
    network.sa_established(established("10.3.0.9"))
    whose = ("home", 0x04050607)
    assert sent == [AddRoute("10.7.0.0/16", sa=whose), AddAddress("10.3.0.9", whose)]
