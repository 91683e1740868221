"""X.501 distinguished names: text to DER and back, and when two of them are the same name.

    Name ::= SEQUENCE OF RelativeDistinguishedName          (RFC 5280 section 4.1.2.4)
    RelativeDistinguishedName ::= SET OF AttributeTypeAndValue
    AttributeTypeAndValue ::= SEQUENCE { type OBJECT IDENTIFIER, value ANY }

The text form is strongSwan's, in certificate order: `C=CH, O=strongSwan, CN=moon`, or `/C=CH/O=strongSwan/CN=moon`.
"""

import re
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

_OIDS: Final = MappingProxyType(
    {
        "C": "2.5.4.6",
        "ST": "2.5.4.8",
        "L": "2.5.4.7",
        "O": "2.5.4.10",
        "OU": "2.5.4.11",
        "CN": "2.5.4.3",
        "SN": "2.5.4.5",
        "serialNumber": "2.5.4.5",
        "S": "2.5.4.4",
        "G": "2.5.4.42",
        "I": "2.5.4.43",
        "N": "2.5.4.41",
        "T": "2.5.4.12",
        "D": "2.5.4.13",
        "ID": "2.5.4.45",
        "DC": "0.9.2342.19200300.100.1.25",
        "UID": "0.9.2342.19200300.100.1.1",
        "E": "1.2.840.113549.1.9.1",
        "Email": "1.2.840.113549.1.9.1",
        "emailAddress": "1.2.840.113549.1.9.1",
        "unstructuredName": "1.2.840.113549.1.9.2",
        "UN": "1.2.840.113549.1.9.2",
    }
)
_KEYWORDS: Final = {keyword.upper(): oid for keyword, oid in _OIDS.items()}
_NAMES: Final = {oid: keyword for keyword, oid in reversed(tuple(_OIDS.items()))}
_IA5_OIDS: Final = frozenset({_OIDS["DC"], _OIDS["E"]})

_OBJECT_IDENTIFIER: Final = 0x06
_UTF8_STRING: Final = 0x0C
_PRINTABLE_STRING: Final = 0x13
_IA5_STRING: Final = 0x16
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_STRING_CODECS: Final = MappingProxyType(
    {
        _UTF8_STRING: "utf-8",
        _PRINTABLE_STRING: "ascii",
        0x14: "latin-1",  # TeletexString, which is Latin-1 in every certificate that still has one
        _IA5_STRING: "ascii",
        0x1C: "utf-32-be",  # UniversalString
        0x1E: "utf-16-be",  # BMPString
    }
)
_PRINTABLE: Final = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*\Z")
_DOTTED: Final = re.compile(r"[0-2](\.[0-9]{1,10})+\Z")
_ATTRIBUTE: Final = re.compile(r"([A-Za-z0-9.]+)\s*=(.*)\Z", re.DOTALL)
_BETWEEN_COMMAS: Final = re.compile(r"(?:\\.|[^\\,]|\\\Z)+", re.DOTALL)
_BETWEEN_SLASHES: Final = re.compile(r"(?:\\.|[^\\/]|\\\Z)+", re.DOTALL)

_MAX_NAME_OCTETS: Final = 4096
"""Longer names are not decoded: they come from peers that are not authenticated yet, and the result is cached."""


class Attribute(NamedTuple):
    """One type and value of a name: the type as dotted text, the value as text."""

    oid: str
    value: str


def encode_name(text: str) -> bytes:
    """DER of a name in text form. Raises ValueError, which says what is wrong with it."""
    rdns = bytearray()
    for part in _split(text):
        match = _ATTRIBUTE.match(part.strip())
        if match is None:
            raise ValueError(f'"{part.strip()}" is not of the form TYPE=value')
        keyword, value = match[1], _unescape(match[2].strip())
        oid = keyword if _DOTTED.match(keyword) else _KEYWORDS.get(keyword.upper())
        if oid is None:
            raise ValueError(f'"{keyword}" is no attribute of a distinguished name that is known here')
        attribute = _tlv(_OBJECT_IDENTIFIER, _encode_oid(oid)) + _encode_string(oid, value)
        rdns += _tlv(_SET, _tlv(_SEQUENCE, attribute))
    return _tlv(_SEQUENCE, bytes(rdns))


