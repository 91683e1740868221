"""What the core asks of the traffic of CHILD_SAs, by our SPI."""

from cygnet.dataplane.base import Dataplane


class CarriedTraffic:
    """Answers for a data plane, which may be there only later."""

    __slots__ = ("dataplane",)

    def __init__(self) -> None:
        self.dataplane: Dataplane | None = None

    def last_received(self, spi_in: bytes) -> float:
        """When the last packet came; 0.0 if none has."""
        usage = self.dataplane.usage(spi_in) if self.dataplane is not None else None
        return usage.last_received if usage is not None else 0.0

    def last_sent(self, spi_in: bytes) -> float:
        """When the last packet went out; 0.0 if none has."""
        usage = self.dataplane.usage(spi_in) if self.dataplane is not None else None
        return usage.last_sent if usage is not None else 0.0

    def packets(self, spi_in: bytes) -> int | None:
        """How many packets it has carried; None if it isn't there."""
        usage = self.dataplane.usage(spi_in) if self.dataplane is not None else None
        return usage.packets_in + usage.packets_out if usage is not None else None
