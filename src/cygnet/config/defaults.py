"""Tunables of the gateway and of the configuration's own limits. Those of the protocol are in `cygnet.ike.settings`."""

from typing import Final

PORT: Final = 500
NATT_PORT: Final = 4500
"""RFC 7296 section 2.23; both need the privilege to bind a port below 1024 or 5000."""

LISTEN_ADDRESSES: Final = ("0.0.0.0", "::")  # noqa: S104 - a gateway answers on every address unless told otherwise

STATE_DIR: Final = "/var/lib/cygnet"
USER: Final = "nobody"
RESOLV_CONF: Final = "/etc/resolv.conf"

VICI_MODE: Final = 0o660
"""Who may control the gateway: its owner and its group."""

MAX_WORKERS: Final = 254
"""Worker numbers fill one octet of our SPIs, and the number plus one fills the first octet of an ESP SPI, never 255."""

RECEIVE_BUFFER_OCTETS: Final = 8 << 20
"""Of each socket. At 1,000 octets of kernel memory for a small datagram: the arrivals of a second at 8,000 a second,
which is longer than any pause of a worker, and short enough that nothing in it is answered too late."""

MAX_INCLUDE_DEPTH: Final = 10
"""Files within files, as in strongSwan; more is a file that includes itself."""

MAX_SECTION_DEPTH: Final = 32
"""Sections within sections, and references to references. The deepest section that means anything is the fifth."""

MAX_PROBLEMS: Final = 100
"""Problems listed of one configuration; after so many the first ones matter."""

SUGGESTION_CUTOFF: Final = 0.6
"""How alike two names must be (difflib's ratio) for one to be suggested for the other."""
TUN_MTU_OCTETS: Final = 1400
"""Of inner packets: leaves room for UDP, ESP and IPv6 outside in Ethernet's 1500, and IPv6 inside needs 1280."""
