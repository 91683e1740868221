"""Tunnels that live long: new keys every few seconds, from either end, under traffic that misses nothing."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
import pytest
from tests.interop.cygnet_gateway import ESTABLISHED
from tests.interop.pairs import SERVER_INNER, Pair, Role, paired
from tests.interop.pings import Pings
from tests.interop.polling import eventually
from tests.interop.test_tunnels import use_virtual_address
from tests.interop.topologies import Topology, direct_topology

CLIENT_INNER = "10.2.0.1"
MINUTE_S = 60.0

# Seconds that mean rekeyings of each kind all the time; those of the two ends meet now and then.
OFTEN = {
    "connection": "rekey_time = 5s\n over_time = 20s\n rand_time = 2s",
    "child": "rekey_time = 3s\n life_time = 20s\n rand_time = 1s",
}
NEVER = {"connection": "rekey_time = 0s\n", "child": "rekey_time = 0s"}
PFS = {"esp_proposals": "aes128gcm16-x25519"}
NO_PFS = {"esp_proposals": "aes128gcm16"}


class Case(msgspec.Struct, frozen=True):
    """Who begins the tunnel, who gives it new keys, and how."""

    role: Role
    cygnet: dict[str, str]
    strongswan: dict[str, str]
    proposals: dict[str, str]

    @property
    def name(self) -> str:
        """For people."""
        who = [end for end, times in (("Cygnet", self.cygnet), ("strongSwan", self.strongswan)) if times is OFTEN]
        return f"{self.role.value}, {' and '.join(who)} rekey with {self.proposals['esp_proposals']}"


CASES = (
    Case(Role.RESPONDER, NEVER, OFTEN, PFS),
    Case(Role.INITIATOR, NEVER, OFTEN, NO_PFS),
    Case(Role.RESPONDER, OFTEN, NEVER, NO_PFS),
    Case(Role.INITIATOR, OFTEN, NEVER, PFS),
    Case(Role.RESPONDER, OFTEN, OFTEN, PFS),
)


class Tunnel:
    """One of the cases, set up and pinging."""

    def __init__(self, case: Case, pair: Pair, topology: Topology, address: str, pings: Pings) -> None:
        self.case = case
        self.pair = pair
        self.topology = topology
        self.address = address
        self.pings = pings

    def assert_one_tunnel_works(self) -> None:
        """At both ends, and of the earlier ones is left what still receives for a while: no heap of them."""
        pair = self.pair
        eventually(lambda: _is_one(pair), timeout_s=20.0, what=f"{self.case.name}: one IKE_SA at both ends")
        assert pair.cygnet.count("child_sas") < 10
        if self.case.role is Role.RESPONDER:
            assert pair.cygnet.count("pool_addresses_in_use") == 1
        assert self.topology.client.ping(SERVER_INNER, source=self.address, count=3) == 3
        assert self.topology.server.ping(self.address, source=SERVER_INNER, count=3) == 3


@contextmanager
def tunnel_of(case: Case) -> Iterator[Tunnel]:
    """A network of its own, the two daemons, and pings as long as the context lasts."""
    ours, theirs = {**case.cygnet, **case.proposals}, {**case.strongswan, **case.proposals}
    server, client = (ours, theirs) if case.role is Role.RESPONDER else (theirs, ours)
    with direct_topology() as topology, paired(case.role, topology, client=client, server=server) as pair:
        [address] = pair.virtual_addresses(pair.set_up())
        use_virtual_address(pair, topology, address)
        with Pings(topology.client, SERVER_INNER, source=address) as pings:
            tunnel = Tunnel(case, pair, topology, address, pings)
            yield tunnel
        tunnel.assert_one_tunnel_works()


def test_no_ping_is_lost_in_a_minute_of_rekeying() -> None:
    """Both kinds of SA, by either end and by both, with a key exchange for the CHILD_SAs and without."""
    with ExitStack() as stack:
        tunnels = [stack.enter_context(tunnel_of(case)) for case in CASES]
        begun = time.monotonic()
        while time.monotonic() < begun + MINUTE_S:
            for tunnel in tunnels:
                if tunnel.case.strongswan is OFTEN:
                    # kernel-libipsec does not tell charon of the age of every CHILD_SA, so it is told to.
                    tunnel.pair.strongswan.rekey(child="net")
            time.sleep(2.0)
        rekeyed = {
            tunnel.case.name: (
                tunnel.pair.cygnet.count("child_sas_rekeyed_total"),
                tunnel.pair.cygnet.count("ike_sas_rekeyed_total"),
            )
            for tunnel in tunnels
        }
        one_sided = [tunnel for tunnel in tunnels if NEVER in (tunnel.case.cygnet, tunnel.case.strongswan)]
        assert not [tunnel.case.name for tunnel in one_sided if tunnel.pair.cygnet.count("temporary_failures_total")]
    assert {tunnel.case.name: tunnel.pings.lost for tunnel in tunnels} == {case.name: [] for case in CASES}
    assert min(tunnel.pings.sent for tunnel in tunnels) > MINUTE_S
    assert min(children for children, _ in rekeyed.values()) >= 10, rekeyed
    assert min(ike_sas for _, ike_sas in rekeyed.values()) >= 6, rekeyed


def _is_one(pair: Pair) -> bool:
    return pair.cygnet.count(ESTABLISHED) == len(pair.strongswan.sas()) == 1


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("make_before_break", ["yes", "no"])
def test_strongswan_reauthenticates(direct: Topology, make_before_break: str, workers: int) -> None:
    """A new IKE_SA with new CHILD_SAs, and the old one deleted: before the new one, or without a gap after it.

    With several workers the new IKE_SA comes to any of them, and the packets come along.
    """
    direct.client.add_address(f"{CLIENT_INNER}/32")
    client = {
        "virtual_ips": "",
        "connection": "reauth_time = 2s\n over_time = 20s\n rand_time = 0s",
        "child": "local_ts = 10.2.0.0/24",
    }
    server = {"pools": {}, "child": "remote_ts = 10.2.0.0/24"}
    with paired(
        Role.RESPONDER,
        direct,
        client=client,
        server=server,
        gateway=f"workers = {workers}",
        settings={"make_before_break": make_before_break},
    ) as pair:
        pair.set_up()
        with (
            Pings(direct.client, SERVER_INNER, source=CLIENT_INNER, interval_s=0.1) as pings,
            # More than strongSwan, which loses what overtakes the end of its old SA, is to be measured by.
            Pings(direct.server, CLIENT_INNER, source=SERVER_INNER, interval_s=0.005),
        ):
            times = 3 if workers == 1 else 7
            eventually(
                lambda: pair.cygnet.count("ike_sas_established_total") >= times, timeout_s=60.0, what="new IKE_SAs"
            )
        assert pings.lost == [] or make_before_break == "no"
        assert pair.cygnet.dropped() == {} or make_before_break == "no"
        eventually(
            lambda: pair.cygnet.count(ESTABLISHED) == len(pair.strongswan.sas()) == 1, what="one IKE_SA at both ends"
        )
        assert direct.client.ping(SERVER_INNER, source=CLIENT_INNER, count=2) == 2
