"""Cygnet and strongSwan as the two ends of a tunnel, each in either role, from the same configuration."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any

import msgspec
from tests.interop.controlled import RawSection
from tests.interop.cygnet_gateway import ESTABLISHED, HALF_OPEN, Cygnet
from tests.interop.polling import eventually
from tests.interop.strongswan import Settings, StrongSwan, client_config, server_config
from tests.interop.topologies import Topology

SERVER_INNER = "10.1.0.1"
"""An address behind the server, within what `client_config` and `server_config` protect."""
CLIENT_INNER = "10.2.0.1"
"""One behind the client, where two networks are joined."""
_CLIENT_SIDE = "local_ts = 10.2.0.0/24\nstart_action = start"
_SERVER_SIDE = "remote_ts = 10.2.0.0/24"


class Role(Enum):
    """Cygnet's part in the IKE_SA; strongSwan has the other one."""

    RESPONDER = "cygnet-responds"
    INITIATOR = "cygnet-initiates"


class Pair(msgspec.Struct, frozen=True):
    """The two daemons, which run."""

    role: Role
    cygnet: Cygnet
    strongswan: StrongSwan

    def set_up(self) -> RawSection:
        """Have the initiator set the tunnel up (Cygnet has begun by itself); what strongSwan says of the IKE_SA."""
        if self.role is Role.RESPONDER:
            self.strongswan.initiate("net")
        eventually(lambda: self.cygnet.established == 1, what="Cygnet has an IKE_SA")
        [ike_sa] = self.strongswan.sas()
        assert ike_sa["state"] == "ESTABLISHED"
        return ike_sa

    def virtual_addresses(self, ike_sa: RawSection) -> list[str]:
        """The client's, as strongSwan reports them."""
        return list(ike_sa["local-vips" if self.role is Role.RESPONDER else "remote-vips"])

    def is_bare(self) -> bool:
        """Whether no IKE_SA and nothing of one is left at either end."""
        assert self.strongswan.sas() == []
        gauges = (HALF_OPEN, ESTABLISHED, "child_sas", "pool_addresses_in_use")
        left = {name: self.cygnet.count(name) for name in gauges}
        assert not any(left.values()), left
        return True


@contextmanager
def paired(
    role: Role,
    topology: Topology,
    *,
    server: Mapping[str, Any] | None = None,
    client: Mapping[str, Any] | None = None,
    gateway: str = "",
    settings: Settings | None = None,
    has_tun: bool = True,
) -> Iterator[Pair]:
    """Both daemons, the server first.

    `server` and `client` are arguments of `server_config` and `client_config`, `gateway` further lines of Cygnet's
    section of that name, `settings` are strongSwan's, and `has_tun` is Cygnet's.
    """
    server_text = server_config(**(server or {}))
    client_options = client or {}
    if role is Role.INITIATOR:
        client_options = {**client_options, "child": "start_action = start\n" + client_options.get("child", "")}
    client_text = client_config(topology.server_address, **client_options)
    # kernel-libipsec refuses a CHILD_SA for whose traffic the host has no address.
    topology.server.add_address(f"{SERVER_INNER}/32")
    own = f"gateway {{\n{gateway}\n}}\n"
    if role is Role.RESPONDER:
        with (
            Cygnet(topology.server, own + server_text, has_tun=has_tun) as cygnet,
            StrongSwan("strongswan", topology.client, client_text, settings=settings) as strongswan,
        ):
            yield Pair(role, cygnet, strongswan)
    else:
        with (
            StrongSwan("strongswan", topology.server, server_text, settings=settings) as strongswan,
            Cygnet(topology.client, own + client_text, has_tun=has_tun) as cygnet,
        ):
            yield Pair(role, cygnet, strongswan)


@contextmanager
def two_cygnets(topology: Topology, server_address: str, *, connection: str = "") -> Iterator[tuple[Cygnet, Cygnet]]:
    """A client and a server that join 10.2.0.0/24 and 10.1.0.0/24, established."""
    topology.client.add_address(f"{CLIENT_INNER}/32")
    topology.server.add_address(f"{SERVER_INNER}/32")
    server_text = server_config(pools={}, child=_SERVER_SIDE)
    client_text = client_config(server_address, virtual_ips="", child=_CLIENT_SIDE, connection=connection)
    with (
        Cygnet(topology.server, server_text, label="server") as server,
        Cygnet(topology.client, client_text, label="client") as client,
    ):
        eventually(lambda: client.established == 1 and server.established == 1, what="both have the IKE_SA")
        yield client, server


def section(value: object) -> RawSection:
    """A sub-section of what strongSwan reports, for the type checker."""
    assert isinstance(value, dict)
    return value


def child_of(ike_sa: RawSection) -> RawSection:
    """The one CHILD_SA of an IKE_SA."""
    [child] = section(ike_sa["child-sas"]).values()
    return section(child)
