"""Which scripts are run for CHILD_SAs, by whom, and with which environment."""

import asyncio
import ipaddress
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path as File
from typing import Any

import msgspec
import pytest
from tests.unit.dataplane.children import child as child_of_number

from cygnet.auth.identity import parse_identity
from cygnet.gateway.control import AnyMessage, ChildDown, ChildUp
from cygnet.gateway.errands.errands import Errands
from cygnet.gateway.errands.name_servers import PeerServers
from cygnet.gateway.errands.updown import ChildScripts
from cygnet.gateway.errands.updown_environment import MAX_PAIRS, environments
from cygnet.iana import CfgAttribute, TsType
from cygnet.ike.effects import (
    ChildRekeyed,
    Effect,
    InstallChild,
    RemoveChild,
    SaClosed,
    SaEstablished,
    SaRekeyed,
)
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa
from cygnet.ike.settings import ChildSettings, ConnectionSettings, Settings
from cygnet.wire.payloads.configuration import ConfigurationAttribute
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

PEER = parse_identity("c1@example.org")
HERE = Path("192.0.2.1", 4500, "192.0.2.2", 4501)
SA, NEXT_SA = bytes(7) + b"\1", bytes(7) + b"\2"


def settings(updown: str, *, hostaccess: bool = False) -> Settings:
    children = (
        ChildSettings("net", updown=updown, hostaccess=hostaccess),
        ChildSettings("plain"),
    )
    return Settings(connections=(ConnectionSettings("rw", children=children),))


def selector(text: str, protocol: int = 0, ports: tuple[int, int] = (0, 65535)) -> TrafficSelector:
    first, _, last = text.partition("-")
    if not last:
        network = ipaddress.ip_network(text)
        start, end = network.network_address.packed, network.broadcast_address.packed
    else:
        start, end = ipaddress.ip_address(first).packed, ipaddress.ip_address(last).packed
    kind = TsType.IPV4_ADDR_RANGE if len(start) == 4 else TsType.IPV6_ADDR_RANGE
    return TrafficSelector(kind, protocol, *ports, start, end)


def up(**changes: Any) -> ChildUp:
    plain = ChildUp(
        spi_in=b"\1\0\0\7",
        connection="rw",
        child="net",
        unique_id=5,
        reqid=6,
        local_host="192.0.2.1",
        remote_host="192.0.2.2",
        remote_port=0,
        local_id="gw.example.org",
        remote_id="c1@example.org",
        local_ts=(selector("10.1.0.0/24"),),
        remote_ts=(selector("10.3.0.9/32"),),
        local_vips=(),
        remote_vips=(),
        servers=(),
    )
    return msgspec.structs.replace(plain, **changes)


def environment(verb: str = "up", *, has_access: bool = False, **changes: Any) -> dict[str, str]:
    [found] = environments(up(**changes), verb=verb, interface="eth0", has_access=has_access)
    return found


def test_the_environment_of_a_tunnel() -> None:
    assert environment() == {
        "PATH": os.environ["PATH"],
        "PLUTO_VERSION": "1.1",
        "PLUTO_VERB": "up-client",
        "PLUTO_CONNECTION": "net",
        "PLUTO_INTERFACE": "eth0",
        "PLUTO_REQID": "6",
        "PLUTO_PROTO": "esp",
        "PLUTO_UNIQUEID": "5",
        "PLUTO_ME": "192.0.2.1",
        "PLUTO_MY_ID": "gw.example.org",
        "PLUTO_MY_CLIENT": "10.1.0.0/24",
        "PLUTO_MY_PORT": "0",
        "PLUTO_MY_PROTOCOL": "0",
        "PLUTO_PEER": "192.0.2.2",
        "PLUTO_PEER_ID": "c1@example.org",
        "PLUTO_PEER_CLIENT": "10.3.0.9/32",
        "PLUTO_PEER_PORT": "0",
        "PLUTO_PEER_PROTOCOL": "0",
    }


