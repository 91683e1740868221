"""DSCP and ECN at both ends of a tunnel, against the tables of RFC 6040."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from tests.unit.dataplane.children import GATEWAY_PATH, Plane, child, other_end, selector

from cygnet.dataplane.traffic_class import CE, ECT_0, ECT_1, NOT_ECT, CongestionLost, take_over, traffic_class_of
from cygnet.ike.carriage import DSCP_BITS, ECN_BITS, Carriage, carriage_of
from cygnet.ike.effects import InstallChild
from cygnet.ike.settings import ChildSettings, CopyDscp

DROP = -1


def packet(traffic_class: int, *, is_ipv6: bool = False) -> bytes:
    header = IPv6(src="fd03::1", dst="fd01::1", tc=traffic_class) if is_ipv6 else _ipv4(traffic_class)
    return bytes(header / UDP(sport=9, dport=80) / b"up")


def _ipv4(traffic_class: int) -> IP:
    return IP(src="10.3.0.1", dst="192.0.2.80", tos=traffic_class)


# RFC 6040 section 4.2, figure 4: rows are the inner header, columns the arriving outer one.
FIGURE_4 = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT_0: NOT_ECT, ECT_1: NOT_ECT, CE: DROP},
    ECT_0: {NOT_ECT: ECT_0, ECT_0: ECT_0, ECT_1: ECT_1, CE: CE},
    ECT_1: {NOT_ECT: ECT_1, ECT_0: ECT_1, ECT_1: ECT_1, CE: CE},
    CE: {NOT_ECT: CE, ECT_0: CE, ECT_1: CE, CE: CE},
}


@pytest.mark.parametrize("is_ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("inner", FIGURE_4)
@pytest.mark.parametrize("outer", [NOT_ECT, ECT_0, ECT_1, CE])
def test_ecn_of_a_packet_that_leaves_the_tunnel(inner: int, outer: int, is_ipv6: bool) -> None:
    expected = FIGURE_4[inner][outer]
    dscp = 46 << 2
    arriving = packet(dscp | inner, is_ipv6=is_ipv6)
    if expected == DROP:
        with pytest.raises(CongestionLost):
            take_over(arriving, outer, ECN_BITS)
    else:
        # The DSCP inside stays, whatever it is outside; the checksum fits (scapy computes it anew).
        assert take_over(arriving, 10 << 2 | outer, ECN_BITS) == packet(dscp | expected, is_ipv6=is_ipv6)


# RFC 6040 section 4.1, figure 3 (normal mode: the outer field is the inner one), and what strongSwan's keys switch.
@pytest.mark.parametrize(
    ("copy_dscp", "copy_ecn", "inner", "outer"),
    [
        (CopyDscp.OUT, True, 0xB9, 0xB9),
        (CopyDscp.OUT, False, 0xB9, 0xB8),
        (CopyDscp.YES, True, 0xFF, 0xFF),
        (CopyDscp.IN, True, 0xB9, 0x01),
        (CopyDscp.NO, True, 0xB9, 0x01),
        (CopyDscp.NO, True, 0xBB, 0x03),
        (CopyDscp.NO, False, 0xFF, 0x00),
        (CopyDscp.OUT, True, 0x00, 0x00),
    ],
)
@pytest.mark.parametrize("is_ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_traffic_class_of_the_outer_header(
    copy_dscp: CopyDscp, copy_ecn: bool, inner: int, outer: int, is_ipv6: bool
) -> None:
    _, client, _ = planes(copy_dscp, copy_ecn)
    assert client.plane.send_inner(packet(inner, is_ipv6=is_ipv6))
    assert client.classes == [outer]


# What arrives with (inner, outer), by copy_dscp and copy_ecn.
@pytest.mark.parametrize(
    ("copy_dscp", "copy_ecn", "inner", "outer", "delivered"),
    [
        (CopyDscp.OUT, True, 0xB8 | ECT_0, 0x28 | CE, 0xB8 | CE),
        (CopyDscp.OUT, False, 0xB8 | ECT_0, 0x28 | CE, 0xB8 | ECT_0),
        (CopyDscp.OUT, False, 0xB8, 0x28 | CE, 0xB8),
        (CopyDscp.IN, True, 0xB8 | ECT_0, 0x28 | CE, 0x28 | CE),
        (CopyDscp.YES, False, 0xB8 | ECT_0, 0x28 | CE, 0x28 | ECT_0),
        (CopyDscp.YES, True, 0xB8 | ECT_0, 0, ECT_0),
        (CopyDscp.NO, True, 0xB8, 0x28, 0xB8),
        (CopyDscp.IN, True, 0xB8, -1, 0xB8),  # nobody looked at the outer header
    ],
)
@pytest.mark.parametrize("is_ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_traffic_class_of_what_is_delivered(
    copy_dscp: CopyDscp, copy_ecn: bool, inner: int, outer: int, delivered: int, is_ipv6: bool
) -> None:
    gateway, client, end = planes(copy_dscp, copy_ecn)
    client.plane.send_inner(packet(inner, is_ipv6=is_ipv6))
    gateway.plane.receive_esp(client.sent[0][0], GATEWAY_PATH, 0.0, outer)
    assert gateway.sink.packets == [(packet(delivered, is_ipv6=is_ipv6), end.spi_in)]


def test_congestion_that_can_not_be_told_costs_the_packet() -> None:
    gateway, client, _ = planes(CopyDscp.OUT, True)
    client.plane.send_inner(packet(NOT_ECT))
    gateway.plane.receive_esp(client.sent[0][0], GATEWAY_PATH, 0.0, CE)
    assert (gateway.sink.packets, gateway.counts) == ([], ["esp_ecn"])


def planes(copy_dscp: CopyDscp, copy_ecn: bool) -> tuple[Plane, Plane, InstallChild]:
    """A gateway and its client, and the gateway's end of their CHILD_SA."""
    end = child(
        1,
        local=(selector("0.0.0.0/0"), selector("::/0")),
        remote=(selector("10.3.0.1/32"), selector("fd03::1/128")),
        carriage=carriage_of(ChildSettings(name="net", copy_dscp=copy_dscp, copy_ecn=copy_ecn)),
    )
    gateway, client = Plane(), Plane()
    gateway.plane.install(end)
    client.plane.install(other_end(end))
    return gateway, client, end


