"""What really crosses the wire: a firewall that only counts."""

import json
from types import TracebackType
from typing import Final, Self

from tests.interop.namespaces import Namespace

# After the UDP header an IKE message has four zero octets, ESP its SPI (RFC 3948 section 2.2). A keepalive is too short
# for either, and does not match.
_RULES: Final = """
    table inet watch {
        counter bare_esp {}
        counter esp_in_udp {}
        chain arriving {
            type filter hook input priority 0
            meta l4proto 50 counter name bare_esp
            udp dport 4500 @th,64,32 != 0 counter name esp_in_udp
        }
    }
"""


class EspWatch:
    """Counts the ESP packets that arrive in a namespace from when it is entered."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    def __enter__(self) -> Self:
        self.namespace.load_rules(_RULES)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.namespace.load_rules("delete table inet watch")

    @property
    def bare(self) -> int:
        """ESP packets that were IP protocol 50."""
        return _packets_of(self.namespace, "watch", "bare_esp")

    @property
    def in_udp(self) -> int:
        """ESP packets to UDP port 4500."""
        return _packets_of(self.namespace, "watch", "esp_in_udp")


class PacketWatch:
    """Counts what arrives in a namespace and matches each of some nftables expressions, by name."""

    def __init__(self, namespace: Namespace, **matches: str) -> None:
        self.namespace = namespace
        self.matches = matches

    def __enter__(self) -> Self:
        counters = "\n".join(f"counter {name} {{}}" for name in self.matches)
        rules = "\n".join(f"{match} counter name {name}" for name, match in self.matches.items())
        chain = f"chain arriving {{\ntype filter hook prerouting priority 0\n{rules}\n}}"
        self.namespace.load_rules(f"table inet seen {{\n{counters}\n{chain}\n}}")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.namespace.load_rules("delete table inet seen")

    def __getitem__(self, name: str) -> int:
        """How many packets have matched."""
        return _packets_of(self.namespace, "seen", name)


def _packets_of(namespace: Namespace, table: str, counter: str) -> int:
    listing = json.loads(namespace.run("nft", "--json", "list", "counter", "inet", table, counter).stdout)
    [packets] = [entry["counter"]["packets"] for entry in listing["nftables"] if "counter" in entry]
    return int(packets)
