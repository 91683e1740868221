"""Who a peer says it is: the identities of RFC 7296 section 3.5, how they are written, and what matches what.

The text forms are those of `swanctl.conf`. A pattern is an identity that stands for many: `%any`, `*.example.org`,
`*@example.org`, `C=CH, CN=*`, `10.0.0.0/8`, `10.0.0.1-10.0.0.9`.
"""

import ipaddress
import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

import msgspec

from cygnet.auth.distinguished_name import encode_name, format_name, normalise_name
from cygnet.iana import IdType

# The range types of IKEv1 (RFC 2407 sections 4.6.2.8 and 4.6.2.10), which IKEv2 leaves unassigned: patterns only,
# never on the wire. The data is the first address and the last.
IPV4_RANGE: Final = 7
IPV6_RANGE: Final = 8

EXACT: Final = 20
ONE_WILDCARD: Final = 19
MANY_WILDCARDS: Final = 2
ANYBODY: Final = 1

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_DER_ASN1_DN: Final = IdType.DER_ASN1_DN

_TEXT_TYPES: Final = frozenset({IdType.FQDN, IdType.RFC822_ADDR})
_RANGES: Final = MappingProxyType({IPV4_RANGE: IdType.IPV4_ADDR, IPV6_RANGE: IdType.IPV6_ADDR})
_ANY_TEXTS: Final = frozenset({"", "%any", "%any4", "%any6", "*", "0.0.0.0", "::", "0::0"})  # noqa: S104 - strongSwan's
_MAYBE_ADDRESS: Final = re.compile(r"\s*[0-9A-Fa-f:.]+\s*(?:[-/%].*)?\Z", re.DOTALL)
"""What an address, subnet or range begins with; nearly every name is known by it for none."""
_NUMBERED: Final = re.compile(r"\{([0-9]{1,3})\}:(.*)\Z", re.DOTALL)

MatchKey = tuple[int, object]


