"""What a gateway that serves says of itself."""

import msgspec

from cygnet.gateway.process.limits import Finding


class Serving(msgspec.Struct, frozen=True):
    """Where it serves, and with what."""

    addresses: tuple[str, ...]
    port: int
    natt_port: int
    workers: int
    dataplane: str
    pid: int
    limits: tuple[Finding, ...] = ()
    """What the machine did not give."""

    def __str__(self) -> str:
        plural = "" if self.workers == 1 else "s"
        return (
            f"cygnet: serving on {', '.join(self.addresses)} with {self.workers} worker{plural}, "
            f"data plane {self.dataplane}, pid {self.pid}"
        )
