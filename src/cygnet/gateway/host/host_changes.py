"""What workers have the supervisor change in the host's network: routes into their devices, addresses on them,
and what of the host's own traffic is diverted to them.

A worker faces the network, so what it asks for is held against the configuration before anything is changed.
"""

import ipaddress

from cygnet.gateway.control import (
    AddAddress,
    AddDiversion,
    AddRoute,
    DelAddress,
    DelDiversion,
    DelRoute,
    Diversion,
)
from cygnet.gateway.host.devices import Devices
from cygnet.ike.address_sets import AddressSet
from cygnet.ike.settings import Mode, Settings

HostChange = AddRoute | DelRoute | AddAddress | DelAddress | AddDiversion | DelDiversion


def change_host(message: HostChange, worker: int, devices: Devices, settings: Settings) -> None:
    """Do what a worker asks for. Raises ValueError for what the configuration has no reason for."""
    if isinstance(message, AddRoute):
        _check_behind_a_peer(message.prefix, settings)
        devices.routes.add(message.prefix, worker, message.claim, message.sa)
    elif isinstance(message, DelRoute):
        devices.routes.discard(message.prefix, worker, message.claim)
    elif isinstance(message, AddAddress):
        if not any(connection.vips for connection in settings.connections):
            raise ValueError("no connection asks its peer for virtual addresses")
        devices.addresses.add(message.address, worker, message.sa)
    elif isinstance(message, DelAddress):
        devices.addresses.discard(message.address, worker)
    elif devices.diversions is not None:
        if isinstance(message, AddDiversion):
            _check_peer(message.diversion, settings)
            devices.diversions.add(message.diversion, worker, message.claim, message.sa)
        else:
            devices.diversions.discard(message.diversion, worker, message.claim)


def _check_peer(diversion: Diversion, settings: Settings) -> None:
    """See that the configuration has transport mode between these addresses."""
    is_fit = any(
        AddressSet(connection.local_addrs).covers(diversion.local)
        and AddressSet(connection.remote_addrs).covers(diversion.remote)
        for connection in settings.connections
        if any(child.mode is Mode.TRANSPORT for child in connection.children)
    )
    if not is_fit:
        raise ValueError(f"no connection has transport mode between {diversion.local} and {diversion.remote}")


def _check_behind_a_peer(prefix: str, settings: Settings) -> None:
    """See that the configuration has peers with these addresses: a worker may not route anything else to itself."""
    network = ipaddress.ip_network(prefix)
    first, last = network.network_address.packed, network.broadcast_address.packed
    is_fit = any(
        len(selector.first) == len(first) and selector.first <= first and last <= selector.last
        for connection in settings.connections
        for child in connection.children
        for selector in child.remote_ts
    )
    if not is_fit:
        raise ValueError(f"no remote_ts has {prefix}")
