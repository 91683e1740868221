"""What our SPIs say: which node and which worker an SA belongs to.

Of the SPIs that identify an SA only our own matters on receipt, and we choose it. So it carries the owner,
and the kernel can hand each datagram to the worker that has the SA without asking anybody:

    IKE SPI, 8 octets:   node | worker     | seal (2) | random (4)
    ESP SPI, 4 octets:   worker + 1 | random (3)

Neither can be zero, which RFC 7296 section 3.1 and RFC 4303 section 2.1 demand, and no ESP SPI falls into the
range 1 to 255 that IANA reserves. The random octets are 32 and 24 bits: whoever draws one looks whether it is
taken, and draws again.

The seal is a keyed hash of the random octets. A filter in the kernel can compute it, and so keep out what never was an
SPI of ours (`cygnet.net.shedding_filter`). To guess an SPI is as hard as if all six octets were random, for who has
not the key. The hash is no MAC: it must be cheap for a filter that can't loop, and whoever works its key out has gained
no more than that his datagrams reach the worker, as they did without it.
"""

import struct
from collections.abc import Callable
from typing import Final

import msgspec

MAX_WORKERS: Final = 255
"""Workers are numbered from 0; the last number, 255, would have no ESP SPI."""


_WORD: Final = 0xFFFFFFFF
_FOUR_WORDS: Final = struct.Struct("!IIII")


class SpiSeal(msgspec.Struct, frozen=True, gc=False):
    """The key of the seals of one gateway: four words of 32 bits, of which the factors are odd."""

    mask_1: int
    factor_1: int
    mask_2: int
    factor_2: int

    @classmethod
    def from_octets(cls, octets: bytes) -> "SpiSeal":
        """The key that 16 random octets make."""
        mask_1, factor_1, mask_2, factor_2 = _FOUR_WORDS.unpack(octets)
        return cls(mask_1, factor_1 | 1, mask_2, factor_2 | 1)

    def of(self, drawn: int) -> int:
        """The seal, 16 bits, of a random word."""
        mixed = (drawn ^ self.mask_1) * self.factor_1 & _WORD
        mixed ^= mixed >> 15
        mixed = (mixed ^ self.mask_2) * self.factor_2 & _WORD
        mixed ^= mixed >> 13
        mixed = mixed * self.factor_1 & _WORD
        return mixed >> 16

    def is_on(self, spi: bytes) -> bool:
        """Whether an IKE SPI bears this seal, and so is or was one of ours."""
        return int.from_bytes(spi[2:4], "big") == self.of(int.from_bytes(spi[4:8], "big"))

    def __repr__(self) -> str:
        return "SpiSeal(<redacted>)"


def new_ike_spi(node: int, worker: int, entropy: Callable[[int], bytes], seal: SpiSeal | None = None) -> bytes:
    """A fresh IKE SPI, 8 octets, of `worker` (0 to 254) on `node` (1 to 255). Without a seal there is more entropy."""
    if seal is None:
        return bytes((node, worker)) + entropy(6)
    drawn = entropy(4)
    return bytes((node, worker)) + seal.of(int.from_bytes(drawn, "big")).to_bytes(2, "big") + drawn


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
