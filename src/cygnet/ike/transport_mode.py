"""Transport mode: who wants it, and the selectors that it takes (RFC 7296 sections 1.3.1 and 2.23.1).

It is for what the two ends themselves send each other, so every selector has one address, which is that of the end in
the IKE_SA. Through a NAT they don't see the same addresses. Each puts those that it sees itself in the place of what it
receives, and keeps what was there: TCP and UDP checksums are made with that (RFC 3948 section 3.1.2).
"""

from typing import Final

import msgspec

from cygnet.iana import NotifyType
from cygnet.ike.answers import plain_notify
from cygnet.ike.connections import Child
from cygnet.ike.environment import Environment
from cygnet.ike.errors import TransportUnavailable
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.nat import pack_address
from cygnet.ike.sa import IkeSa
from cygnet.ike.selectors import host_selector
from cygnet.ike.settings import Mode
from cygnet.wire.payloads.notify import Notify
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_TRANSPORT: Final = Mode.TRANSPORT
_USE_TRANSPORT_MODE: Final = NotifyType.USE_TRANSPORT_MODE

_USE: Final = (plain_notify(_USE_TRANSPORT_MODE),)

DECLINED: Final = "transport_mode_declined"
"""Why there is no CHILD_SA: the peer has answered with tunnel mode, and then we delete it, as section 1.3.1 has it."""

Selectors = tuple[TrafficSelector, ...]


class Ends(msgspec.Struct, frozen=True, gc=False):
    """The selectors of both ends as the peer sent them, brought to the addresses that we see."""

    local: Selectors
    remote: Selectors
    seen_by_peer: tuple[bytes, bytes] | None
    """Our address and the peer's in what it sent; None if they are those that we see."""


def is_wanted(child: Child) -> bool:
    """Whether a child is to be in transport mode."""
    return child.settings.mode is _TRANSPORT


def is_named(parts: Parts) -> bool:
    """Whether the peer asks for it, or agrees to it."""
    return parts.has_notify(_USE_TRANSPORT_MODE)


def addresses(sa: IkeSa) -> tuple[bytes, bytes]:
    """Our end's of the IKE_SA and the peer's, packed."""
    return pack_address(sa.path.local), pack_address(sa.path.remote)


def policy(sa: IkeSa, child: Child) -> tuple[Selectors, Selectors]:
    """What a child covers of our address and of the peer's."""
    return policy_between(child, *addresses(sa))


def policy_between(child: Child, ours: bytes, theirs: bytes) -> tuple[Selectors, Selectors]:
    """The same where there is no IKE_SA yet."""
    local = child.local.narrow((ours,), (host_selector(ours),))
    return local, child.remote.narrow((theirs,), (host_selector(theirs),))


def check(sa: IkeSa, child: Child, env: Environment) -> None:
    """Raises TransportUnavailable if a child is to be in transport mode and we can't ask for it, as initiator."""
    if not is_wanted(child):
        return
    name = child.settings.name
    if not env.takes_transport:
        raise TransportUnavailable(
            f"{name}: transport mode needs a TUN device, and routing rules that bring it packets"
        )
    if not all(policy(sa, child)):
        raise TransportUnavailable(f"{name}: its traffic selectors leave out the addresses of the IKE_SA, {sa.path}")


def ends_of(sa: IkeSa, local: Selectors, remote: Selectors) -> Ends | None:
    """Selectors that the peer has sent, in its offer or its answer; None if they are for other hosts than the two."""
    seen_local, seen_remote = _address_of(local), _address_of(remote)
    ours, theirs = addresses(sa)
    if seen_local != ours:
        local = _moved(local, ours) if sa.is_behind_nat and len(seen_local) == len(ours) else ()
    if seen_remote != theirs:
        remote = _moved(remote, theirs) if sa.is_peer_behind_nat and len(seen_remote) == len(theirs) else ()
    if not local or not remote:
        return None
    is_same = (seen_local, seen_remote) == (ours, theirs)
    return Ends(local, remote, None if is_same else (seen_local, seen_remote))


def narrowed(sa: IkeSa, child: Child, asked: Ends) -> Ends | None:
    """As responder: what a child leaves of the selectors that a peer offers; None if it is to be a tunnel."""
    if not is_wanted(child):
        return None
    ours, theirs = addresses(sa)
    local, remote = child.local.narrow((ours,), asked.local), child.remote.narrow((theirs,), asked.remote)
    return Ends(local, remote, asked.seen_by_peer) if local and remote else None


def _address_of(selectors: Selectors) -> bytes:
    """The one address that all are about; empty if there are several, or none."""
    first = selectors[0].start if selectors else b""
    return first if _is_of(selectors, first) else b""


def _is_of(selectors: Selectors, address: bytes) -> bool:
    return bool(selectors) and all(each.start == each.end == address for each in selectors)


def _moved(selectors: Selectors, address: bytes) -> Selectors:
    return tuple([msgspec.structs.replace(each, start=address, end=address) for each in selectors])


def notifies(is_transport: bool) -> tuple[Notify, ...]:
    """What a request has besides that asks for it, and an answer that agrees."""
    return _USE if is_transport else ()
