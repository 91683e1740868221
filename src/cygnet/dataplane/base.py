"""What the driver asks of a data plane, and what a data plane asks of its surroundings."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias

import msgspec

from cygnet.dataplane.inner import Flow
from cygnet.ike.carriage import UNKNOWN_CLASS
from cygnet.ike.effects import InstallChild
from cygnet.ike.path import Path

Count: TypeAlias = Callable[[str], None]
"""Adds one to the counter of that name, which is a key of `COUNTERS`."""

SendEsp: TypeAlias = Callable[[bytes, Path, bool, int], object]
"""Puts an ESP packet on the wire: the packet from its SPI on, its path, whether it travels in UDP (RFC 3948), and the
traffic class of the outer header."""

Moved: TypeAlias = Callable[[bytes, Path], None]
"""Told that the peer of an SA (our SPI) has sent an authentic packet, newer than all before it, on another path."""

PathMtu: TypeAlias = Callable[[Path], int]
"""How many octets the path takes in one IP packet, header included, as far as is known."""

Awaited: TypeAlias = Callable[[bytes], bool]
"""Whether an SA with that SPI of ours is being set up."""

Unsent: TypeAlias = Callable[[bytes, Flow], bool]
"""Given an inner packet that no SA is for; False if it is to be dropped."""

Used: TypeAlias = Callable[[bytes], object]
"""Told that an SA (our SPI) lets an older one send no longer, here or elsewhere."""

TooBig: TypeAlias = Callable[[bytes, int], object]
"""Told of an inner packet that was not sent, and how many octets would have been."""

LimitReached: TypeAlias = Callable[[bytes, bool], None]
"""Told that an SA (our SPI) has carried as much as it may before it is to be rekeyed; or, if True, at all."""

COUNTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "esp_ignored": "ESP packets that came although no data plane is configured",
        "esp_short": "ESP packets too short to have a header",
        "esp_unknown_spi": "ESP packets of no SA of ours",
        "esp_early": "ESP packets that came before the answer by which their SA stands; they are held until then",
        "esp_replayed": "ESP packets whose sequence number was seen before",
        "esp_too_old": "ESP packets whose sequence number is left of the replay window",
        "esp_integrity": "ESP packets that are not authentic",
        "esp_padding": "Authentic ESP packets with wrong padding",
        "esp_inner_length": "Authentic ESP packets shorter than the packet inside says",
        "esp_dummy": "Dummy ESP packets, sent to hide how much traffic there is",
        "esp_next_header": "Authentic ESP packets that carry neither IPv4 nor IPv6",
        "esp_selectors": "Inner packets that their SA has not been negotiated for",
        "esp_sequence_exhausted": "Inner packets not sent because their SA has used its last sequence number",
        "esp_nonce_exhausted": "Inner packets not sent because their SA's cipher has used its last nonce",
        "esp_ecn": "Inner packets dropped because congestion was marked outside, and they have no room for the mark",
        "inner_malformed": "Inner packets that are no sound IP packets",
        "inner_fragment": "Fragments of inner packets that were not sent, since transport mode is for whole packets",
        "inner_options": "Inner packets not sent, since transport mode has no place for their IP options",
        "inner_no_tunnel": "Inner packets not sent because no SA is for them",
        "inner_unsettled": "Inner packets dropped because too many came before the host had a way back for the answers",
        "inner_handed_on": "Inner packets whose SA has gone on to another worker; they are handed on to that",
        "inner_not_handed_on": "Inner packets dropped on their way there, because too many were, or the worker is gone",
        "trap_sprung": "Inner packets for which an SA is set up; they are held until it stands",
        "trap_dropped": "Inner packets not sent because their SA can't be set up now, or too many wait for it",
        "inner_too_big": "Inner packets not sent because the path does not take them whole and they must not be cut",
        "echo_answered": "Echo requests to an inner address that were answered",
        "echo_ignored": "Inner packets that are no echo request to an inner address of ours",
        "tun_dropped": "Inner packets that the TUN device did not take",
    }
)
"""Every name that a data plane counts under, and what it means."""


class InnerSink(Protocol):
    """Where decrypted packets go."""

    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        """Take an inner packet that came in on the SA with our SPI `spi_in`, and that its selectors allow."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What a CHILD_SA has carried: inner packets and their octets, without ESP and padding."""

    packets_in: int
    octets_in: int
    packets_out: int
    octets_out: int
    last_received: float
    """When the last authentic packet came, on the clock of `receive_esp`; 0.0 if none has."""
    last_sent: float
    """When the last packet went out, on the same clock; 0.0 if none has."""


class Carried(NamedTuple):
    """A CHILD_SA that is carried."""

    child: InstallChild
    usage: Usage


class Dataplane(Protocol):
    """Carries the traffic of CHILD_SAs. SPIs are octets, ours unless said otherwise."""

    def install(self, child: InstallChild) -> None:
        """Carry a CHILD_SA's traffic from now on. Where an older one has the same selectors, this one sends.

        One that is not `is_outbound` sends only once something came in on it, or after `use`. One that `yields` lets
        the older one send until then, for some seconds.
        """

    def remove(self, spi_in: bytes, *, is_succeeded: bool = False) -> None:
        """Carry it no longer; nothing happens if it isn't there.

        With `is_succeeded` its traffic goes on in another one, and what is on the way in this is still received for
        some seconds.
        """

    def use(self, spi_in: bytes) -> None:
        """Send on it from now on, though it was installed not to; nothing happens if the SA isn't there."""

    def retire(self, spi_in: bytes) -> None:
        """Send on it no longer, but receive still; nothing happens if the SA isn't there."""

    def update_path(self, spi_in: bytes, path: Path, is_udp_encapsulated: bool) -> None:
        """Send to the peer on another path from now on; nothing happens if the SA isn't there."""

    def receive_esp(self, datagram: bytes, path: Path, now: float, traffic_class: int = UNKNOWN_CLASS, /) -> None:
        """Take an ESP packet, from its SPI on, that came on `path` at `now` (seconds), with its outer traffic class."""

    def carried(self, spi_in: bytes) -> "Carried | None":
        """Both of what `child` and `usage` tell, to be looked at only; None if either does."""

    def usage(self, spi_in: bytes) -> Usage | None:
        """What the SA has carried so far; None if it isn't there."""

    def child(self, spi_in: bytes) -> InstallChild | None:
        """The SA as it was installed; None if it isn't there, or this data plane keeps nothing."""

    def close(self) -> None:
        """Drop all SAs, with their keys."""
