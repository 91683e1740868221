"""IKE messages in fragments (RFC 7383), with strongSwan at the other end."""

import ipaddress

import pytest
from tests.interop.pairs import SERVER_INNER, Role, child_of, paired
from tests.interop.strongswan import Settings
from tests.interop.topologies import Topology

SMALL = 200
"""Octets of an IP packet, which leaves a little more than a hundred of the message in it."""
SMALL_STRONGSWAN: Settings = {"fragment_size": SMALL}


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
@pytest.mark.parametrize("proposals", ["aes128gcm16-prfsha256-x25519", "aes256-sha512-modp2048"])
def test_both_cut_their_messages_into_small_fragments(topology: Topology, role: Role, proposals: str) -> None:
    options = {"proposals": proposals}
    with paired(
        role,
        topology,
        server=options,
        client=options,
        gateway=f"fragment_size = {SMALL}",
        settings=SMALL_STRONGSWAN,
    ) as pair:
        ike_sa = pair.set_up()
        child_of(ike_sa)
        assert pair.cygnet.count("messages_reassembled_total") >= 1
        log = pair.strongswan.log()
        assert "splitting IKE message" in log, "strongSwan has cut its message"
        assert "reassembled fragmented IKE message" in log, "and has put ours together"
        [virtual] = pair.virtual_addresses(ike_sa)
        if role is Role.INITIATOR:
            topology.client.add_address(f"{virtual}/{ipaddress.ip_address(virtual).max_prefixlen}")
        assert topology.client.ping(SERVER_INNER, source=virtual, count=2) == 2
        pair.cygnet.await_count("retransmissions_total", 0)


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_a_peer_that_wants_no_fragments_gets_none(direct: Topology, role: Role) -> None:
    no = {"connection": "fragmentation = no"}
    server, client = (None, no) if role is Role.RESPONDER else (no, None)
    with paired(
        role, direct, server=server, client=client, gateway=f"fragment_size = {SMALL}", settings=SMALL_STRONGSWAN
    ) as pair:
        pair.set_up()
        assert "splitting IKE message" not in pair.strongswan.log()
        assert "fragment" not in pair.strongswan.log()
        pair.cygnet.await_count("messages_reassembled_total", 0)
