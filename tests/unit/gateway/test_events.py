import ipaddress
import logging

import msgspec
import pytest
from tests.unit.dataplane.children import child as child_of_number

from cygnet.auth.identity import parse_identity
from cygnet.gateway.control import AddRoute, AnyMessage, DelRoute
from cygnet.gateway.events import LINES_PER_SECOND, Events
from cygnet.gateway.pools.pools import AddressPools
from cygnet.iana import TsType
from cygnet.ike.effects import (
    AuthenticationRefused,
    ChildFailed,
    InitialContact,
    InstallChild,
    OfferRefused,
    RemoveChild,
    Revive,
    SaClosed,
    SaEstablished,
)
from cygnet.ike.path import Path
from cygnet.ike.settings import PoolSettings
from cygnet.observe.counters import Counters
from cygnet.wire.payloads.security_association import SecurityAssociation
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

GATEWAY = parse_identity("gw.example.org")
PEER = parse_identity("c1@example.org")
POOL = PoolSettings(name="p", first=bytes((10, 3, 0, 1)), last=bytes((10, 3, 0, 254)))
SPI = bytes(range(8))


def selector(first: str, last: str) -> TrafficSelector:
    start, end = ipaddress.ip_address(first).packed, ipaddress.ip_address(last).packed
    kind = TsType.IPV4_ADDR_RANGE if len(start) == 4 else TsType.IPV6_ADDR_RANGE
    return TrafficSelector(ts_type=kind, ip_protocol=0, start_port=0, end_port=65535, start=start, end=end)


def child(*remote: tuple[str, str], spi_in: bytes = b"\1\0\0\1", peer: str = "192.0.2.2") -> InstallChild:
    return msgspec.structs.replace(
        child_of_number(1, remote=tuple(selector(first, last) for first, last in remote)),
        spi_in=spi_in,
        path=Path("192.0.2.1", 4500, peer, 4500),
    )


class Rig:
    def __init__(self, *, has_routes: bool = True, has_others: bool = True) -> None:
        self.counters = Counters.create(writers=1)
        self.sent: list[AnyMessage] = []
        self.lonely: list[InitialContact] = []
        self.told: list[SaEstablished | SaClosed | ChildFailed | Revive] = []
        self.events = Events(
            self.counters.writer(0),
            AddressPools((POOL,), workers=1, send=self.sent.append),
            send=self.sent.append,
            on_sa=self.told.append,
            revive=self.told.append,
            has_routes=has_routes,
            on_initial_contact=self.lonely.append if has_others else None,
        )


def established(number: int = 1) -> SaEstablished:
    return SaEstablished(number.to_bytes(8, "big"), "rw", PEER, (bytes((10, 3, 0, 9)),), 0.25)


def test_gauges_follow_sas_and_children() -> None:
    rig = Rig()
    closed = SaClosed(SPI, "rw", "deleted_by_peer", True)
    for effect in (established(), child(), established(), RemoveChild(SPI, b"\1\0\0\1"), closed):
        rig.events(effect)
    rig.events(SaClosed(SPI, "", "half_open_timeout", False))
    values = rig.counters.values()
    assert values['ike_sas{state="established"}'] == 1
    assert values["child_sas"] == 0
    assert values["ike_sas_established_total"] == 2
    assert values['ike_sas_closed_total{reason="deleted_by_peer"}'] == 1
    assert values['ike_sas_closed_total{reason="half_open_timeout"}'] == 1
    assert rig.counters.histogram("handshake_duration_seconds").max_s == pytest.approx(0.25)
    assert len(rig.told) == 4


def test_other_workers_hear_of_a_lonely_peer() -> None:
    rig = Rig()
    lonely = InitialContact(SPI, GATEWAY, PEER)
    rig.events(lonely)
    assert rig.lonely == [lonely]


def test_a_worker_alone_tells_nobody_of_a_lonely_peer() -> None:
    rig = Rig(has_others=False)
    rig.events(InitialContact(SPI, GATEWAY, PEER))
    assert rig.sent == []


def test_logs_a_few_lines_a_second_and_sums_up_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cygnet")
    rig = Rig()
    for number in range(LINES_PER_SECOND + 7):
        rig.events(established(number))
    assert len(caplog.records) == LINES_PER_SECOND
    assert "IKE_SA with c1@example.org established in 250 ms, virtual address 10.3.0.9" in caplog.text
    rig.events.tick()
    assert "7 more IKE_SAs" in caplog.text
    rig.events(SaClosed(SPI, "", "half_open_timeout", False))
    assert f"IKE_SA {SPI.hex()} not established: half_open_timeout" in caplog.text
    assert caplog.records[-1].sa == ("", 0x04050607)  # type: ignore[attr-defined]


def test_who_is_refused_is_said_with_the_number_of_the_ike_sa(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cygnet")
    rig = Rig()
    path = Path("192.0.2.1", 500, "192.0.2.2", 500)
    rig.events(OfferRefused(path, SecurityAssociation(()), ()))
    assert caplog.records[-1].getMessage() == "192.0.2.2[500] gets no IKE_SA: no connection is for it at 192.0.2.1"
    rig.events(AuthenticationRefused(SPI, "", path, "wrong_secret", PEER, GATEWAY))
    assert caplog.records[-1].getMessage().endswith(": its secret is not ours")
    assert caplog.records[-1].sa == ("", 0x04050607)  # type: ignore[attr-defined]
    for _ in range(2 * LINES_PER_SECOND):
        rig.events(AuthenticationRefused(SPI, "", path, "wrong_secret", PEER, GATEWAY))
    assert len(caplog.records) == LINES_PER_SECOND


def test_the_end_of_a_child_names_its_connection_though_that_is_gone_as_well(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="cygnet")
    Rig().events(RemoveChild(SPI, b"\1\0\0\1", connection="rw", name="net"))
    assert caplog.records[-1].getMessage() == "CHILD_SA net with SPI 01000001_i removed"
    assert caplog.records[-1].sa == ("rw", 0x04050607)  # type: ignore[attr-defined]


def test_a_prefix_is_routed_while_a_child_leads_there() -> None:
    rig = Rig()
    range_7 = ("10.7.0.0", "10.7.255.255")
    rig.events(child(range_7, spi_in=b"\1\0\0\1"))
    rig.events(child(range_7, spi_in=b"\1\0\0\2"))
    rig.events(RemoveChild(SPI, b"\1\0\0\1"))
    assert rig.sent == [AddRoute("10.7.0.0/16")]
    rig.events(RemoveChild(SPI, b"\1\0\0\2"))
    assert rig.sent == [AddRoute("10.7.0.0/16"), DelRoute("10.7.0.0/16")]


def test_without_devices_there_are_no_routes() -> None:
    rig = Rig(has_routes=False)
    rig.events(child(("10.7.0.0", "10.7.255.255")))
    rig.events(RemoveChild(SPI, b"\1\0\0\1"))
    assert rig.sent == []
