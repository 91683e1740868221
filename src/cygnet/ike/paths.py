"""From where to where an IKE_SA may go, by the addresses of both ends (RFC 4555): choices, without any effect."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from cygnet.ike.connections import Connection
from cygnet.ike.environment import Environment
from cygnet.ike.nat import pack_address
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa
from cygnet.ike.selectors import TrafficPolicy

MAX_PATHS: Final = 8
"""That are tried at once. Two ends with four addresses each have sixteen, most of them alike in all that counts."""
MAX_OTHER_ADDRESSES: Final = 16
"""Of ours that a peer is told of."""


def own_addresses(sa: IkeSa, env: Environment) -> tuple[str, ...]:
    """Those of our addresses that the connection allows and that are not inside the tunnel."""
    if sa.connection is None:
        return ()
    allowed = _allowed(sa.connection, env.local_addresses.all(), sa.path.local)
    inner = sa.virtual_ips
    return tuple(each for each in allowed if pack_address(each) not in inner) if inner else allowed


@lru_cache(maxsize=256)
def _allowed(connection: Connection, addresses: tuple[str, ...], local: str) -> tuple[str, ...]:
    policies = [child.local for child in connection.children]
    return tuple(each for each in addresses if connection.local.covers(each) and not _is_inside(policies, each, local))


def _is_inside(policies: Iterable[TrafficPolicy], address: str, outside: str) -> bool:
    """Whether an address lies in what the tunnel is for: ESP to it would go into the tunnel that it makes up.

    Selectors that cover the address in use too, such as 0.0.0.0/0, tell nothing.
    """
    packed, known = pack_address(address), pack_address(outside)
    return any(
        selector.start <= packed <= selector.end
        for policy in policies
        for selector in policy.resolve((known,))
        if len(selector.start) == len(packed) and not selector.start <= known <= selector.end
    )


def other_addresses(sa: IkeSa, env: Environment) -> tuple[str, ...]:
    """The same without the one that is in use, for the peer to be told."""
    return tuple(each for each in own_addresses(sa, env) if each != sa.path.local)[:MAX_OTHER_ADDRESSES]


def candidate_paths(sa: IkeSa, env: Environment) -> tuple[Path, ...]:
    """Every path that could work now, the best first: to the peer's present address before its others, and to each from
    the address that the kernel would take before our others."""
    ours = own_addresses(sa, env)
    current = sa.path
    best: list[Path] = []
    rest: list[Path] = []
    policies = [child.remote for child in sa.connection.children] if sa.connection is not None else []
    for remote in dict.fromkeys((current.remote, *sa.peer_addresses)):
        if _is_inside(policies, remote, current.remote):
            continue
        preferred = env.local_addresses.source_to(remote)
        if not preferred:
            continue
        for local in ours:
            if (":" in local) == (":" in remote):
                path = Path(local, current.local_port, remote, current.remote_port)
                (best if local == preferred else rest).append(path)
    return tuple((best + rest)[:MAX_PATHS])


def best_path(sa: IkeSa, env: Environment) -> Path | None:
    """The path to be on: the present one if it still leads to the peer, else the best; None if there is none.

    Where the configuration names our addresses, one of them that is still there is not left for another that the kernel
    would prefer.
    """
    paths = candidate_paths(sa, env)
    current = sa.path
    if current in paths and (
        (sa.connection is not None and not sa.connection.local.is_any)
        or env.local_addresses.source_to(current.remote) == current.local
    ):
        return current
    return paths[0] if paths else None


def is_reachable(address: str) -> bool:
    """Whether it is an address that a peer of ours could have: of one host, and not of this one."""
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_multicast or parsed.is_unspecified or parsed.is_loopback or parsed.is_link_local)
