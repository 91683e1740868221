"""Idle tunnels as octets: nothing is lost, no packet is taken twice, and no nonce is used twice."""

import os
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dataplane.children import AES_GCM, child, other_end, selector

from cygnet.crypto.encr import ENCR
from cygnet.crypto.integ import INTEG
from cygnet.crypto.keymat import ChildSuite
from cygnet.dataplane.record import TunnelRecords
from cygnet.dataplane.tunnel import Tunnel
from cygnet.esp.errors import ReplayError
from cygnet.esp.replay import ReplayWindow
from cygnet.esp.sa import InboundSa, OutboundSa
from cygnet.iana import EncrId, IntegId, IpProtocol
from cygnet.ike.effects import UsageLimits
from cygnet.ike.path import Path

SUITES = {
    "gcm": AES_GCM,
    "gcm_esn": ChildSuite(encr=ENCR[EncrId.AES_GCM_16], key_bits=256, is_esn=True),
    "chacha": ChildSuite(encr=ENCR[EncrId.CHACHA20_POLY1305], key_bits=0),
    "cbc": ChildSuite(encr=ENCR[EncrId.AES_CBC], key_bits=128, integ=INTEG[IntegId.HMAC_SHA2_256_128]),
    "ctr": ChildSuite(encr=ENCR[EncrId.AES_CTR], key_bits=256, integ=INTEG[IntegId.HMAC_SHA2_512_256], is_esn=True),
}
PACKET = bytes.fromhex("450000140000000040000000c0000201c0000202")
KEPT_BY_A_TUNNEL = {"child", "path", "is_udp_encapsulated", "last_received", "last_sent", "_seen"}

FROM_ITS_CHILD = {"is_waiting", "octet_limit", "packet_limit"}


def tunnel(suite: ChildSuite = AES_GCM, **changes: Any) -> Tunnel:
    end = child(1, remote=(selector("10.3.0.1/32"), selector("fd03::1/128")), suite=suite)
    return Tunnel(msgspec.structs.replace(end, **changes))


def through(records: TunnelRecords, before: Tunnel) -> Tunnel:
    before.has_new_traffic()
    record = records.pack(before.child.spi_in, before, 0.0)
    assert record is not None
    return records.unpack(before.child.spi_in, record)


def test_whoever_adds_state_must_say_where_it_goes() -> None:
    """What is not in these lists is lost when a tunnel sleeps: carry it in `record.py`, or in the states of ESP."""
    of_none_that_sleeps = {"is_retired"}
    assert set(Tunnel.__slots__) == KEPT_BY_A_TUNNEL | FROM_ITS_CHILD | of_none_that_sleeps | {"_inbound", "_outbound"}
    derived = {"spi", "protection", "is_esn", "_align_mask", "_last_sequence", "_overhead"}
    assert set(OutboundSa.__slots__) == derived | {"sequence", "packets", "octets"}
    assert set(InboundSa.__slots__) == {"spi", "protection", "window", "packets", "octets"}
    assert set(ReplayWindow.__slots__) == {"size", "is_esn", "_mask", "highest", "_bitmap"}


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_nothing_is_lost(suite: ChildSuite) -> None:
    records = TunnelRecords(os.urandom)
    before = tunnel(suite, replay_window=4096, is_udp_encapsulated=False)
    before.path = Path("a", 1, "b", 2)
    before.is_udp_encapsulated = True
    before.last_received, before.last_sent = 5.5, 6.5
    after = through(records, before)
    assert after.inbound_state is None and after.outbound_state is None, "what was never used is not made"
    peer = Tunnel(other_end(before.child))
    for _ in range(3):
        esp = peer.outbound(os.urandom).encapsulate(PACKET, IpProtocol.IPV4)
        assert after.inbound(os.urandom).decapsulate(esp) == (IpProtocol.IPV4, PACKET)
        after.outbound(os.urandom).encapsulate(PACKET, IpProtocol.IPV4)
        after = through(records, after)
    assert after.child == msgspec.structs.replace(before.child, path=before.path, is_udp_encapsulated=True)
    assert after.child.suite is suite
    assert (after.path, after.is_udp_encapsulated) == (before.path, True)
    assert (after.last_received, after.last_sent) == (5.5, 6.5)
    usage = after.usage()
    assert (usage.packets_in, usage.octets_in, usage.packets_out, usage.octets_out) == (3, 60, 3, 60)
    assert len(records.shared) == 0


def test_what_waits_and_what_was_reported_is_known_after_sleep() -> None:
    records = TunnelRecords(os.urandom)
    waiting = through(records, tunnel(is_outbound=False, limits=UsageLimits(1000.0, 2000.0, 10.0, 20.0)))
    assert (waiting.is_waiting, waiting.octet_limit, waiting.packet_limit) == (True, 1000.0, 10.0)
    waiting.send_from_now_on()
    assert not waiting.pass_limit(10, 0), "the soft limit"
    woken = through(records, waiting)
    assert (woken.is_waiting, woken.octet_limit, woken.packet_limit) == (False, 2000.0, 20.0)
    assert woken.pass_limit(20, 0), "the hard limit"


@given(st.lists(st.sampled_from(("send", "sleep", "replay"))), st.sampled_from(sorted(SUITES)))
def test_both_ends_may_sleep_at_any_time(steps: list[str], name: str) -> None:
    records = TunnelRecords(os.urandom)
    sender = tunnel(SUITES[name], replay_window=64)
    receiver = Tunnel(other_end(sender.child))
    sent: list[bytes] = []
    iv_octets = SUITES[name].encr.iv_octets
    for step in steps:
        if step == "sleep":
            sender, receiver = through(records, sender), through(records, receiver)
        elif step == "send":
            esp = sender.outbound(os.urandom).encapsulate(PACKET, IpProtocol.IPV4)
            sent.append(esp)
            assert int.from_bytes(esp[4:8], "big") == len(sent)
            assert receiver.inbound(os.urandom).decapsulate(esp) == (IpProtocol.IPV4, PACKET)
        elif sent:
            with pytest.raises(ReplayError):
                receiver.inbound(os.urandom).decapsulate(sent[len(sent) // 2])
    assert len({esp[8 : 8 + iv_octets] for esp in sent}) == len(sent)


def test_a_tunnel_with_traffic_stays_awake() -> None:
    records = TunnelRecords(os.urandom)
    busy = tunnel()
    busy.outbound(os.urandom).encapsulate(PACKET, IpProtocol.IPV4)
    assert records.pack(busy.child.spi_in, busy, 0.0) is None
    assert records.pack(busy.child.spi_in, busy, 0.0) is not None, "no packet since the last look"


def test_a_tunnel_that_is_about_to_go_is_not_packed_before() -> None:
    records = TunnelRecords(os.urandom)
    retired = tunnel()
    retired.is_retired = True
    assert records.pack(retired.child.spi_in, retired, 0.0) is None and len(records.shared) == 0
    retired.is_retired = False
    assert records.pack(retired.child.spi_in, retired, 0.0) is not None


def test_a_record_is_small() -> None:
    records = TunnelRecords(os.urandom)
    end = child(1, remote=(selector("10.3.0.1/32"),))
    record = records.pack(end.spi_in, Tunnel(end), 0.0)
    assert record is not None and len(record) <= 220
