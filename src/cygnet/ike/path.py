"""Where a datagram came from and goes to."""

import msgspec


class Path(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The two ends of a UDP flow, seen from here: addresses as text, ports as numbers."""

    local: str
    local_port: int
    remote: str
    remote_port: int

    @property
    def is_ipv6(self) -> bool:
        """Whether the outer packets are IPv6."""
        return ":" in self.remote

    def __str__(self) -> str:
        return f"{self.local}[{self.local_port}]...{self.remote}[{self.remote_port}]"
