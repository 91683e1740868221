"""The kinds of value that keys take: text to Python objects.

Every parser raises ValueError with a message that completes "`key` in `section`: ...", and none repeats a secret.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from cygnet.auth.identity import Identity, parse_identity
from cygnet.config import defaults
from cygnet.config.errors import quote
from cygnet.config.gateway_settings import DataplaneKind
from cygnet.iana import ProtocolId
from cygnet.ike.proposals import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS, ProposalSettings, parse_proposal
from cygnet.ike.selectors import SelectorSettings, parse_selector
from cygnet.ike.settings import (
    TFC_MTU,
    AuthKind,
    Childless,
    CopyDscp,
    EndAction,
    Fragmentation,
    Mode,
    StartAction,
    Unique,
)
from cygnet.ike.subnets import pack_text, parse_subnet

_T = TypeVar("_T")

_BOOLEANS: Final = {
    **dict.fromkeys(("yes", "true", "enabled", "1"), True),
    **dict.fromkeys(("no", "false", "disabled", "0"), False),
}
_TIME: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*(ms|s|m|h|d)?\Z")
_TIME_UNITS_S: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE: Final = re.compile(r"([0-9]{1,12})\s*([kKmMgG]?)\Z")
_SIZE_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_INTEGER: Final = re.compile(r"[0-9]{1,18}\Z")
_ANY_PEER: Final = {
    "%any": "%any",
    "%any4": "0.0.0.0/0",
    "%any6": "::/0",
    "0.0.0.0": "%any",  # noqa: S104 - strongSwan's other spelling of %any, nothing is bound to it
    "::": "%any",
}
_REGULAR_EXPRESSION: Final = re.compile(r"(?:[a-z0-9]+:)?\^.*\$\Z", re.DOTALL)
_UNBUILT_AUTH: Final = {
    **dict.fromkeys(
        ("pubkey", "rsa", "ecdsa", "ed25519", "ed448", "bliss", "rsa/pss", "ike", "eap", "any"),
        "authentication is not built yet",
    ),
    "xauth": "belongs to IKEv1, which is not spoken here",
}
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z")


_REMEMBERED_LETTERS: Final = 256


@lru_cache(maxsize=8192)
def _read_once(parse: Callable[[str], Any], text: str) -> Any:
    return parse(text)


class Kind(msgspec.Struct, frozen=True):
    """A kind of value: what people call it, and how it is read."""

    name: str
    parse: Callable[[str], Any]
    is_secret: bool = False

    def read(self, text: str) -> Any:
        """What a text means. Raises ValueError, with a text for the user.

        A fleet's connections repeat each other, so a text that was read is remembered, with its value, which all that
        have it share. No secret is.
        """
        if self.is_secret or len(text) > _REMEMBERED_LETTERS:
            return self.parse(text)
        return _read_once(self.parse, text)


class AddressRange(msgspec.Struct, frozen=True):
    """Addresses from `first` to `last`, both packed and included."""

    first: bytes
    last: bytes
    base: bytes = b""
    """Of a subnet, its own address, which may be left out."""


def parse_boolean(text: str) -> bool:
    """Any of strongSwan's spellings, in any case."""
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise ValueError(f"{quote(text)} is neither yes nor no")
    return value


def parse_time(text: str) -> float:
    """Seconds, from a number with an optional unit of ms, s, m, h or d."""
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"{quote(text)} is no time; write a number and one of ms, s, m, h, d, such as 30s or 4h")
    return float(match[1]) * _TIME_UNITS_S[match[2] or ""]


def parse_size(text: str) -> int:
    """Octets, from a number with an optional unit of K, M or G (powers of 1024)."""
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"{quote(text)} is no number of octets; write it as 4194304 or 4M")
    return int(match[1]) * _SIZE_UNITS[match[2].lower()]


def parse_size_or_auto(text: str) -> int:
    """Octets as in `parse_size`, at least one; 0 stands for `auto`."""
    if text == "auto":
        return 0
    octets = parse_size(text)
    if not octets:
        raise ValueError("0 leaves no room for any peer; write auto, or a number of octets such as 512M")
    return octets