class Identity(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The type and data of an Identification payload, as they are on the wire."""

    id_type: int
    data: bytes

    @property
    def is_any(self) -> bool:
        """Whether this is `%any`, which matches everybody."""
        return self.id_type == 0

    @property
    def is_pattern(self) -> bool:
        """Whether this can match identities other than itself."""
        if self.id_type in _TEXT_TYPES:
            return self.data.startswith(b"*")
        if self.id_type == _DER_ASN1_DN:
            return "*" in (value for _, value in _name_of(self.data))
        return self.id_type == 0 or self.id_type in _RANGES

    @property
    def match_key(self) -> MatchKey:
        """What is equal for two identities, neither a pattern, that match each other exactly."""
        if self.id_type in _TEXT_TYPES:
            return self.id_type, self.data.lower()
        if self.id_type == _DER_ASN1_DN:
            return self.id_type, _name_of(self.data) or self.data
        return self.id_type, self.data

    def __str__(self) -> str:
        """As `parse_identity` reads it: the plain form where it is unambiguous, else with a type before it."""
        if self.id_type == 0:
            return "%any"
        prefix = _PREFIX_OF.get(self.id_type, f"{{{self.id_type}}}")
        plain = _format_data(self)
        if plain:
            plainest = _PLAINEST.get(self.id_type)
            if plainest is not None and plainest.fullmatch(plain):
                return plain
            if self.id_type == _DER_ASN1_DN:
                return plain
            for text in (plain, f"{prefix}:{plain}"):
                if _parses_to(text, self):
                    return text
        return f"{prefix}:#{self.data.hex()}"


ANY_IDENTITY: Final = Identity(0, b"")

_PLAINEST: Final[dict[int, re.Pattern[str]]] = {
    IdType.FQDN: re.compile(r"(?:[A-Za-z][A-Za-z0-9_-]*\.)+[A-Za-z][A-Za-z0-9_]*"),
    IdType.RFC822_ADDR: re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*@[A-Za-z0-9][A-Za-z0-9.-]*"),
}
"""Names that can't be read as anything else, which nearly all are: that need not be tried out."""


MAX_OCTETS: Final = 24576
"""Of an identity: two of them, the peer's and ours, and all else that IKE_AUTH tells, fit into the longest message."""


def parse_identity(text: str) -> Identity:
    """Read an identity or pattern as strongSwan does. Raises ValueError, which says what is wrong; also for one that no
    message has room for.

    - `type:value` with a type of fqdn, dns, email, rfc822, userfqdn, ipv4, ipv6, dn, asn1dn, asn1gn, keyid, or a number
      in braces; `type:#hex` gives the octets themselves.
    - `@@user@host` is an e-mail address, `@#hex` a key ID, `@name` an FQDN whatever it looks like.
    - with a `=` it is a distinguished name, with a `@` an e-mail address;
    - an IPv4 or IPv6 address, subnet or range; `%any`; otherwise an FQDN, or a key ID if there is a colon in it.

    Deviation: strongSwan takes what follows `ipv4:`, `ipv6:` and `asn1dn:` as raw octets, which gives an identity
    that nobody has; here it is converted.
    """
    identity = _parse(text)
    if len(identity.data) > MAX_OCTETS:
        raise ValueError(f"an identity of {len(identity.data)} octets does not fit into a message ({MAX_OCTETS} do)")
    return identity


def _parse(text: str) -> Identity:
    if text in _ANY_TEXTS:
        return ANY_IDENTITY
    prefixed = _parse_prefixed(text)
    if prefixed is not None:
        return prefixed
    if text.startswith("@#"):
        return Identity(IdType.KEY_ID, _parse_hex(text[2:]))
    if text.startswith("@@"):
        return Identity(IdType.RFC822_ADDR, _text_octets(text[2:]))
    if text.startswith("@"):
        return Identity(IdType.FQDN, _text_octets(text[1:]))
    if "=" in text:
        return Identity(IdType.DER_ASN1_DN, encode_name(text))
    if "@" in text:
        return Identity(IdType.RFC822_ADDR, _text_octets(text))
    return _parse_addresses(text) or Identity(IdType.KEY_ID if ":" in text else IdType.FQDN, _text_octets(text))


def matches(pattern: Identity, identity: Identity) -> int | None:
    """How well `identity` fits `pattern`: EXACT is best, each wildcard makes it worse, ANYBODY is worst.

    None means that it does not fit. The order is strongSwan's. An identity that a peer sends is never taken
    for a pattern, whatever characters are in it.
    """
    id_type = pattern.id_type
    if id_type == 0:
        return ANYBODY
    if id_type in _RANGES:
        return _match_range(pattern, identity)
    if id_type != identity.id_type:
        return None
    if id_type == _DER_ASN1_DN:
        return _match_name(pattern.data, identity.data)
    if id_type not in _TEXT_TYPES:
        return EXACT if pattern.data == identity.data else None
    if pattern.data[:1] != b"*":
        return EXACT if pattern.data.lower() == identity.data.lower() else None
    suffix = pattern.data[1:].lower()
    is_longer = len(identity.data) > len(suffix)
    return ONE_WILDCARD if is_longer and identity.data.lower().endswith(suffix) else None


def _match_range(pattern: Identity, identity: Identity) -> int | None:
    if identity.id_type != _RANGES[pattern.id_type]:
        return None
    half = len(pattern.data) // 2
    is_inside = len(identity.data) == half and pattern.data[:half] <= identity.data <= pattern.data[half:]
    return ONE_WILDCARD if is_inside else None


def _match_name(pattern: bytes, name: bytes) -> int | None:
    """Attribute by attribute, in order, as strongSwan does by default (`rdn_matching = strict`)."""
    wanted, given = _name_of(pattern), _name_of(name)
    if not wanted:
        return EXACT if pattern == name else None
    if len(wanted) != len(given):
        return None
    wildcards = 0
    for (wanted_oid, wanted_value), (oid, value) in zip(wanted, given, strict=True):
        if wanted_oid != oid:
            return None
        if wanted_value == "*":
            wildcards += 1
        elif wanted_value != value:
            return None
    return max(EXACT - wildcards, MANY_WILDCARDS)


def _name_of(der: bytes) -> tuple[tuple[str, str], ...]:
    """The normalised attributes, none when the octets (which may be a peer's) are not a name."""
    try:
        return normalise_name(der)
    except ValueError:
        return ()


def _parse_prefixed(text: str) -> Identity | None:
    if numbered := _NUMBERED.match(text):
        id_type, value = int(numbered[1]), numbered[2]
        if not 0 < id_type < 256 or id_type in _RANGES:
            raise ValueError(f"{id_type} is no identity type")
        return Identity(id_type, _parse_hex(value[1:]) if value.startswith("#") else _text_octets(value))
    prefix, colon, value = text.partition(":")
    kind = _PREFIXES.get(prefix.lower()) if colon else None
    if kind is None:
        return None
    id_type, convert = kind
    return Identity(id_type, _parse_hex(value[1:]) if value.startswith("#") else convert(value))


def _parse_addresses(text: str) -> Identity | None:
    """An address, subnet or range; None when the text is none of these."""
    if not _MAYBE_ADDRESS.match(text):
        return None
    try:
        if "/" in text:
            network = ipaddress.ip_network(text, strict=False)
            first, last = network[0].packed, network[-1].packed
        elif "-" in text:
            first, last = (ipaddress.ip_address(end.strip()).packed for end in text.split("-", 1))
        else:
            address = ipaddress.ip_address(text)
            return Identity(IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)
    except ValueError:
        return None
    if len(first) != len(last) or first > last:
        raise ValueError(f'"{text}" is no range: the first address must be the lower, and of the same family')
    return Identity(IPV4_RANGE if len(first) == 4 else IPV6_RANGE, first + last)


def _parse_hex(text: str) -> bytes:
    try:
        octets = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        octets = b""
    if not octets:
        raise ValueError("what follows # must be hexadecimal octets")
    return octets


def _text_octets(text: str) -> bytes:
    if not text:
        raise ValueError("the identity is empty")
    return text.encode("utf-8")


def _refuse_text(text: str) -> bytes:
    raise ValueError(f'"{text}" has no conversion to octets: give them, as #hex')


_PREFIXES: Final[MappingProxyType[str, tuple[IdType, Callable[[str], bytes]]]] = MappingProxyType(
    {
        "ipv4": (IdType.IPV4_ADDR, lambda text: ipaddress.IPv4Address(text).packed),
        "ipv6": (IdType.IPV6_ADDR, lambda text: ipaddress.IPv6Address(text).packed),
        "fqdn": (IdType.FQDN, _text_octets),
        "dns": (IdType.FQDN, _text_octets),
        "email": (IdType.RFC822_ADDR, _text_octets),
        "rfc822": (IdType.RFC822_ADDR, _text_octets),
        "userfqdn": (IdType.RFC822_ADDR, _text_octets),
        "dn": (IdType.DER_ASN1_DN, encode_name),
        "asn1dn": (IdType.DER_ASN1_DN, encode_name),
        "asn1gn": (IdType.DER_ASN1_GN, _refuse_text),
        "keyid": (IdType.KEY_ID, _text_octets),
    }
)
_PREFIX_OF: Final = MappingProxyType(
    {
        int(IdType.IPV4_ADDR): "ipv4",
        int(IdType.IPV6_ADDR): "ipv6",
        int(IdType.FQDN): "fqdn",
        int(IdType.RFC822_ADDR): "email",
        int(IdType.DER_ASN1_DN): "asn1dn",
        int(IdType.DER_ASN1_GN): "asn1gn",
        int(IdType.KEY_ID): "keyid",
    }
)


def _format_data(identity: Identity) -> str | None:
    """The data as people write it; None when its octets can't be shown safely in a log."""
    data = identity.data
    try:
        if identity.id_type == IdType.DER_ASN1_DN:
            return format_name(data)
        if identity.id_type in _RANGES:
            half = len(data) // 2
            return f"{ipaddress.ip_address(data[:half])}-{ipaddress.ip_address(data[half:])}"
        if identity.id_type in (IdType.IPV4_ADDR, IdType.IPV6_ADDR):
            return str(ipaddress.ip_address(data))
        text = data.decode("utf-8")
    except ValueError:
        return None
    return text if text.isprintable() else None


def _parses_to(text: str, identity: Identity) -> bool:
    try:
        return parse_identity(text) == identity
    except ValueError:
        return False
