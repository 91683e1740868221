"""The host's own packets for transport mode: which they are, and the rules that bring them."""

import errno
import os
import socket
from pathlib import Path

import msgspec
import pytest
from pyroute2 import IPRoute
from tests.unit.dataplane.children import child, selector
from tests.unit.gateway.host.own_namespace import in_own_namespace

from cygnet.dataplane.tun import configure_tun, open_tun, tun_name
from cygnet.gateway.claims import RESERVED, Claim
from cygnet.gateway.control import AddDiversion, AddRoute, AnyMessage, DelDiversion, Diversion
from cygnet.gateway.host.diversions import (
    DIVERT,
    FIRST_TABLE,
    MAX_DIVERSIONS,
    MAX_OF_ONE,
    RULE_PROTOCOL,
    Diversions,
    diversions_of,
)
from cygnet.gateway.host.host_changes import change_host
from cygnet.gateway.host.host_network import HostNetwork
from cygnet.gateway.host.rtnetlink import RtNetlink
from cygnet.ike.carriage import Carriage
from cygnet.ike.settings import ChildSettings, ConnectionSettings, Mode, Settings

OURS, PEER = "192.0.2.2", "192.0.2.1"
OURS_6, PEER_6 = "2001:db8::2", "2001:db8::1"
ALL = (0, 65535)
WHOLE = Diversion(OURS, PEER)

needs_tun = pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="needs root and TUN")


def test_selectors_make_diversions() -> None:
    ours, theirs = selector(f"{OURS}/32"), selector(f"{PEER}/32")
    assert diversions_of((ours,), (theirs,)) == (WHOLE,)
    web, mail = selector(f"{PEER}/32", 6, (80, 80)), selector(f"{PEER}/32", 6, (25, 26))
    assert diversions_of((ours,), (web, mail)) == (
        Diversion(OURS, PEER, 6, ALL, (80, 80)),
        Diversion(OURS, PEER, 6, ALL, (25, 26)),
    )
    assert diversions_of((selector(f"{OURS}/32", 17, (53, 53)),), (web,)) == (), "nothing is both"
    echo = selector(f"{PEER}/32", 1, (8 << 8, 8 << 8 | 255))
    assert diversions_of((ours,), (echo,)) == (Diversion(OURS, PEER, 1),), "rules don't know types"
    opaque = selector(f"{PEER}/32", 6, (65535, 0))
    assert diversions_of((ours,), (opaque,)) == (), "fragments are not for transport mode"
    many = tuple(selector(f"{PEER}/32", 6, (port, port)) for port in range(1000))
    assert len(diversions_of((ours,), many)) == MAX_OF_ONE


def test_a_child_and_its_successor_want_the_same() -> None:
    sent: list[AnyMessage] = []
    settling: list[bytes] = []
    network = HostNetwork(sent.append, lambda octets, first, last: False, settle=settling.append)
    old = child(
        1,
        local=(selector(f"{OURS}/32"),),
        remote=(selector(f"{PEER}/32"),),
        carriage=Carriage().in_transport_mode(),
    )
    new = msgspec.structs.replace(old, spi_in=b"\1\0\0\2")
    network.transport_trap_installed(b"a trap", old.ts_local, old.ts_remote)
    network.child_installed(old)
    network.child_installed(new)
    network.child_removed(old.spi_in)
    assert sent == [AddDiversion(WHOLE, RESERVED), AddDiversion(WHOLE)]
    network.child_removed(new.spi_in)
    assert sent[2:] == [DelDiversion(WHOLE)]
    network.trap_removed(b"a trap")
    network.trap_removed(b"a trap")
    assert sent[3:] == [DelDiversion(WHOLE, RESERVED)]
    assert settling == [], "all was there when the CHILD_SAs came"
    network.child_installed(old)
    assert settling == [old.spi_in]


def test_a_tunnel_has_none() -> None:
    sent: list[AnyMessage] = []
    network = HostNetwork(sent.append, lambda octets, first, last: False)
    network.child_installed(child(1, local=(selector("10.2.0.0/24"),), remote=(selector("10.1.0.0/24"),)))
    assert [type(message) for message in sent] == [AddRoute]


class FakeDevices:
    """Devices whose diversions are only noted."""

    def __init__(self) -> None:
        self.added: list[Diversion] = []
        self.diversions = self

    def add(self, diversion: Diversion, worker: int, claim: Claim, sa: tuple[str, int]) -> None:
        self.added.append(diversion)

    def discard(self, diversion: Diversion, worker: int, claim: Claim) -> None:
        self.added.remove(diversion)


def test_a_worker_may_divert_only_what_the_configuration_is_for() -> None:
    def settings(mode: Mode) -> Settings:
        children = (ChildSettings(name="host", mode=mode),)
        return Settings(connections=(ConnectionSettings(name="c", remote_addrs=("192.0.2.0/28",), children=children),))

    devices = FakeDevices()

    def ask(diversion: Diversion, mode: Mode = Mode.TRANSPORT) -> None:
        change_host(AddDiversion(diversion), 0, devices, settings(mode))  # type: ignore[arg-type]

    ask(WHOLE)
    assert devices.added == [WHOLE]
    with pytest.raises(ValueError, match="no connection has transport mode"):
        ask(WHOLE, Mode.TUNNEL)
    with pytest.raises(ValueError, match="no connection has transport mode"):
        ask(Diversion(OURS, "192.0.2.77"))
    change_host(DelDiversion(WHOLE), 0, devices, settings(Mode.TUNNEL))  # type: ignore[arg-type]
    assert devices.added == []