@pytest.mark.parametrize(
    ("host", "ts", "verb"),
    [
        ("192.0.2.1", "10.1.0.0/24", "down-client"),
        ("192.0.2.1", "192.0.2.1/32", "down-host"),
        ("192.0.2.1", "fd00::/64", "down-client-v6"),
        ("2001:db8::1", "fd00::/64", "down-client-v6"),
        ("2001:db8::1", "2001:db8::1/128", "down-host-v6"),
        ("2001:db8::1", "10.1.0.0/24", "down-client"),
    ],
)
def test_verbs(host: str, ts: str, verb: str) -> None:
    remote = selector("fd00:3::1/128" if ":" in ts else "10.3.0.9/32")
    found = environment("down", local_host=host, local_ts=(selector(ts),), remote_ts=(remote,))
    assert found["PLUTO_VERB"] == verb


def test_addresses_servers_and_encapsulation() -> None:
    found = environment(
        has_access=True,
        remote_port=4501,
        local_vips=("10.3.0.9", "fd00:3::9", "10.3.0.10"),
        servers=("10.1.0.53", "fd00::53", "10.1.0.54"),
    )
    expected = {
        "PLUTO_MY_SOURCEIP": "10.3.0.9",
        "PLUTO_MY_SOURCEIP4_1": "10.3.0.9",
        "PLUTO_MY_SOURCEIP4_2": "10.3.0.10",
        "PLUTO_MY_SOURCEIP6_1": "fd00:3::9",
        "PLUTO_DNS4_1": "10.1.0.53",
        "PLUTO_DNS4_2": "10.1.0.54",
        "PLUTO_DNS6_1": "fd00::53",
        "PLUTO_UDP_ENC": "4501",
        "PLUTO_HOST_ACCESS": "1",
    }
    assert {name: found[name] for name in expected} == expected
    assert not any(name.startswith("PLUTO_PEER_SOURCEIP") for name in found)
    assert environment(remote_vips=("10.3.0.9",))["PLUTO_PEER_SOURCEIP4_1"] == "10.3.0.9"


@pytest.mark.parametrize(
    ("ours", "theirs", "mine", "peers"),
    [
        (selector("10.1.0.0/24", 6, (443, 443)), selector("10.3.0.9/32", 6), "443", "0"),
        (selector("10.1.0.0/24", 6, (80, 90)), selector("10.3.0.9/32", 6, (5, 6)), "80:90", "5:6"),
        (selector("10.1.0.0/24", 1, (0x0803, 0x0803)), selector("10.3.0.9/32", 1, (0x0803, 0x0803)), "8", "3"),
    ],
)
def test_ports(ours: TrafficSelector, theirs: TrafficSelector, mine: str, peers: str) -> None:
    found = environment(local_ts=(ours,), remote_ts=(theirs,))
    assert (found["PLUTO_MY_PORT"], found["PLUTO_PEER_PORT"]) == (mine, peers)
    assert found["PLUTO_MY_PROTOCOL"] == str(ours.ip_protocol)


def test_a_range_is_the_subnet_that_has_it() -> None:
    assert environment(local_ts=(selector("10.1.0.1-10.1.0.6"),))["PLUTO_MY_CLIENT"] == "10.1.0.0/29"


def test_there_is_one_for_each_pair_of_one_family_up_to_a_bound() -> None:
    both = (selector("10.1.0.0/24"), selector("fd00::/64"))
    pairs = environments(up(local_ts=both, remote_ts=both), verb="up", interface="", has_access=False)
    assert [each["PLUTO_PEER_CLIENT"] for each in pairs] == ["10.1.0.0/24", "fd00::/64"]
    assert pairs[0]["PLUTO_INTERFACE"] == "unknown"
    many = tuple(selector(f"10.{n}.0.0/24") for n in range(20))
    assert len(environments(up(local_ts=many, remote_ts=many), verb="up", interface="", has_access=False)) == MAX_PAIRS


def test_what_a_peer_calls_itself_has_no_line_breaks() -> None:
    assert environment(remote_id="eve\nPLUTO_ME=x\0\x1b")["PLUTO_PEER_ID"] == "eve?PLUTO_ME=x??"


@pytest.mark.parametrize("field", ["local_host", "remote_host"])
def test_what_is_no_address_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        environment("up", has_access=False, **{field: "$(reboot)"})
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        environment(remote_vips=("x; reboot",))