def test_the_defaults_are_strongswans() -> None:
    assert carriage_of(ChildSettings(name="net")) == Carriage()
    assert Carriage() == Carriage(traffic_class_out=0xFF, traffic_class_in=0x03, copy_df=True, tfc_padding=0)


@given(
    inner=st.integers(0, 255),
    outer=st.integers(0, 255),
    mask=st.sampled_from((0, ECN_BITS, DSCP_BITS, DSCP_BITS | ECN_BITS)),
    is_ipv6=st.booleans(),
    flow_label=st.integers(0, 0xFFFFF),
)
def test_only_the_traffic_class_changes(inner: int, outer: int, mask: int, is_ipv6: bool, flow_label: int) -> None:
    if is_ipv6:
        before = bytes(IPv6(src="fd03::1", dst="fd01::1", tc=inner, fl=flow_label) / b"payload")
    else:
        before = bytes(IP(src="10.3.0.1", dst="10.1.0.1", tos=inner, id=flow_label & 0xFFFF) / b"payload")
    try:
        after = take_over(before, outer, mask)
    except CongestionLost:
        assert mask & ECN_BITS and inner & ECN_BITS == NOT_ECT and outer & ECN_BITS == CE
        return
    changed = traffic_class_of(after)
    assert changed & DSCP_BITS == (outer if mask & DSCP_BITS else inner) & DSCP_BITS
    again = IPv6(after) if is_ipv6 else IP(after)
    if is_ipv6:
        again.tc = inner
    else:
        again.tos = inner
        del again.chksum
    assert bytes(again) == before
