"""What a run of the load tester is to do, as typed and checked settings."""

import ipaddress
import os
from enum import Enum
from typing import Final

import msgspec

from cygnet.auth.identity import ANY_IDENTITY, Identity
from cygnet.ike.proposals import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS, ProposalSettings
from cygnet.ike.selectors import DYNAMIC, SelectorSettings
from cygnet.ike.settings import (
    AuthSettings,
    ChildSettings,
    ConnectionSettings,
    RetransmitPolicy,
    Settings,
    SharedSecret,
)
from cygnet.load.plan import EPHEMERAL, IdentityPattern, PortPair

DEFAULT_COUNT: Final = 1000
DEFAULT_CONCURRENCY: Final = 64
DEFAULT_TIMEOUT_S: Final = 30.0
"""Past the third retransmission of strongSwan's default policy: a responder that is silent so long is overloaded."""
DEFAULT_ID_PATTERN: Final = "c{n}@example.org"
DEFAULT_MAX_PENDING: Final = 250_000
"""About half a gigabyte of attempts that nobody has answered yet."""
MAX_PROCESSES: Final = 254
"""Each has a worker's number in its SPIs."""
CONNECTION_NAME: Final = "load"

_EVERYTHING: Final = {
    4: SelectorSettings(first=bytes(4), last=b"\xff" * 4),
    16: SelectorSettings(first=bytes(16), last=b"\xff" * 16),
}


class Arrivals(Enum):
    """What decides when an attempt starts (`--rate`, `--arrivals`, `--concurrency`)."""

    CONSTANT = "constant"
    """Open loop: at even distances, whatever becomes of the attempts before."""
    POISSON = "poisson"
    """Open loop: at random, as independent peers arrive."""
    CLOSED = "closed"
    """Closed loop: as soon as an earlier attempt has ended."""


class Rekeyed(Enum):
    """What `--rekey` replaces."""

    CHILD = "child"
    IKE = "ike"


class PingOptions(msgspec.Struct, frozen=True):
    """How a new tunnel is tried out."""

    target: bytes
    """Packed inner address that is to answer."""
    timeout_s: float = 1.0
    """Seconds after which an unanswered echo request is followed by the next."""
    tries: int = 5