class WorkerRig:
    """A worker's part, with a table of SAs that is told what there is."""

    def __init__(self) -> None:
        self.sent: list[AnyMessage] = []
        self.later: list[Callable[[], object]] = []
        self.sas: dict[bytes, IkeSa] = {}
        self.servers = PeerServers(None)
        self.scripts = ChildScripts(self.sent.append, self.later.append, self.sas.get, self.servers)

    def happen(self, *effects: Effect) -> list[AnyMessage]:
        """One turn of the loop; what was sent in it."""
        for effect in effects:
            self.servers(effect)
            self.scripts(effect)
        for each in self.later:
            each()
        sent = list(self.sent)
        self.sent.clear()
        self.later.clear()
        return sent

    def add_sa(self, spi: bytes = SA, **fields: Any) -> None:
        class _Named(IkeSa):
            @property
            def name(self) -> str:
                return "rw"

        sa = _Named.as_responder(bytes(8), spi, HERE, 0.0)
        for name, value in {"remote_id": PEER, **fields}.items():
            setattr(sa, name, value)
        self.sas[spi] = sa


def child(spi_in: bytes, name: str = "net", sa: bytes = SA) -> InstallChild:
    plain = child_of_number(1, remote=(selector("10.3.0.9/32"),))
    return msgspec.structs.replace(plain, spi_in=spi_in, name=name, sa=sa, path=HERE, is_udp_encapsulated=True)


def established(*attributes: ConfigurationAttribute, sa: bytes = SA) -> SaEstablished:
    return SaEstablished(sa, "rw", PEER, (), 0.1, is_initiator=True, attributes=attributes)


@pytest.fixture
def worker() -> WorkerRig:
    rig = WorkerRig()
    assert rig.scripts.configure({("rw", "net")})
    rig.add_sa()
    return rig


def removed(spi_in: bytes) -> RemoveChild:
    return RemoveChild(SA, spi_in)


def test_a_worker_tells_of_children_that_have_a_script_and_of_no_others(worker: WorkerRig) -> None:
    [message] = worker.happen(child(b"one."), established(), child(b"two.", "plain"))
    assert isinstance(message, ChildUp)
    assert (message.spi_in, message.connection, message.child, message.unique_id) == (b"one.", "rw", "net", 1)
    assert (message.local_host, message.remote_host, message.remote_port) == ("192.0.2.1", "192.0.2.2", 4501)
    assert (message.remote_id, message.remote_ts) == ("c1@example.org", (selector("10.3.0.9/32"),))
    assert worker.happen(removed(b"two.")) == []
    assert worker.happen(removed(b"one.")) == [ChildDown(b"one.")]
    assert not ChildScripts(print, print, worker.sas.get, PeerServers(None)).configure(frozenset())


def test_addresses_are_ours_or_the_peers(worker: WorkerRig) -> None:
    worker.add_sa(virtual_ips=(bytes((10, 3, 0, 9)),), has_leases=True)
    [message] = worker.happen(child(b"one."))
    assert isinstance(message, ChildUp)
    assert (message.local_vips, message.remote_vips) == ((), ("10.3.0.9",))
    worker.add_sa(virtual_ips=(bytes((10, 3, 0, 9)),), has_leases=False)
    [message] = worker.happen(child(b"two."))
    assert isinstance(message, ChildUp)
    assert (message.local_vips, message.remote_vips) == (("10.3.0.9",), ())


def test_rekeying_is_none_of_a_scripts_business(worker: WorkerRig) -> None:
    """Of the CHILD_SA, again and again and crosswise, and of the IKE_SA."""
    worker.happen(child(b"one."))
    assert worker.happen(child(b"two."), ChildRekeyed(SA, b"one.", b"two.")) == []
    assert worker.happen(child(b"too."), ChildRekeyed(SA, b"one.", b"too.")) == []
    assert worker.happen(removed(b"one."), removed(b"too.")) == []
    worker.add_sa(NEXT_SA)
    assert worker.happen(SaRekeyed(SA, NEXT_SA, "rw", PEER), SaClosed(SA, "rw", "rekeyed", True)) == []
    assert worker.happen(child(b"six.", sa=NEXT_SA), ChildRekeyed(NEXT_SA, b"two.", b"six."), removed(b"two.")) == []
    assert worker.happen(removed(b"six.")) == [ChildDown(b"one.")]


def test_what_goes_in_the_turn_in_which_it_comes_was_never_there(worker: WorkerRig) -> None:
    assert worker.happen(child(b"one."), removed(b"one.")) == []


