"""strongSwan as a peer: charon in a namespace, with userspace ESP, configured by text, driven by swanctl."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Union

from tests.interop.controlled import Controlled
from tests.interop.namespaces import Namespace

Settings = Mapping[str, Union[str, int, float, bool, "Settings"]]
"""A section of strongswan.conf: what is a mapping becomes a sub-section."""

PLUGINS: Final = (
    "random nonce openssl curve25519 chapoly pem x509 pubkey pkcs1 pkcs8 constraints revocation "
    "kdf hmac cmac xcbc gcm ccm ctr aes sha1 sha2 md5 eap-identity eap-md5 eap-gtc eap-tls counters "
    "socket-default kernel-libipsec kernel-netlink updown vici"
)

BENCHMARK_PLUGINS: Final = (
    "random nonce openssl curve25519 pem kdf hmac gcm aes sha2 socket-default kernel-libipsec kernel-netlink vici"
)
"""What a PSK handshake takes and no more: a further plugin that listens to the bus costs every handshake."""

TEST_SETTINGS: Final[Settings] = {
    "load": PLUGINS,
    # Nothing is far away here: it gives up after 1 + 1.5 + 2.25 + 3.4 s.
    "retransmit_timeout": 1.0,
    "retransmit_base": 1.5,
    "retransmit_tries": 3,
    "half_open_timeout": 10,
    "delete_rekeyed_delay": 1,
    "keep_alive": 2,
    # Routes go into the main table, since not every kernel has policy routing.
    "routing_table": 254,
    "routing_table_prio": 0,
    # All clients of a test share one address.
    "dos_protection": False,
}

BENCHMARK_SETTINGS: Final[Settings] = {
    "load": BENCHMARK_PLUGINS,
    # From one address it otherwise asks for cookies at 3 half-open SAs and blocks at 5.
    "dos_protection": False,
    "ikesa_table_size": 16384,
    "ikesa_table_segments": 16,
    "reuse_ikesa": False,
    "threads": 32,
    "install_routes": False,
    "routing_table": 254,
    "routing_table_prio": 0,
}

BENCHMARK_CONFIG: Final = """
connections {
    bench {
        version = 2
        remote_addrs = %any
        unique = never
        mobike = no
        rekey_time = 0
        proposals = aes128gcm16-prfsha256-x25519, aes128gcm16-prfsha256-modp2048
        pools = bench
        local {
            auth = psk
            id = gw.example.org
        }
        remote {
            auth = psk
            id = %any
        }
        children {
            bench {
                local_ts = 0.0.0.0/0
                remote_ts = 10.64.0.0/10
                esp_proposals = aes128gcm16
                rekey_time = 0
            }
        }
    }
}
pools {
    bench {
        addrs = 10.64.0.0/10
    }
}
secrets {
    ike-bench {
        secret = benchmark-secret
    }
}
"""
"""The responder's side of the benchmark: a virtual address for any number of clients.

