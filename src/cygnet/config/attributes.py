"""What pools tell peers: the values of `dns`, `subnet` and so on, as attributes of the Configuration payload.

The encodings are those of RFC 7296 section 3.15.1. Where strongSwan takes whatever looks like an address for any of
them, here each key takes what its attribute can hold.
"""

import ipaddress
from collections.abc import Callable
from typing import Final

from cygnet.config.errors import quote
from cygnet.config.values import Kind
from cygnet.iana import CfgAttribute
from cygnet.wire.payloads.configuration import ConfigurationAttribute

INTERNAL_IP6_NBNS: Final = 11
INTERNAL_IP4_SERVER: Final = 23456
INTERNAL_IP6_SERVER: Final = 23457
"""Of drafts and private use, as strongSwan has them; not in IANA's registry."""

MAX_NUMBER: Final = 32767
"""The largest type of an attribute: 15 bits."""

_Encoded = tuple[ConfigurationAttribute, ...]


def _each(text: str, encode: Callable[[str], ConfigurationAttribute]) -> _Encoded:
    items = (item for part in text.split(",") if (item := part.strip()))
    return tuple(dict.fromkeys(map(encode, items)))


def _servers(name: str, ipv4: int, ipv6: int | None) -> Kind:
    """Addresses, of one type for each family."""

    def encode(text: str) -> ConfigurationAttribute:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{quote(text)} is no IP address") from None
        if address.version == 4:
            return ConfigurationAttribute(ipv4, address.packed)
        if ipv6 is None:
            raise ValueError(f"{quote(text)} is an IPv6 address; there is such an attribute for IPv4 only")
        return ConfigurationAttribute(ipv6, address.packed)

    return Kind(name, lambda text: _each(text, encode))


def _encode_network(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bytes:
    """An IPv4 network with its mask, an IPv6 one with the length of its prefix."""
    start = network.network_address.packed
    return start + (network.netmask.packed if network.version == 4 else bytes((network.prefixlen,)))


def _encode_subnet(text: str) -> ConfigurationAttribute:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{quote(text)} is no subnet; write it as 10.1.0.0/16") from None
    kind = CfgAttribute.INTERNAL_IP4_SUBNET if network.version == 4 else CfgAttribute.INTERNAL_IP6_SUBNET
    return ConfigurationAttribute(int(kind), _encode_network(network))


def parse_numbered(text: str) -> _Encoded:
    """`NUMBER:VALUES`, of a key that is the number of an attribute's type: addresses and subnets in their usual
    encoding, octets as `0x` and hexadecimal, anything else as text.

    Deviation: strongSwan sends `0x` and what follows as text.
    """
    digits, _, values = text.partition(":")
    number = int(digits) if len(digits) <= len(str(MAX_NUMBER)) else 0
    if not 0 < number <= MAX_NUMBER:
        raise ValueError(f"there is no such attribute; types are numbers from 1 to {MAX_NUMBER}")
    if number in (CfgAttribute.INTERNAL_IP4_ADDRESS, CfgAttribute.INTERNAL_IP6_ADDRESS):
        raise ValueError("virtual addresses are those of addrs")
    return _each(values, lambda item: ConfigurationAttribute(number, _encode_any(item)))


def _encode_any(text: str) -> bytes:
    try:
        if text.startswith("0x"):
            return bytes.fromhex(text[2:])
        if "/" in text:
            return _encode_network(ipaddress.ip_network(text, strict=False))
        return ipaddress.ip_address(text).packed
    except ValueError:
        return text.encode()


DNS: Final = _servers("list of addresses", int(CfgAttribute.INTERNAL_IP4_DNS), int(CfgAttribute.INTERNAL_IP6_DNS))
NBNS: Final = _servers("list of addresses", int(CfgAttribute.INTERNAL_IP4_NBNS), INTERNAL_IP6_NBNS)
DHCP: Final = _servers("list of addresses", int(CfgAttribute.INTERNAL_IP4_DHCP), int(CfgAttribute.INTERNAL_IP6_DHCP))
NETMASK: Final = _servers("netmask", int(CfgAttribute.INTERNAL_IP4_NETMASK), None)
SERVER: Final = _servers("list of addresses", INTERNAL_IP4_SERVER, INTERNAL_IP6_SERVER)
SUBNET: Final = Kind("list of subnets", lambda text: _each(text, _encode_subnet))
P_CSCF: Final = _servers(
    "list of addresses", int(CfgAttribute.P_CSCF_IP4_ADDRESS), int(CfgAttribute.P_CSCF_IP6_ADDRESS)
)
NUMBERED: Final = Kind("list of values", parse_numbered)

_NAMES: Final = {
    int(CfgAttribute.INTERNAL_IP4_DNS): "dns",
    int(CfgAttribute.INTERNAL_IP6_DNS): "dns",
    int(CfgAttribute.INTERNAL_IP4_NBNS): "nbns",
    INTERNAL_IP6_NBNS: "nbns",
    int(CfgAttribute.INTERNAL_IP4_DHCP): "dhcp",
    int(CfgAttribute.INTERNAL_IP6_DHCP): "dhcp",
    int(CfgAttribute.INTERNAL_IP4_NETMASK): "netmask",
    INTERNAL_IP4_SERVER: "server",
    INTERNAL_IP6_SERVER: "server",
    int(CfgAttribute.INTERNAL_IP4_SUBNET): "subnet",
    int(CfgAttribute.INTERNAL_IP6_SUBNET): "subnet",
    int(CfgAttribute.P_CSCF_IP4_ADDRESS): "p_cscf",
    int(CfgAttribute.P_CSCF_IP6_ADDRESS): "p_cscf",
}


def attribute_name(number: int) -> str:
    """The key that an attribute is configured by."""
    return _NAMES.get(number, str(number))


def format_attribute(attribute: ConfigurationAttribute) -> str:
    """The value of an attribute as it would be configured; octets that are neither address nor text as `0x` and
    hexadecimal. What a peer has sent may be anything."""
    value = attribute.value
    if attribute_name(attribute.type) == "subnet" and len(value) in (8, 17):
        return _format_network(value)
    if attribute_name(attribute.type) != str(attribute.type) and len(value) in (4, 16):
        return str(ipaddress.ip_address(value))
    text = value.decode("utf-8", "replace")
    return text if text and text.isprintable() and "\ufffd" not in text else f"0x{value.hex()}"


def _format_network(value: bytes) -> str:
    octets = 4 if len(value) == 8 else 16
    mask = int.from_bytes(value[4:], "big")
    prefix = value[16] if octets == 16 else mask.bit_count()
    return f"{ipaddress.ip_address(value[:octets])}/{prefix}"
