"""Which attempt is whose, and from where: attempt n has an identity and a source, and belongs to one process.

Attempts are numbered from 0 over all processes. Process p of P has the attempts p, p + P, p + 2P, ... in this order,
so that arrivals of the whole run interleave as they would from one process.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from cygnet.auth.identity import Identity, parse_identity
from cygnet.iana import IdType

PortPair = tuple[int, int]
"""An IKE port and its NAT traversal port; 0 lets the kernel choose."""

EPHEMERAL: Final[PortPair] = (0, 0)
MAX_ADDRESSES: Final = 65536
_LAST_PORT: Final = 65535
_FIELD: Final = re.compile(r"\{n(?::0[1-9]\d?d)?\}")
_BROADCAST: Final = ipaddress.ip_address("255.255.255.255")
_TEXT_TYPES: Final = (IdType.FQDN, IdType.RFC822_ADDR)


class Source(msgspec.Struct, frozen=True):
    """Where attempts come from: an address with an IKE port and a NAT traversal port, 0 for any."""

    address: str
    port: int
    natt_port: int


class IdentityPattern:
    """The identities of all attempts: text with `{n}`, or `{n:06d}`, for the number of the attempt."""

    __slots__ = ("_is_plain_text", "_type", "text")

    def __init__(self, text: str) -> None:
        """Raises ValueError, with a text for the user, if it is no pattern or makes no identities."""
        rest = _FIELD.sub("", text)
        if "{" in rest or "}" in rest:
            raise ValueError(f'"{text}": the only field is {{n}}, or {{n:06d}} with leading zeros')
        self.text = text
        sample = text.format(n=0)
        identity = parse_identity(sample)
        if identity.is_pattern:
            raise ValueError(f'"{sample}" stands for many identities; an attempt has one')
        # Names are what they look like; only addresses and the forms with a prefix need to be parsed each time.
        self._is_plain_text = identity.id_type in _TEXT_TYPES and identity.data == sample.encode()
        self._type = identity.id_type

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdentityPattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"IdentityPattern({self.text!r})"

    def identity(self, number: int) -> Identity:
        """The identity of attempt `number`."""
        text = self.text.format(n=number)
        return Identity(self._type, text.encode()) if self._is_plain_text else parse_identity(text)


def share_of(count: int, process: int, processes: int) -> int:
    """How many of `count` things numbered from 0 fall to `process`."""
    return (count - process + processes - 1) // processes


def attempt_number(index: int, process: int, processes: int) -> int:
    """The number of the attempt that is `index`-th in its process."""
    return process + index * processes


def sources_of(
    addresses: Sequence[str], port_pairs: Sequence[PortPair], *, process: int, processes: int
) -> list[Source]:
    """The sources of one process, to be used in turn.

    A source with fixed ports has one owner. Where there are fewer sources than processes, which only ephemeral ports
    allow, processes share addresses, with ports of their own.
    """
    everything = [Source(address, port, natt_port) for port, natt_port in port_pairs for address in addresses]
    return everything[process::processes] or [everything[process % len(everything)]]


def parse_addresses(text: str) -> tuple[str, ...]:
    """Read addresses, subnets and ranges, separated by commas. Raises ValueError, with a text for the user.

    Of a subnet, the address of the net and the one for broadcast are left out.
    """
    found: dict[str, None] = {}
    for item in text.split(","):
        try:
            addresses = _addresses_of(item.strip())
            for each in map(ipaddress.ip_address, (addresses[0], addresses[-1])):
                if each.is_multicast or each.is_unspecified or each == _BROADCAST:
                    raise ValueError("packets can't come from there")
            found.update(dict.fromkeys(addresses))
        except ValueError as exc:
            raise ValueError(f'"{item.strip()}" is no IP address, subnet or range a-b: {exc}') from None
        if len(found) > MAX_ADDRESSES:
            raise ValueError(f"more than {MAX_ADDRESSES} source addresses")
    return tuple(found)


def _addresses_of(item: str) -> list[str]:
    if "/" in item:
        network = ipaddress.ip_network(item, strict=False)
        if network.num_addresses > MAX_ADDRESSES:
            raise ValueError(f"more than {MAX_ADDRESSES} addresses")
        return [str(address) for address in network.hosts()]
    if "-" not in item:
        return [str(ipaddress.ip_address(item))]
    low, _, high = item.partition("-")
    first, last = ipaddress.ip_address(low.strip()), ipaddress.ip_address(high.strip())
    if first.version != last.version or int(first) > int(last):
        raise ValueError("the range is empty")
    if int(last) - int(first) >= MAX_ADDRESSES:
        raise ValueError(f"more than {MAX_ADDRESSES} addresses")
    return [str(type(first)(number)) for number in range(int(first), int(last) + 1)]


def parse_port_pairs(text: str, *, port: int, natt_port: int) -> tuple[PortPair, ...]:
    """Read `ephemeral`, `same` (the target's `port` and `natt_port`) or a range `20000-20999`.

    A range is used in pairs, the even places for IKE and the odd ones for NAT traversal.
    Raises ValueError, with a text for the user.
    """
    if text == "ephemeral":
        return (EPHEMERAL,)
    if text == "same":
        return ((port, natt_port),)
    low, dash, high = text.partition("-")
    if not (dash and low.isdecimal() and high.isdecimal()):
        raise ValueError(f'"{text}" is neither "ephemeral" nor "same" nor a range such as 20000-20999')
    first, last = int(low), int(high)
    if not 1 <= first < last <= _LAST_PORT:
        raise ValueError(f'the range "{text}" does not hold two ports from 1 to {_LAST_PORT}')
    return tuple((number, number + 1) for number in range(first, last, 2))