class LoadOptions(msgspec.Struct, frozen=True):
    """One run. Times are in seconds; a limit of 0 is none."""

    target: str
    """IP address of the responder."""
    secret: bytes
    port: int = 500
    natt_port: int = 4500
    count: int = DEFAULT_COUNT
    arrivals: Arrivals = Arrivals.CLOSED
    rate: float = 0.0
    """Attempts per second of all processes together, in the open loops."""
    concurrency: int = DEFAULT_CONCURRENCY
    """Attempts under way in all processes together, in the closed loop."""
    seed: int = 1
    processes: int = 1
    identities: IdentityPattern = IdentityPattern(DEFAULT_ID_PATTERN)
    remote_id: Identity = ANY_IDENTITY
    proposals: tuple[ProposalSettings, ...] = DEFAULT_IKE_PROPOSALS
    esp_proposals: tuple[ProposalSettings, ...] = DEFAULT_ESP_PROPOSALS
    vips: tuple[bytes, ...] = ()
    """All-zero packed addresses of the families in which a virtual address is asked for."""
    local_ts: tuple[SelectorSettings, ...] = (DYNAMIC,)
    remote_ts: tuple[SelectorSettings, ...] = ()
    """Empty is everything, in the families that are used."""
    ping: PingOptions | None = None
    encap: bool | None = None
    """None forces UDP encapsulation only where packets could not be sent without it."""
    addresses: tuple[str, ...] = ()
    """Source addresses; empty is the one that the route to the target has."""
    port_pairs: tuple[PortPair, ...] = (EPHEMERAL,)
    is_ke_reused: bool = False
    """Offer one public value in all attempts of a process (RFC 7296 section 2.12, RFC 6989): for tests only."""
    max_pending: int = DEFAULT_MAX_PENDING
    """Attempts under way in all processes together; those above fail at once, so that memory is bounded."""
    retransmit: RetransmitPolicy = RetransmitPolicy()
    timeout_s: float = DEFAULT_TIMEOUT_S
    """How long an attempt may take."""
    max_duration_s: float = 0.0
    """No attempt starts later than this."""
    hold_s: float = 0.0
    dpd_s: float = 0.0
    """Each tunnel asks that often whether the responder lives; 0 never asks."""
    churn_rate: float = 0.0
    """Tunnels that are closed and replaced each second of the hold, by all processes together."""
    rekey_s: float = 0.0
    """Each tunnel is rekeyed that often during the hold; 0 never."""
    rekeyed: Rekeyed = Rekeyed.CHILD
    roam_s: float = 0.0
    """Each tunnel moves to another source that often during the hold; 0 never."""
    mobike: bool = False
    """Offer MOBIKE, and move by it."""
    delete: bool = False

    def __repr__(self) -> str:
        return f"LoadOptions(target={self.target!r}, secret=<{len(self.secret)} octets>)"

    @property
    def is_encapsulation_forced(self) -> bool:
        """Whether we pretend to be behind a NAT: ESP on its own needs a raw socket, and so root."""
        if self.encap is not None:
            return self.encap
        # Only a peer behind a NAT is followed without MOBIKE (RFC 7296 section 2.23).
        return (self.ping is not None and os.geteuid() != 0) or bool(self.roam_s and not self.mobike)

    @property
    def _inner_sizes(self) -> set[int]:
        """Octets of the addresses that we can have in a tunnel: 4, 16 or both."""
        return {len(vip) for vip in self.vips} or {len(ipaddress.ip_address(self.target).packed)}

    def problem(self) -> str | None:
        """What is wrong in how the options go together, as one line for the user; None if nothing is."""
        if self.arrivals is Arrivals.CLOSED and self.concurrency < self.processes:
            return f"--concurrency {self.concurrency} is not enough for {self.processes} processes, one for each"
        wanted = self.concurrency if self.arrivals is Arrivals.CLOSED else self.processes
        if self.max_pending < wanted:
            return f"--max-pending {self.max_pending} is not enough for the {wanted} that are wanted at a time"
        if self.count < self.processes:
            return f"--count {self.count} is not enough for {self.processes} processes, one for each"
        if self.churn_rate and not self.hold_s:
            return "--churn is about tunnels that are held: give it a --hold"
        if self.rekey_s and not self.hold_s:
            return "--rekey is about tunnels that are held: give it a --hold"
        if self.roam_s and not self.hold_s:
            return "--roam is about tunnels that are held: give it a --hold"
        if self.ping is not None and self.encap is False and os.geteuid() != 0:
            return "--ping with --no-encap needs root: ESP without UDP goes through a raw socket"
        if self.ping is not None and len(self.ping.target) not in self._inner_sizes:
            option = "--vip" if len(self.ping.target) == 4 else "--vip6"
            return f"--ping-target is of another IP version than the addresses in the tunnel: is {option} missing?"
        family = ipaddress.ip_address(self.target).version
        for address in self.addresses:
            if ipaddress.ip_address(address).version != family:
                return f"--source {address} and the target {self.target} are of different IP versions"
        if EPHEMERAL not in self.port_pairs:
            sources = max(1, len(self.addresses)) * len(self.port_pairs)
            if sources < self.processes:
                return f"{sources} source ports are not enough for {self.processes} processes: each needs its own"
            if self.roam_s and sources < 2 * self.processes:
                return f"{sources} source ports are not enough for --roam: each process needs two"
        return None

    def settings(self) -> Settings:
        """The configuration of an initiator's side.

        It has no connections, so that nobody can set up a tunnel with us: one who sends back what we sent would be
        taken for a responder that works.
        """
        return Settings(secrets=(SharedSecret(self.secret),), retransmit=self.retransmit)

    def connection(self) -> ConnectionSettings:
        """What attempts ask for. It still lacks the identity of an attempt."""
        child = ChildSettings(
            name=CONNECTION_NAME,
            esp_proposals=self.esp_proposals,
            local_ts=self.local_ts,
            remote_ts=self.remote_ts or tuple(_EVERYTHING[size] for size in sorted(self._inner_sizes)),
            rekey_time_s=0.0,
        )
        return ConnectionSettings(
            name=CONNECTION_NAME,
            remote_port=self.port,
            remote_natt_port=self.natt_port,
            proposals=self.proposals,
            remote=AuthSettings(id=self.remote_id),
            children=(child,),
            vips=self.vips,
            # What rekeys is the target, if it does; we answer.
            rekey_time_s=0.0,
            encap=self.is_encapsulation_forced,
            mobike=self.mobike,
        )
