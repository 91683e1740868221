"""What workers have the supervisor change in the host's network: routes into their devices, and addresses on them.

A worker faces the network, so what it asks for is held against the configuration before anything is changed.
"""

import ipaddress

from cygnet.gateway.control import AddAddress, AddRoute, DelAddress, DelRoute
from cygnet.gateway.devices import Devices
from cygnet.ike.settings import Settings


def change_host(
    message: AddRoute | DelRoute | AddAddress | DelAddress, worker: int, devices: Devices, settings: Settings
) -> None:
    """Do what a worker asks for. Raises ValueError for what the configuration has no reason for."""
    if isinstance(message, AddRoute):
        _check_behind_a_peer(message.prefix, settings)
        devices.routes.add(message.prefix, worker, message.sa)
    elif isinstance(message, DelRoute):
        devices.routes.discard(message.prefix, worker)
    elif isinstance(message, AddAddress):
        if not any(connection.vips for connection in settings.connections):
            raise ValueError("no connection asks its peer for virtual addresses")
        devices.addresses.add(message.address, worker, message.sa)
    else:
        devices.addresses.discard(message.address, worker)


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
