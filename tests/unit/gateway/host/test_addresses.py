import errno
import os
import socket

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from tests.unit.gateway.host.own_namespace import in_own_namespace

from cygnet.dataplane.tun import configure_tun, open_tun, tun_name
from cygnet.gateway.host.addresses import MAX_ADDRESSES, VirtualAddresses, encode_address
from cygnet.gateway.host.rtnetlink import RtNetlink, encode_request
from cygnet.ike.errors import LocalError


@pytest.mark.parametrize(
    ("address", "family", "length"), [("10.3.0.7", socket.AF_INET, 32), ("fd03::7", socket.AF_INET6, 128)]
)
def test_a_request_reads_as_what_it_says(address: str, family: int, length: int) -> None:
    message = ifaddrmsg(encode_request(20, encode_address(address, 7), 0, 3))
    message.decode()
    assert (message["family"], message["prefixlen"], message["index"], message["scope"]) == (family, length, 7, 0)
    assert message.get_attr("IFA_LOCAL") == message.get_attr("IFA_ADDRESS") == address


def test_a_device_that_is_not_there_is_a_clear_error() -> None:
    with pytest.raises(LocalError, match="cannot set addresses: no interface with this name"):
        VirtualAddresses(["nothing0"])


class Told:
    """The kernel, as far as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[tuple[int, bytes]] = []
        monkeypatch.setattr(RtNetlink, "request", lambda _, kind, body, flags: self.requests.append((kind, body)))
        self.addresses = VirtualAddresses(["lo", "lo"])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def test_an_address_stays_until_the_last_tunnel_is_gone_that_brought_it(told: Told) -> None:
    body = encode_address("10.3.0.7", socket.if_nametoindex("lo"))
    for _ in range(2):
        told.addresses.add("10.3.0.7", 0)
    told.addresses.discard("10.3.0.7", 0)
    told.addresses.discard("10.3.0.7", 1)
    assert told.requests == [(20, body)]
    told.addresses.discard("10.3.0.7", 0)
    told.addresses.discard("10.3.0.7", 0)
    assert told.requests == [(20, body), (21, body)]
    told.addresses.close()


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1", "ff02::1", "255.255.255.255", "fe80::1", "rubbish"]
)
def test_what_no_host_may_have_is_not_set(told: Told, address: str) -> None:
    with pytest.raises(ValueError, match=address):
        told.addresses.add(address, 0)
    assert told.requests == []
    told.addresses.close()


def test_a_worker_can_not_have_any_number_of_addresses(told: Told) -> None:
    for number in range(MAX_ADDRESSES):
        told.addresses.add(f"10.3.{number >> 8}.{number & 255}", 0)
    with pytest.raises(ValueError, match="too many"):
        told.addresses.add("10.4.0.1", 0)
    told.addresses.add("10.3.0.0", 0)
    told.addresses.add("10.4.0.1", 1)
    told.addresses.discard_all(0)
    assert len([kind for kind, _ in told.requests if kind == 21]) == MAX_ADDRESSES
    told.addresses.add("10.4.0.1", 0)
    told.addresses.close()


def _addresses_of(name: str) -> set[str]:
    with IPRoute() as netlink:
        [index] = netlink.link_lookup(ifname=name)
        return {address.get_attr("IFA_ADDRESS") for address in netlink.get_addr(index=index)}


def _check_addresses() -> None:
    fd = open_tun()
    name = tun_name(fd)
    configure_tun(name, (), 1400)
    addresses = VirtualAddresses([name])
    for address in ("10.3.0.7", "fd03::7"):
        addresses.add(address, 0)
    assert _addresses_of(name) == {"10.3.0.7", "fd03::7"}
    # It may leave at once: there is no looking for duplicates.
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("fd03::7", 0))
    addresses.discard("10.3.0.7", 0)
    assert _addresses_of(name) == {"fd03::7"}
    addresses.discard_all(0)
    assert _addresses_of(name) == set()
    addresses.add("10.3.0.8", 0)
    os.close(fd)
    # The device is gone, and its addresses with it.
    addresses.discard("10.3.0.8", 0)
    addresses.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_kernel_does_as_it_is_told() -> None:
    in_own_namespace(_check_addresses)


def test_a_refusal_of_the_kernel_is_logged_with_the_ike_sa(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(RtNetlink, "request", refuse)
    virtualaddresses = VirtualAddresses(["lo"])
    virtualaddresses.add("10.3.0.9", 0, ("home", 7))
    virtualaddresses.close()
    assert "cannot set the virtual address 10.3.0.9: Operation not permitted" in caplog.text
    assert [record.sa for record in caplog.records] == [("home", 7)]  # type: ignore[attr-defined]
