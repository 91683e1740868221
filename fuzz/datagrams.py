"""Invariant: any octets decode or raise WireError, never another exception, never in more than 50 ms of CPU time.

Random octets, and real messages with octets flipped, cut out, repeated and swapped, go through every decoder of
`cygnet.wire`. What decodes is encoded and decoded once more, and must be the same. The first datagram that breaks the
invariant is printed, and the exit code is 1; the same seed meets it again.

    python fuzz/datagrams.py --seconds 60 --seed 7
"""

import argparse
import contextlib
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec
from rich.progress import Progress

from cygnet.iana import ExchangeType, NotifyType, PayloadType
from cygnet.wire.errors import WireError, WireFault
from cygnet.wire.header import HEADER_OCTETS, NO_SPI, decode_header
from cygnet.wire.message import decode_message, decode_payloads, encode_message, encode_payloads
from cygnet.wire.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    ConfigurationAttribute,
    Delete,
    Eap,
    Encrypted,
    EncryptedFragment,
    IdentificationInitiator,
    IdentificationResponder,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    TrafficSelector,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    Transform,
    VendorId,
)
from cygnet.wire.registry import CODECS

MAX_CPU_S: Final = 0.050
SECOND_LOOKS: Final = 5
LARGEST_DATAGRAM_OCTETS: Final = 65507

_TRANSFORMS = (Transform(1, 20, 128), Transform(1, 12, 256), Transform(2, 5), Transform(3, 12), Transform(4, 31))
_RANGE_V4 = TrafficSelector(7, 0, 0, 65535, bytes(4), b"\xff" * 4)
_RANGE_V6 = TrafficSelector(8, 6, 443, 443, bytes(16), b"\xff" * 16)

CHAINS: Final[tuple[tuple[Payload, ...], ...]] = (
    (
        SecurityAssociation((Proposal(1, 1, b"", _TRANSFORMS), Proposal(2, 1, b"", _TRANSFORMS[1:]))),
        KeyExchange(31, bytes(32)),
        Nonce(bytes(32)),
        Notify(0, b"", NotifyType.NAT_DETECTION_SOURCE_IP, bytes(20)),
        Notify(0, b"", NotifyType.IKEV2_FRAGMENTATION_SUPPORTED, b""),
        VendorId(b"vendor"),
    ),
    (
        IdentificationInitiator(2, b"client.example.org"),
        IdentificationResponder(2, b"gw.example.org"),
        Certificate(4, bytes(80)),
        CertificateRequest(4, bytes(40)),
        Authentication(2, bytes(32)),
        Configuration(1, (ConfigurationAttribute(1, b""), ConfigurationAttribute(3, bytes(4)))),
        SecurityAssociation((Proposal(1, 3, b"spi!", (Transform(1, 20, 128), Transform(5, 0))),)),
        TrafficSelectorsInitiator((_RANGE_V4, _RANGE_V6)),
        TrafficSelectorsResponder((_RANGE_V6, TrafficSelector(10, 0, 0, 0, b"label", b""))),
    ),
    (Delete(3, (b"aaaa", b"bbbb", b"cccc")), Eap(1, 7, b"\x01identity"), Notify(3, b"spi!", 16393, b"")),
    (Notify(0, b"", NotifyType.COOKIE, bytes(24)), Encrypted(PayloadType.IDI, bytes(80))),
    (EncryptedFragment(PayloadType.IDI, 1, 3, bytes(80)),),
)
SEEDS: Final = tuple(
    encode_message(
        spi_i=b"initiatr",
        spi_r=NO_SPI,
        exchange_type=ExchangeType.IKE_AUTH,
        flags=8,
        message_id=1,
        payloads=chain,
    )
    for chain in CHAINS
)

INNER_CHAINS: Final = CHAINS[:3]


class BrokenInvariant(Exception):
    """The decoders did what they must not do."""


def random_datagram(source: random.Random) -> bytes:
    """Octets without a plan, mostly short, behind a header or none."""
    octets = source.randbytes(min(int(source.expovariate(1 / 200)), LARGEST_DATAGRAM_OCTETS - HEADER_OCTETS))
    return SEEDS[0][:HEADER_OCTETS] + octets if source.random() < 0.5 else octets


def mutated(source: random.Random, octets: bytes) -> bytes:
    """Octets that were right once."""
    mutant = bytearray(octets)
    for _ in range(source.randint(1, 4)):
        position = source.randrange(len(mutant) + 1)
        stop = position + source.choice((1, 1, 2, 4, 16))
        piece = bytes(mutant[position:stop])
        match source.randrange(6):
            case 0:
                mutant[position:stop] = source.randbytes(len(piece))
            case 1:
                mutant[position:stop] = source.choice((b"\0", b"\xff", b"\x80")) * len(piece)
            case 2:
                del mutant[position:stop]
            case 3:
                mutant[position:position] = piece * source.choice((1, 2, 2000))
            case 4:
                other = source.choice(SEEDS)
                start = source.randrange(len(other))
                mutant[position:position] = other[start : start + 40]
            case _:
                mutant[position:stop] = bytes(octet ^ 1 << source.randrange(8) for octet in piece)
    return bytes(mutant)


