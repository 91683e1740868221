"""From where to where an IKE_SA may go, by the addresses of both ends (RFC 4555): choices, without any effect."""

import ipaddress
from typing import Final

from cygnet.ike.environment import Environment
from cygnet.ike.nat import pack_address
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa

MAX_PATHS: Final = 8
"""That are tried at once. Two ends with four addresses each have sixteen, most of them alike in all that counts."""
MAX_OTHER_ADDRESSES: Final = 16
"""Of ours that a peer is told of."""


def own_addresses(sa: IkeSa, env: Environment) -> tuple[str, ...]:
    """Those of our addresses that the connection allows and that are not inside the tunnel."""
    every = env.local_addresses.all()
    if sa.connection is None:
        return ()
    covers = sa.connection.local.covers
    inner = sa.virtual_ips
    return tuple(each for each in every if covers(each) and not (inner and pack_address(each) in inner))


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
    for remote in dict.fromkeys((current.remote, *sa.peer_addresses)):
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
