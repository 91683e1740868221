"""Why an ESP packet was not sent, or not let in."""

from typing import Final

from cygnet.wire.errors import IkeError

REPLAYED: Final = "replayed"
"""The sequence number was seen before."""
TOO_OLD: Final = "too_old"
"""The sequence number lies left of the replay window."""


class ReplayError(IkeError):
    """The anti-replay service refuses a sequence number (RFC 4303 section 3.4.3). `reason` is a counter's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SequenceExhausted(IkeError):
    """The SA has used its last sequence number, and must not let them cycle (RFC 4303 section 3.3.3)."""