def mutated_payloads(source: random.Random) -> bytes:
    """A chain whose generic headers are right, and whose bodies, some of them, are not."""
    chain = list(source.choice(INNER_CHAINS))
    index = source.randrange(len(chain))
    payload = chain[index]
    body = mutated(source, CODECS[payload.payload_type].encode(payload))
    octets = b""
    for position, after in enumerate(chain):
        content = body if position == index else CODECS[after.payload_type].encode(after)
        next_type = chain[position + 1].payload_type if position + 1 < len(chain) else 0
        octets += bytes((next_type, 0)) + min(len(content) + 4, 0xFFFF).to_bytes(2) + content
    return SEEDS[0][:16] + bytes((chain[0].payload_type,)) + SEEDS[0][17:HEADER_OCTETS] + octets


def any_datagram(source: random.Random) -> bytes:
    """The next datagram to try."""
    match source.randrange(5):
        case 0:
            return random_datagram(source)
        case 1 | 2:
            return mutated(source, source.choice(SEEDS))[:LARGEST_DATAGRAM_OCTETS]
        case _:
            return mutated_payloads(source)[:LARGEST_DATAGRAM_OCTETS]


def with_length(datagram: bytes) -> bytes:
    """The datagram with the header's Length field put right, so that decoding gets past it."""
    if len(datagram) < HEADER_OCTETS:
        return datagram
    return datagram[: HEADER_OCTETS - 4] + len(datagram).to_bytes(4) + datagram[HEADER_OCTETS:]


def as_built(payload: Payload) -> Payload:
    """The payload without what only receiving adds."""
    if isinstance(payload, SecurityAssociation):
        return msgspec.structs.replace(payload, fingerprint=b"")
    return payload


def decode_twice(payloads: tuple[Payload, ...]) -> None:
    """Encode what was decoded, and decode it again."""
    ends_in_container = payloads and isinstance(payloads[-1], Encrypted | EncryptedFragment)
    chain = payloads[:-1] if ends_in_container else payloads
    again = decode_payloads(*encode_payloads(chain))
    if [as_built(payload) for payload in again] != [as_built(payload) for payload in chain]:
        raise BrokenInvariant("what was decoded is not what its encoding decodes to")


def outcome(decode: Callable[[], object]) -> str:
    """`decoded`, or why not; raises `BrokenInvariant` where it took too long or the reason is unknown."""
    started = time.thread_time()
    try:
        decode()
        result = "decoded"
    except WireError as error:
        result = str(error)
        if result not in set(WireFault):
            raise BrokenInvariant(f"no such fault: {result}") from error
    if time.thread_time() - started > MAX_CPU_S:
        # A garbage collection, or a machine that stood still, counts as CPU time too: a slow decoder is slow again.
        elapsed = min(cpu_time(decode) for _ in range(SECOND_LOOKS))
        if elapsed > MAX_CPU_S:
            raise BrokenInvariant(f"took {elapsed * 1000:.0f} ms of CPU time")
    return result


def cpu_time(decode: Callable[[], object]) -> float:
    """Seconds of CPU time that decoding takes, whatever comes of it."""
    started = time.thread_time()
    with contextlib.suppress(WireError):
        decode()
    return time.thread_time() - started


def try_datagram(datagram: bytes, first: int) -> list[str]:
    """What each decoder said to the datagram."""
    sized = with_length(datagram)
    outcomes = [
        outcome(lambda: decode_header(datagram)),
        outcome(lambda: decode_message(datagram)),
        outcome(lambda: decode_message(sized)),
        outcome(lambda: decode_payloads(first, datagram[HEADER_OCTETS:])),
    ]
    if outcomes[2] == "decoded":
        decode_twice(decode_message(sized).payloads)
    return outcomes


def fuzz(seconds: float, seed: int) -> int:
    """Run for `seconds`; the exit code."""
    source = random.Random(seed)
    tally: Counter[str] = Counter()
    tried = 0
    started = time.monotonic()
    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("fuzzing", total=seconds)
        while (elapsed := time.monotonic() - started) < seconds:
            progress.update(task, completed=elapsed)
            for _ in range(100):
                datagram = any_datagram(source)
                first = source.choice((datagram[16] if len(datagram) > 16 else 0, source.randrange(256)))
                try:
                    tally.update(try_datagram(datagram, first))
                except Exception:
                    traceback.print_exc()
                    print(f"seed {seed}, datagram {tried}, first payload {first}: {datagram.hex()}")
                    return 1
                tried += 1
    print(f"seed {seed}: {tried} datagrams in {elapsed:.0f} s, {tried / elapsed:.0f}/s, none broke the invariant")
    for reason, count in tally.most_common():
        print(f"  {count:>10}  {reason}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to run (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="start of the random numbers (default: the clock)")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else time.time_ns() % (1 << 32)
    return fuzz(arguments.seconds, seed)


if __name__ == "__main__":
    sys.exit(main())
