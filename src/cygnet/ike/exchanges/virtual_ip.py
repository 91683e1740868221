"""Virtual addresses: the Configuration payload of IKE_AUTH (RFC 7296 section 3.15)."""

from functools import lru_cache

from cygnet.auth.identity import Identity
from cygnet.iana import CfgAttribute, CfgType
from cygnet.ike.connections import Connection
from cygnet.ike.errors import AddressAwaited, AddressElsewhere, InternalAddressFailure
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.sa import Registry, Turn
from cygnet.wire.payloads.configuration import Configuration, ConfigurationAttribute

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_CFG_REPLY = CfgType.CFG_REPLY
_CFG_REQUEST = CfgType.CFG_REQUEST
_INTERNAL_IP4_ADDRESS = CfgAttribute.INTERNAL_IP4_ADDRESS
_INTERNAL_IP4_DNS = CfgAttribute.INTERNAL_IP4_DNS
_INTERNAL_IP6_ADDRESS = CfgAttribute.INTERNAL_IP6_ADDRESS
_INTERNAL_IP6_DNS = CfgAttribute.INTERNAL_IP6_DNS

_IPV4_OCTETS = 4
_IPV6_OCTETS = 16
_HOST_PREFIX = b"\x80"
"""An IPv6 address comes with the length of its prefix (RFC 7296 section 3.15.1); it is one host's."""
_ADDRESS_OCTETS = {
    _INTERNAL_IP4_ADDRESS: _IPV4_OCTETS,
    _INTERNAL_IP6_ADDRESS: _IPV6_OCTETS,
}
_FAMILY_OCTETS: dict[int, int] = {
    **{int(kind): _IPV4_OCTETS for kind in CfgAttribute if "IP4_" in kind.name},
    **{int(kind): _IPV6_OCTETS for kind in CfgAttribute if "IP6_" in kind.name},
}
"""Attributes that are of use only to a peer with an address of that family."""
_MAX_ADDRESSES = 4
"""Virtual addresses that one peer gets at most."""
_MAX_ATTRIBUTES = 64
"""Other things that we let a peer tell us at once."""


@lru_cache(maxsize=64)
def request(vips: tuple[bytes, ...]) -> tuple[Configuration, ...]:
    """As initiator: ask for these addresses, and for DNS servers of their families; nothing if there are none."""
    if not vips:
        return ()
    attributes = []
    for vip in vips:
        wanted = vip if any(vip) else b""
        if len(vip) == _IPV4_OCTETS:
            attributes.append(ConfigurationAttribute(_INTERNAL_IP4_ADDRESS, wanted))
            attributes.append(ConfigurationAttribute(_INTERNAL_IP4_DNS, b""))
        else:
            value = wanted + _HOST_PREFIX if wanted else b""
            attributes.append(ConfigurationAttribute(_INTERNAL_IP6_ADDRESS, value))
            attributes.append(ConfigurationAttribute(_INTERNAL_IP6_DNS, b""))
    return (Configuration(_CFG_REQUEST, tuple(attributes)),)


def received(parts: Parts) -> tuple[tuple[bytes, ...], tuple[ConfigurationAttribute, ...]]:
    """As initiator: the packed addresses that we were given, and what else we were told, as it was sent."""
    reply = parts.find(Configuration)
    if reply is None or reply.cfg_type != _CFG_REPLY:
        return (), ()
    found = []
    others = []
    for attribute in reply.attributes:
        octets = _ADDRESS_OCTETS.get(attribute.type)  # type: ignore[call-overload]
        if octets is None:
            others.append(attribute)
        elif len(attribute.value) >= octets:
            found.append(attribute.value[:octets])
    return tuple(found[:_MAX_ADDRESSES]), tuple(others[:_MAX_ATTRIBUTES])


def assign(
    connection: Connection, identity: Identity, parts: Parts, turn: Turn
) -> tuple[tuple[bytes, ...], tuple[Configuration, ...]]:
    """As responder: take addresses for the peer from the connection's pools; returns them and the reply payload.

    A peer that asks for none, or a connection without pools, gets none. Raises InternalAddressFailure if a peer gets
    none of those that it asks for, and AddressAwaited if it may get one in a moment.
    """
    asked = parts.find(Configuration)
    pools = connection.settings.pools
    if asked is None or asked.cfg_type != _CFG_REQUEST or not pools:
        return (), ()
    addresses: list[bytes] = []
    attributes: list[ConfigurationAttribute] = []
    is_asked = is_awaited = False
    for attribute in asked.attributes:
        octets = _ADDRESS_OCTETS.get(attribute.type)  # type: ignore[call-overload]
        if octets is None or len(addresses) >= _MAX_ADDRESSES:
            continue
        is_asked = True
        wanted = attribute.value[:octets] if len(attribute.value) >= octets else bytes(octets)
        # RFC 7296 section 2.8.3: a peer that authenticates itself anew keeps its address, while it has both IKE_SAs.
        is_kept = any(wanted) and wanted not in addresses and is_held(identity, wanted, turn.table)
        try:
            address = wanted if is_kept else turn.env.addresses.acquire(pools, octets, wanted, identity)
        except AddressElsewhere:
            release(identity, tuple(addresses), turn)
            raise
        except AddressAwaited:
            is_awaited = True
            continue
        if address is not None:
            addresses.append(address)
            value = address if octets == _IPV4_OCTETS else address + _HOST_PREFIX
            attributes.append(ConfigurationAttribute(attribute.type, value))
    if not addresses:
        if is_awaited:
            raise AddressAwaited
        if is_asked:
            raise InternalAddressFailure("the pools are empty")
        return (), ()
    given = tuple(addresses)
    told = turn.env.addresses.attributes(pools, given)
    if told:
        families = set(map(len, given))
        attributes += [a for a in told if _FAMILY_OCTETS.get(a.type) in families or a.type not in _FAMILY_OCTETS]
    return given, (Configuration(_CFG_REPLY, tuple(attributes)),)


def release(identity: Identity, addresses: tuple[bytes, ...], turn: Turn) -> bool:
    """As responder: an IKE_SA with that peer has these addresses no longer, or is not to have them; they are free
    unless another one has them too. Whether one has any of them."""
    is_kept = False
    for address in addresses:
        if is_held(identity, address, turn.table) or turn.env.addresses.release(address):
            is_kept = True
    return is_kept


def is_held(identity: Identity, address: bytes, table: Registry) -> bool:
    """Whether an IKE_SA that stands with that peer has the address from us."""
    return any(sa.has_leases and address in sa.virtual_ips for sa in table.with_peer(identity))
