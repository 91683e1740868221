"""The DNS servers that peers have given a worker, by IKE_SA (RFC 7296 section 3.15.1)."""

import ipaddress
from collections.abc import Callable
from typing import Final

from cygnet.gateway.control import NameServers
from cygnet.iana import CfgAttribute
from cygnet.ike.effects import Effect, SaClosed, SaEstablished, SaRekeyed
from cygnet.wire.payloads.configuration import ConfigurationAttribute

MAX_SERVERS: Final = 8
"""Of one peer, and of one worker: resolvers ask the first three."""
_DNS: Final = (CfgAttribute.INTERNAL_IP4_DNS, CfgAttribute.INTERNAL_IP6_DNS)


def servers_among(attributes: tuple[ConfigurationAttribute, ...]) -> tuple[str, ...]:
    """The DNS servers that a peer has named, without what can be none."""
    packed = (attribute.value for attribute in attributes if attribute.type in _DNS)
    texts = dict.fromkeys(str(ipaddress.ip_address(value)) for value in packed if len(value) in (4, 16))
    return tuple(text for text in texts if is_server(text))[:MAX_SERVERS]


def is_server(text: str) -> bool:
    """Whether a DNS server behind a tunnel may have that address. Raises ValueError if it is none."""
    address = ipaddress.ip_address(text)
    is_broadcast = address.packed == b"\xff" * 4
    return not (
        address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local or is_broadcast
    )


class PeerServers:
    """Called with what happens to IKE_SAs."""

    __slots__ = ("_by_sa", "_send", "_told")

    def __init__(self, send: Callable[[NameServers], object] | None) -> None:
        """`send` takes word to the supervisor; None if that wants none."""
        self._by_sa: dict[bytes, tuple[str, ...]] = {}
        self._send = send
        self._told: tuple[str, ...] = ()

    def of(self, sa: bytes) -> tuple[str, ...]:
        """Those that came with an IKE_SA, or with one that it succeeds."""
        return self._by_sa.get(sa, ())

    def __call__(self, effect: Effect) -> None:
        """Something has happened."""
        if isinstance(effect, SaEstablished):
            servers = servers_among(effect.attributes) if effect.is_initiator else ()
            if servers:
                self._by_sa[effect.sa] = servers
                self._tell()
        elif isinstance(effect, SaRekeyed):
            servers = self._by_sa.pop(effect.old, ())
            if servers:
                self._by_sa[effect.sa] = servers
        elif isinstance(effect, SaClosed) and self._by_sa.pop(effect.sa, ()):
            self._tell()

    def _tell(self) -> None:
        """The newest first: what was set up last is what is wanted now."""
        newest_first = (server for servers in reversed(self._by_sa.values()) for server in servers)
        servers = tuple(dict.fromkeys(newest_first))[:MAX_SERVERS]
        if self._send is not None and servers != self._told:
            self._told = servers
            self._send(NameServers(servers))
