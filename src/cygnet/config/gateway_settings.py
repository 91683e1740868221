"""What is Cygnet's own in a configuration: the section `gateway { }`."""

import os
from enum import Enum

import msgspec

from cygnet.config import defaults
from cygnet.config.log_settings import LogSettings


class DataplaneKind(Enum):
    """Who carries the traffic of CHILD_SAs (`dataplane =`)."""

    USERSPACE = "userspace"
    NULL = "null"


class ResolveKind(Enum):
    """How this host is told of the DNS servers that peers give us (`resolve =`)."""

    NO = "no"
    AUTO = "auto"
    FILE = "file"
    RESOLVCONF = "resolvconf"
    RESOLVED = "resolved"


class GatewaySettings(msgspec.Struct, frozen=True):
    """How the daemon runs, apart from what IKE does."""

    workers: int = 0
    """Worker processes; 0 stands for one on each core that may be used."""
    port: int = defaults.PORT
    natt_port: int = defaults.NATT_PORT
    listen: tuple[str, ...] = defaults.LISTEN_ADDRESSES
    """Addresses to open the ports on."""
    dataplane: DataplaneKind = DataplaneKind.USERSPACE
    state_dir: str = defaults.STATE_DIR
    user: str = defaults.USER
    """Whose privileges the workers run with, when started by root."""
    updown_timeout_s: float = 30.0
    resolve: ResolveKind = ResolveKind.NO
    resolv_conf: str = defaults.RESOLV_CONF
    log: LogSettings = LogSettings()
    echo: tuple[bytes, ...] = ()
    """Packed inner addresses that the gateway answers echo requests on."""
    tun_mtu: int = defaults.TUN_MTU_OCTETS
    """Octets of the largest inner packet that a TUN device takes whole."""
    node: int = 1
    """Number of this node, the first octet of every SPI that it chooses."""
    receive_buffer: int = defaults.RECEIVE_BUFFER_OCTETS
    """Octets of each socket's receive buffer."""
    memory_limit: int = 0
    """Octets that all processes together may have before new peers are refused; 0 stands for a share of what there
    is."""

    vici_socket: str = ""
    """Path of the control socket; empty for `vici` in the state directory, which only the owner can enter."""
    vici_mode: int = defaults.VICI_MODE
    vici_owner: str = ""
    """User that the control socket belongs to; empty for whoever starts the gateway."""
    vici_group: str = ""

    @property
    def worker_count(self) -> int:
        """How many workers to run here: as configured, or as many as there are usable cores."""
        return self.workers or min(usable_cores(), defaults.MAX_WORKERS)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))
