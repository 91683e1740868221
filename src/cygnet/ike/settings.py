"""What a connection is to do: the typed settings that a configuration becomes and the core obeys.

Names and defaults are those of strongSwan's `swanctl.conf`. Nothing here reads a file: `cygnet.config` fills these in
from one, and the load tester makes them from its command line.
"""

from enum import Enum
from typing import Final

import msgspec

from cygnet.auth.identity import ANY_IDENTITY, Identity
from cygnet.ike.proposals import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS, ProposalSettings
from cygnet.ike.selectors import DYNAMIC, SelectorSettings
from cygnet.wire.payloads.configuration import ConfigurationAttribute


class AuthKind(Enum):
    """How an end proves its identity (`auth =`)."""

    PSK = "psk"


class StartAction(Enum):
    """What happens to a child when its connection is loaded (`start_action =`)."""

    NONE = "none"
    START = "start"
    """It is set up."""
    TRAP = "trap"
    """It is set up when there is a packet for it."""
    TRAP_START = "trap|start"
    """Both."""

    @property
    def has_start(self) -> bool:
        """Whether it is set up."""
        return self in (StartAction.START, StartAction.TRAP_START)

    @property
    def has_trap(self) -> bool:
        """Whether packets for it set it up."""
        return self in (StartAction.TRAP, StartAction.TRAP_START)


class EndAction(Enum):
    """What happens when a child is lost (`dpd_action =`, `close_action =`)."""

    NONE = "none"
    START = "start"
    """It is set up again."""
    TRAP = "trap"
    """It is set up again when there is a packet for it."""


class Fragmentation(Enum):
    """Whether long messages go in fragments (`fragmentation =`, RFC 7383)."""

    YES = "yes"
    ACCEPT = "accept"
    """The peer may send fragments; we don't."""
    FORCE = "force"
    """The same as `yes`: what strongSwan adds to it is about IKEv1."""
    NO = "no"


class Unique(Enum):
    """What becomes of the other IKE_SAs of a peer that sets up another (`unique =`)."""

    NO = "no"
    """They go if the peer says that it has none (INITIAL_CONTACT)."""
    NEVER = "never"
    """They stay, whatever it says."""
    KEEP = "keep"
    """They stay, and the new one is refused, unless the peer says that it has none."""
    REPLACE = "replace"
    """They go."""


class Childless(Enum):
    """Whether an IKE_SA may begin without a CHILD_SA (`childless =`, RFC 6023)."""

    ALLOW = "allow"
    """As responder yes; as initiator only where there is no child to begin with."""
    PREFER = "prefer"
    """As responder yes; as initiator with peers that support it: the children are set up in the IKE_SA then."""
    FORCE = "force"
    """In both roles always; with a peer that does not support it there is no IKE_SA."""
    NEVER = "never"
    """As responder no; as initiator as with `allow`."""


class Mode(Enum):
    """How a CHILD_SA carries traffic (`mode =`)."""

    TUNNEL = "tunnel"
    TRANSPORT = "transport"
    """Without an IP header of its own: for what the two ends themselves send each other."""


class CopyDscp(Enum):
    """In which direction the DSCP crosses between inner and outer header (`copy_dscp =`)."""

    OUT = "out"
    IN = "in"
    YES = "yes"
    NO = "no"


TFC_MTU: Final = 65535
"""`tfc_padding = mtu`: more than any packet has, so that each is filled up to what the path takes."""


class AuthSettings(msgspec.Struct, frozen=True):
    """One end's authentication round (`local { }` and `remote { }`)."""

    auth: AuthKind = AuthKind.PSK
    id: Identity = ANY_IDENTITY
    """Our identity, or the pattern that the peer's must match. ANY_IDENTITY as our own means our IP address."""


class ChildSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """One `children.<name>` section."""

    name: str
    esp_proposals: tuple[ProposalSettings, ...] = DEFAULT_ESP_PROPOSALS
    local_ts: tuple[SelectorSettings, ...] = (DYNAMIC,)
    remote_ts: tuple[SelectorSettings, ...] = (DYNAMIC,)
    mode: Mode = Mode.TUNNEL
    start_action: StartAction = StartAction.NONE
    dpd_action: EndAction = EndAction.NONE
    """When the peer is found dead."""
    close_action: EndAction = EndAction.NONE
    """When the peer ends it, alone or with the IKE_SA."""
    replay_window: int = 32
    """Packets; 0 switches replay protection off."""
    updown: str = ""
    """Command that is run when it comes and when it goes; empty for none."""
    hostaccess: bool = False
    """What the command is told."""
    tfc_padding: int = 0
    """Octets that each inner packet is filled up to; TFC_MTU fills them up to what the path takes."""
    copy_df: bool = True
    """Whether the path's MTU is told to senders of IPv4 packets that must not be fragmented."""
    copy_ecn: bool = True
    copy_dscp: CopyDscp = CopyDscp.OUT
    rekey_time_s: float = 3600.0
    """Age in seconds at which it is rekeyed, less a random part of `rand_time_s`; 0 for never."""
    life_time_s: float | None = None
    """Age at which it is closed; None is a tenth more than the rekey time, 0 is never."""
    rand_time_s: float | None = None
    """None is what lies between rekey time and life time."""
    inactivity_s: float = 0.0
    """Seconds without a packet in either direction after which it is closed; 0 for never."""
    rekey_bytes: int = 0
    """The same three for the octets that it has carried in one direction."""
    life_bytes: int | None = None
    rand_bytes: int | None = None
    rekey_packets: int = 0
    """And for packets."""
    life_packets: int | None = None
    rand_packets: int | None = None


class PoolSettings(msgspec.Struct, frozen=True):
    """One `pools.<name>` section: the virtual addresses from `first` to `last`, both included.

    A pool given in CIDR form leaves out the network address, as strongSwan does.
    """

    name: str
    first: bytes
    last: bytes
    """Packed addresses, 4 octets (IPv4) or 16 (IPv6), of the same family."""
    attributes: tuple[ConfigurationAttribute, ...] = ()
    """What those are told who get an address of it: DNS servers, subnets and so on, as they are sent."""
    base: bytes = b""
    """The network address that was left out, by which it is shown."""

    def overlaps(self, other: "PoolSettings") -> bool:
        """Whether both have an address in common."""
        return len(self.first) == len(other.first) and self.first <= other.last and other.first <= self.last


class SharedSecret(msgspec.Struct, frozen=True):
    """One `secrets.ike<suffix>` section."""

    secret: bytes
    owners: tuple[Identity, ...] = ()
    """Whose secret it is; empty means anybody's."""

    def __repr__(self) -> str:
        return f"SharedSecret(secret=<{len(self.secret)} octets>, owners={self.owners!r})"


class AuthoritySettings(msgspec.Struct, frozen=True):
    """One `authorities.<name>` section. Nothing uses it yet."""

    name: str
    cacert: str = ""
    """The file of its certificate as it was configured, or its subject where the certificate itself was given."""
    file: str = ""
    handle: str = ""
    slot: str = ""
    module: str = ""
    crl_uris: tuple[str, ...] = ()
    ocsp_uris: tuple[str, ...] = ()
    cert_uri_base: str = ""


class ConnectionSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """One `connections.<name>` section."""

    name: str
    local_addrs: tuple[str, ...] = ()
    """IP addresses, CIDR subnets or ranges `a-b`; empty is %any."""
    remote_addrs: tuple[str, ...] = ()
    """The same; the first that is a single address is the one we initiate to."""
    local_port: int = 500
    remote_port: int = 500
    remote_natt_port: int = 4500
    """Where we float to when a NAT is found. Not a swanctl key: peers on unprivileged ports need it."""
    proposals: tuple[ProposalSettings, ...] = DEFAULT_IKE_PROPOSALS
    local: AuthSettings = AuthSettings()
    remote: AuthSettings = AuthSettings()
    children: tuple[ChildSettings, ...] = ()
    vips: tuple[bytes, ...] = ()
    """Packed virtual addresses that we ask for as initiator; all zeros (0.0.0.0, ::) asks for any."""
    pools: tuple[str, ...] = ()
    """Names of the pools that we give virtual addresses from as responder."""
    encap: bool = False
    """Force UDP encapsulation by pretending to be behind a NAT."""
    mobike: bool = True
    """Let either end change its addresses while the IKE_SA stands (RFC 4555), if the peer can."""
    mobike_check: bool = True
    """Send traffic to a new address of the peer only after it has answered there (RFC 4555 section 3.7)."""
    fragmentation: Fragmentation = Fragmentation.YES
    childless: Childless = Childless.ALLOW
    unique: Unique = Unique.NO
    dpd_delay_s: float = 0.0
    """Seconds without traffic from the peer after which it is asked whether it lives; 0 never asks."""
    rekey_time_s: float | None = None
    """Age in seconds at which the IKE_SA is rekeyed, less a random part of `rand_time_s`; 0 for never. None is 4 hours,
    or never if there is a `reauth_time_s`."""
    over_time_s: float | None = None
    """How much longer it lives if it could not be rekeyed, or its ends not authenticated anew; None is a tenth of the
    longer one of the two times."""
    rand_time_s: float | None = None
    """None is as long as `over_time_s`."""
    reauth_time_s: float = 0.0
    """Seconds after which the ends are to authenticate each other anew, less a random part of `rand_time_s`; 0 for
    never."""
    keyingtries: int = 1
    """Attempts to set up a connection that we initiate; 0 tries for ever."""


