"""The data plane that carries nothing: for measuring key exchange alone."""

from cygnet.dataplane.base import Carried, Count, Usage
from cygnet.ike.carriage import UNKNOWN_CLASS
from cygnet.ike.effects import InstallChild
from cygnet.ike.path import Path


class NullDataplane:
    """Takes CHILD_SAs and forgets them; counts ESP packets and drops them."""

    __slots__ = ("_count",)

    def __init__(self, count: Count) -> None:
        self._count = count

    def install(self, child: InstallChild) -> None:
        """Do nothing."""

    def remove(self, spi_in: bytes, *, is_succeeded: bool = False) -> None:
        """Do nothing."""

    def use(self, spi_in: bytes) -> None:
        """Do nothing."""

    def retire(self, spi_in: bytes) -> None:
        """Do nothing."""

    def update_path(self, spi_in: bytes, path: Path, is_udp_encapsulated: bool) -> None:
        """Do nothing."""

    def receive_esp(self, datagram: bytes, path: Path, now: float, traffic_class: int = UNKNOWN_CLASS, /) -> None:
        """Drop the packet."""
        self._count("esp_ignored")

    def carried(self, spi_in: bytes) -> Carried | None:
        """Nothing is known of any SA."""
        return None

    def usage(self, spi_in: bytes) -> Usage | None:
        """Nothing is known of any SA."""
        return None

    def child(self, spi_in: bytes) -> InstallChild | None:
        """Nothing is known of any SA."""
        return None

    def close(self) -> None:
        """Do nothing."""
