"""The keys of `gateway { }` about what is done on the host for CHILD_SAs."""

from typing import Final

from cygnet.config import defaults, values
from cygnet.config.gateway_settings import ResolveKind
from cygnet.config.schema import Key
from cygnet.config.values import Kind

HOST_KEYS: Final = (
    Key(
        "updown_timeout",
        Kind("time", values.time_between(1, 3600)),
        "30s",
        "Time after which a script of `updown` is killed.",
        field="updown_timeout_s",
        is_own=True,
    ),
    Key(
        "resolve",
        Kind("way", values.one_of(ResolveKind, {})),
        "no",
        "Whether this host uses the DNS servers that come with virtual addresses that we ask for (`vips`), and how: "
        "`file`, at the top of `resolv_conf`; `resolvconf`; `resolved`, by systemd's `resolvectl` on the TUN device; "
        "`auto`, what the host has. Needs TUN devices.",
        is_own=True,
    ),
    Key("resolv_conf", values.FOLDER, defaults.RESOLV_CONF, "The file for `resolve = file`.", is_own=True),
)