def integer(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers within `low` to `high`, both included."""

    def parse(text: str) -> int:
        if not _INTEGER.match(text) or not low <= int(text) <= high:
            raise ValueError(f"{quote(text)} is no whole number from {low} to {high}")
        return int(text)

    return parse


def zero_or(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers within `low` to `high`, both included, and 0."""
    positive = integer(low, high)

    def parse(text: str) -> int:
        try:
            return positive(text)
        except ValueError:
            if _INTEGER.match(text) and int(text) == 0:
                return 0
            raise ValueError(f"{quote(text)} is neither 0 nor a whole number from {low} to {high}") from None

    return parse


def positive_number(low: float, high: float) -> Callable[[str], float]:
    """A parser of decimal numbers within `low` to `high`, both included."""

    def parse(text: str) -> float:
        if not re.match(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z", text) or not low <= float(text) <= high:
            raise ValueError(f"{quote(text)} is no number from {low:g} to {high:g}")
        return float(text)

    return parse


def time_between(low_s: float, high_s: float) -> Callable[[str], float]:
    """A parser of times within limits."""

    def parse(text: str) -> float:
        seconds = parse_time(text)
        if not low_s <= seconds <= high_s:
            raise ValueError(f"{quote(text)} is not from {low_s:g} to {high_s:g} seconds")
        return seconds

    return parse


def list_of(parse_item: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    """A parser of lists separated by commas. Empty items are left out, and repeated ones."""

    def parse(text: str) -> tuple[_T, ...]:
        return tuple(dict.fromkeys(parse_item(item) for item in _items(text)))

    return parse


def one_of(choices: type[Enum], planned: dict[str, str]) -> Callable[[str], Enum]:
    """A parser of the values of an enum. `planned` says what is wrong with values that mean something elsewhere."""

    def parse(text: str) -> Enum:
        try:
            return choices(text)
        except ValueError:
            known = ", ".join(str(choice.value) for choice in choices)
            if text in planned:
                raise ValueError(f"{text} {planned[text]}; there is: {known}") from None
            raise ValueError(f"{quote(text)} is not one of: {known}") from None

    return parse


def parse_auth(text: str) -> AuthKind:
    """How an end proves its identity. strongSwan's methods may name algorithms: `pubkey-sha256`, `eap-mschapv2`."""
    try:
        return AuthKind(text)
    except ValueError:
        known = ", ".join(choice.value for choice in AuthKind)
        why = _UNBUILT_AUTH.get(re.split("[-:]", text, maxsplit=1)[0])
        if why is None:
            raise ValueError(f"{quote(text)} is not one of: {known}") from None
        raise ValueError(f"{quote(text)[1:-1]} {why}; there is: {known}") from None


def parse_peer_identity(text: str) -> Identity:
    """An identity, or a pattern of those that there are."""
    if _REGULAR_EXPRESSION.match(text):
        raise ValueError(f"{quote(text)} is a regular expression, which is not built; patterns are like *@example.org")
    return parse_identity(text)


def parse_start_action(text: str) -> StartAction:
    """What is done with a child when it is loaded; both words may stand in either order."""
    for action in StartAction:
        if text in (action.value, "|".join(reversed(action.value.split("|")))):
            return action
    raise ValueError(f"{quote(text)} is not one of: {', '.join(action.value for action in StartAction)}")


def parse_end_action(text: str) -> EndAction:
    """What is done with a child that is lost; strongSwan has two words for each."""
    if text in ("none", "clear"):
        return EndAction.NONE
    if text in ("start", "restart"):
        return EndAction.START
    if text == "trap":
        return EndAction.TRAP
    raise ValueError(f"{quote(text)} is not one of: none, clear, start, restart, trap")


def parse_packed_address(text: str) -> bytes:
    """One IP address, packed."""
    return _address(text).packed


def parse_listen_address(text: str) -> str:
    """One IP address, in its usual form, that a host can have."""
    address = _address(text)
    if address.is_multicast:
        raise ValueError(f"{quote(text)} is a multicast address; give one of this host, or 0.0.0.0 or :: for all")
    if address == _BROADCAST:
        raise ValueError(f"{quote(text)} is the broadcast address; give one of this host, or 0.0.0.0 or :: for all")
    return str(address)


def parse_peer_addresses(text: str) -> tuple[str, ...]:
    """IP addresses, subnets and ranges in their usual form; empty when `%any` is among them."""
    items = [_peer_address(item) for item in _items(text)]
    return () if "%any" in items else tuple(dict.fromkeys(items))


def parse_pool_addresses(text: str) -> AddressRange:
    """A subnet or a range.

    Of a subnet of more than two addresses the first and the last are left out, as in strongSwan.
    """
    if "-" in text:
        first, last = _range(text)
        return AddressRange(first.packed, last.packed)
    try:
        start, end = parse_subnet(text)
    except ValueError:
        raise ValueError(f"{quote(text)} is neither a subnet (10.3.0.0/16) nor a range (10.3.0.1-10.3.0.99)") from None
    if start != pack_text(text.partition("/")[0]):
        network = ipaddress.ip_network(text, strict=False)
        raise ValueError(f"{quote(text)} starts within the subnet {network}; write that, or a range")
    if int.from_bytes(end, "big") - int.from_bytes(start, "big") < 2:
        return AddressRange(start, end)
    return AddressRange(_next_to(start, 1), _next_to(end, -1), start)


def parse_own_identity(text: str) -> Identity:
    """An identity to present: no pattern. `%any` is our address."""
    identity = parse_identity(text)
    if identity.is_pattern and not identity.is_any:
        raise ValueError(f"{quote(text)} stands for many identities; ours must be one")
    return identity


def parse_ike_proposals(text: str) -> tuple[ProposalSettings, ...]:
    """Proposals for the IKE_SA; `default` stands for the default ones."""
    return _proposals(text, ProtocolId.IKE, DEFAULT_IKE_PROPOSALS)


def parse_esp_proposals(text: str) -> tuple[ProposalSettings, ...]:
    """Proposals for CHILD_SAs; `default` stands for the default ones."""
    return _proposals(text, ProtocolId.ESP, DEFAULT_ESP_PROPOSALS)


def parse_selectors(text: str) -> tuple[SelectorSettings, ...]:
    """Traffic selectors."""
    return tuple(dict.fromkeys(parse_selector(item) for item in _items(text)))


def parse_secret(text: str) -> bytes:
    """Octets: hexadecimal after `0x`, base64 after `0s`, else the text itself in UTF-8."""
    try:
        if text.startswith("0x"):
            secret = bytes.fromhex(text[2:].replace(":", ""))
        elif text.startswith("0s"):
            secret = base64.b64decode(text[2:], validate=True)
        else:
            secret = text.encode("utf-8")
    except (ValueError, binascii.Error):
        form = "hexadecimal" if text.startswith("0x") else "base64"
        raise ValueError(f"what follows {text[:2]} is not {form}") from None
    if not secret:
        raise ValueError("the secret is empty")
    return secret


def parse_tfc_padding(text: str) -> int:
    """Octets that packets are filled up to; `mtu` stands for as many as the path takes."""
    if text.lower() == "mtu":
        return TFC_MTU
    try:
        return integer(0, TFC_MTU)(text)
    except ValueError as exc:
        raise ValueError(f"{exc}, nor mtu") from None


def parse_workers(text: str) -> int:
    """Worker processes; 0 stands for `auto`."""
    if text == "auto":
        return 0
    try:
        return integer(1, defaults.MAX_WORKERS)(text)
    except ValueError as exc:
        raise ValueError(f"{exc}, nor auto") from None


def parse_file_mode(text: str) -> int:
    """The mode of a file in octal, such as `660`."""
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ValueError(f"{quote(text)} is no mode of a file in octal, such as 660")
    return int(text, 8)


def parse_user(text: str) -> str:
    """The name of a user account."""
    if not _USER.match(text):
        raise ValueError(f"{quote(text)} is no user name")
    return text


def parse_folder(text: str) -> str:
    """The path of a folder."""
    if not text or "\0" in text:
        raise ValueError("an empty name is no folder")
    return text


def parse_text(text: str) -> str:
    """Any text."""
    return text


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def _proposals(
    text: str, protocol_id: ProtocolId, default: tuple[ProposalSettings, ...]
) -> tuple[ProposalSettings, ...]:
    proposals: list[ProposalSettings] = []
    for item in _items(text):
        proposals.extend(default if item == "default" else (parse_proposal(protocol_id, item),))
    return tuple(dict.fromkeys(proposals))


def _next_to(address: bytes, step: int) -> bytes:
    return (int.from_bytes(address, "big") + step).to_bytes(len(address), "big")


_BROADCAST: Final = ipaddress.IPv4Address("255.255.255.255")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{quote(text)} is no IP address") from None


def _range(text: str) -> tuple[_Address, _Address]:
    first, last = (_address(end.strip()) for end in text.split("-", 1))
    if first.version != last.version or int(first) > int(last):
        raise ValueError(f"{quote(text)} is no range: the first address must be the lower, and of the same family")
    return first, last


def _peer_address(text: str) -> str:
    if text in _ANY_PEER:
        return _ANY_PEER[text]
    if ":" not in text and pack_text(text) is not None:
        # There is one way only to write an IPv4 address.
        return text
    try:
        if "/" in text:
            return str(ipaddress.ip_network(text, strict=False))
        if "-" in text:
            return "{}-{}".format(*_range(text))
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(
            f"{quote(text)} is no IP address, subnet or range; names are not looked up, give the address"
        ) from None


BOOLEAN: Final = Kind("yes or no", parse_boolean)
TIME: Final = Kind("time", parse_time)
PORT: Final = Kind("port", integer(1, 65535))
SIZE: Final = Kind("octets", parse_size)
SIZE_OR_AUTO: Final = Kind("octets or auto", parse_size_or_auto)
IDENTITY: Final = Kind("identity", parse_peer_identity)
OWN_IDENTITY: Final = Kind("identity", parse_own_identity)
PEER_ADDRESSES: Final = Kind("list of addresses, subnets, ranges", parse_peer_addresses)
PACKED_ADDRESSES: Final = Kind("list of addresses", list_of(parse_packed_address))
LISTEN_ADDRESSES: Final = Kind("list of addresses", list_of(parse_listen_address))
POOL_ADDRESSES: Final = Kind("subnet or range", parse_pool_addresses)
NAMES: Final = Kind("list of names", list_of(parse_text))
IKE_PROPOSALS: Final = Kind("list of proposals", parse_ike_proposals)
ESP_PROPOSALS: Final = Kind("list of proposals", parse_esp_proposals)
SELECTORS: Final = Kind("list of traffic selectors", parse_selectors)
SECRET: Final = Kind("text, 0xHEX or 0sBASE64", parse_secret, is_secret=True)
WORKERS: Final = Kind("number or auto", parse_workers)
USER: Final = Kind("user name", parse_user)
FOLDER: Final = Kind("path", parse_folder)
TEXT: Final = Kind("text", parse_text)
FILE_MODE: Final = Kind("mode", parse_file_mode)
AUTH: Final = Kind("method", parse_auth)
MODE: Final = Kind(
    "mode",
    one_of(
        Mode,
        {"transport_proxy": "mode is for Mobile IPv6, and not built"}
        | dict.fromkeys(("beet", "iptfs"), "mode is not built")
        | dict.fromkeys(("pass", "drop"), "policies are not built yet (use the firewall)"),
    ),
)
COPY_DSCP: Final = Kind("direction", one_of(CopyDscp, {}))
TFC_PADDING: Final = Kind("octets or mtu", parse_tfc_padding)
UNIQUE: Final = Kind("policy", one_of(Unique, {}))
CHILDLESS: Final = Kind("choice", one_of(Childless, {}))
FRAGMENTATION: Final = Kind("choice", one_of(Fragmentation, {}))
START_ACTION: Final = Kind("action", parse_start_action)
END_ACTION: Final = Kind("action", parse_end_action)
DATAPLANE: Final = Kind("data plane", one_of(DataplaneKind, {"xfrm": "(the kernel's IPsec) is not built yet"}))