@lru_cache(maxsize=256)
def decode_name(der: bytes) -> tuple[Attribute, ...]:
    """The attributes of a DER name in their order; those of a multi-valued RDN follow each other.

    Raises ValueError when the octets are not one whole name of at most 4096 octets.
    """
    if len(der) > _MAX_NAME_OCTETS:
        raise ValueError("the name is too long")
    attributes = []
    for tag, rdn in _elements(_only(_SEQUENCE, der)):
        if tag != _SET:
            raise ValueError("an RDN is not a SET")
        for inner_tag, pair in _elements(rdn):
            if inner_tag != _SEQUENCE:
                raise ValueError("an attribute is not a SEQUENCE")
            members = _elements(pair)
            if len(members) != 2 or members[0][0] != _OBJECT_IDENTIFIER:
                raise ValueError("an attribute is not a type and a value")
            attributes.append(Attribute(_decode_oid(members[0][1]), _decode_string(*members[1])))
    return tuple(attributes)


@lru_cache(maxsize=256)
def normalise_name(der: bytes) -> tuple[Attribute, ...]:
    """The attributes in the form in which equal names are equal (RFC 5280 section 7.1).

    Case and runs of white space don't count, nor does which string type carries the text.
    """
    return tuple(Attribute(oid, " ".join(value.split()).casefold()) for oid, value in decode_name(der))


def format_name(der: bytes) -> str:
    """The name as text. Raises ValueError like `decode_name`."""
    return ", ".join(f"{_NAMES.get(oid, oid)}={_escape(value)}" for oid, value in decode_name(der))


def _split(text: str) -> list[str]:
    """Cut at the separators that no backslash precedes: slashes if the text starts with one, else commas."""
    pattern = _BETWEEN_SLASHES if text.startswith("/") else _BETWEEN_COMMAS
    return pattern.findall(text)


def _escape(value: str) -> str:
    escaped = re.sub(r"([\\,/])", r"\\\1", value)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in escaped)


def _unescape(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _only(tag: int, der: bytes) -> bytes:
    elements = _elements(der)
    if len(elements) != 1 or elements[0][0] != tag:
        raise ValueError("not one element of the expected type")
    return elements[0][1]


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """The (tag, content) pairs that make up `der` exactly; definite lengths only, as DER has them."""
    elements = []
    position = 0
    while position < len(der):
        if position + 2 > len(der):
            raise ValueError("an element is cut off")
        tag, size = der[position], der[position + 1]
        position += 2
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4 or position + count > len(der):
                raise ValueError("a length is not in DER form")
            size = int.from_bytes(der[position : position + count], "big")
            position += count
        if position + size > len(der):
            raise ValueError("an element is cut off")
        elements.append((tag, der[position : position + size]))
        position += size
    return elements


def _encode_oid(dotted: str) -> bytes:
    arcs = [int(arc) for arc in dotted.split(".")]
    if arcs[0] < 2 and arcs[1] > 39:
        raise ValueError(f"{dotted} is no object identifier: its second number may be 39 at most")
    encoded = bytearray()
    for arc in (arcs[0] * 40 + arcs[1], *arcs[2:]):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return bytes(encoded)


def _decode_oid(octets: bytes) -> str:
    if not octets or octets[-1] & 0x80 or len(octets) > 64:
        raise ValueError("an object identifier is cut off or too long")
    arcs: list[int] = []
    arc = 0
    for octet in octets:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(number) for number in (first, arcs[0] - 40 * first, *arcs[1:]))


def _encode_string(oid: str, value: str) -> bytes:
    """The string type that strongSwan and OpenSSL choose, so that names agree octet for octet with theirs."""
    if oid in _IA5_OIDS and value.isascii():
        return _tlv(_IA5_STRING, value.encode("ascii"))
    if _PRINTABLE.match(value):
        return _tlv(_PRINTABLE_STRING, value.encode("ascii"))
    return _tlv(_UTF8_STRING, value.encode("utf-8"))


def _decode_string(tag: int, octets: bytes) -> str:
    codec = _STRING_CODECS.get(tag)
    if codec is None:
        return f"#{_tlv(tag, octets).hex()}"
    return octets.decode(codec)  # UnicodeDecodeError is a ValueError