The selectors are the same for all, since kernel-libipsec has one route and one policy for each pair and would add a
kernel route for every tunnel (`install_routes = no` does not reach it). Clients must propose 0.0.0.0/0 twice.
"""


class StrongSwan(Controlled):
    """charon in a namespace and a mount namespace of its own, so that any number run side by side.

    `config` is the text of swanctl.conf. Files that it names without a path (certificates, keys) are looked
    for in the folders of `directory` that `swanctl` knows; `files` puts them there: {"x509/gw.pem": ...}.
    `settings` changes or extends the section `charon-systemd` of strongswan.conf.
    """

    def __init__(
        self,
        label: str,
        namespace: Namespace,
        config: str,
        *,
        settings: Settings | None = None,
        files: Mapping[str, bytes] | None = None,
        benchmark: bool = False,
        core: int | None = None,
    ) -> None:
        super().__init__(label, namespace, core=core)
        self.config = config
        self.files = files or {}
        self.settings = _merged(BENCHMARK_SETTINGS if benchmark else TEST_SETTINGS, settings or {})
        self._is_silent = benchmark
        self._is_loaded = False

    @property
    def vici_socket(self) -> Path:
        return self.directory / "vici"

    def prepare(self) -> None:
        self.write_config(self.config)
        for name, content in self.files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        level = -1 if self._is_silent else 1
        charon = _merged(
            self.settings,
            {
                "plugins": {"vici": {"socket": f"unix://{self.vici_socket}"}},
                "filelog": {"file": {"path": f"{self.log_path}", "append": True, "flush_line": True, "default": level}},
                "journal": {"default": -1},
            },
        )
        (self.directory / "strongswan.conf").write_text(_render({"charon-systemd": charon}))

    def write_config(self, config: str) -> None:
        """Replace swanctl.conf; `load` makes the daemon read it."""
        self.config = config
        (self.directory / "swanctl.conf").write_text(config)

    def command(self) -> list[str]:
        # Its PID file has a fixed place below /var/run.
        private_run = "mount -t tmpfs none /var/run && exec charon-systemd"
        return ["unshare", "--mount", "sh", "-c", private_run]

    def environment(self) -> dict[str, str]:
        return {"STRONGSWAN_CONF": f"{self.directory}/strongswan.conf", "SWANCTL_DIR": f"{self.directory}"}

    def start(self) -> None:
        self.vici_socket.unlink(missing_ok=True)
        super().start()
        self.load()

    def is_ready(self) -> bool:
        return self.vici_socket.exists() and self._call("--version").returncode == 0


class BenchmarkResponder(StrongSwan):
    """strongSwan as a responder that is as quick as Debian's build can be made, on one core, to compare with.

    Debian has no plugin that fakes the kernel, so kernel-libipsec takes the CHILD_SAs. It looks through a list of them
    for every new one: give each start no more than about a thousand tunnels, and compare no larger numbers.
    """

    def __init__(self, namespace: Namespace, *, core: int, config: str = BENCHMARK_CONFIG) -> None:
        super().__init__("strongswan-responder", namespace, config, benchmark=True, core=core)

    def established(self) -> int:
        """How many IKE_SAs it has, half-open ones left out."""
        stats = self.swanctl("--stats")
        match = re.search(r"IKE_SAs: (\d+) total, (\d+) half-open", stats)
        if match is None:
            raise AssertionError(f"swanctl --stats has no line about IKE_SAs:\n{stats}")
        return int(match[1]) - int(match[2])


def client_config(
    server_address: str,
    *,
    name: str = "home",
    identity: str = "carol@example.org",
    server_identity: str = "gw.example.org",
    secret: str = "a-shared-secret",
    virtual_ips: str = "0.0.0.0",
    remote_ts: str = "10.1.0.0/24",
    proposals: str = "default",
    esp_proposals: str = "default",
    connection: str = "",
    child: str = "",
    children: str = "",
) -> str:
    """swanctl.conf of a road warrior: connection `name`, child "net". Cygnet reads it as well.

    `connection` and `child` are further lines for those sections, `children` are further sections beside `net`.
    """
    return f"""
connections {{
    {name} {{
        version = 2
        remote_addrs = {server_address}
        {f"vips = {virtual_ips}" if virtual_ips else ""}
        proposals = {proposals}
        local {{
            auth = psk
            id = {identity}
        }}
        remote {{
            auth = psk
            id = {server_identity}
        }}
        children {{
            net {{
                remote_ts = {remote_ts}
                esp_proposals = {esp_proposals}
                {child}
            }}
            {children}
        }}
        {connection}
    }}
}}
secrets {{
    ike-{name} {{
        secret = "{secret}"
    }}
}}
"""


def server_config(
    *,
    identity: str = "gw.example.org",
    secret: str = "a-shared-secret",
    pools: Mapping[str, str] | None = None,
    local_ts: str = "10.1.0.0/24",
    proposals: str = "default",
    esp_proposals: str = "default",
    connection: str = "",
    child: str = "",
    children: str = "",
) -> str:
    """swanctl.conf of the gateway for it: connection "rw", child "net"; `pools` maps names to addresses.

    Cygnet reads it as well.
    """
    pools = pools if pools is not None else {"v4": "10.3.0.0/24"}
    pool_sections = "\n".join(
        f"    {name} {{\n        addrs = {addresses}\n    }}" for name, addresses in pools.items()
    )
    return f"""
connections {{
    rw {{
        version = 2
        proposals = {proposals}
        {f"pools = {', '.join(pools)}" if pools else ""}
        local {{
            auth = psk
            id = {identity}
        }}
        remote {{
            auth = psk
        }}
        children {{
            net {{
                local_ts = {local_ts}
                esp_proposals = {esp_proposals}
                {child}
            }}
            {children}
        }}
        {connection}
    }}
}}
pools {{
{pool_sections}
}}
secrets {{
    ike-rw {{
        secret = "{secret}"
    }}
}}
"""


def _merged(base: Settings, changes: Settings) -> Settings:
    result = dict(base)
    for name, value in changes.items():
        old = result.get(name)
        both_sections = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[name] = _merged(old, value) if both_sections else value  # type: ignore[arg-type]
    return result


def _render(section: Settings, indent: str = "") -> str:
    lines = []
    for name, value in section.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name} {{", _render(value, f"{indent}    "), f"{indent}}}"]
        else:
            text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
            lines.append(f"{indent}{name} = {text}")
    return "\n".join(lines)