def device() -> tuple[int, str]:
    fd = open_tun()
    name = tun_name(fd)
    configure_tun(name, (f"{OURS}/24", f"{OURS_6}/64"), 1400)
    return fd, name


def our_rules() -> list[tuple[int, int, int]]:
    """Family, priority and table of each."""
    with IPRoute() as netlink:
        return [
            (family, rule.get_attr("FRA_PRIORITY"), rule.get_attr("FRA_TABLE"))
            for family in (socket.AF_INET, socket.AF_INET6)
            for rule in netlink.get_rules(family=family)
            if rule.get_attr("FRA_PROTOCOL") == RULE_PROTOCOL
        ]


def diverting() -> set[int]:
    return {table - FIRST_TABLE for _, priority, table in our_rules() if priority == DIVERT}


def _check_workers() -> None:
    devices = [device(), device()]
    indices = [socket.if_nametoindex(name) for _, name in devices]
    diversions = Diversions([name for _, name in devices], (500, 4500))
    assert our_rules() == [], "the kernel is left alone until there is something to divert"
    for diversion in (WHOLE, Diversion(OURS_6, PEER_6, 6, ALL, (80, 80))):
        diversions.add(diversion, 0)
        diversions.add(diversion, 0)
        assert diverting() == {indices[0]}
        diversions.add(diversion, 1)
        assert diverting() == {indices[1]}, "the last one gets it"
        diversions.discard(diversion, 1)
        assert diverting() == {indices[0]}, "and then the other again"
        diversions.discard(diversion, 1)
        diversions.add(diversion, 1)
        diversions.discard_all(1)
        assert diverting() == {indices[0]}
        diversions.discard(diversion, 0)
        assert diverting() == set()
    diversions.add(WHOLE, 0)
    diversions.close()
    assert our_rules() == []


@needs_tun
def test_the_kernel_diverts_to_the_worker_that_wants_it_last() -> None:
    in_own_namespace(_check_workers)


def _check_left_over() -> None:
    fd, name = device()
    living_fd, living = device()
    Diversions([name], (500, 4500)).add(WHOLE, 0)
    other = Diversions([living], (1500, 1501))
    other.add(Diversion(OURS, PEER, 17), 0)
    os.close(fd)
    before = our_rules()
    fd, name = device()
    Diversions([name], (500, 4500))
    after = our_rules()
    table = FIRST_TABLE + socket.if_nametoindex(living)
    assert after == [rule for rule in before if rule[2] == table] and len(after) < len(before)
    os.close(fd)
    os.close(living_fd)


@needs_tun
def test_what_a_killed_gateway_has_left_is_removed_and_nothing_of_another_that_runs() -> None:
    in_own_namespace(_check_left_over)


def _check_limits() -> None:
    _, name = device()
    diversions = Diversions([name], (500, 4500))
    for wrong in (
        Diversion(OURS, PEER_6),
        Diversion(OURS, "127.0.0.1"),
        Diversion(OURS, "224.0.0.1"),
        Diversion(OURS, PEER, 300),
        Diversion(OURS, PEER, 6, (9, 8)),
        Diversion(OURS, PEER, 6, (0, 70000)),
    ):
        with pytest.raises(ValueError, match=r"no |not to be"):
            diversions.add(wrong, 0)
    for port in range(1, MAX_DIVERSIONS + 1):
        diversions.add(Diversion(OURS, PEER, 6, ALL, (port, port)), 0)
    with pytest.raises(ValueError, match="too much"):
        diversions.add(WHOLE, 0)
    diversions.discard_all(0)
    assert diverting() == set()
    diversions.add(WHOLE, 0)
    diversions.close()


@needs_tun
def test_a_worker_can_ask_for_no_nonsense_and_not_for_too_much() -> None:
    in_own_namespace(_check_limits)


def _check_refusal() -> None:
    _, name = device()
    diversions = Diversions([name], (500, 4500))

    request = RtNetlink.request

    def refuse(netlink: RtNetlink, kind: int, body: bytes, flags: int = 0) -> None:
        if kind == refused:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        request(netlink, kind, body, flags)

    RtNetlink.request = refuse  # type: ignore[assignment,method-assign]
    # A new route, which comes before the rules that lead to it; and a new rule.
    for refused in (24, 32):  # noqa: B007
        diversions.add(WHOLE, 0)
        assert diverting() == set()
        diversions.discard(WHOLE, 0)
    refused = 0
    diversions.add(WHOLE, 0)
    assert diverting()
    diversions.close()
    assert our_rules() == []


@needs_tun
def test_what_the_kernel_refuses_is_logged_and_forgotten() -> None:
    in_own_namespace(_check_refusal)
