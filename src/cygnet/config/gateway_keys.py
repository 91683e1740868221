"""The keys of `gateway { }`: what the daemon itself is told, in Cygnet's own section."""

from typing import Final

from cygnet.config import defaults, values
from cygnet.config.admission_keys import ADMISSION_KEYS
from cygnet.config.host_keys import HOST_KEYS
from cygnet.config.schema import Inner, Key, Table
from cygnet.config.values import Kind

GATEWAY: Final = Table(
    title="gateway",
    help="The daemon itself. This section is Cygnet's own.",
    keys=(
        Key("workers", values.WORKERS, "auto", "Worker processes; `auto` is one for each usable core.", is_own=True),
        Key("port", values.PORT, str(defaults.PORT), "UDP port of IKE.", is_own=True),
        Key("natt_port", values.PORT, str(defaults.NATT_PORT), "UDP port of IKE and ESP behind NATs.", is_own=True),
        Key(
            "listen",
            values.LISTEN_ADDRESSES,
            ", ".join(defaults.LISTEN_ADDRESSES),
            "Addresses that the ports are opened on.",
            is_own=True,
        ),
        Key(
            "dataplane",
            values.DATAPLANE,
            "userspace",
            "Who carries the traffic: `userspace`, or `null` to set up tunnels without carrying any.",
            is_own=True,
        ),
        Key("state_dir", values.FOLDER, defaults.STATE_DIR, "Folder for what must outlive a restart.", is_own=True),
        Key(
            "vici_socket",
            values.TEXT,
            "",
            "Control socket, for `swanctl --uri unix://PATH` and our own commands. Without it, `vici` in the state "
            "directory; strongSwan's place is `/run/charon.vici`.",
            is_own=True,
        ),
        Key("vici_mode", values.FILE_MODE, f"{defaults.VICI_MODE:o}", "Its mode, in octal.", is_own=True),
        Key("vici_owner", values.TEXT, "", "User that it belongs to, by name.", is_own=True),
        Key("vici_group", values.TEXT, "", "Group that it belongs to, by name.", is_own=True),
        Key(
            "user", values.USER, defaults.USER, "Whose privileges the workers have, when started by root.", is_own=True
        ),
        Key(
            "echo",
            values.PACKED_ADDRESSES,
            "",
            "Inner addresses that answer echo requests. Without it, the first address of each pool that has several.",
            is_own=True,
        ),
        Key(
            "tun_mtu",
            Kind("octets", values.integer(1280, 65535)),
            str(defaults.TUN_MTU_OCTETS),
            "Largest inner packet, 1280 to 65535 octets. The kernel fragments larger ones, or tells their senders.",
            is_own=True,
        ),
        Key(
            "node",
            Kind("number", values.integer(1, 255)),
            "1",
            "Number of this node, 1 to 255, different from that of every node it shares peers with.",
            is_own=True,
        ),
        Key(
            "receive_buffer",
            values.SIZE,
            f"{defaults.RECEIVE_BUFFER_OCTETS >> 20}M",
            "Receive buffer of each socket, with an optional K, M or G.",
            is_own=True,
        ),
        Key(
            "memory_limit",
            values.SIZE_OR_AUTO,
            "auto",
            "Memory of all processes together, with an optional K, M or G, at which new peers are refused and those "
            "that are there are kept; `auto` is 80 % of what the machine or the control group has.",
            is_own=True,
        ),
        Key(
            "fragment_size",
            Kind("octets", values.zero_or(128, 65535)),
            "1280",
            "The longest IP packet that an IKE message makes before it is fragmented, as in strongswan.conf; 0 is 576 "
            "on IPv4 and 1280 on IPv6. Where such packets don't get through, smaller fragments are tried.",
            is_own=True,
        ),
        Key(
            "child_sa_limit",
            Kind("number", values.integer(1, 65535)),
            "256",
            "CHILD_SAs that a peer may set up in one IKE_SA; more are refused (NO_ADDITIONAL_SAS).",
            is_own=True,
        ),
        Key(
            "inactivity_close_ike",
            values.BOOLEAN,
            "no",
            "Close an IKE_SA too whose only CHILD_SA is closed because of its `inactivity`, as in strongswan.conf.",
            is_own=True,
        ),
        Key(
            "half_open_timeout",
            Kind("time", values.time_between(1, 3600)),
            "30s",
            "Time that a peer has to authenticate itself, up to an hour.",
            field="half_open_timeout_s",
            is_own=True,
        ),
        *HOST_KEYS,
        *ADMISSION_KEYS,
        Key(
            "keep_alive",
            Kind("time", values.time_between(0, 86400)),
            "20s",
            "Wait without a packet to a peer before the NAT in front of us is reminded of it; 0 never does.",
            field="keep_alive_s",
            is_own=True,
        ),
        Key(
            "retransmit_timeout",
            Kind("time", values.time_between(0.01, 3600)),
            "4s",
            "Wait before an unanswered request is sent again.",
            field="timeout_s",
            is_own=True,
        ),
        Key(
            "retransmit_base",
            Kind("number", values.positive_number(1, 10)),
            "1.8",
            "Factor by which each wait is longer than the one before.",
            field="base",
            is_own=True,
        ),
        Key(
            "retransmit_tries",
            Kind("number", values.integer(0, 100)),
            "5",
            "How often a request is sent again before the peer is given up.",
            field="tries",
            is_own=True,
        ),
        Key(
            "retransmit_limit",
            Kind("time", values.time_between(0, 86400)),
            "0s",
            "Longest wait; 0 sets no limit.",
            field="limit_s",
            is_own=True,
        ),
        Key(
            "retransmit_jitter",
            Kind("per cent", values.integer(0, 100)),
            "0",
            "Each wait is shorter by a random part of so much of it, so that many peers don't come back in step.",
            field="jitter",
            is_own=True,
        ),
    ),
    sections=(Inner("log"),),
)
