"""What can be wrong with octets, and the root of every error that leaves the core."""

from enum import StrEnum


class IkeError(Exception):
    """Root of everything the core raises on purpose; any other exception that leaves it is a bug."""


class WireFault(StrEnum):
    """Why octets were refused: the whole set, so that each can have its counter."""

    TRUNCATED = "truncated"
    """The octets end before a field does."""
    TRAILING_OCTETS = "trailing_octets"
    """Octets are left over after the last field."""
    BAD_LENGTH = "bad_length"
    """A length field contradicts what it measures."""
    BAD_SUBSTRUCTURE = "bad_substructure"
    """A count or a Last Substruc octet contradicts the substructures that are there."""
    BAD_NONCE_LENGTH = "bad_nonce_length"
    """A nonce is shorter than 16 or longer than 256 octets (RFC 7296 section 3.9)."""
    NO_NONCE = "no_nonce"
    """A request for an IKE_SA has no nonce where one would be looked for."""
    BAD_SPI_SIZE = "bad_spi_size"
    """SPIs of zero octets are counted, or SPIs of one payload differ in size."""
    BAD_FRAGMENT_NUMBER = "bad_fragment_number"
    """A fragment is numbered 0, or beyond the total (RFC 7383 section 2.6)."""
    DUPLICATE_ATTRIBUTE = "duplicate_attribute"
    """A transform carries an attribute twice (RFC 7296 section 3.3)."""
    ENCRYPTED_NOT_LAST = "encrypted_not_last"
    """Something follows the Encrypted payload (RFC 7296 section 3.14)."""
    NESTED_ENCRYPTED = "nested_encrypted"
    """An Encrypted payload inside another one."""
    TOO_MANY_PAYLOADS = "too_many_payloads"
    """More payloads than any exchange has use for."""
    TOO_LONG = "too_long"
    """What is to be encoded does not fit into its length field."""


class WireError(IkeError):
    """Octets that are no message, payload or packet. The answer is to drop and count.

    `reason` is a short slug that can label a counter: a `WireFault` for everything that `cygnet.wire` raises.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.reason)
