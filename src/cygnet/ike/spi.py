"""What our SPIs say: which node and which worker an SA belongs to.

Of the SPIs that identify an SA only our own matters on receipt, and we choose it. So it carries the owner,
and the kernel can hand each datagram to the worker that has the SA without asking anybody:

    IKE SPI, 8 octets:   node | worker     | random (6)
    ESP SPI, 4 octets:   worker + 1 | random (3)

Neither can be zero, which RFC 7296 section 3.1 and RFC 4303 section 2.1 demand, and no ESP SPI falls into the
range 1 to 255 that IANA reserves. The random octets are 48 and 24 bits: whoever draws one looks whether it is
taken, and draws again.
"""

from collections.abc import Callable
from typing import Final

MAX_WORKERS: Final = 255
"""Workers are numbered from 0; the last number, 255, would have no ESP SPI."""


def new_ike_spi(node: int, worker: int, entropy: Callable[[int], bytes]) -> bytes:
    """A fresh IKE SPI, 8 octets, of `worker` (0 to 254) on `node` (1 to 255)."""
    return bytes((node, worker)) + entropy(6)


def new_esp_spi(worker: int, entropy: Callable[[int], bytes]) -> bytes:
    """A fresh ESP SPI, 4 octets, of `worker` (0 to 254); ValueError beyond."""
    return bytes((worker + 1,)) + entropy(3)


def node_of_ike_spi(spi: bytes) -> int:
    """The node that chose `spi`, if it is one of ours."""
    return spi[0]


def worker_of_ike_spi(spi: bytes) -> int:
    """The worker that chose `spi`, if it is one of ours."""
    return spi[1]


def worker_of_esp_spi(spi: bytes) -> int:
    """The worker that chose `spi`, if it is one of ours; 255, which no worker is, for a top octet of 0."""
    return (spi[0] - 1) & 0xFF


def owner(worker: int, workers: int) -> int:
    """Which of `workers` processes has the SAs that `worker` set up.

    Itself; but SAs outlive a restart with fewer workers, and then those of the ones that are gone fall to a
    worker that both their IKE SPI and their ESP SPIs lead to.
    """
    return worker % workers


def unique_id(spi: bytes) -> int:
    """The number by which people name an SA: the last 31 bits of our SPI, which is as much as swanctl takes.

    Deviation: strongSwan counts from 1. This needs nothing to be kept of an SA. Two of a quarter of a million IKE_SAs
    may share a number; a command that would mean both is refused.
    """
    return int.from_bytes(spi[-4:], "big") & 0x7FFFFFFF