def test_servers_are_known_for_as_long_as_the_ike_sa_and_its_successors(worker: WorkerRig) -> None:
    attributes = (
        ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_DNS, bytes((10, 1, 0, 53))),
        ConfigurationAttribute(CfgAttribute.INTERNAL_IP6_DNS, bytes(3)),
        ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_NETMASK, bytes(4)),
    )
    [message] = worker.happen(child(b"one."), established(*attributes))
    assert isinstance(message, ChildUp)
    assert message.servers == ("10.1.0.53",)
    worker.add_sa(NEXT_SA)
    [message] = worker.happen(SaRekeyed(SA, NEXT_SA, "rw", PEER), child(b"two.", sa=NEXT_SA))
    assert isinstance(message, ChildUp)
    assert message.servers == ("10.1.0.53",)
    [message] = worker.happen(SaClosed(NEXT_SA, "rw", "deleted", True), child(b"six.", sa=NEXT_SA))
    assert isinstance(message, ChildUp)
    assert message.servers == ()


class SupervisorRig:
    def __init__(self, command: str, **more: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.counted: list[str] = []
        self.settings = settings(command, **more)
        self.errands = Errands(self.loop, self.counted.append, lambda: self.settings, timeout_s=20)

    def wait_for(self, file: File, octets: int) -> str:
        async def waiting() -> None:
            async with asyncio.timeout(20):
                while not file.exists() or len(file.read_text()) < octets:
                    await asyncio.sleep(0.005)

        self.loop.run_until_complete(waiting())
        return file.read_text()


@pytest.fixture
def supervisor(tmp_path: File) -> Iterator[SupervisorRig]:
    rig = SupervisorRig(f"echo $PLUTO_VERB $PLUTO_INTERFACE >> {tmp_path}/ran", hostaccess=True)
    yield rig
    rig.errands.finish()
    rig.loop.close()


UP, DOWN = "up-client lo\n", "down-client lo\n"
ON_LO = "127.0.0.1"


def test_the_supervisor_runs_what_is_configured(supervisor: SupervisorRig, tmp_path: File) -> None:
    supervisor.errands.on_message(1, up(local_host=ON_LO))
    assert supervisor.wait_for(tmp_path / "ran", len(UP)) == UP
    # What is undone is what was done, whatever the settings are by now.
    supervisor.settings = settings("false")
    supervisor.errands.on_message(2, ChildDown(b"\1\0\0\7"))
    supervisor.errands.on_message(1, ChildDown(b"\1\0\0\7"))
    assert supervisor.wait_for(tmp_path / "ran", len(UP + DOWN)) == UP + DOWN


def test_what_a_worker_invents_is_not_run(supervisor: SupervisorRig, tmp_path: File) -> None:
    for name, message in (
        ("no such connection", up(connection="x")),
        ("no such child", up(child="x")),
        ("no script", up(child="plain")),
    ):
        supervisor.errands.on_message(1, message)
        assert supervisor.errands._scripts.is_idle, name
    with pytest.raises(ValueError, match="does not appear"):
        supervisor.errands.on_message(1, up(local_host="$(reboot)"))
    supervisor.errands.on_message(1, up(local_host=ON_LO))
    supervisor.errands.on_message(1, up(local_host=ON_LO))
    assert supervisor.counted == ['scripts_total{result="dropped"}'], "it is there already"


@pytest.mark.parametrize("how", ["the worker dies", "the gateway ends"])
def test_what_was_done_is_undone_at_the_end(supervisor: SupervisorRig, tmp_path: File, how: str) -> None:
    supervisor.errands.on_message(1, up(local_host=ON_LO))
    supervisor.wait_for(tmp_path / "ran", len(UP))
    if how == "the worker dies":
        supervisor.errands.on_gone(2)
        supervisor.errands.on_gone(1)
        supervisor.wait_for(tmp_path / "ran", len(UP + DOWN))
    supervisor.errands.finish()
    assert (tmp_path / "ran").read_text() == UP + DOWN


def test_an_end_does_not_wait_for_ever(
    supervisor: SupervisorRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cygnet.gateway.errands.errands.LAST_S", 0.05)
    caplog.set_level(logging.CRITICAL)
    supervisor.settings = settings("sleep 1000")
    supervisor.errands.on_message(1, up(local_host=ON_LO))
    supervisor.errands.finish()
    assert supervisor.counted == ['scripts_total{result="killed"}']