class TrapOrder(msgspec.Struct, frozen=True):
    """A trap that was installed or uninstalled at run time, whatever the child's `start_action` says."""

    connection: str
    child: str
    is_installed: bool


class RetransmitPolicy(msgspec.Struct, frozen=True):
    """When an unanswered request is sent again: after `timeout_s * base ** n` seconds, `tries` times.

    The defaults are strongSwan's: 4, 7, 13, 23, 42 seconds, and after another 76 the peer is given up.
    """

    timeout_s: float = 4.0
    base: float = 1.8
    tries: int = 5
    limit_s: float = 0.0
    """The longest wait in seconds; 0 sets no limit."""
    jitter: float = 0.0
    """Each wait is shorter by a random part of so many per cent of it, so that many that wait don't end in step."""


class AdmissionSettings(msgspec.Struct, frozen=True):
    """When a worker serves new peers, asks them for a cookie first, or refuses them. Names are strongSwan's where it
    has the same; a limit of 0 is none."""

    cookie_threshold: int = 1000
    """Half-open IKE_SAs from which on new peers must return a cookie first; 0 always asks. For peers from
    prefixes from where some have authenticated themselves: those from such prefixes that have not returned one."""
    cookie_threshold_ip: int = 250
    """The same of those half-open IKE_SAs from a peer's own prefix whose peers have not returned a cookie."""
    block_threshold: int = 2000
    """Half-open IKE_SAs from a peer's own prefix, of peers that have returned a cookie, from which on it is dropped."""
    init_limit_half_open: int = 20000
    """Half-open IKE_SAs from which on a new one is refused."""
    init_limit_job_load: int = 0
    """Datagrams of new peers that wait in the worker from which on a cookie is asked for. strongSwan drops then."""
    ike_sa_limit: int = 1_000_000
    """IKE_SAs in all from which on a new one is refused."""
    puzzle_threshold: int = 5000
    """Half-open IKE_SAs from which on a peer that has returned a cookie must solve a puzzle too (RFC 8019)."""
    puzzle_threshold_ip: int = 1000
    """The same of those that `block_threshold` counts."""
    puzzle_difficulty: int = 10
    """Zero bits that are asked for at these thresholds."""
    puzzle_max_difficulty: int = 16
    """Zero bits that are asked for where the limits are reached."""
    puzzle_unsolved_rate: int = 100
    """Peers that are let in each second although they return the cookie of a puzzle without its solution."""
    source_prefix_ipv4: int = 32
    """Bits of an IPv4 address by which peers are counted together, 8 to 32."""
    source_prefix_ipv6: int = 64
    """Bits of an IPv6 address by which peers are counted together, 40 to 128."""


class Settings(msgspec.Struct, frozen=True):
    """A whole configuration, checked: every reference in it resolves."""

    connections: tuple[ConnectionSettings, ...] = ()
    pools: tuple[PoolSettings, ...] = ()
    secrets: tuple[SharedSecret, ...] = ()
    authorities: tuple[AuthoritySettings, ...] = ()
    trap_orders: tuple[TrapOrder, ...] = ()
    retransmit: RetransmitPolicy = RetransmitPolicy()
    keep_alive_s: float = 20.0
    """Seconds without a packet to a peer after which the NAT in front of us is reminded; 0 never does."""
    fragment_size: int = 1280
    """Octets of the longest IP packet that a fragment of a message may make; 0 is 576 on IPv4 and 1280 on IPv6."""
    child_sa_limit: int = 256
    """CHILD_SAs that a peer may set up in one IKE_SA."""
    inactivity_close_ike: bool = False
    """Whether an IKE_SA is closed with the last one of its CHILD_SAs, if that was idle for too long."""
    half_open_timeout_s: float = 30.0
    """Seconds after which a responder drops an IKE_SA whose peer has not authenticated itself."""
    admission: AdmissionSettings = AdmissionSettings()
    puzzle_effort: int = 18
    """Zero bits of the hardest puzzle that we solve as initiator; 0 solves none."""
    invalid_ike_spi_rate: int = 0
    """Requests for unknown IKE_SAs that a worker answers each second (RFC 7296 section 2.21.4); 0 drops them all."""
