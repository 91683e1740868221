"""What the operating system can refuse us."""

from cygnet.ike.errors import LocalError


class SocketUnavailable(LocalError):
    """A socket could not be opened: which, why, and what to do about it. `errno` is the system's reason."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class SteeringUnavailable(LocalError):
    """The kernel takes no steering program, so an SA would not stay with its worker: run one worker only."""
